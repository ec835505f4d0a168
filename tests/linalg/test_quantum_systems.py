"""The simulated state against one of gates: matrix exponentials, Fourier matrices, and a flag's rotation."""

import numpy as np
import pytest
from scipy.linalg import dft, expm

from attractor.linalg import hermitian_dilation, hhl
from attractor.linalg.quantum_systems import random_hermitian

RNG = np.random.default_rng(0)
A, B = random_hermitian(1, 3, 4.0), RNG.standard_normal(3) + 1j * RNG.standard_normal(3)


@pytest.mark.parametrize("window", ["sine", "uniform"])
def test_the_state_is_that_of_the_gates(window):
    T, t, C = 16, 30.0, 0.2
    weights = np.sqrt(2 / T) * np.sin(np.pi * (np.arange(T) + 0.5) / T) if window == "sine" else np.full(T, 0.25)
    evolve = np.zeros((T * 3, T * 3), complex)
    for tau in range(T):
        evolve[3 * tau : 3 * tau + 3, 3 * tau : 3 * tau + 3] = expm(1j * A * t * tau / T)
    read = np.kron(dft(T) / np.sqrt(T), np.eye(3)) @ evolve
    k = np.where(np.arange(T) < 8, np.arange(T), np.arange(T) - T)
    turned = np.array([0.0 if j == 0 else np.clip(C * t / (2 * np.pi * j), -1, 1) for j in k])
    state = read.conj().T @ np.kron(np.diag(turned), np.eye(3)) @ read @ np.kron(weights, B / np.linalg.norm(B))
    found = hhl(A, B, 4, time=t, constant=C, window=window)
    np.testing.assert_allclose(found.state, state.reshape(T, 3), atol=1e-12)
    assert found.success == pytest.approx(np.linalg.norm(state) ** 2)
    M = random_hermitian(2, 3, 2.0)
    form = sum((row.conj() @ M @ row).real for row in state.reshape(T, 3))
    assert found.expectation(M) == pytest.approx(form * np.linalg.norm(B) ** 2 / C**2)
    x = np.linalg.solve(A, B)
    projected = np.outer(x, x.conj()) / np.linalg.norm(x) ** 2
    assert found.fidelity(3 * x) == pytest.approx(
        sum((row.conj() @ projected @ row).real for row in state.reshape(T, 3)) / found.success
    )


def test_it_is_exact_on_the_grid_and_near_elsewhere():
    grid = np.diag([0.25, -0.5, 1.0])
    exact = hhl(grid, np.ones(3), 4, time=8 * np.pi, window="uniform")
    assert exact.fidelity(np.array([4.0, -2.0, 1.0])) == pytest.approx(1, abs=1e-12)
    assert exact.expectation(np.ones((3, 3))) == pytest.approx(9)
    near = hhl(A, B, 10)
    x = np.linalg.solve(A, B)
    assert near.fidelity(x) > 0.999
    assert near.expectation(np.eye(3)) == pytest.approx(np.linalg.norm(x) ** 2, rel=0.01)
    skew = RNG.standard_normal((2, 2)) + 2 * np.eye(2)
    found = hhl(hermitian_dilation(skew), np.array([1.0, -2.0, 0.0, 0.0]), 10)
    assert found.fidelity(np.concatenate([np.zeros(2), np.linalg.solve(skew, [1.0, -2.0])])) > 0.999


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("A: expected a Hermitian", lambda: hhl(np.array([[1.0, 1.0], [0.0, 1.0]]), np.ones(2))),
        ("A: expected a nonsingular", lambda: hhl(np.ones((2, 2)), np.ones(2))),
        ("b", lambda: hhl(np.eye(2), np.zeros(2))),
        ("clock_qubits", lambda: hhl(np.eye(2), np.ones(2), 0)),
        ("time", lambda: hhl(np.eye(2), np.ones(2), 3, time=8 * np.pi)),
        ("constant", lambda: hhl(np.eye(2), np.ones(2), constant=0.0)),
        ("M", lambda: hhl(np.eye(2), np.ones(2)).expectation(np.eye(2, k=1))),
        ("condition", lambda: random_hermitian(0, 2, 0.5)),
    ],
)
def test_bad_input_is_named(argument, call):
    with pytest.raises(ValueError, match=argument):
        call()
