import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import run
from attractor.physics import BallNetwork, Collocation, laplacian, poisson_pinn, sparse_tangents


def small(**options):
    return poisson_pinn(4, **{"indices": 2, "width": 8, "depth": 1, "points": 32, "batch_size": 4} | options)


def test_network_vanishes_on_the_sphere():
    x = jr.normal(jr.key(0), (6,))
    u = BallNetwork(6, 8, 2, key=jr.key(1))
    np.testing.assert_allclose(u(x / jnp.linalg.norm(x)), 0, atol=1e-6)


def test_source_is_the_laplacian_of_the_solution():
    (points, source), _ = small(points=2_000).full
    c = jr.normal(jr.split(jr.key(0), 3)[0], (3,))

    def u(x):
        return (1 - x @ x) * (c @ jnp.sin(x[:-1] + jnp.cos(x[1:]) + x[1:] * jnp.cos(x[:-1])))

    exact = jax.vmap(lambda x: jnp.trace(jax.hessian(u)(x)))(points)
    ratio = np.asarray(exact / source)
    # Equal up to the scale that makes u of size 1; small where both are small.
    np.testing.assert_allclose(exact, ratio[0] * source, atol=1e-3 * float(jnp.abs(exact).max()))
    np.testing.assert_allclose(ratio[0], np.sqrt(np.mean(jax.vmap(u)(points) ** 2)), rtol=0.05)


def test_points_are_uniform_in_the_ball():
    (points, _), _ = small(points=2_000).full
    np.testing.assert_allclose(np.cov(points.T), np.eye(4) / 6, atol=0.02)  # E |x|² = d / (d + 2)
    assert 0.95 < np.linalg.norm(points, axis=1).max() <= 1 + 1e-6


def test_sample_gives_fresh_points_and_tangents():
    problem = small()
    (x, g), v = problem.sample(jr.key(0))
    _, other = problem.sample(jr.key(1))
    assert x.shape == (4, 4)
    assert g.shape == (4,)
    assert v.shape == (2, 4)
    assert not np.array_equal(v, other) or not np.array_equal(x, problem.sample(jr.key(1))[0][0])


def test_training_lowers_the_error():
    error = run(small(), optax.adam(1e-2), steps=300, seeds=1, every=300, progress=False)["error"].values[0, 0]
    assert error[-1] < 0.7 * error[0]


def test_collocation_solves_an_ordinary_equation():
    """u'' = 2 with u = x² up to a line, by a quadratic model."""

    class Quadratic(eqx.Module):
        a: jax.Array

        def __call__(self, x):
            return self.a * jnp.sum(x**2)

    problem = Collocation(
        lambda u, x, v: laplacian(u, x, v) - 2.0,
        lambda key: Quadratic(jnp.zeros(())),
        jnp.linspace(-1, 1, 8)[:, None],
        lambda key: sparse_tangents(key, 1),
    )
    final = run(problem, optax.sgd(0.1), steps=100, progress=False).final
    np.testing.assert_allclose(np.asarray(final.a).squeeze(), 1.0, atol=1e-5)


@pytest.mark.parametrize("bad", [{"indices": 5}, {"indices": 0}, {"points": 1}, {"batch_size": 0}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        small(**bad)
