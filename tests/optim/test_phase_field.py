"""Ginzburg-Landau energies against NumPy, the split against automatic differentiation, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.optim import GinzburgLandau, fista

RNG = np.random.default_rng(0)
WEIGHTS = np.array([[0, 1, 2, 0], [1, 0, 0, 0.5], [2, 0, 0, 1], [0, 0.5, 1, 0]])
LABELS = np.array([1.0, 0, 0, -1])


def test_torus_energy_of_a_wave():
    with jax.enable_x64(True):
        grid = np.arange(16) / 16
        u = 0.3 * np.sin(2 * np.pi * grid)[:, None] * np.cos(4 * np.pi * grid)
        expected = 0.1 / 2 * 20 * np.pi**2 * np.sum(u**2) + np.sum((1 - u**2) ** 2) / 0.4
        assert float(GinzburgLandau.torus(16, 0.1).energy(jnp.asarray(u))) == pytest.approx(expected, rel=1e-12)


def test_graph_energy_and_step_match_dense_algebra():
    with jax.enable_x64(True):
        u, eps, mu, step = RNG.uniform(-1, 1, 4), 0.3, 2.0, 0.7
        scale = np.diag(WEIGHTS.sum(1) ** -0.5)
        laplacian = np.eye(4) - scale @ WEIGHTS @ scale
        graph = GinzburgLandau.graph(WEIGHTS, eps, jnp.asarray(LABELS), mu)
        expected = eps / 2 * u @ laplacian @ u + np.sum((1 - u**2) ** 2) / (4 * eps)
        expected += mu / 2 * ((u[0] - 1) ** 2 + (u[3] + 1) ** 2)
        assert float(graph.energy(jnp.asarray(u))) == pytest.approx(expected, rel=1e-10)
        quadratic = eps * laplacian + (2 / eps + mu) * np.eye(4)
        moved = np.linalg.solve(np.eye(4) + step * quadratic, u)
        np.testing.assert_allclose(graph.prox_convex(jnp.asarray(u), step), moved, rtol=1e-10)
        gradient = quadratic @ u + graph.grad_concave(jnp.asarray(u))
        np.testing.assert_allclose(gradient, jax.grad(graph.energy)(jnp.asarray(u)), rtol=1e-9)


def test_labels_decide():
    graph = GinzburgLandau.graph(WEIGHTS, 1.0, jnp.asarray(LABELS), 5.0)
    u, energies = fista(graph.grad_concave, graph.prox_convex, jnp.zeros(4), 1.0, 100, measure=graph.energy)
    assert float(u[0]) > 0 > float(u[3])
    assert float(energies[-1]) < float(energies[0])


@pytest.mark.parametrize(("arguments", "name"), [
    ((jnp.array([-1.0]), 0.1, 0.0), "eigenvalues"),
    ((jnp.ones(1), 0.0, 0.0), "eps"),
    ((jnp.ones(1), 0.1, -1.0), "fidelity"),
])  # fmt: skip
def test_errors(arguments, name):
    values, eps, fidelity = arguments
    with pytest.raises(ValueError, match=name):
        GinzburgLandau(values, lambda u: u, lambda c: c, eps, fidelity=fidelity)
    with pytest.raises(ValueError, match="size"):
        GinzburgLandau.torus(1, 0.1)
