r"""Single-index models of symmetric functions, and how hard correlations make it to learn invariant classes.

Symmetric functions are made of power sums; of the eigenvalues of a random unitary matrix these are independent complex
Gaussians. Correlational statistical queries see a target only through its inner products.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Complex, Float, Int
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp

from attractor.checks import in_range


def haar_unitary_eigenvalues(n: int, draws: int, rng: np.random.Generator) -> Complex[np.ndarray, "draws n"]:
    r"""Eigenvalues of unitary n × n matrices drawn by Haar's measure (the circular unitary ensemble).

    Q of a complex Gaussian matrix's QR, its columns turned so that R has a positive diagonal; without that it is not
    Haar's.

    Arguments:
        n: At least 1.
        draws: At least 1.
        rng: Draws the matrices.

    Raises:
        ValueError: for an argument out of range.

    Paper: Symmetric Single Index Learning.
    """
    in_range("n", n, 1)
    in_range("draws", draws, 1)
    q, r = np.linalg.qr(rng.standard_normal((draws, n, n)) + 1j * rng.standard_normal((draws, n, n)))
    diagonal = np.diagonal(r, axis1=1, axis2=2)
    return np.linalg.eigvals(q * (diagonal / np.abs(diagonal))[:, None, :])


def power_sum_features(x: Complex[np.ndarray, "*draws n"], largest: int) -> Complex[np.ndarray, "*draws k"]:
    r"""Normalized power sums $\phi_k(x) = k^{-1/2} \sum_i x_i^k$ for k = 1 … ``largest``.

    Of `haar_unitary_eigenvalues` they have $E \phi_k \bar\phi_l = \delta_{kl}$ for k ≤ n, and all moments of total
    degree up to n are those of independent standard complex Gaussians.

    Arguments:
        x: The elements of a set, last.
        largest: At least 1.

    Raises:
        ValueError: if ``largest < 1``.

    Paper: Symmetric Single Index Learning.
    """
    in_range("largest", largest, 1)
    k = np.arange(1, largest + 1)
    return (x[..., None] ** k).sum(-2) / k**0.5


def information_exponent(link: ArrayLike) -> int:
    r"""The lowest degree above 0 that a link has: how flat the correlation with the target is near no overlap.

    Arguments:
        link: Coefficients $c_0, c_1, \dots$ of $f(z) = \sum_l c_l z^l / \sqrt{l!}$, orthonormal for complex Gaussian z.

    Raises:
        ValueError: if there is no such degree.

    Paper: Symmetric Single Index Learning.
    """
    degrees = np.flatnonzero(np.asarray(link)[1:])
    if len(degrees) == 0:
        raise ValueError(f"link: expected a coefficient that is not 0 above degree 0, got {link!r}")
    return int(degrees[0]) + 1


def single_index_field(
    w: Complex[np.ndarray, "*n k"], planted: Complex[np.ndarray, " k"], link: ArrayLike
) -> Complex[np.ndarray, "*n k"]:
    r"""The gradient flow of one's correlation with a planted direction, on the unit sphere.

    For $\phi$ complex Gaussian, $C(w) = \operatorname{Re} E\, \overline{f(\langle w^\star, \phi\rangle)}
    f(\langle w, \phi\rangle) = \operatorname{Re} \sum_l |c_l|^2 m^l$ with the overlap
    $m = \langle w^\star, w \rangle = \sum_k \bar w^\star_k w_k$, and

    $$ \dot w = g - \operatorname{Re}\langle w, g\rangle\, w, \qquad g = \sum_l l\, |c_l|^2\, \bar m^{\,l-1} w^\star $$

    so that a real overlap has $\dot m = (1 - m^2) \sum_l l |c_l|^2 m^{l-1}$.

    Arguments:
        w: Of norm 1; several at once, too.
        planted: $w^\star$, of norm 1.
        link: $c_0, c_1, \dots$; see `information_exponent`.

    Paper: Symmetric Single Index Learning.
    """
    weights = np.abs(np.asarray(link)) ** 2
    degrees = np.arange(1, len(weights))
    m = np.asarray(w @ planted.conj())[..., None]
    g = np.sum(degrees * weights[1:] * np.conj(m) ** (degrees - 1), -1, keepdims=True) * planted
    return g - np.sum(w.conj() * g, -1, keepdims=True).real * w


Field = Callable[..., Complex[np.ndarray, "*n k"]]


def symmetric_single_index_flow(
    start: ArrayLike,
    planted: ArrayLike,
    link: ArrayLike,
    times: ArrayLike,
    field: Field = single_index_field,
) -> Complex[np.ndarray, "times k"]:
    r"""Weights along the gradient flow on the sphere, from ``start`` at time 0.

    Arguments:
        start: Complex ``(k,)`` of any norm; it is normalized.
        planted: Complex ``(k,)`` of any norm; it is normalized.
        link: $c_0, c_1, \dots$; see `information_exponent`.
        times: Ascending, in [0, inf).
        field: The flow; `single_index_field`.

    Raises:
        ValueError: for a link without a degree above 0, or times that are negative.

    Paper: Symmetric Single Index Learning.
    """
    information_exponent(link)
    at = np.asarray(times, float)
    in_range("times", at, 0.0)
    unit, w = (np.asarray(v, complex) / np.linalg.norm(v) for v in (planted, start))
    return solve_ivp(lambda _, w: field(w, unit, link), (0.0, at[-1]), w, "RK45", at, rtol=1e-7, atol=1e-10).y.T


def time_to_overlap(
    starts: ArrayLike,
    planted: ArrayLike,
    link: ArrayLike,
    level: float = 0.5,
    *,
    longest: float = np.inf,
    step: float = 0.02,
    field: Field = single_index_field,
) -> Float[np.ndarray, " n"]:
    r"""When the gradient flow's overlap first has absolute value ``level``; infinite if not by ``longest``.

    With information exponent s an overlap $m_0$ takes of the order of 1 (s = 1), $\log 1/m_0$ (s = 2) or
    $m_0^{-(s-2)}$ to become large. Runge and Kutta's method of order 4, in steps that change the overlap by the share
    ``step`` of it (or of $1 - |m|^2$), so that leaving a small overlap costs only its logarithm; at most
    200 / step of them.

    Arguments:
        starts: Complex ``(n, k)`` of any norm; they are normalized.
        planted: Complex ``(k,)`` of any norm; it is normalized.
        link: $c_0, c_1, \dots$; see `information_exponent`.
        level: In (0, 1).
        longest: Positive.
        step: In (0, 1).
        field: The flow; `single_index_field`.

    Raises:
        ValueError: for a link without a degree above 0, or an argument out of range.

    Paper: Symmetric Single Index Learning.
    """
    information_exponent(link)
    in_range("level", level, 0.0, 1.0, open_low=True, open_high=True)
    in_range("step", step, 0.0, 1.0, open_low=True, open_high=True)
    unit = np.asarray(planted, complex) / np.linalg.norm(planted)
    w = np.asarray(starts, complex)
    w = w / np.linalg.norm(w, axis=1, keepdims=True)
    time, overlap = np.zeros(len(w)), np.abs(w @ unit.conj())
    arrived = np.where(overlap >= level, 0.0, np.inf)
    tiny = np.finfo(float).tiny
    for _ in range(round(200 / step)):
        active = np.isinf(arrived) & (time < longest)
        if not active.any():
            break
        first = field(w, unit, link)
        speed = np.maximum(np.abs(first @ unit.conj()), tiny)
        dt = np.where(active, step * np.minimum(overlap, 1 - overlap**2) / speed, 0.0)[:, None]
        second = field(w + dt / 2 * first, unit, link)
        third = field(w + dt / 2 * second, unit, link)
        w = w + dt / 6 * (first + 2 * second + 2 * third + field(w + dt * third, unit, link))
        w = w / np.linalg.norm(w, axis=1, keepdims=True)
        now = np.abs(w @ unit.conj())
        crossed = active & (now >= level)
        part = (level - overlap) / np.where(crossed, now - overlap, 1.0)
        arrived = np.where(crossed, time + part * dt[:, 0], arrived)
        time, overlap = time + dt[:, 0], now
    return np.where(arrived <= longest, arrived, np.inf)


def cyclic_group(n: int) -> Int[np.ndarray, "n n"]:
    """All rotations of n positions, a permutation a row.

    Arguments:
        n: At least 1.

    Raises:
        ValueError: if ``n < 1``.
    """
    in_range("n", n, 1)
    return np.add.outer(np.arange(n), np.arange(n)) % n


def subset_orbits(group: Int[np.ndarray, "g n"]) -> list[Int[np.ndarray, " _"]]:
    """The orbits of nonempty subsets of n positions, each subset as the number with these bits.

    Arguments:
        group: Permutations, all of the group.

    Paper: On the hardness of learning under symmetries.
    """
    n = group.shape[1]
    bits = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
    moved = np.stack([bits[:, g] @ (1 << np.arange(n)) for g in group], 1)
    first = np.flatnonzero(moved.min(1) == np.arange(1, 2**n))
    return [np.unique(moved[i]) for i in first]


def hypercube(n: int) -> Float[np.ndarray, "points n"]:
    """All points of ``{1, -1}^n``; the bits of a point's number say where it is -1."""
    return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)


