"""Neural scaling laws: power-law random features under one-pass SGD, their phases and compute-optimal sizes."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from attractor.checks import in_range


class Modes(NamedTuple):
    """A least-squares problem with Gaussian features, in the eigenbasis of their covariance.

    Attributes:
        eigenvalues: Of the features' covariance, positive.
        energies: Squared coordinates of the best parameters, which are the starting error of SGD from zero.
        floor: The risk of the best parameters.
    """

    eigenvalues: Float[np.ndarray, "*n d"]
    energies: Float[np.ndarray, "*n d"]
    floor: Float[np.ndarray, "*n"]


class PowerLawRandomFeatures(NamedTuple):
    r"""The risk $\mathcal P(\theta) = E (\langle W^\top x, \theta\rangle - \langle x, b\rangle)^2$, x normal.

    Attributes:
        weights: W, ``(v, d)``.
        scales: Standard deviations of the entries of x, $j^{-\alpha}$.
        target: b, with entries $j^{-\beta}$.
    """

    weights: Float[np.ndarray, "v d"]
    scales: Float[np.ndarray, " v"]
    target: Float[np.ndarray, " v"]

    def risk(self, theta: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n"]:
        """The risk of parameters, exactly."""
        return np.asarray(np.sum((self.scales * (theta @ self.weights.T - self.target)) ** 2, -1))

    def modes(self) -> Modes:
        """Eigenvalues, starting energies and floor; costs $v d^2 + d^3$."""
        embedded = self.scales[:, None] * self.weights
        eigenvalues, basis = np.linalg.eigh(embedded.T @ embedded)
        kept = np.maximum(eigenvalues, np.finfo(float).eps * eigenvalues[-1])
        best = basis.T @ (embedded.T @ (self.scales * self.target)) / kept
        return Modes(kept, best**2, self.risk(basis @ best))


def power_law_random_features(
    v: int, d: int, alpha: float, beta: float, rng: np.random.Generator
) -> PowerLawRandomFeatures:
    r"""Draw a model: $x_j = j^{-\alpha} z_j$, target $b_j = j^{-\beta}$, and $W_{ij} \sim N(0, 1/d)$ independent.

    Arguments:
        v: Dimension of the data, at least d.
        d: Number of parameters, at least 1.
        alpha: Decay of the data, positive.
        beta: Decay of the target's coefficients.
        rng: Draws W.

    Raises:
        ValueError: for an argument out of range.

    Paper: 4+3 Phases of Compute-Optimal Neural Scaling Laws.
    """
    in_range("d", d, 1)
    in_range("v", v, d)
    in_range("alpha", alpha, 0.0, open_low=True)
    in_range("beta", beta)
    j = np.arange(1.0, v + 1)
    return PowerLawRandomFeatures(rng.standard_normal((v, d)) / d**0.5, j**-alpha, j**-beta)


def log_spaced_steps(last: int, exact: int = 100, growth: float = 0.02) -> np.ndarray:
    """The steps 0 … ``exact``, then steps that are apart by the share ``growth`` of themselves, up to ``last``.

    Arguments:
        last: At least 1.
        exact: At least 1.
        growth: Positive.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("last", last, 1)
    in_range("exact", exact, 1)
    in_range("growth", growth, 0.0, open_low=True)
    later = np.exp(np.arange(np.log(max(exact, 1)), np.log(last) + growth, growth)) if last > exact else []
    steps = np.unique(np.concatenate([np.arange(min(exact, last) + 1), np.rint(later).astype(int), [last]]))
    return steps[steps <= last]


