"""Every optimizer that optax keeps is a name, searched over its rate and its decay; ours around them do as they do."""

import functools
import inspect

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import optax.contrib
import pytest

from attractor import Minimization, registry
from attractor.optim import kept
from attractor.registry import space_of

METHODS = registry.methods()
THEIRS = kept.optimizers(optax) | kept.optimizers(optax.contrib)


def test_every_optimizer_of_optax_is_a_name_or_has_a_reason_not_to_be():
    """A new one of a new optax is registered by itself; what this sees is one whose reason or place is gone."""
    assert len(THEIRS) >= 45
    assert {"adamw", "nadam", "nadamw", "polyak_sgd", "schedule_free_sgd", "sophia"} <= set(THEIRS)
    for name in THEIRS.keys() - kept.NOT_NAMED.keys():
        assert name.replace("_", "-") in METHODS, f"{name}: optax has it, and it is neither a name nor in NOT_NAMED"
    assert set(kept.NOT_NAMED) | kept.OURS | set(kept.MENDED) | set(kept.SPACES) <= set(THEIRS)


def test_what_optax_returns_and_minimizes_is_counted():
    """Functions that make a transformation, need no other one, and are no pieces: each is counted above or is here."""
    pieces = {
        "adaptive_grad_clip", "add_decayed_weights", "add_noise", "apply_every", "centralize", "clip", "ema", "freeze",
        "clip_by_block_rms", "clip_by_global_norm", "identity", "keep_params_nonnegative", "normalize", "scale",
        "normalize_by_update_norm", "set_to_zero", "trace", "zero_nans", "stateless", "stateless_with_tree_map",
        "snapshot", "measure_with_ema", "differentially_private_aggregate", "reduce_on_plateau", "chain",
        "named_chain", "inject_hyperparams", "inject_stateful_hyperparams", "hutchinson_estimator_diag_hessian",
    }  # fmt: skip
    wrappers = {"inner", "transforms", "fast_optimizer", "optimizer", "base_optimizer", "tx"}
    for module in (optax, optax.contrib):
        for name, f in vars(module).items():
            function = inspect.isfunction(f) or isinstance(f, functools.partial)
            made = function and "GradientTransformation" in str(inspect.signature(f).return_annotation)
            if not made or name.startswith(("_", "scale_by_")) or wrappers & inspect.signature(f).parameters.keys():
                continue
            assert name in THEIRS or name in pieces, f"{name}: new in optax; is it an optimizer?"


# Their claims were recorded with a search over the rate alone.
RATE_ALONE = {"adahessian", "adamp", "lion-k", "sgdp"}


@pytest.mark.parametrize("name", METHODS)
def test_rate_and_decay_are_searched(name):
    entry = METHODS[name]
    decays = {"weight_decay", "weight_decay_rate"} & inspect.signature(entry.factory).parameters.keys()
    assert (decays <= entry.space.keys()) == (name not in RATE_ALONE)
    if name.replace("-", "_") in THEIRS and name != "lbfgs":
        assert {"learning_rate", "max_learning_rate"} & entry.space.keys()


def test_a_mended_factory_is_known_by_optaxs_own():
    assert space_of(optax.contrib.prodigy) == METHODS["prodigy"].space
    assert space_of(optax.contrib.prodigy)["learning_rate"] == kept.FREE


START = {"w": jnp.asarray([[0.5, -1.0, 0.3], [0.2, 0.7, -0.4]]), "b": jnp.asarray([0.3, -0.2])}
CURVATURE = jnp.asarray([1.0, 3.0, 0.5])


def loss(x):
    return jnp.sum(CURVATURE * (x["w"] - 1) ** 2) * (1 + jnp.sum(x["b"] ** 2)) + jnp.sum((x["b"] + 1) ** 4)


def path(transformation, steps=6, needs=(), start=START):
    """Where it goes, given the extra arguments it needs."""
    problem, x, state = Minimization(loss, start), start, transformation.init(start)
    for t in range(steps):
        oracles = problem.oracles(x, None) | {"key": jr.key(t)}
        updates, state = transformation.update(oracles["grad"], state, x, **{k: oracles[k] for k in needs})
        x = optax.apply_updates(x, updates)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(x)])


