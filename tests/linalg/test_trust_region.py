"""Steps within a trust region: a closed form, the line search, dtypes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.decision import Categorical
from attractor.linalg import trust_region_step


def test_natural_gradient_step_of_a_softmax_policy_is_the_closed_form():
    # One state: Fisher diag(p) - pp', and the natural gradient of E[A] is A itself (up to a constant vector).
    with jax.enable_x64(True):
        logits, advantage, radius = jnp.asarray([0.3, -0.5, 0.1]), jnp.asarray([1.0, 0.2, -0.7]), 1e-6
        old, p = Categorical(logits), jax.nn.softmax(logits)
        stepped = trust_region_step(
            lambda x: -jax.nn.softmax(x) @ advantage, lambda x: old.divergence(Categorical(x)), logits, radius,
            damping=0.0,
        )  # fmt: skip
        centered = advantage - p @ advantage
        expected = centered * jnp.sqrt(2 * radius / (p @ centered**2))
        moved = stepped - logits
        np.testing.assert_allclose(moved - p @ moved, expected, rtol=2e-3)
        # On the boundary to first order; the line search may have halved it once to be truly within.
        assert old.divergence(Categorical(stepped)) <= radius


def test_a_step_to_the_boundary_is_not_halved_for_its_rounding():
    rng = np.random.default_rng(0)
    factors, x = np.float32(rng.standard_normal((2, 30, 3, 3)))

    @jax.jit
    def reached(metric, slope):
        def distance(x):
            return x @ metric @ x / 2

        return distance(trust_region_step(lambda x: slope @ x, distance, jnp.zeros(3), 0.3, damping=0.0))

    for factor, slope in zip(factors, x[:, 0], strict=True):
        assert float(reached(factor @ factor.T + np.eye(3, dtype=np.float32), slope)) == pytest.approx(0.3, rel=1e-4)


def test_step_is_halved_until_the_objective_falls():
    x = jnp.asarray(1.0)
    moved = trust_region_step(lambda x: x**2, lambda y: 1e-3 * (y - x) ** 2, x, 1.0, damping=0.0)
    assert 0 < abs(moved) < 1  # the first, untested step would have gone to about -30


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_step_keeps_dtypes_and_survives_a_zero_gradient_and_a_nan(dtype):
    x = {"a": jnp.ones(3, dtype), "b": jnp.asarray(2.0, dtype)}

    def distance(y):
        return sum(jnp.sum((y[k] - x[k]) ** 2) for k in x)

    for objective, moves in (
        (lambda y: jnp.sum(y["a"] ** 2) + y["b"] ** 2, True),
        (lambda y: 0 * y["b"], False),
        (lambda y: y["b"] * jnp.nan, False),
    ):
        moved = trust_region_step(objective, distance, x, 0.1)
        assert jax.tree.map(lambda v: v.dtype, moved) == jax.tree.map(lambda v: v.dtype, x)
        assert bool(moved["b"] != x["b"]) == moves
        assert all(jnp.isfinite(v).all() for v in moved.values())


@pytest.mark.parametrize("bad", [{"radius": 0.0}, {"damping": -1.0}, {"cg_steps": 0}])
def test_step_refuses_bad_arguments(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        trust_region_step(jnp.sum, jnp.sum, jnp.ones(2), **{"radius": 0.1, **bad})
