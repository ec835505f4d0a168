import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.optim.regularization_by_denoising import (
    fit_separable,
    principal_denoiser,
    red_gradient_descent,
    red_penalty,
    red_prox,
    separable_red,
)

RNG = np.random.default_rng(0)
FRAMES, BINS, PIXELS, RANK = 5, 3, 4, 2
SMOOTH = np.full((PIXELS, PIXELS), 0.1) + 0.6 * np.eye(PIXELS)  # symmetric, norm 1


def denoiser(f):
    return f @ jnp.asarray(SMOOTH, f.dtype)


def instance():
    arrays = [RNG.standard_normal(s) for s in ((FRAMES, BINS), (FRAMES, BINS, PIXELS), (PIXELS, RANK), (FRAMES, RANK))]
    data, operators, space, time = (jnp.asarray(a) for a in arrays)
    return data, operators, (space, time)


def test_the_gradient_of_the_penalty_is_the_denoiser_residual():
    f = jnp.asarray(RNG.standard_normal((FRAMES, PIXELS)))
    np.testing.assert_allclose(jax.grad(red_penalty)(f, denoiser), f - denoiser(f), atol=1e-5)


def test_the_proximal_map_solves_its_linear_system():
    with jax.enable_x64(True):
        v = RNG.standard_normal((FRAMES, PIXELS))
        found = red_prox(jnp.asarray(v), denoiser, 0.7, steps=100)
    np.testing.assert_allclose(found, v @ np.linalg.inv(np.eye(PIXELS) + 0.7 * (np.eye(PIXELS) - SMOOTH)), atol=1e-10)


def test_the_fitted_denoiser_is_the_linear_map_with_the_least_error():
    with jax.enable_x64(True):
        images, f = RNG.standard_normal((50, PIXELS)) * [1, 2, 3, 4] + 0.5, RNG.standard_normal((3, PIXELS))
        moments = images.T @ images / 50
        best = np.linalg.solve(moments + 0.3**2 * np.eye(PIXELS), moments)  # of D that minimize E |D(x + noise) - x|^2
        np.testing.assert_allclose(principal_denoiser(jnp.asarray(images), 0.3)(f), f @ best.T, atol=1e-10)
        largest = np.linalg.eigh(moments)[1][:, -1]
        found = principal_denoiser(jnp.asarray(images), 1e-6, rank=1)(f)
        np.testing.assert_allclose(found, np.outer(f @ largest, largest), atol=1e-10)
    with pytest.raises(ValueError, match="noise"):
        principal_denoiser(jnp.ones((2, 2)), 0.0)


def test_denoising_alone_ends_at_the_solution_of_its_linear_system():
    with jax.enable_x64(True):
        data, operators, _ = instance()
        found = red_gradient_descent(data, operators, denoiser, 0.4, 3_000)
        for f, g, r in zip(found, data, operators, strict=True):
            exact = np.linalg.solve(r.T @ r + 0.4 * (np.eye(PIXELS) - SMOOTH), r.T @ g)
            np.testing.assert_allclose(f, exact, atol=1e-6)


def test_a_round_solves_both_least_squares_problems():
    with jax.enable_x64(True):
        data, operators, (space, time) = instance()
        target, ridge, penalty = jnp.asarray(RNG.standard_normal((FRAMES, PIXELS))), 0.1, 0.5

        def objective(space, time):
            frames = time @ space.T
            misfit = jnp.sum((jnp.einsum("tbx,tx->tb", operators, frames) - data) ** 2)
            return (misfit + penalty * jnp.sum((frames - target) ** 2) + ridge * jnp.sum(space**2)) / 2 + (
                ridge * jnp.sum(time**2) / 2
            )

        after, moved = fit_separable(data, operators, (space, time), ridge, target, penalty, cg_steps=200)
        np.testing.assert_allclose(jax.grad(objective, 0)(after, time), 0, atol=1e-6)
        np.testing.assert_allclose(jax.grad(objective, 1)(after, moved), 0, atol=1e-10)


def test_the_splitting_ends_at_a_stationary_point():
    with jax.enable_x64(True):
        data, operators, factors = instance()
        end = separable_red(data, operators, denoiser, factors, 3_000, prior=0.2, penalty=1.0, ridge=0.1)

        def objective(factors):
            frames = factors[1] @ factors[0].T
            misfit = jnp.sum((jnp.einsum("tbx,tx->tb", operators, frames) - data) ** 2)
            size = jnp.sum(factors[0] ** 2) + jnp.sum(factors[1] ** 2)
            return (misfit + 0.1 * size) / 2 + 0.2 * red_penalty(frames, denoiser)

        assert end.primal_residual[-1] < 1e-6
        slope = jnp.concatenate([g.ravel() for g in jax.grad(objective)(end.x)])
        assert jnp.linalg.norm(slope) < 5e-3  # the proximal map takes three steps only
        np.testing.assert_allclose(end.measured[-1], objective(end.x), rtol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("prior", -1.0), ("penalty", 0.0), ("ridge", 0.0), ("steps", 0)])
def test_bad_arguments_are_named(name, value):
    data, operators, factors = instance()
    arguments = {"steps": 1, "prior": 0.1, "penalty": 0.1, "ridge": 0.1} | {name: value}
    with pytest.raises(ValueError, match=f"^{name}:"):
        separable_red(data, operators, denoiser, factors, **arguments)