SAM = optax.contrib.sam(optax.sgd(0.02, 0.7), optax.chain(optax.contrib.normalize(), optax.sgd(0.3)), opaque_mode=True)


@pytest.mark.parametrize(
    ("ours", "theirs", "needs"),
    [
        (kept.galore(0.03, 0.1, 1, 2), optax.contrib.galore(0.03, 1, 2, weight_decay=0.1), ()),
        (kept.lbfgs(3), optax.lbfgs(memory_size=3), ("value", "grad", "value_fn")),
        (kept.mechanize(0.7, 0.2), optax.contrib.mechanize(optax.adam(0.7), 0.2), ()),
        (kept.sam(0.02, 0.3, 0.7), SAM, ("grad_fn",)),
        (kept.sm3(0.1, 0.7), optax.sm3(0.1, 0.7), ()),
        (METHODS["prodigy"].factory(weight_decay=0.1), optax.contrib.prodigy(weight_decay=0.1), ()),
        (METHODS["dadapt-adamw"].factory(weight_decay=0.1), optax.contrib.dadapt_adamw(weight_decay=0.1), ()),
        (METHODS["madgrad"].factory(0.1, weight_decay=0.1), optax.contrib.madgrad(0.1, weight_decay=0.1), ()),
    ],
)
def test_what_is_mended_goes_where_optaxs_goes(ours, theirs, needs):
    np.testing.assert_allclose(path(ours, needs=needs), path(theirs, needs=needs), rtol=1e-6)
    assert not np.allclose(path(ours, needs=needs), path(ours, steps=0))


def test_sophia_is_optaxs_where_random_signs_do_not_matter():
    def diagonal(x):
        return jnp.sum(CURVATURE * (x["w"] - 1) ** 2 + (x["w"] - 1) ** 4)

    x, theirs = {"w": START["w"]}, {"w": START["w"]}
    ours, reference = kept.sophia(0.1, 0.8, 0.7, 0.3, 0.2), optax.contrib.sophia(0.1, 0.8, 0.7, 1e-8, 0.3, gamma=0.2)
    state, their_state = ours.init(x), reference.init(x)
    for t in range(12):  # the curvature is renewed once more on the way
        oracles = Minimization(diagonal, x).oracles(x, None)
        updates, state = ours.update(oracles["grad"], state, x, hvp=oracles["hvp"], key=jr.key(t))
        x = optax.apply_updates(x, updates)
        updates, their_state = reference.update(jax.grad(diagonal)(theirs), their_state, theirs, obj_fn=diagonal)
        theirs = optax.apply_updates(theirs, updates)
        np.testing.assert_allclose(x["w"], theirs["w"], rtol=1e-5)


def test_noise_of_sgd_falls_as_it_should_and_is_the_seeds():
    zero, noisy = jnp.zeros(40_000), kept.noisy_sgd(0.5, eta=0.04, gamma=1.0)
    first, state = noisy.update(zero, noisy.init(zero), zero, key=jr.key(0))
    for t in range(3):
        fourth, state = noisy.update(zero, state, zero, key=jr.key(t + 1))
    np.testing.assert_allclose([first.std(), fourth.std()], [0.5 * 0.2, 0.5 * 0.1], rtol=0.02)
    assert not np.allclose(first, noisy.update(zero, noisy.init(zero), zero, key=jr.key(9))[0])


@pytest.mark.parametrize(("name", "needs"), [("noisy-sgd", "key"), ("sam", "grad_fn"), ("sophia", "hvp, key")])
def test_says_which_extra_argument_is_missing(name, needs):
    method = METHODS[name].factory(0.1)
    with pytest.raises(ValueError, match=needs):
        method.update(START, method.init(START), START)


@pytest.mark.parametrize("name", ["prodigy", "dadapt-adamw"])
def test_a_zero_gradient_leaves_the_state_alone(name):
    method, zero = METHODS[name].factory(), jax.tree.map(jnp.zeros_like, START)
    _, state = method.update(jax.grad(loss)(START), method.init(START), START)
    updates, after = method.update(zero, state, START)
    jax.tree.map(np.testing.assert_array_equal, (updates, after), (zero, state))