def symmetrized_parities(n: int, orbits: list[Int[np.ndarray, " _"]]) -> Float[np.ndarray, "orbits points"]:
    r"""Invariant parities $f = |O|^{-1/2} \sum_{S \in O} \chi_S$, one an orbit, on all points of `hypercube`.

    They are orthonormal under the uniform distribution: no query of correlations with a function of norm 1 sees more
    than $1/\tau^2$ of them with more than $\tau$.

    Arguments:
        n: Bits.
        orbits: As from `subset_orbits`.

    Paper: On the hardness of learning under symmetries.
    """
    points = np.arange(2**n)
    rows = []
    for orbit in orbits:
        overlap = np.bitwise_count(points[:, None] & orbit)
        rows.append(np.sum(1.0 - 2.0 * (overlap & 1), 1) / len(orbit) ** 0.5)
    return np.stack(rows)


def csq_queries(functions: Float[np.ndarray, "members points"], tolerance: float) -> float:
    r"""How many correlational statistical queries a class needs at least: $N (\tau^2 - \gamma) / 2$.

    N is the number of functions, $\gamma$ the largest correlation of two: an answer of 0, allowed within the tolerance,
    excludes at most $2 / (\tau^2 - \gamma)$ of them.

    Arguments:
        functions: Values at points that are equally likely; of norm at most 1.
        tolerance: $\tau$, in (0, 1].

    Returns:
        0 where the correlations leave no bound.

    Raises:
        ValueError: if ``tolerance`` is out of range.

    Paper: On the hardness of learning under symmetries.
    """
    in_range("tolerance", tolerance, 0.0, 1.0, open_low=True)
    gram = functions @ functions.T / functions.shape[1]
    largest = np.abs(gram - np.diag(np.diag(gram))).max() if len(gram) > 1 else 0.0
    return max(0.0, len(functions) * (tolerance**2 - float(largest)) / 2)


def gradient_variance_over_targets(
    derivatives: Float[np.ndarray, "parameters points"], functions: Float[np.ndarray, "members points"]
) -> Float[np.ndarray, " parameters"]:
    r"""How much a population gradient depends on which target is being learned, per parameter.

    The gradient of $E (h - f)^2 / 2$ has $f$ only in $E\, \partial_p h\, f$; this is the mean of its square over the
    class. For N orthonormal functions it is at most $E (\partial_p h)^2 / N$ (Bessel).

    Arguments:
        derivatives: $\partial_p h$ at points that are equally likely.
        functions: Targets at these points.

    Paper: On the hardness of learning under symmetries.
    """
    return np.mean((derivatives @ functions.T / functions.shape[1]) ** 2, 1)
