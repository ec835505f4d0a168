"""Every optax transformation is a method, alone and inside others, and is judged at the point that it averages to."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor import Gradient, Minimization, run
from attractor.method import as_method, name_of
from attractor.second_order import adahessian
from attractor.transformations import averaged, is_transformation

BOWL = Minimization(lambda w: jnp.sum((w - 3) ** 2 * jnp.array([1.0, 10.0])), jnp.zeros(2))
NORMALIZED = optax.chain(optax.contrib.normalize(), optax.sgd(1e-3))


@pytest.mark.parametrize(
    ("transformation", "steps", "level"),
    [
        (optax.lbfgs(), 20, 1e-6),
        (optax.chain(optax.clip(1e9), optax.lbfgs()), 20, 1e-6),
        (optax.lbfgs(linesearch=None, learning_rate=0.2), 200, 1e-6),
        (optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(15)), 100, 1e-6),
        (optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(15, store_grad=True)), 100, 1e-6),
        (optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(15)), 100, 1e-6),
        (optax.polyak_sgd(), 200, 1e-4),
        (optax.contrib.momo(0.05), 200, 1e-2),
        (optax.contrib.momo_adam(0.3), 200, 1e-2),
        (optax.contrib.sam(optax.sgd(0.03), NORMALIZED), 400, 1e-2),
        (optax.contrib.sam(optax.sgd(0.03), NORMALIZED, opaque_mode=True), 200, 1e-2),
        (optax.chain(optax.clip(1e9), optax.contrib.sam(optax.sgd(0.03), NORMALIZED)), 400, 1e-2),
        (optax.chain(optax.identity(), adahessian(learning_rate=0.5)), 200, 1e-2),
        (optax.chain(adahessian(learning_rate=1.0), optax.scale_by_backtracking_linesearch(15)), 50, 1e-1),
        (optax.MultiSteps(optax.adam(0.3), 4), 600, 1e-2),
        (optax.MultiSteps(optax.lbfgs(), 2), 60, 1e-6),
    ],
)
def test_converges(transformation, steps, level):
    trace = run(BOWL, transformation, steps=steps)
    assert float(trace["loss"][0, 0, -1]) < level


def test_steps_of_lbfgs_are_those_of_a_loop_written_by_hand():
    tx, w = optax.lbfgs(), jnp.zeros(2)
    state = tx.init(w)
    for _ in range(3):
        value, slope = jax.value_and_grad(BOWL.loss)(w, None)
        updates, state = tx.update(slope, state, w, value=value, grad=slope, value_fn=lambda w: BOWL.loss(w, None))
        w = optax.apply_updates(w, updates)
    np.testing.assert_allclose(run(BOWL, tx, steps=3).final[0, 0], w, rtol=1e-5)


def test_an_error_of_the_transformations_own_is_not_hidden():
    def update(updates, state, params=None, **extra):
        raise TypeError("mine")

    broken = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    with pytest.raises(TypeError, match="mine"):
        run(BOWL, broken, steps=1)


def test_accumulated_steps_equal_steps_on_the_mean_gradient():
    accumulated = run(BOWL, optax.MultiSteps(optax.adam(0.1), 4), steps=40, every=4)
    plain = run(BOWL, optax.adam(0.1), steps=10, every=1)
    np.testing.assert_allclose(accumulated["loss"].values, plain["loss"].values, rtol=1e-5)
    assert name_of(optax.MultiSteps(optax.adam(0.1), 4)) == "MultiSteps"


def test_a_class_is_a_factory_and_not_a_transformation():
    assert not is_transformation(optax.MultiSteps)
    trace = run(
        BOWL,
        lambda every: optax.MultiSteps(optax.sgd(0.01), every),
        steps=4,
        sweep={"every": [1, 2]},
    )
    assert trace["loss"].shape[0] == 2
    assert isinstance(as_method(optax.MultiSteps(optax.sgd(0.1), 2)), Gradient)


def schedule_free():
    return optax.contrib.schedule_free_sgd(0.02, warmup_steps=3)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.chain(optax.identity(), tx),
        lambda tx: optax.chain(optax.clip(1e9), optax.chain(tx)),
        lambda tx: optax.MultiSteps(tx, 1),
        lambda tx: optax.masked(tx, True),
        lambda tx: optax.partition({"all": tx}, "all"),
        lambda tx: optax.inject_hyperparams(lambda learning_rate: schedule_free())(learning_rate=0.02),
        lambda tx: optax.apply_if_finite(tx, 3),
        lambda tx: optax.named_chain(("first", tx)),
    ],
)
def test_the_averaged_point_is_measured_wherever_its_state_is(wrap):
    bare, wrapped = (run(BOWL, tx, steps=30, every=5) for tx in (schedule_free(), wrap(schedule_free())))
    np.testing.assert_allclose(wrapped["loss"].values, bare["loss"].values, rtol=1e-5)
    np.testing.assert_allclose(wrapped.final, bare.final, rtol=1e-5)
    training = wrapped_training_point(30)
    assert not np.allclose(bare.final[0, 0], training, rtol=1e-3)


def wrapped_training_point(steps):
    tx, w = schedule_free(), jnp.zeros(2)
    state = tx.init(w)
    for _ in range(steps):
        updates, state = tx.update(jax.grad(BOWL.loss)(w, None), state, w)
        w = optax.apply_updates(w, updates)
    return w


def test_only_the_parameters_of_the_averaging_group_are_averaged():
    start = {"w": jnp.zeros(2), "deep": {"b": jnp.zeros(3), "c": jnp.zeros(())}}
    problem = Minimization(lambda x: sum(jnp.sum((leaf - 3) ** 2) for leaf in jax.tree.leaves(x)), start)
    labels = {"w": "average", "deep": "plain"}
    both = optax.partition({"average": schedule_free(), "plain": optax.sgd(0.02)}, labels)
    final = run(problem, both, steps=20).final
    averages, plain = run(problem, schedule_free(), steps=20).final, run(problem, optax.sgd(0.02), steps=20).final
    np.testing.assert_allclose(final["w"], averages["w"], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), final["deep"], plain["deep"])
    two = optax.partition({"average": schedule_free(), "plain": schedule_free()}, labels)
    final = run(problem, two, steps=20).final
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), final, averages)


def test_nothing_is_averaged_where_there_is_no_average():
    params = {"a": jnp.ones(2)}
    assert averaged(params, optax.adam(0.1).init(params)) is params
