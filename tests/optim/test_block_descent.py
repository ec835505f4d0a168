from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from scipy.optimize import minimize, nnls

from attractor.optim.block_descent import (
    block_proximal_descent,
    cp_tensor,
    dictionary_start,
    divergence_cp,
    entropic_conjugate,
    entropic_cost,
    feasible_descent,
    nonnegative_cp,
    sinkhorn_divergence,
    wasserstein_cp_dictionary,
)

RNG = np.random.default_rng(0)


def simplex(*shape, axis):
    points = RNG.random(shape) + 0.1
    return points / points.sum(axis, keepdims=True)


def test_a_factor_solves_its_proximal_least_squares():
    tensor, weight = RNG.random((4, 5, 3)), 0.3
    factors = [RNG.random((n, 2)) for n in tensor.shape]
    with jax.enable_x64(True):
        (found, *_), _ = nonnegative_cp(
            jnp.asarray(tensor), tuple(map(jnp.asarray, factors)), 1, weight, inner_steps=500
        )
    design = np.einsum("br,cr->bcr", *factors[1:]).reshape(-1, 2)
    stacked = np.vstack([design, np.sqrt(weight) * np.eye(2)])
    for row, target, old in zip(found, tensor.reshape(4, -1), factors[0], strict=True):
        np.testing.assert_allclose(row, nnls(stacked, np.append(target, np.sqrt(weight) * old))[0], atol=1e-9)


def test_the_divergence_falls_by_multiplicative_updates():
    tensor, factors = RNG.random((4, 5, 3)), [RNG.random((n, 2)) + 0.1 for n in (4, 5, 3)]
    with jax.enable_x64(True):
        found, values = divergence_cp(jnp.asarray(tensor), tuple(map(jnp.asarray, factors)), 30)
        for _ in range(30):
            for i, axes in enumerate(("abc,br,cr->ar", "abc,ar,cr->br", "abc,ar,br->cr")):
                product = np.einsum("ar,br,cr->abc", *factors)
                others = [u for j, u in enumerate(factors) if j != i]
                up, down = (np.einsum(axes, a, *others) for a in (tensor / product, np.ones_like(tensor)))
                factors[i] = factors[i] * up / down
        for ours, theirs in zip(found, factors, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-8)
    product = np.einsum("ar,br,cr->abc", *factors)
    np.testing.assert_allclose(values[-1], np.sum(tensor * np.log(tensor / product) - tensor + product), rtol=1e-8)
    assert (np.diff(values) <= 1e-12).all()


def test_stationarity_agrees_with_a_constrained_solver():
    for _ in range(5):
        g, x = RNG.standard_normal(4), np.maximum(RNG.standard_normal(4), 0)
        best = minimize(
            lambda d, g=g: g @ d, np.zeros(4), jac=lambda d, g=g: g, bounds=[(-v, None) for v in x],
            constraints={"type": "ineq", "fun": lambda d: 1 - d @ d}, method="SLSQP", options={"ftol": 1e-12},
        )  # fmt: skip
        np.testing.assert_allclose(feasible_descent(jnp.asarray(g), jnp.asarray(x)), -best.fun, rtol=1e-4, atol=1e-5)
    assert feasible_descent(jnp.ones(3), jnp.zeros(3)) == 0.0


def test_entropic_transport_agrees_with_pot_and_its_conjugate():
    cells, (a, b) = np.linspace(0, 1, 6), simplex(2, 6, axis=1)
    cost = (cells[:, None] - cells) ** 2 * (1 + 0.5 * (cells < cells[:, None]))  # one way is dearer
    with jax.enable_x64(True):
        arrays = jnp.asarray(a[None]), jnp.asarray(b[None]), jnp.asarray(cost)
        ours = float(entropic_cost(*arrays, 0.1)[0])
        plan: Any = ot.sinkhorn(a, b, cost, 0.1, stopThr=1e-14)
        np.testing.assert_allclose(ours, np.sum(plan * cost) + 0.1 * np.sum(plan * np.log(plan)), rtol=1e-8)
        g = jnp.asarray(RNG.standard_normal((1, 6)))
        conjugate = float(entropic_conjugate(g, arrays[0], arrays[2], 0.1)) - 0.1 * np.sum(a * np.log(a))
        reached = jax.grad(entropic_conjugate)(g, arrays[0], arrays[2], 0.1)
        np.testing.assert_allclose(reached.sum(), 1.0)
        # Fenchel and Young: equality at the gradient, which is the distribution that attains the supremum
        attained = float(jnp.vdot(g, reached) - entropic_cost(arrays[0], reached, arrays[2], 0.1)[0])
        np.testing.assert_allclose(conjugate, attained, rtol=1e-8)
        other = float(jnp.vdot(g, arrays[1])) - ours
        assert other < conjugate


def test_the_sinkhorn_divergence_is_made_of_three_transports():
    cells, (a, b) = np.linspace(0, 1, 6), simplex(2, 6, axis=1)
    cost = (cells[:, None] - cells) ** 2

    def entropic(x, y):
        plan: Any = ot.sinkhorn(x, y, cost, 0.1, stopThr=1e-14)
        return np.sum(plan * cost) + 0.1 * np.sum(plan * np.log(plan))

    with jax.enable_x64(True):
        found = sinkhorn_divergence(*(jnp.asarray([a, b]), jnp.asarray([b, b])), jnp.asarray(cost), 0.1)
    expected = entropic(a, b) - entropic(a, a) / 2 - entropic(b, b) / 2
    np.testing.assert_allclose(found, [expected, 0.0], rtol=1e-6, atol=1e-12)
    assert expected > 1e-3


