"""Kernel machines: support vectors by their dual problem, where labels may have been flipped by an adversary."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray
from sklearn.datasets import load_digits, make_moons
from sklearn.svm import SVC

from attractor.checks import in_range
from attractor.probe import Probe
from attractor.problem import Problem
from attractor.registry import problem

Points = Float[Array, "n d"]
Labels = Float[Array, " n"]


class KernelMachine(Problem):
    r"""Separate two classes with support vectors: the dual problem of weights λ, for labels that a method may change.

    $$ \min_\lambda\; \tfrac12 \lambda^\top Q \lambda - 1^\top \lambda, \qquad Q_{ij} = y_i y_j k(u_i, u_j), \qquad
       0 \le \lambda_i \le C, \quad y^\top \lambda = 0 $$

    with $k(u, v) = \exp(-\gamma \lVert u - v \rVert^2)$. The iterate is the pair (λ, y). Recorded is ``dual``, at the
    iterate's labels, and where there are such points ``validation_accuracy`` and ``test_accuracy``.

    Arguments:
        points: (n, d).
        labels: (n,), 1 and -1, both present.
        cost: C > 0.
        gamma: γ > 0, of the kernel.
        weights: λ to start with, (n,); `None`: 0.
        held_out: Points and labels by name, ``"validation"`` or ``"test"``.

    Raises:
        ValueError: for labels other than 1 and -1, a single class, or an argument out of its range.
    """

    gram: Float[Array, "n n"]
    labels: Labels
    cost: Any
    start: Float[Array, " n"]
    probes: dict[str, Probe]

    def __init__(
        self,
        points: Points,
        labels: Labels,
        *,
        cost: Any = 1.0,
        gamma: Any = 1.0,
        weights: Float[Array, " n"] | None = None,
        held_out: dict[str, tuple[Float[Array, "_ d"], Float[Array, " _"]]] | None = None,
    ):
        in_range("cost", cost, 0.0, open_low=True)
        in_range("gamma", gamma, 0.0, open_low=True)
        if set(np.unique(np.asarray(labels)).tolist()) != {-1.0, 1.0}:
            raise ValueError(f"labels: expected 1 and -1, both present, got {np.unique(np.asarray(labels))[:5]}")
        self.gram, self.labels, self.cost = radial_kernel(points, points, gamma), labels, cost
        self.start = jnp.zeros_like(labels) if weights is None else weights
        self.probes = {"dual": Probe(_dual)}
        for name, (others, truth) in (held_out or {}).items():
            self.probes[f"{name}_accuracy"] = Probe(
                eqx.Partial(_accuracy, radial_kernel(others, points, gamma), truth), "max"
            )

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """Eight points of two classes; see `Problem.example`."""
        points = jnp.asarray(np.random.default_rng(0).standard_normal((8, 2)), dtype)
        return KernelMachine(points, jnp.asarray([1, -1, 1, 1, -1, -1, 1, -1], dtype))

    def init(self, key: PRNGKeyArray) -> tuple[Float[Array, " n"], Labels]:
        """The weights to start with, and the given labels; no randomness."""
        return self.start, self.labels

    def dual(self, weights: Float[Array, " n"], labels: Labels) -> Float[Array, ""]:
        """The objective."""
        signed = weights * labels
        return signed @ self.gram @ signed / 2 - weights.sum()

    def offset(self, weights: Float[Array, " n"], labels: Labels) -> Float[Array, ""]:
        """What the decision adds to the kernels' sum: by the weights strictly within the box, if there are any."""
        inside = (weights > 1e-5 * self.cost) & (weights < (1 - 1e-5) * self.cost)
        used = jnp.where(inside.any(), inside, weights > 1e-5 * self.cost)
        missing = labels - self.gram @ (weights * labels)
        return jnp.sum(used * missing) / jnp.maximum(used.sum(), 1)


def _dual(problem: KernelMachine, x: tuple[Array, Array], key: PRNGKeyArray) -> Array:
    return problem.dual(*x)


