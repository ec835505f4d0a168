import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.dynamics import lyapunov_spectrum
from attractor.dynamics.lyapunov import orthonormalize


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def lorenz(x):
    a, b, c = jnp.moveaxis(x, -1, 0)
    return jnp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], -1)


def test_linear_flow_has_its_eigenvalues():
    matrix = jnp.array([[-0.5, 2.0, 0.0], [0.0, 0.3, 1.0], [0.0, 0.0, -2.0]])
    found = lyapunov_spectrum(lambda x: x @ matrix.T, jnp.zeros(3), dt=0.01, steps=20_000, discard=0.5)
    np.testing.assert_allclose(found, [0.3, -0.5, -2.0], atol=1e-6)


def test_lorenz_agrees_with_the_literature():
    starts = jnp.array([1.0, 1.0, 20.0]) + jax.random.normal(jax.random.key(0), (16, 3))
    found = lyapunov_spectrum(lorenz, starts, dt=0.01, steps=12_000).mean(0)
    np.testing.assert_allclose(found, [0.9056, 0.0, -14.5723], atol=0.03)
    np.testing.assert_allclose(found.sum(), -(10 + 1 + 8 / 3), rtol=1e-4)


def test_the_leading_exponent_alone_is_the_first_of_all():
    options = {"dt": 0.01, "steps": 2_000}
    every = lyapunov_spectrum(lorenz, jnp.array([1.0, 1.0, 20.0]), **options)
    one = lyapunov_spectrum(lorenz, jnp.array([1.0, 1.0, 20.0]), exponents=1, **options)
    assert one.shape == (1,)
    assert abs(every[0] - one[0]) < 0.2


def test_orthonormalize_is_qr():
    frame = jax.random.normal(jax.random.key(0), (4, 5, 3))
    q, growth = orthonormalize(frame)
    theirs, r = np.linalg.qr(frame)
    np.testing.assert_allclose(growth, np.abs(np.diagonal(r, axis1=1, axis2=2)), rtol=1e-10)
    np.testing.assert_allclose(np.abs(q), np.abs(theirs), atol=1e-10)


@pytest.mark.parametrize(
    "bad", [{"dt": 0.0}, {"steps": 15}, {"every": 0}, {"exponents": 4}, {"exponents": 0}, {"discard": 1.0}]
)
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        lyapunov_spectrum(lorenz, jnp.ones(3), **{"dt": 0.01, "steps": 100} | bad)
