"""Recycled solves against GMRES of SciPy, the least residual over the spaces that they span, and eigenvectors."""

import numpy as np
import pytest
import scipy.sparse as sparse
from scipy.sparse.linalg import gmres

from attractor.linalg import gcro_dr, greedy_order, solve_sequence

RNG = np.random.default_rng(0)
A = 4 * np.eye(40) + 0.5 * RNG.standard_normal((40, 40)) + np.diag(np.r_[-3.9, -3.8, np.zeros(38)])
B = RNG.standard_normal(40)
EASY = A + 2 * np.eye(40)


def test_without_a_space_it_is_restarted_gmres():
    A, counts = EASY, []
    # SciPy's inner iterations, by a callback for each.
    expected, _ = gmres(A, B, restart=7, rtol=1e-9, callback=counts.append, callback_type="pr_norm", maxiter=500)
    found = gcro_dr(A, B, m=7, k=0, tol=1e-9)
    assert found.converged
    assert abs(found.products - len(counts)) <= 1
    np.testing.assert_allclose(found.x, np.linalg.solve(A, B), atol=1e-7)
    np.testing.assert_allclose(expected, found.x, atol=1e-7)
    one = gcro_dr(A, B, m=7, k=0, tol=1e-9, max_products=7)
    space = np.stack([np.linalg.matrix_power(A, i) @ B for i in range(7)], 1)
    least = np.linalg.lstsq(A @ space, B, rcond=None)[0]
    np.testing.assert_allclose(one.x, space @ least, atol=1e-8)
    assert not one.converged


def test_a_recycled_space_takes_its_part_and_the_rest_is_least_squares():
    U = RNG.standard_normal((40, 3))
    found = gcro_dr(A, B, m=8, k=3, recycle=U, tol=1e-12, max_products=8)  # 3 to prepare, 5 steps
    C = np.linalg.qr(A @ U)[0]
    r = B - C @ (C.T @ B)
    project = np.eye(40) - C @ C.T
    space = np.stack([np.linalg.matrix_power(project @ A, i) @ r for i in range(5)], 1)
    both = np.concatenate([U, space], 1)
    least = both @ np.linalg.lstsq(A @ both, B, rcond=None)[0]
    np.testing.assert_allclose(found.x, least, atol=1e-8)
    assert found.products == 8
    np.testing.assert_allclose(found.residual, np.linalg.norm(B - A @ least) / np.linalg.norm(B), rtol=1e-8)
    images = A @ found.space
    np.testing.assert_allclose(images.T @ images, np.eye(3), atol=1e-10)


def test_the_space_becomes_that_of_the_smallest_eigenvalues():
    found = gcro_dr(A, B, m=14, k=4, tol=1e-12)
    values, vectors = np.linalg.eig(A)
    smallest = vectors[:, np.abs(values).argmin()]
    basis = np.linalg.qr(found.space)[0]
    assert np.linalg.norm(basis @ (basis.T @ smallest) - smallest) < 1e-3
    again = gcro_dr(A, RNG.standard_normal(40), m=14, k=4, recycle=found.space, tol=1e-12)
    assert again.products < found.products
    np.testing.assert_allclose(found.x, np.linalg.solve(A, B), atol=1e-8)


def test_preconditioned_sparse_sequences_are_solved_in_any_order():
    systems = [(sparse.csr_array(EASY + 0.1 * i * np.eye(40)), B + i) for i in range(3)]
    inverse = lambda M: lambda v: v / M.diagonal()  # noqa: E731
    found = solve_sequence(systems, np.array([2, 0, 1]), m=10, k=3, tol=1e-10, preconditioner=inverse)
    for (M, b), one in zip(systems, found, strict=True):
        np.testing.assert_allclose(one.x, np.linalg.solve(M.toarray(), b), atol=1e-7)
    assert gcro_dr(A, np.zeros(40)).products == 0


def test_greedy_order_goes_to_the_nearest():
    assert greedy_order(np.array([[0.0], [5.0], [1.0], [3.5]])).tolist() == [0, 2, 3, 1]
    assert greedy_order(np.array([[0.0], [5.0], [1.0], [3.5]]), first=3).tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("m", lambda: gcro_dr(A, B, m=0)),
        ("k", lambda: gcro_dr(A, B, m=5, k=5)),
        ("A", lambda: gcro_dr(A[:, :3], B)),
        ("b", lambda: gcro_dr(A, B + np.nan)),
        ("recycle", lambda: gcro_dr(A, B, recycle=np.ones((3, 2)))),
        ("tol", lambda: gcro_dr(A, B, tol=0.0)),
        ("order", lambda: solve_sequence([(A, B)], np.array([1]))),
        ("features", lambda: greedy_order(np.array([[np.inf]]))),
        ("first", lambda: greedy_order(np.eye(2), 2)),
    ],
)
def test_bad_input_is_named(argument, call):
    with pytest.raises((ValueError, TypeError), match=argument):
        call()