def sgd_volterra_loss(
    modes: Modes, rate: float, times: ArrayLike, batch_size: int = 1, noise: float = 1.0
) -> Float[np.ndarray, "*n times"]:
    r"""The expected risk of one-pass SGD from zero on a `Modes` problem: the solution of a Volterra equation.

    $$
    P(r) = F(r) + \sum_{s<r} K(r - 1 - s) P(s), \quad
    F(r) = f + \sum_j \lambda_j e_j q_j^r, \quad K(r) = \tfrac{\gamma^2}{B} \sum_j \lambda_j^2 q_j^r, \quad
    q_j = 1 - 2\gamma\lambda_j + \tfrac{B+1}{B} \gamma^2 \lambda_j^2
    $$

    for steps $\theta \leftarrow \theta - \frac\gamma B \sum_i (\langle\phi_i, \theta\rangle - y_i) \phi_i$. For
    Gaussian data it is exact at consecutive times. Between times that are apart the risk is taken to be linear: it is
    second-order accurate in the gaps: `log_spaced_steps` reaches a million steps in a thousand.

    Arguments:
        modes: Eigenvalues $\lambda$, energies e, floor f; of n problems at once, too.
        rate: $\gamma > 0$.
        times: Ascending steps, the first 0.
        batch_size: B, at least 1.
        noise: Multiplies K, in [0, inf): 1 is SGD, 0 gradient descent with the same decay.

    Raises:
        ValueError: for an argument out of range, or times that do not ascend from 0.

    Paper: 4+3 Phases of Compute-Optimal Neural Scaling Laws.
    """
    in_range("rate", rate, 0.0, open_low=True)
    in_range("batch_size", batch_size, 1)
    in_range("noise", noise, 0.0)
    steps = np.asarray(times, int)
    if steps.ndim != 1 or steps[0] != 0 or (np.diff(steps) <= 0).any():
        raise ValueError("times: expected ascending whole numbers that begin with 0")
    step = rate * modes.eigenvalues
    loss_of_energy = -2 * step + (batch_size + 1) / batch_size * step**2  # q - 1, kept apart for accuracy
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log1p(loss_of_energy)
    excess = modes.eigenvalues * modes.energies
    risks = [modes.floor + excess.sum(-1)]
    for gap in np.diff(steps):
        decay = np.exp(gap * logs)
        geometric = np.where(loss_of_energy == 0, gap, np.expm1(gap * logs) / loss_of_energy)
        kernel = noise / batch_size * step**2 * geometric
        # Over the gap the risk averages (1 - w) of its start and w of its end: w = 0 where the gap is a single step.
        late = (gap - 1) / (2 * gap)
        total, kept = kernel.sum(-1), decay * excess
        end = (modes.floor + kept.sum(-1) + total * (1 - late) * risks[-1]) / (1 - total * late)
        excess = kept + kernel * ((1 - late) * risks[-1] + late * end)[..., None]
        risks.append(end)
    return np.stack(risks, -1)


class Frontier(NamedTuple):
    """The best size for each amount of compute.

    Attributes:
        flops: Where the best size lies inside the range of sizes.
        sizes: The best numbers of parameters, interpolated.
        losses: What they reach, by the parabola.
    """

    flops: Float[np.ndarray, " n"]
    sizes: Float[np.ndarray, " n"]
    losses: Float[np.ndarray, " n"]