def _accuracy(gram: Array, truth: Array, problem: KernelMachine, x: tuple[Array, Array], key: PRNGKeyArray) -> Array:
    decision = gram @ (x[0] * x[1]) + problem.offset(*x)
    return jnp.mean(decision * truth > 0)


def radial_kernel(points: Points, others: Float[Array, "m d"], gamma: Any) -> Float[Array, "n m"]:
    """$\\exp(-\\gamma \\lVert u - v \\rVert^2)$ of all pairs."""
    squares = jnp.sum(points**2, 1)[:, None] + jnp.sum(others**2, 1) - 2 * points @ others.T
    return jnp.exp(-gamma * jnp.maximum(squares, 0.0))


@problem("poisoned-labels", metric="test_accuracy", steps=500)
def poisoned_labels(
    data: str = "digits",
    *,
    flipped: float = 0.25,
    attack: str = "confident",
    cost: float = 10.0,
    gamma: float | None = None,
    seed: int = 0,
) -> KernelMachine:
    """A kernel machine, an adversary of which has flipped labels; it starts at the machine that these labels give.

    The adversary looks at a machine of cost 1 that has learned the true labels, with γ = 2 for moons and 0.03 for
    digits. Validation and test labels are true.

    Arguments:
        data: ``"digits"``: ones and sevens, 150 to train on and 70 to validate; ``"moons"``: two half moons with noise
            0.2, 200 of each.
        flipped: The share of labels, in [0, 0.5].
        attack: ``"confident"``: the points farthest on their own side; ``"influential"``: those of the largest weights.
        cost: C > 0, of the machine that learns.
        gamma: γ > 0, of the machine that learns; `None`: the adversary's.
        seed: Of the split and the noise.

    Raises:
        ValueError: for another ``data`` or ``attack``, or an argument out of its range.
    """
    in_range("flipped", flipped, 0.0, 0.5)
    in_range("cost", cost, 0.0, open_low=True)
    in_range("gamma", 1.0 if gamma is None else gamma, 0.0, open_low=True)
    if data not in ("digits", "moons"):
        raise ValueError(f"data: expected 'digits' or 'moons', got {data!r}")
    if attack not in ("confident", "influential"):
        raise ValueError(f"attack: expected 'confident' or 'influential', got {attack!r}")
    rng, (train, validate) = np.random.default_rng(seed), (150, 70) if data == "digits" else (200, 200)
    loaded: Any = load_digits(return_X_y=True) if data == "digits" else make_moons(1_200, noise=0.2, random_state=seed)
    points, classes = loaded
    kept = np.isin(classes, (1, 7) if data == "digits" else (0, 1))
    order = rng.permutation(kept.sum())
    points = points[kept][order] / (16 if data == "digits" else 1)
    truth = np.where(classes[kept][order] == 1, 1.0, -1.0)
    usual = 0.03 if data == "digits" else 2.0
    width = usual if gamma is None else gamma
    knowing = _machine(1.0, usual).fit(points[:train], truth[:train])
    sure = knowing.decision_function(points[:train]) * truth[:train]
    harm = sure if attack == "confident" else _weights(knowing, train)
    labels = truth[:train].copy()
    labels[np.argsort(-harm - 1e-9 * rng.random(train))[: round(flipped * train)]] *= -1
    start = _weights(_machine(cost, width).fit(points[:train], labels), train)
    parts = {"validation": slice(train, train + validate), "test": slice(train + validate, None)}
    held_out = {name: (jnp.asarray(points[at], float), jnp.asarray(truth[at], float)) for name, at in parts.items()}
    given = jnp.asarray(points[:train], float), jnp.asarray(labels, float)
    return KernelMachine(*given, cost=cost, gamma=width, weights=jnp.asarray(start, float), held_out=held_out)


def _machine(cost: float, width: Any) -> SVC:
    return SVC(C=cost, gamma=width, tol=1e-6)


def _weights(machine: Any, n: int) -> Float[np.ndarray, " n"]:
    weights = np.zeros(n)
    weights[machine.support_] = np.abs(machine.dual_coef_[0])
    return weights