def test_a_dictionary_stays_on_its_simplices_and_improves():
    cells = np.linspace(0, 1, 4)
    points = np.stack(np.meshgrid(cells, cells, indexing="ij"), -1).reshape(-1, 2)
    cost = ((points[:, None] - points) ** 2).sum(-1)
    with jax.enable_x64(True):
        tensor = jnp.asarray(simplex(5, 16, axis=1).reshape(5, 4, 4))
        start = dictionary_start(tensor.shape, 2, seed=3)
        factors, values = wasserstein_cp_dictionary(tensor, jnp.asarray(cost), start, 5)
    assert [u.shape for u in start] == [(5, 2), (4, 2), (4, 2)]
    with pytest.raises(ValueError, match="rank"):
        dictionary_start(tensor.shape, 0)
    for i, factor in [*enumerate(map(np.asarray, start)), *enumerate(map(np.asarray, factors))]:
        assert factor.min() >= 0
        np.testing.assert_allclose(factor.sum(1 if i == 0 else 0), 1.0, atol=1e-9)
    assert np.all(np.diff(values) < 0)


@pytest.mark.parametrize("block", [0, 1])
def test_a_factor_of_the_dictionary_solves_its_proximal_transport(block):
    cells = np.linspace(0, 1, 3)
    cost, epsilon, weight = (cells[:, None] - cells) ** 2, 0.2, 0.3
    tensor, factors = simplex(2, 3, axis=1), (simplex(2, 2, axis=1), simplex(3, 2, axis=0))
    shape, axis = factors[block].shape, 1 - block
    with jax.enable_x64(True):
        arrays, start = (jnp.asarray(tensor), jnp.asarray(cost)), tuple(map(jnp.asarray, factors))
        (found,), _ = wasserstein_cp_dictionary(
            *arrays, start, 1, epsilon, weight, 3_000,
            lambda solvers, blocks, sweeps, measure: ((solvers[block](blocks, jnp.asarray(0)),), jnp.zeros(1)),
        )  # fmt: skip

        @jax.jit
        @jax.value_and_grad
        def objective(u):
            u = u.reshape(shape)
            blocks = (u, start[1]) if block == 0 else (start[0], u)
            costs = entropic_cost(arrays[0], cp_tensor(blocks), arrays[1], epsilon)
            return jnp.sum(costs) + weight / 2 * jnp.sum((u - start[block]) ** 2)

        sums = {"type": "eq", "fun": lambda u: u.reshape(shape).sum(axis) - 1}
        options = {"ftol": 1e-14, "maxiter": 200}
        best = minimize(
            objective, factors[block].ravel(), jac=True, bounds=[(1e-9, 1)] * np.prod(shape), constraints=[sums],
            method="SLSQP", options=options,
        )  # fmt: skip
        assert np.abs(best.x.reshape(shape) - factors[block]).max() > 0.02
        np.testing.assert_allclose(found, best.x.reshape(shape), atol=1e-5)


def test_the_dual_ascent_takes_accelerated_steps_of_one_over_the_smoothness():
    epsilon, weight = 0.2, 0.3
    cost, tensor = RNG.random((3, 3)), simplex(2, 3, axis=1)
    start, atoms = simplex(2, 2, axis=1), simplex(3, 2, axis=0)

    def project(rows):  # onto the simplex, by the sorted thresholds
        down = -np.sort(-rows, 1)
        shift = (down.cumsum(1) - 1) / np.arange(1, rows.shape[1] + 1)
        count = (down > shift).sum(1)
        return np.maximum(rows - np.take_along_axis(shift, count[:, None] - 1, 1), 0)

    def primal(g):
        return project(start - g @ atoms / weight)

    def slope(g):
        plan = np.exp((g[:, None] - cost) / epsilon)  # [row, from, to]
        return np.einsum("ni,nij->nj", tensor / plan.sum(2), plan) - primal(g) @ atoms.T

    smoothness = 1 / epsilon + np.linalg.norm(atoms, 2) ** 2 / weight
    g = ahead = np.zeros((2, 3))
    for t in range(3):
        last, g = g, ahead - slope(ahead) / smoothness
        ahead = g + (t + 1) / (t + 4) * (g - last)
    with jax.enable_x64(True):
        (found,), _ = wasserstein_cp_dictionary(
            jnp.asarray(tensor), jnp.asarray(cost), (jnp.asarray(start), jnp.asarray(atoms)), 1, epsilon, weight, 3,
            lambda solvers, blocks, sweeps, measure: ((solvers[0](blocks, jnp.asarray(0)),), jnp.zeros(1)),
        )  # fmt: skip
    np.testing.assert_allclose(found, primal(g), atol=1e-9)


def test_a_rank_one_tensor_is_the_outer_product():
    a, b, c = (RNG.random((n, 1)) for n in (2, 3, 4))
    found = cp_tensor((jnp.asarray(a), jnp.asarray(b), jnp.asarray(c)))
    np.testing.assert_allclose(found, np.einsum("i,j,k->ijk", a[:, 0], b[:, 0], c[:, 0]), rtol=1e-6)


def test_bad_arguments_are_named():
    start = (jnp.ones((2, 1)), jnp.ones((2, 1)))
    with pytest.raises(ValueError, match=r"^weight:"):
        nonnegative_cp(jnp.ones((2, 2)), start, 1, weight=0.0)
    with pytest.raises(ValueError, match=r"^epsilon:"):
        wasserstein_cp_dictionary(jnp.ones((2, 2)), jnp.eye(2), start, 1, epsilon=0.0)
    with pytest.raises(ValueError, match=r"^solvers:"):
        block_proximal_descent([], start, 1)
    with pytest.raises(ValueError, match=r"^sweeps:"):
        block_proximal_descent([lambda b, t: b[0], lambda b, t: b[1]], start, 0)
