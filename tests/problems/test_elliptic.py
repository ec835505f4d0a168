"""Elliptic matrices against stencils and known solutions."""

import numpy as np
import pytest
from scipy.sparse.linalg import spsolve

from attractor.problems.elliptic import darcy_matrix, gaussian_field, poisson_matrix


def test_poisson_has_its_stencil_and_eigenvalues():
    A = poisson_matrix(4).toarray()
    one = 2 * np.eye(4) - np.eye(4, k=1) - np.eye(4, k=-1)
    np.testing.assert_allclose(A, np.kron(one, np.eye(4)) + np.kron(np.eye(4), one))


def test_darcy_conserves_flow_between_cells():
    field = np.random.default_rng(0).standard_normal((4, 4))
    A, k = darcy_matrix(field).toarray(), np.exp(field)
    np.testing.assert_allclose(A, A.T)
    np.testing.assert_allclose(A[5, 6], -2 / (1 / k[1, 1] + 1 / k[1, 2]))
    np.testing.assert_allclose(A[5, 9], -2 / (1 / k[1, 1] + 1 / k[2, 1]))
    assert A[3, 4] == 0  # the end of a row and the start of the next
    inner = A[5]
    np.testing.assert_allclose(inner.sum(), 0, atol=1e-12)
    np.testing.assert_allclose(A[0].sum(), 2 * k[0, 0])  # two sides without a neighbor
    # k = exp(a x): the flow along x is constant between two ends that are held, here by rows of one column.
    u = spsolve(darcy_matrix(np.full((6, 6), 2.0)), np.ones(36))
    np.testing.assert_allclose(u, spsolve(poisson_matrix(6), np.ones(36)) / np.exp(2.0))


def test_fields_have_their_variance_and_length():
    fields = np.stack([gaussian_field(s, 16) for s in range(200)])
    assert (fields**2).mean() == pytest.approx(1, abs=0.15)
    near = (fields[:, 5, 5] * fields[:, 5, 6]).mean() / (fields[:, 5, 5] ** 2).mean()
    assert near > 0.9 > (fields[:, 2, 2] * fields[:, 12, 12]).mean()
    with pytest.raises((ValueError, TypeError), match="log_coefficients"):
        darcy_matrix(np.ones((2, 3)))
