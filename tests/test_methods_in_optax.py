"""What optax's wrappers may ask of every registered method that is an optax transformation and not optax's own."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from ranges import structure

from attractor import Minimization, registry, run
from attractor.linalg import hvp
from attractor.method import Gradient, as_method
from attractor.second_order import adahessian, psgd

KEY = jr.key(0)
START = {"w": jnp.full((2, 3), 0.5), "b": jnp.asarray([0.3, -0.2])}
# By name and not by building them: a test that fails to build its method says so in its own name.
NAMES = [name for name, entry in registry.methods().items() if entry.room in ("optim", "second_order")]


def loss(x):
    return jnp.sum((x["w"] - 1) ** 2) * (1 + jnp.sum(x["b"] ** 2)) + jnp.sum(jnp.array([1.0, 3.0]) * (x["b"] + 1) ** 2)


PROBLEM = Minimization(loss, START)


@functools.cache
def arguments(name):
    entry = registry.find_method(name)
    return {k: d.at(0.5) for k, d in entry.space.items()} | dict(entry.example)


def made(name):
    """The transformation of that name; the methods that are none are held to `test_contract.py`."""
    transformation = registry.find_method(name).factory(**arguments(name))
    return transformation if isinstance(transformation, optax.GradientTransformation) else None


@functools.cache
def is_transformation(name):
    return made(name) is not None


def is_optaxs_own(name):
    return registry.find_method(name).factory.__module__.startswith("optax.")


OPTAX = [name for name in NAMES if is_transformation(name) and not is_optaxs_own(name)]


def extras(transformation, x, t):
    oracles = PROBLEM.oracles(x, None) | {"key": jr.fold_in(KEY, t)}
    return oracles if isinstance(transformation, optax.GradientTransformationExtraArgs) else {}


def test_all_rooms_are_looked_at():
    assert len(OPTAX) >= 30
    assert {e.room for e in registry.methods().values() if isinstance(e.make(), Gradient)} <= {"optim", "second_order"}


@pytest.mark.parametrize("name", OPTAX)
def test_a_training_loop_may_donate_parameters_and_state(name):
    method = made(name)
    x = jax.tree.map(jnp.array, START)
    state = method.init(x)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(x, state, t):
        updates, state = method.update(jax.grad(loss)(x), state, x, **extras(method, x, t))
        return optax.apply_updates(x, updates), state

    plain = jax.tree.map(jnp.array, START)
    moves, _ = method.update(jax.grad(loss)(plain), method.init(plain), plain, **extras(method, plain, 0))
    x, state = step(x, state, 0)
    close(x, optax.apply_updates(plain, moves))
    step(x, state, 1)


def trained(transformation, problem, steps=3):
    """Where the method stands after a few steps of a compiled loop; not the point that it would report."""
    method, x = as_method(transformation), problem.init(KEY)
    step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
    state = method.init(problem, x, KEY)
    for t in range(steps):
        x, state = step(x, state, jr.fold_in(KEY, t))
    return x


def close(a, b, rtol=1e-4, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, atol), a, b)


@pytest.mark.parametrize("name", OPTAX)
def test_trains_a_part_of_the_tree_as_if_the_rest_were_constant(name):
    part = optax.partition({"train": made(name), "freeze": optax.set_to_zero()}, {"w": "freeze", "b": "train"})
    x = trained(part, PROBLEM)
    alone = trained(made(name), Minimization(lambda b: loss({"w": START["w"], "b": b}), START["b"]))
    close(x, {"w": START["w"], "b": alone})
    assert not np.allclose(alone, START["b"])


@functools.cache
def descent():
    return trained(optax.sgd(0.1), PROBLEM)


@pytest.mark.parametrize("name", OPTAX)
def test_a_label_without_leaves_is_harmless(name):
    part = optax.partition({"train": made(name), "other": optax.sgd(0.1)}, "other")
    close(trained(part, PROBLEM), descent())


@pytest.mark.parametrize("name", OPTAX)
def test_takes_injected_hyperparameters(name):
    factory, given = registry.find_method(name).factory, arguments(name)
    # Functions that are no schedules have to be declared, says optax, and sizes; nothing else has.
    functions = [k for k, v in given.items() if callable(v)] + structure(factory)
    injected = optax.inject_hyperparams(factory, static_args=functions)(**given)
    # What is injected is rounded to the parameters' dtype: 1 - b2 in its fifth digit, and with it steps of size 1.
    close(trained(injected, PROBLEM), trained(factory(**given), PROBLEM), atol=4e-6)


def test_injected_hyperparameters_run_and_count_as_the_plain_ones_do():
    def both(**given):
        injected = run(PROBLEM, optax.inject_hyperparams(adahessian)(**given), steps=3, every=1)
        return injected["loss"].values, run(PROBLEM, adahessian(**given), steps=3, every=1)["loss"].values

    np.testing.assert_allclose(*both(learning_rate=0.3, block_size=4), rtol=1e-4)
    assert not np.allclose(both(learning_rate=0.3)[0], both(learning_rate=0.3, block_size=4)[0])


def test_a_learning_rate_is_injected_as_a_schedule_or_changed_by_hand():
    halved = optax.inject_hyperparams(adahessian)(optax.piecewise_constant_schedule(0.2, {1: 0.5}))
    x, state = START, halved.init(START)
    for t in range(2):
        _, state = halved.update(jax.grad(loss)(x), state, x, hvp=hvp(loss, x), key=jr.fold_in(KEY, t))
    assert float(state.hyperparams["learning_rate"]) == pytest.approx(0.1)


def test_a_masked_hessian_product_is_the_diagonal_block():
    part = {"w": optax.MaskedNode(), "b": jnp.asarray([1.0, -2.0])}
    expected = jax.hessian(lambda b: loss({"w": START["w"], "b": b}))(START["b"]) @ part["b"]
    for product in (hvp(loss, START), PROBLEM.oracles(START, None)["hvp"]):
        assert isinstance(product(part)["w"], optax.MaskedNode)
        np.testing.assert_allclose(product(part)["b"], expected, rtol=1e-5)


def test_a_whole_subtree_may_be_masked():
    deep = {"layer": START, "scale": jnp.asarray(2.0)}
    oracles = Minimization(lambda x: x["scale"] ** 3 * loss(x["layer"]), deep).oracles(deep, None)
    part = {"layer": optax.MaskedNode(), "scale": jnp.asarray(1.5)}
    np.testing.assert_allclose(oracles["value_fn"](part), 1.5**3 * loss(START), rtol=1e-6)
    np.testing.assert_allclose(oracles["hvp"](part)["scale"], 6 * 2.0 * 1.5 * loss(START), rtol=1e-5)


@pytest.mark.parametrize("group", ["triangular", "cross", "low-rank"])
def test_every_group_of_psgd_takes_parts(group):
    part = optax.partition(
        {"t": psgd(group=group), "f": optax.set_to_zero(), "none": psgd(group=group)}, {"w": "f", "b": "t"}
    )
    alone = Minimization(lambda b: loss({"w": START["w"], "b": b}), START["b"])
    close(trained(part, PROBLEM)["b"], trained(psgd(group=group), alone))
