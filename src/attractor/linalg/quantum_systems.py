"""Linear systems on a quantum computer, by simulation of its state: phase estimation, and inverted eigenvalues."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Complex, Float, Shaped

from attractor.checks import in_range
from attractor.linalg.matrices import require_finite, require_square
from attractor.registry import part


class Prepared(NamedTuple):
    r"""A state that is proportional to the solution, with what phase estimation left in the clock."""

    state: Complex[np.ndarray, "clock n"]  # together with the flag that says "inverted"; not normalized
    success: float  # probability of that flag, the state's squared norm
    scale: float  # (||b|| / C)²: what turns the state's forms into the solution's

    def expectation(self, M: Shaped[ArrayLike, "n n"]) -> float:
        r"""$x^\dagger M x$ for the solution x, as measurements of M on many preparations would give it.

        Arguments:
            M: A Hermitian matrix.

        Raises:
            ValueError: if M is not Hermitian and finite.
        """
        require_square("M", M, symmetric=True)
        return float(np.einsum("ti,ij,tj->", self.state.conj(), np.asarray(M), self.state).real * self.scale)

    def fidelity(self, x: Shaped[ArrayLike, " n"]) -> float:
        """The probability that a test for ``x`` (any length but zero) passes on the prepared state.

        Arguments:
            x: The state to compare with.
        """
        direction = np.asarray(x) / np.linalg.norm(np.asarray(x))
        return float((np.abs(self.state @ direction.conj()) ** 2).sum() / self.success)


def hhl(
    A: Shaped[ArrayLike, "n n"],
    b: Shaped[ArrayLike, " n"],
    clock_qubits: int = 8,
    *,
    time: float | None = None,
    constant: float | None = None,
    window: Literal["sine", "uniform"] = "sine",
) -> Prepared:
    r"""Prepare a state proportional to $A^{-1} b$ as Harrow, Hassidim and Lloyd do, by simulating every amplitude.

    A clock of $T = 2^c$ values starts in $\sum_\tau w_\tau \lvert \tau \rangle$; $e^{i A t \tau / T}$ acts on
    $\lvert b \rangle$ under its control, and the inverse Fourier transform leaves $\lvert k \rangle$ near
    $\tilde\lambda_k = 2 \pi k / t$, k beyond T/2 standing for $k - T$. A flag is turned to an amplitude of
    $C / \tilde\lambda_k$, at most 1 in size, phase estimation is undone, and the flag measured. With
    $w_\tau = \sqrt{2/T} \sin(\pi (\tau + 1/2) / T)$ the prepared state is within $O(\kappa / t)$ of the solution's.
    Simulated in A's eigenbasis, at a cost of $T n \log T$: nothing of the quantum computer's speed is left.

    Arguments:
        A: Hermitian and nonsingular; `hermitian_dilation` makes one of any other matrix.
        b: The right-hand side, not zero.
        clock_qubits: c, from 1 to 20.
        time: t, with $|\lambda| t < \pi T$ for all eigenvalues; by default 0.9 of the largest such.
        constant: C, positive; by default half of the smallest eigenvalue's size. Larger ones succeed more often and
            distort what lies below.
        window: ``"uniform"``, $w_\tau = T^{-1/2}$, is exact where eigenvalues lie on the clock's grid.

    Raises:
        ValueError: for an A that is not Hermitian, finite and nonsingular, a b of another size or zero, a time that
            eigenvalues wrap around in, or numbers out of range.

    Paper: Quantum algorithm for solving linear systems of equations (Harrow, Hassidim, Lloyd, 2008).
    """
    in_range("clock_qubits", clock_qubits, 1, 20)
    if window not in ("sine", "uniform"):
        raise ValueError(f"window: expected 'sine' or 'uniform', got {window!r}")
    require_square("A", A)
    require_finite("b", b, 1)
    matrix, right = np.asarray(A), np.asarray(b)
    if right.size != len(matrix) or not right.any():
        raise ValueError(f"b: expected {len(matrix)} entries that are not all zero, got {right.size}")
    if np.abs(matrix - matrix.conj().T).max() > 1e-10 * np.abs(matrix).max():
        raise ValueError("A: expected a Hermitian matrix; solve with hermitian_dilation(A) and b followed by zeros")
    values, vectors = np.linalg.eigh(matrix)
    sizes = np.abs(values)
    if sizes.min() < 1e-12 * sizes.max():
        raise ValueError("A: expected a nonsingular matrix, got an eigenvalue that is zero up to rounding")
    T = 2**clock_qubits
    time = 0.9 * np.pi * T / sizes.max() if time is None else time
    constant = sizes.min() / 2 if constant is None else constant
    in_range("time", time, 0.0, np.pi * T / sizes.max(), open_low=True, open_high=True)
    in_range("constant", constant, 0.0, open_low=True)
    clock = np.arange(T)
    weights = np.sqrt(2 / T) * np.sin(np.pi * (clock + 0.5) / T) if window == "sine" else np.full(T, T**-0.5)
    evolved = np.exp(1j * np.outer(clock, values) * time / T)  # pyright: ignore
    start = weights[:, None] * evolved * (vectors.conj().T @ right / np.linalg.norm(right))
    read = np.fft.fft(start, axis=0, norm="ortho")
    estimates = 2 * np.pi * np.where(clock < T / 2, clock, clock - T) / time
    flag = np.clip(np.divide(constant, estimates, out=np.zeros(T), where=estimates != 0), -1, 1)  # pyright: ignore
    undone = np.fft.ifft(flag[:, None] * read, axis=0, norm="ortho") * evolved.conj()
    return Prepared(undone @ vectors.T, float((np.abs(undone) ** 2).sum()), (np.linalg.norm(right) / constant) ** 2)  # pyright: ignore


def hermitian_dilation(A: Shaped[ArrayLike, "m n"]) -> Shaped[np.ndarray, "size size"]:
    r"""The Hermitian matrix with A in its upper right and $A^\dagger$ in its lower left; $A x = b$ where it maps
    (0, x) to (b, 0).

    Arguments:
        A: Any matrix.

    Raises:
        ValueError: if A is not a finite matrix.
    """
    require_finite("A", A, 2)
    matrix = np.asarray(A)
    m, n = matrix.shape
    return np.block([[np.zeros((m, m)), matrix], [matrix.conj().T, np.zeros((n, n))]])


def random_hermitian(seed: int, n: int, condition: float) -> Complex[np.ndarray, "n n"]:
    """A random Hermitian matrix of norm 1: eigenvalues of both signs, sizes in [1 / condition, 1], both ends included.

    Arguments:
        seed: Of all numbers.
        n: Its size, at least 2.
        condition: At least 1.
    """
    in_range("n", n, 2)
    in_range("condition", condition, 1.0)
    random = np.random.default_rng(seed)
    vectors = np.linalg.qr(random.standard_normal((n, n)) + 1j * random.standard_normal((n, n)))[0]
    sizes: Float[np.ndarray, " n"] = np.concatenate([[1 / condition, 1.0], random.uniform(1 / condition, 1, n - 2)])
    return (vectors * sizes * random.choice([-1.0, 1.0], n)) @ vectors.conj().T


def _example() -> tuple[float, float]:
    A, b = np.diag([0.25, -0.5, 1.0]), np.array([1.0, 2.0, -1.0])
    return 1 - hhl(A, b, 4, time=8 * np.pi, window="uniform").fidelity(b / np.diag(A)), 1e-12


part("solver", "hhl", example=lambda: _example)(hhl)
