"""Conjugate directions against SciPy's conjugate gradients and a loop from the formulas; what networks train on."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.sparse as sparse
from scipy.sparse.linalg import cg

from attractor.linalg import (
    conjugate_directions,
    direction_loss,
    factor_loss,
    factor_product,
    incomplete_cholesky,
    network_factor,
    ritz_right_sides,
    triangular_solves,
)
from attractor.problems.elliptic import darcy_matrix, gaussian_field, poisson_matrix, poisson_product

RNG = np.random.default_rng(0)
A = (lambda B: B @ B.T + np.diag(np.arange(1.0, 13.0)))(RNG.standard_normal((12, 12)))
B = RNG.standard_normal(12)
M = np.diag(1 / np.diag(A))


def proposal(v):
    return np.tanh(3 * v) + 0.3 * np.roll(v, 1)


def by_the_formulas(steps, kept):
    x, directions = np.zeros(12), []
    for _ in range(steps):
        r = B - A @ x
        d = proposal(r / np.linalg.norm(r))
        d = d - sum(((d @ A @ p) / (p @ A @ p) * p for p in directions[max(len(directions) - kept, 0) :]), np.zeros(12))
        x = x + (r @ d) / (d @ A @ d) * d
        directions.append(d)
    return x, directions


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_it_follows_the_formulas(kept):
    for steps in (1, 3, 6):
        found = conjugate_directions(A, B, proposal, kept=kept, tol=1e-14, max_iterations=steps)
        np.testing.assert_allclose(found.x, by_the_formulas(steps, kept)[0], rtol=1e-8, atol=1e-10)
        assert found.iterations == steps
        residual = np.linalg.norm(B - A @ found.x) / np.linalg.norm(B)
        np.testing.assert_allclose(found.residuals[[0, -1]], [1.0, residual], rtol=1e-8)


def test_with_all_kept_it_ends_after_n_steps_whatever_is_proposed():
    draws = np.random.default_rng(1)
    found = conjugate_directions(A, B, lambda v: draws.standard_normal(12), kept=None, tol=1e-9)
    assert found.converged
    assert found.iterations == 12
    np.testing.assert_allclose(found.x, np.linalg.solve(A, B), rtol=1e-8)
    assert conjugate_directions(A, B, lambda v: np.linalg.solve(A, v)).iterations == 1


@pytest.mark.parametrize("kept", [1, 2])
def test_a_linear_proposal_is_a_preconditioner(kept):
    theirs = []
    cg(A, B, M=M, rtol=1e-14, maxiter=7, callback=lambda x: theirs.append(x.copy()))
    for k, x in enumerate(theirs):
        found = conjugate_directions(
            sparse.csr_array(A), B, lambda v: M @ v, kept=kept, tol=1e-14, max_iterations=k + 1
        )
        np.testing.assert_allclose(found.x, x, rtol=1e-8, atol=1e-10)


def test_nothing_to_do_and_nothing_new():
    nothing = conjugate_directions(A, np.zeros(12))
    assert nothing.converged
    assert nothing.iterations == 0
    stuck = conjugate_directions(lambda v: A @ v, B, lambda v: B, tol=1e-12)
    assert stuck.iterations == 1
    assert not stuck.converged


def test_the_loss_is_what_the_best_step_leaves():
    d = proposal(B)
    after = conjugate_directions(A, B, lambda v: d, max_iterations=1).residuals[-1] * np.linalg.norm(B)
    for scale in (1.0, -0.3):
        loss = direction_loss(lambda v: jnp.asarray(A) @ v, jnp.asarray(B), jnp.asarray(scale * d))
        np.testing.assert_allclose(loss, after**2, rtol=1e-5)


def test_right_sides_are_unit_combinations_of_eigenvectors_of_which_the_lower_weigh_more():
    vectors = np.linalg.eigh(A)[1]
    sides = ritz_right_sides(lambda v: jnp.asarray(A) @ v, 12, 4_000, jr.key(0), vectors=12, share=0.25, weight=5.0)
    np.testing.assert_allclose(jnp.linalg.norm(sides, axis=1), 1.0, rtol=1e-5)
    # A row's length drops out of the ratios of its parts, and their geometric means know the deviations.
    parts = np.exp(np.log(np.abs(np.asarray(sides) @ vectors)).mean(0))
    np.testing.assert_allclose(parts[:3] / np.exp(np.log(parts[3:]).mean()), 5.0, rtol=0.1)
    np.testing.assert_allclose(parts[3:], parts[3:].mean(), rtol=0.1)
    # Of fewer, those of the Krylov space of an image of A: all sides lie in it.
    few = np.asarray(ritz_right_sides(lambda v: jnp.asarray(A) @ v, 12, 50, jr.key(0), vectors=4))
    assert (np.linalg.svd(few)[1] > 1e-4).sum() == 4


def test_the_laplacian_without_its_matrix():
    u = RNG.standard_normal((7, 7))
    np.testing.assert_allclose(poisson_product(jnp.asarray(u)).ravel(), poisson_matrix(7) @ u.ravel(), atol=1e-5)


def test_incomplete_cholesky_is_exact_on_the_nonzeros_and_its_solves_invert_it():
    matrix = darcy_matrix(2 * gaussian_field(0, 6))
    L = incomplete_cholesky(matrix)
    error = (L @ L.T - matrix).toarray()
    np.testing.assert_allclose(error[matrix.toarray() != 0], 0.0, atol=1e-12)
    assert np.abs(error).max() > 1e-3
    assert sparse.triu(L, 1).nnz == 0
    full = sparse.csr_array(A)
    np.testing.assert_allclose(incomplete_cholesky(full).toarray(), np.linalg.cholesky(A), atol=1e-10)
    v = RNG.standard_normal(36)
    np.testing.assert_allclose(triangular_solves(L)(v), np.linalg.solve((L @ L.T).toarray(), v), rtol=1e-8)


def test_products_with_a_factor_and_the_loss_that_learns_it():
    L = np.tril(A * (np.abs(A) > 2))
    rows, columns = np.nonzero(np.tril(L, -1))
    factor = [jnp.asarray(x) for x in (L[rows, columns], np.diag(L), rows, columns)]
    xs, bs = RNG.standard_normal((2, 3, 12))
    np.testing.assert_allclose(factor_product(*factor, jnp.asarray(xs[0])), L @ L.T @ xs[0], rtol=1e-4, atol=1e-3)
    expected = np.mean([np.linalg.norm(L @ L.T @ x - b) ** 2 for x, b in zip(xs, bs, strict=True)])
    np.testing.assert_allclose(factor_loss(*factor, jnp.asarray(xs), jnp.asarray(bs)), expected, rtol=1e-4)


def test_a_network_gives_the_entries_of_a_factor_with_the_roots_of_the_diagonal():
    matrix = darcy_matrix(2 * gaussian_field(0, 5))
    b, roots = RNG.standard_normal(25), np.sqrt(matrix.diagonal())
    nodes, scaled = b / roots, matrix.toarray() / np.outer(roots, roots)
    nodes = nodes / np.linalg.norm(nodes) * 5

    def network(v, e, senders, receivers):
        return e[:, 0] * (1 + v[senders, 0]) - 0.3 * v[receivers, 0] ** 2

    expected = np.diag(np.ones(25))
    for i, j in zip(*np.nonzero(np.tril(scaled, -1)), strict=True):
        there, back = (scaled[i, j] * (1 + nodes[s]) - 0.3 * nodes[t] ** 2 for s, t in ((i, j), (j, i)))
        expected[i, j] = (there + back) / 2
    L = network_factor(network, matrix, b)
    np.testing.assert_allclose(L.toarray(), roots[:, None] * expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(L.diagonal(), roots)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("kept", lambda: conjugate_directions(A, B, kept=-1)),
        ("tol", lambda: conjugate_directions(A, B, tol=0.0)),
        ("max_iterations", lambda: conjugate_directions(A, B, max_iterations=0)),
        ("A", lambda: conjugate_directions(sparse.csr_array(A[:, :3]), B)),
        ("A", lambda: conjugate_directions(A + np.eye(12, k=1), B)),
        ("A", lambda: conjugate_directions(-A, B)),
        ("A", lambda: conjugate_directions(sparse.csr_array(A * np.inf), B)),
        ("b", lambda: conjugate_directions(A, B + np.nan)),
        ("direction", lambda: conjugate_directions(A, B, lambda v: v * np.nan)),
        ("direction", lambda: conjugate_directions(A, B, lambda v: v[:-1])),
        ("vectors", lambda: ritz_right_sides(lambda v: v, 5, 3, jr.key(0), vectors=6)),
        ("share", lambda: ritz_right_sides(lambda v: v, 5, 3, jr.key(0), vectors=5, share=1.5)),
        ("weight", lambda: ritz_right_sides(lambda v: v, 5, 3, jr.key(0), vectors=5, weight=0.0)),
        ("A", lambda: incomplete_cholesky(sparse.csr_array(-A))),
        ("A", lambda: incomplete_cholesky(sparse.csr_array(np.ones((2, 3))))),
        ("A", lambda: incomplete_cholesky(sparse.csr_array(np.array([[1.0, 1.0], [1.0, 0.0]])))),
        ("A", lambda: incomplete_cholesky(sparse.csr_array(A * np.nan))),
        ("A", lambda: network_factor(lambda *_: B, sparse.csr_array(A - 50 * np.eye(12)), B)),
        ("b", lambda: network_factor(lambda *_: B, sparse.csr_array(A), B[:3])),
        ("b", lambda: network_factor(lambda *_: B, sparse.csr_array(A), 0 * B)),
        ("b", lambda: network_factor(lambda *_: B, sparse.csr_array(A), B * np.nan)),
        ("L", lambda: triangular_solves(sparse.csr_array(A))),
        ("L", lambda: triangular_solves(sparse.csr_array(np.diag([1.0, 0.0])))),
    ],
)
def test_errors_name_the_argument(argument, call):
    with pytest.raises(ValueError, match=f"^{argument}:"):
        call()
