"""A game about labels: an adversary flips those that matter most to the learner, who learns from them all the same."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import Scalar, in_range
from attractor.linalg import onto_balanced_box
from attractor.method import Method, hyper
from attractor.problems.kernel_machines import KernelMachine
from attractor.registry import LogUniform, method

Weights = Float[Array, " n"]


def flip_influential(key: PRNGKeyArray, weights: Weights, labels: Float[Array, " n"], budget: Scalar) -> Array:
    """Labels (n,), of which B are flipped: drawn from the 2B of the largest weights above 1e-5, or all if fewer.

    Arguments:
        key: Of the draw.
        weights: λ (n,) of a kernel machine.
        labels: 1 and -1, (n,).
        budget: B ≥ 0, a whole number.

    Raises:
        ValueError: for a negative ``budget``.
    """
    in_range("budget", budget, 0)
    candidates = (_rank(weights) < 2 * budget) & (weights > 1e-5)
    lots = jnp.where(candidates, jr.uniform(key, weights.shape), -1.0)
    return jnp.where(candidates & (_rank(lots) < budget), -labels, labels)


def _rank(values: Float[Array, " n"]) -> Array:
    """0 for the largest."""
    return jnp.argsort(jnp.argsort(-values))


@method(
    "adversarial-labels",
    {"learning_rate": LogUniform(1e-3, 1.0)},
    paper="floral",
    example={"learning_rate": 0.1, "budget": 1},
)
class AdversarialLabels(Method):
    r"""Train a kernel machine while labels of its most influential points are flipped, others in every round.

    $$
    y = \text{flips}(y_0, \lambda), \qquad
    \lambda \leftarrow P_y\bigl[\lambda - \eta\,(Q(y) \lambda - 1)\bigr], \qquad
    P_y \text{ onto } 0 \le \lambda \le C,\; y^\top \lambda = 0
    $$

    The leader is `flip_influential`, who starts from the given labels $y_0$ anew each round; the follower takes a
    single projected step. The iterate is (λ, y), the labels of the last round among it, as they belong to λ. Where the
    rounds start matters little, but start at the machine that $y_0$ gives.

    Arguments:
        learning_rate: η > 0, below 2 / L for the largest eigenvalue L of the kernels' matrix.
        budget: B ≥ 0 flips a round, a whole number; 0: projected gradients, which find the support vector machine.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Adversarial Training for Defense Against Label Poisoning Attacks (Bal, Cevher and Muehlebach, 2025)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    budget: Scalar = hyper(10, low=0)

    def step(
        self, problem: KernelMachine, x: tuple[Weights, Array], state: None, key: PRNGKeyArray
    ) -> tuple[tuple[Weights, Array], None]:
        weights = x[0]
        labels = flip_influential(jr.fold_in(key, 1), weights, problem.labels, self.budget)
        slope = labels * (problem.gram @ (labels * weights)) - 1
        moved = (weights - self.learning_rate * slope).astype(weights.dtype)
        return (onto_balanced_box(moved, labels, problem.cost), labels), state
