"""What is costly and seldom is computed when any of a batch needs it, and reaches only those that do."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor import run
from attractor.method import when_due
from attractor.optim import Svrg
from attractor.problems import ridge

LANES = (2, 3)


def counted(periods, steps=12):
    """The state of every lane, renewed to its step number every so many steps; and how often that was computed."""
    calls = []

    def lane(period):
        def step(state, t):
            def renew():
                jax.debug.callback(lambda: calls.append(1))
                return t + 100

            return when_due(t % period == 0, renew, lambda: state + 1), None

        return jax.lax.scan(step, jnp.zeros((), jnp.int32), jnp.arange(steps))[0]

    found = jax.jit(jax.vmap(jax.vmap(lane)))(jnp.broadcast_to(jnp.asarray(periods), LANES))
    jax.effects_barrier()
    return np.asarray(found), len(calls)


def test_lanes_that_are_due_together_renew_then_only():
    found, calls = counted(5)
    assert (found == 111).all()
    assert calls <= 3 * 6  # at steps 0, 5 and 10 (JAX may call once for a batch or once for each of it)


def test_a_lane_that_is_not_due_keeps_what_it_has():
    found, _ = counted([[5, 4, 12], [3, 7, 100]])
    np.testing.assert_array_equal(found, 111)  # 100 + the step, and one more for each step since


def test_a_sweep_gives_what_single_runs_do():
    problem, period = ridge(batch_size=16), 3
    swept = run(problem, Svrg, steps=7, seeds=2, sweep={"learning_rate": [0.01, 0.1], "period": [period]})
    for i, rate in enumerate((0.01, 0.1)):
        alone = run(problem, Svrg(rate, period), steps=7, seeds=[1])
        np.testing.assert_allclose(swept["loss"].values[i, 1], alone["loss"].values[0, 0], rtol=1e-5)


def test_gradients_pass():
    def function(x):
        return when_due(x > 0, lambda: x**2, lambda: x)

    slopes = jax.vmap(jax.grad(function))(jnp.array([3.0, -1.0]))
    np.testing.assert_allclose(slopes, [6.0, 1.0])
    assert jr.key_data(when_due(jnp.array(True), lambda: jr.key(1), lambda: jr.key(0))).tolist() == [0, 1]