def compute_optimal_frontier(
    sizes: ArrayLike,
    times: ArrayLike,
    losses: Float[np.ndarray, "sizes times"],
    flops: ArrayLike,
    *,
    reach: float = 4.0,
) -> Frontier:
    r"""Over training curves of several sizes, the lowest loss for each compute $f = r d$ and the size that has it.

    Curves are interpolated in logarithms. Around the best size a parabola in log d is fitted to log loss, because a
    valley is flat and the sizes are few. Where the best size is not clear of both ends by the reach's root, f is left
    out.

    Arguments:
        sizes: d, ascending.
        times: Steps r, ascending; 0 is left out.
        losses: Positive.
        flops: f, in units of one parameter and one step.
        reach: The parabola uses the sizes within this factor of the best, above 1.

    Raises:
        ValueError: for shapes that do not fit, or ``reach <= 1``.

    Paper: 4+3 Phases of Compute-Optimal Neural Scaling Laws.
    """
    in_range("reach", reach, 1.0, open_low=True)
    d, r, curves = np.asarray(sizes, float), np.asarray(times, float), np.asarray(losses, float)
    if curves.shape != (len(d), len(r)):
        raise ValueError(
            f"losses: expected a row per size and a column per time, {(len(d), len(r))}, got {curves.shape}"
        )
    f, used = np.asarray(flops, float), r > 0
    logs = np.stack([
        np.interp(np.log(f / size), np.log(r[used]), np.log(curve[used]), left=np.inf, right=np.inf)
        for size, curve in zip(d, curves, strict=True)
    ])  # fmt: skip
    rows, margin = [], reach**0.5
    for at, column in zip(f, logs.T, strict=True):
        best = d[column.argmin()]
        near = (d >= best / reach) & (d <= best * reach) & np.isfinite(column)
        if near.sum() < 4:
            continue
        fit = np.polynomial.Polynomial.fit(np.log(d[near]), column[near], 2)
        bottom = fit.deriv().roots()[0] if fit.convert().coef[-1] > 0 else np.nan
        if abs(bottom - np.log(best)) <= np.log(margin) and d[0] * margin <= np.exp(bottom) <= d[-1] / margin:
            rows.append((at, np.exp(bottom), np.exp(fit(bottom))))
    return Frontier(*np.asarray(rows, float).reshape(-1, 3).T)


class Phase(NamedTuple):
    r"""Where $(\alpha, \beta)$ lies, and its compute-optimal exponents.

    Attributes:
        name: Ia, Ib, Ic, II, III, IVa or IVb.
        size_exponent: $d^\star(f) \sim f^{\text{this}}$.
        loss_exponent: $P^\star(f) \sim f^{-\text{this}}$.
    """

    name: str
    size_exponent: float
    loss_exponent: float


def scaling_phase(alpha: float, beta: float) -> Phase:
    r"""The phase of power-law random features, and how the best size and loss grow and fall with compute.

    The exponents balance the terms of the risk, with $\gamma \sim \min(1, d^{2\alpha-1})$, the largest stable rate for
    v proportional to d: capacity $d^{-2\alpha + \max(0, 1 - 2\beta)}$; the target's decay
    $(\gamma r)^{-(2\alpha + 2\beta - 1)/2\alpha}$; embedding, only for $2\alpha, 2\beta > 1$,
    $d^{-1} (\gamma r)^{-(2\alpha-1)/2\alpha}$; gradient noise $\gamma (\gamma r)^{-(4\alpha-1)/2\alpha}$. Points on a
    boundary count to the phase that is written first here: Ia, Ib, II, III, Ic, IVb, IVa.

    Arguments:
        alpha: Decay of the data, positive.
        beta: Decay of the target's coefficients, above 1/2 - alpha: else the risk has no power law.

    Raises:
        ValueError: for an argument out of range.

    Paper: 4+3 Phases of Compute-Optimal Neural Scaling Laws.
    """
    in_range("alpha", alpha, 0.0, open_low=True)
    in_range("beta", beta, 0.5 - alpha, open_low=True)
    a, b = alpha, beta
    fall = 2 * a + 2 * b - 1
    if b <= 0.5:
        return Phase("Ia", 1 / (2 * a + 1), fall / (2 * a + 1)) if a >= 0.5 else Phase("Ib", 0.5, fall / 2)
    if a >= 0.5:
        return Phase("II", b / (a + b), fall / (2 * (a + b))) if b <= a else Phase("III", 0.5, 1 - 1 / (4 * a))
    if a <= 0.25:
        size = fall / (6 * a + 4 * b - 4 * a * b - 2)
        return Phase("Ic", size, 2 * a * size)
    if a <= 1 - 0.5**0.5:
        size = (b - a) / (2 * b - a - 2 * a * b)
        return Phase("IVb", size, (1 - 2 * a) * fall / (2 * (2 * b - a - 2 * a * b)))
    return Phase("IVa", 0.5, a)
