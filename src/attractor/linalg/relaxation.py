"""Successive over-relaxation, and bandits that choose its parameter from the iterations that past systems took."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import ArrayLike, Bool, Float, Int
from scipy.linalg import solve_triangular

from attractor.checks import in_range
from attractor.linalg.matrices import require_finite, require_square
from attractor.registry import part

_NEWTON = 60  # steps for the bandit's normalization, which converges from one side


class Relaxed(NamedTuple):
    """What successive over-relaxation found, by column of the right-hand side."""

    x: Float[np.ndarray, "n *k"]
    iterations: Int[np.ndarray, "*k"]  # after which the residual was small enough; the maximum where it never was
    converged: Bool[np.ndarray, "*k"]


def sor(
    A: Float[ArrayLike, "n n"],
    b: Float[ArrayLike, "n *k"],
    omega: float,
    *,
    tol: float = 1e-8,
    max_iterations: int = 10_000,
) -> Relaxed:
    r"""Successive over-relaxation: $x \leftarrow x + (D / \omega + L)^{-1} (b - A x)$ for $A = L + D + L^\top$.

    From $x = 0$; $\omega = 1$ is Gauss-Seidel. It converges for every $0 < \omega < 2$.

    Arguments:
        A: Symmetric positive definite.
        b: One right-hand side, or several as columns, which are solved together and counted apart.
        omega: In (0, 2).
        tol: Stop once $\lVert b - A x \rVert \le$ tol $\lVert b \rVert$; positive.
        max_iterations: Stop after so many in any case, at least 1.

    Raises:
        ValueError: for an A that is not symmetric positive definite, shapes that do not fit, entries that are not
            finite, or numbers out of range.

    Paper: Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System Instances (Khodak et al.).
    """
    in_range("omega", omega, 0.0, 2.0, open_low=True, open_high=True)
    in_range("tol", tol, 0.0, open_low=True)
    in_range("max_iterations", max_iterations, 1)
    require_square("A", A, positive=True)
    require_finite("b", b)
    matrix, right = np.asarray(A, float), np.asarray(b, float)
    if right.ndim not in (1, 2) or len(right) != len(matrix):
        raise ValueError(f"b: expected {len(matrix)} rows, as many as A has, got shape {right.shape}")
    lower = np.tril(matrix, -1) + np.diag(np.diag(matrix) / omega)
    x, residual, goal = np.zeros_like(right), right, tol * np.linalg.norm(right, axis=0)
    iterations = np.full(right.shape[1:], max_iterations)
    for iteration in range(max_iterations + 1):
        small = np.linalg.norm(residual, axis=0) <= goal
        iterations = np.where(small, np.minimum(iterations, iteration), iterations)
        if small.all() or iteration == max_iterations:
            break
        x = x + solve_triangular(lower, residual, lower=True, check_finite=False)
        residual = right - matrix @ x
    return Relaxed(x, iterations, np.linalg.norm(residual, axis=0) <= goal)


@runtime_checkable
class Learner(Protocol):
    """What chooses among arms from the costs of those it chose before."""

    def choose(self, context: float) -> int:
        """The arm to play, given what is known of the round."""
        ...

    def learn(self, cost: float) -> None:
        """The cost of the arm that was chosen last."""
        ...


class TsallisInf:
    r"""Tsallis-INF, a bandit that is optimal against an adversary and against chance, without knowing which it faces.

    It plays arm i with $p_i = 4 (\eta_t (\hat L_i - z))^{-2}$, where z makes them sum to 1 and $\eta_t = 2 / \sqrt t$,
    and adds $\ell / p_i$ to the estimate $\hat L_i$ of the arm that it played, at a cost of $\ell$ in [0, 1].

    Arguments:
        arms: How many, at least 1.
        largest: What costs are divided by; positive. Costs above it are learned as they are.
        seed: Of its choices.

    Raises:
        ValueError: for numbers out of range.

    Paper: Learning to Relax (Khodak et al.), which takes it from Zimmert and Seldin, 2021.
    """

    def __init__(self, arms: int, largest: float = 1.0, seed: int = 0) -> None:
        in_range("arms", arms, 1)
        in_range("largest", largest, 0.0, open_low=True)
        self.losses, self.largest, self.random = np.zeros(arms), largest, np.random.default_rng(seed)
        self.rounds, self.chosen, self.probabilities = 0, 0, np.full(arms, 1 / arms)

    def choose(self, context: float = 0.0) -> int:
        """The arm to play; the context is ignored."""
        self.rounds += 1
        eta = 2 / np.sqrt(self.rounds)
        z = self.losses.min() - 2 / eta  # there one probability is 1, so that the sum is at least 1
        for _ in range(_NEWTON):
            p = 4 / (eta * (self.losses - z)) ** 2
            z -= (p.sum() - 1) / (eta * (p**1.5).sum())
            if abs(p.sum() - 1) < 1e-10:
                break
        self.probabilities = p / p.sum()  # pyright: ignore[reportPossiblyUnboundVariable]
        self.chosen = _drawn(self.random, self.probabilities)
        return self.chosen

    def learn(self, cost: float) -> None:
        """Add the cost, divided by its probability."""
        self.losses[self.chosen] += cost / self.largest / self.probabilities[self.chosen]


class ChebyshevBandit:
    r"""A contextual bandit for one number: costs as Chebyshev polynomials of it, exploration by inverse gaps.

    Each arm's costs are fitted by least squares with the polynomials $T_0 … T_{m-1}$ of the context. With
    predictions $\hat y_i$ and the best arm's $\hat y_*$, it plays $i \neq *$ with
    $p_i = 1 / (d + \eta_t (\hat y_i - \hat y_*))$ and the best with what remains. The paper bounds the coefficients;
    here a ridge does. $\eta_t$ grows linearly in t, as in the authors' program; the theory's constant
    needs the horizon.

    Arguments:
        arms: d, at least 1.
        low: The smallest context.
        high: The largest, above ``low``.
        degree: m, at least 1.
        largest: What costs are divided by; positive.
        growth: $\eta_t$ over t; positive.
        ridge: Weight of the squared coefficients; positive.
        seed: Of its choices.

    Raises:
        ValueError: for numbers out of range.

    Paper: Learning to Relax (Khodak et al.), which adds the polynomials to SquareCB (Foster and Rakhlin, 2020).
    """

    def __init__(
        self,
        arms: int,
        low: float,
        high: float,
        *,
        degree: int = 4,
        largest: float = 1.0,
        growth: float = 1.0,
        ridge: float = 1e-3,
        seed: int = 0,
    ) -> None:
        in_range("arms", arms, 1)
        in_range("degree", degree, 1)
        for name, value in (("largest", largest), ("growth", growth), ("ridge", ridge), ("high - low", high - low)):
            in_range(name, value, 0.0, open_low=True)
        self.low, self.high, self.degree, self.largest, self.growth = low, high, degree, largest, growth
        self.random, self.rounds, self.chosen = np.random.default_rng(seed), 0, 0
        self.powers, self.features = np.arange(degree), np.zeros(degree)
        self.grams, self.sums = np.tile(ridge * np.eye(degree), (arms, 1, 1)), np.zeros((arms, degree))
        self.coefficients, self.probabilities = np.zeros((arms, degree)), np.full(arms, 1 / arms)

    def choose(self, context: float) -> int:
        """The arm to play for this context, which counts as the nearest in [low, high]."""
        self.rounds += 1
        inside = 2 * (context - self.low) / (self.high - self.low) - 1
        self.features = np.cos(self.powers * np.arccos(min(max(inside, -1.0), 1.0)))
        predicted = self.coefficients @ self.features
        best = int(predicted.argmin())
        p = 1 / (predicted.size + self.growth * self.rounds * (predicted - predicted[best]))
        p[best] = 0.0
        p[best] = 1 - p.sum()
        self.probabilities = p
        self.chosen = _drawn(self.random, p)
        return self.chosen

    def learn(self, cost: float) -> None:
        """Fit the chosen arm's costs anew."""
        i = self.chosen
        self.grams[i] += np.outer(self.features, self.features)
        self.sums[i] += self.features * cost / self.largest
        self.coefficients[i] = np.linalg.solve(self.grams[i], self.sums[i])


