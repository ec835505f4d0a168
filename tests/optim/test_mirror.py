"""Mirror descent with the hyperbolic entropy, against its definition in the mirrored coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import hypentropy_descent, least_hypentropy

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("fading", [False, True])
def test_the_steps_are_gradient_steps_in_mirrored_coordinates(fading):
    x, target = {"a": RNG.standard_normal(3), "b": RNG.standard_normal((2, 2))}, RNG.standard_normal(3)
    scale, rates = 0.3, np.array([0.2, 0.1, 0.05]) if fading else np.full(3, 0.2)
    with jax.enable_x64(True):
        made = hypentropy_descent((lambda t: jnp.asarray(rates)[t]) if fading else 0.2, scale)
        found = jax.tree.map(jnp.asarray, x)
        state = made.init(found)
        for rate in rates:
            slope = {"a": x["a"] - target, "b": 3 * x["b"]}
            updates, state = made.update(jax.tree.map(jnp.asarray, slope), state, found)
            found = optax.apply_updates(found, updates)
            x = {k: scale * np.sinh(np.arcsinh(v / scale) - rate * slope[k]) for k, v in x.items()}
            for k in x:
                np.testing.assert_allclose(found[k], x[k], rtol=1e-10)


def test_it_needs_the_parameters():
    made = hypentropy_descent(0.1)
    with pytest.raises(ValueError, match=r"^params:"):
        made.update(jnp.ones(2), made.init(jnp.ones(2)))


@pytest.mark.parametrize("scale", [0.0, 1e-2, 1.0])
def test_the_least_solution_has_no_better_neighbor(scale):
    rows, values = RNG.standard_normal((3, 7)), RNG.standard_normal(3)
    x = least_hypentropy(rows, values, scale)
    np.testing.assert_allclose(rows @ x, values, atol=1e-9)
    slope = np.arcsinh(x / scale) if scale else x  # of the entropy: orthogonal to the null space
    np.testing.assert_allclose(np.linalg.svd(rows)[2][3:] @ slope, 0, atol=1e-8)
    with pytest.raises(ValueError, match="scale"):
        least_hypentropy(rows, values, -1.0)
