"""What every registered method promises; a new one is held to it the day it is registered."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import (
    Composite,
    Constrained,
    Decision,
    Federated,
    FixedPoint,
    Game,
    Method,
    Minimization,
    MultiObjective,
    registry,
    run,
)
from attractor.method import as_method, kind

METHODS = registry.methods()
KEY = jr.key(0)

DATA = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)


def regression(dtype=jnp.float32):
    start = {"w": jnp.full((3, 4), 0.5, dtype), "b": jnp.zeros((4,), dtype), "scale": jnp.asarray(1.5, dtype)}

    def outputs(x, batch):
        return x["scale"] * jnp.tanh(batch.astype(dtype) @ x["w"] + x["b"])

    return outputs, start


def sample_problem(needed, dtype=jnp.float32):
    """A small problem of the kind a method needs, with a pytree that holds a matrix, a vector and a scalar."""
    outputs, start = regression(dtype)

    def outer(z, batch):
        return jnp.mean((z - 1) ** 2)

    def loss(x, batch):
        return outer(outputs(x, batch), batch)

    if needed is Composite:
        return Composite(outputs, outer, start, DATA, batch_size=4)
    if needed is MultiObjective:

        def losses(x, batch):
            return jnp.stack([loss(x, batch), jnp.mean(x["w"] ** 2)])

        return MultiObjective(losses, start, DATA, names=("fit", "size"), batch_size=4)
    if needed is Constrained:
        return Constrained(loss, lambda x: jnp.sum(x["w"], axis=0) - 1, start, DATA, batch_size=4)
    if issubclass(Federated, needed) and needed is not Minimization and issubclass(needed, Federated):
        return Federated(loss, start, DATA.reshape(4, 3, 3), batch_size=2)
    if issubclass(Minimization, needed):
        return Minimization(loss, start, DATA, batch_size=4)
    if needed is Game:
        x, y = jnp.asarray([0.5, -0.3], dtype), jnp.asarray([0.2, 0.1], dtype)
        return Game.minimax(lambda x, y: jnp.sum(x**2) + x @ y - jnp.sum(y**2), (x, y))
    if needed is FixedPoint:
        return FixedPoint(lambda x: 0.5 * jnp.cos(x), jnp.asarray([0.1, 0.2], dtype))
    if issubclass(needed, Decision):
        return None  # whole rollouts: tests/rl has an environment small enough for that
    # A kind of its own: the registered problem that it was made for.
    return next((p for p in map(build, registry.problems()) if isinstance(p, needed)), None)


@functools.cache
def build(name):
    return registry.find_problem(name).factory()


def made(name):
    return METHODS[name].make()


def fits(name):
    return sample_problem(kind(made(name))) is not None


GENERAL = [name for name in METHODS if fits(name)]


def steps(method: Method, problem, n=3, key=KEY):
    x = problem.init(key)
    carry = (x, method.init(problem, x, key))
    for t in range(n):
        carry = method.step(problem, *carry, jr.fold_in(key, t))
    return carry


def types(tree):
    return jax.tree.map(lambda a: (jnp.shape(a), jnp.asarray(a).dtype), eqx.filter(tree, eqx.is_array_like))


def close(a, b, rtol=2e-4):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(left, float), np.asarray(right, float), rtol=rtol, atol=1e-6)


def test_only_methods_with_a_problem_of_their_own_are_left_out():
    assert {METHODS[name].kind for name in set(METHODS) - set(GENERAL)} <= {"Decision"}
    assert len(GENERAL) >= 15


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", GENERAL)
def test_keeps_structure_and_dtype(name, dtype):
    method = made(name)
    problem = sample_problem(kind(method), dtype)
    x = problem.init(KEY)
    state = method.init(problem, x, KEY)
    step = eqx.filter_eval_shape(method.step, problem, x, state, KEY)
    assert jax.tree.structure(step[0]) == jax.tree.structure(x)
    shapes = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(step[0])]
    assert shapes == [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(x)]
    before, after = eqx.filter(state, eqx.is_array_like), eqx.filter(step[1], lambda a: hasattr(a, "shape"))
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (jnp.shape(a), jnp.asarray(a).dtype) == (b.shape, b.dtype)


@pytest.mark.parametrize("name", GENERAL)
def test_is_deterministic_in_its_key_and_the_same_when_compiled(name):
    method = made(name)
    problem = sample_problem(kind(method))
    plain, again = steps(method, problem, 1), steps(method, problem, 1)
    compiled = eqx.filter_jit(steps)(method, problem, 1)
    close(plain[0], again[0], rtol=0)
    close(plain[0], compiled[0])


@pytest.mark.parametrize("name", [n for n in GENERAL if METHODS[n].space])
def test_vmaps_over_its_continuous_hyperparameters(name):
    entry = METHODS[name]
    configs = registry.sample(entry.space, 2)
    configs = [
        {**c, **entry.example, **{k: v for k, v in configs[0].items() if not isinstance(v, float)}} for c in configs
    ]
    problem = sample_problem(kind(made(name)))
    both = run(problem, entry.factory, steps=3, every=1, sweep=configs)
    metric = both.metrics[0]
    alone = run(problem, entry.factory(**configs[1]), steps=3, every=1)
    np.testing.assert_allclose(both[metric].values[1], alone[metric].values[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in GENERAL if METHODS[n].kind == "Minimization"])
def test_survives_a_zero_gradient_and_a_scalar_parameter(name):
    method = made(name)
    flat = Minimization(lambda x: jnp.asarray(0.0) * jnp.sum(x), init=jnp.asarray(2.0))
    x, _ = steps(method, flat)
    assert x.shape == ()
    assert math.isfinite(float(x))


@pytest.mark.parametrize(("name", "hyper"), [(n, h) for n, m in METHODS.items() for h in m.bad])
def test_rejects_bad_hyperparameters_by_name(name, hyper):
    entry = METHODS[name]
    good = {**{k: d.at(0.5) for k, d in entry.space.items()}, **entry.example}
    as_method(entry.factory(**good))
    with pytest.raises(ValueError, match=hyper):
        entry.factory(**{**good, hyper: entry.bad[hyper]})


def test_our_own_methods_all_say_what_they_reject():
    ours = [n for n, m in METHODS.items() if m.factory.__module__.startswith("attractor")]
    assert ours
    for name in ours:
        assert METHODS[name].bad or not METHODS[name].space, name