def _drawn(random: np.random.Generator, p: Float[np.ndarray, " arms"]) -> int:
    """An index with these probabilities; `Generator.choice` takes ten times as long."""
    return min(int(np.searchsorted(np.cumsum(p), random.random(), side="right")), p.size - 1)


def learn_to_relax(
    learner: Learner, cost: Callable[[int, int], float], contexts: Float[ArrayLike, " rounds"]
) -> Int[np.ndarray, " rounds"]:
    """Let a bandit choose a parameter for each of a sequence of systems; gives the arms that it chose.

    Arguments:
        learner: A `TsallisInf`, a `ChebyshevBandit`, or what has their two methods.
        cost: ``cost(t, arm)``: solves system t with that arm's parameter and gives the iterations it took.
        contexts: By system, the number that the learner is told before it chooses.
    """
    arms = np.zeros(len(np.asarray(contexts)), int)
    for t, context in enumerate(np.asarray(contexts, float)):
        arms[t] = learner.choose(float(context))
        learner.learn(cost(t, int(arms[t])))
    return arms


def _example() -> tuple[float, float]:
    A, b = np.array([[4.0, -1.0, 0.5], [-1.0, 3.0, -1.0], [0.5, -1.0, 2.0]]), np.array([1.0, -2.0, 3.0])
    return float(np.abs(A @ sor(A, b, 1.2).x - b).max()), 1e-7


part("solver", "sor", example=lambda: _example)(sor)
