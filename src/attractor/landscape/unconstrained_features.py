"""Unconstrained features: what a network's last layers settle on if the features before them may be anything."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize_scalar

from attractor.checks import Scalar, in_range
from attractor.landscape.deep_linear import deep_linear_map


def free_features_loss(
    weights: Sequence[Float[Array, "_ _"]],
    features: Float[Array, "d n"],
    labels: Int[Array, " n"],
    weight_decay: Scalar,
    feature_decay: Scalar,
    *,
    bias: Float[Array, " C"] | None = None,
    loss: str = "mse",
) -> Float[Array, ""]:
    r"""The regularized loss of a deep linear head whose inputs are parameters themselves.

    $$ \frac1n \sum_i \ell(W_M \cdots W_1 h_i + b, y_i) + \frac{\lambda_W}{2} \sum_j \|W_j\|_F^2 +
    \frac{\lambda_H}{2} \|H\|_F^2 $$

    with $\ell$ half the squared distance from the one-hot label, or the cross-entropy. The bias is not decayed.

    Arguments:
        weights: $W_1, …, W_M$, first layer first; the last has C rows.
        features: H, a column for each example.
        labels: Classes 0 … C - 1.
        weight_decay: $\lambda_W$, at least 0.
        feature_decay: $\lambda_H$, at least 0; not divided by n.
        bias: b; default: none.
        loss: ``"mse"`` or ``"ce"``.

    Raises:
        ValueError: for a negative decay or an unknown loss.

    Paper: Neural Collapse in Deep Linear Networks: From Balanced to Imbalanced Data.
    """
    in_range("weight_decay", weight_decay, 0.0)
    in_range("feature_decay", feature_decay, 0.0)
    if loss not in ("mse", "ce"):
        raise ValueError(f"loss: expected 'mse' or 'ce', got {loss!r}")
    outputs = (deep_linear_map(weights) @ features).T
    outputs = outputs if bias is None else outputs + bias
    if loss == "mse":
        fit = jnp.mean(jnp.sum((outputs - jax.nn.one_hot(labels, outputs.shape[1])) ** 2, 1)) / 2
    else:
        fit = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, labels))
    decayed = sum(jnp.sum(w**2) for w in weights)
    return fit + weight_decay * decayed / 2 + feature_decay * jnp.sum(features**2) / 2


def collapsed_strengths(
    counts: Sequence[int], depth: int, weight_decay: float, feature_decay: float
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    r"""The global minimum of `free_features_loss` for squared loss without a bias, where it is one number per class.

    All features of class k are $h_k$ times a unit vector, those vectors are orthogonal, and $W_M \cdots W_1$ takes each
    to its label with strength $s_k$, shared evenly by the layers. With n_k of N examples in the class, $s_k$ minimizes

    $$ \frac{n_k \lambda_H}{2 (s^2 + N \lambda_H)} + \frac{M \lambda_W}{2} s^{2/M}, \qquad
    h_k = \frac{s_k}{s_k^2 + N \lambda_H} $$

    and is 0 where the class is too small to be learned: for M = 1 if $n_k \le N^2 \lambda_W \lambda_H$. Layers are
    taken to be at least as wide as there are classes.

    Arguments:
        counts: $n_k$, at least 1 each.
        depth: M, at least 1.
        weight_decay: $\lambda_W > 0$.
        feature_decay: $\lambda_H > 0$.

    Returns:
        $s_k$ and $h_k$.

    Raises:
        ValueError: for an argument out of range.

    Paper: Neural Collapse in Deep Linear Networks: From Balanced to Imbalanced Data.
    """
    in_range("counts", counts, 1)
    in_range("depth", depth, 1)
    in_range("weight_decay", weight_decay, 0.0, open_low=True)
    in_range("feature_decay", feature_decay, 0.0, open_low=True)
    offset = sum(counts) * feature_decay
    grid, strengths = np.linspace(-20.0, 10.0, 3_001), []
    for count in counts:

        def cost(log: Any, count: int = count) -> Any:
            s = np.exp(log)
            return count * feature_decay / (s**2 + offset) / 2 + depth * weight_decay * s ** (2 / depth) / 2

        best = np.clip(np.argmin(cost(grid)), 1, len(grid) - 2)
        found: Any = minimize_scalar(
            cost, bounds=(grid[best - 1], grid[best + 1]), method="bounded", options={"xatol": 1e-9}
        )
        nothing = count * feature_decay / offset / 2
        strengths.append(np.exp(found.x) if found.fun < nothing * (1 - 1e-12) else 0.0)
    s = np.array(strengths)
    return s, s / (s**2 + offset)


def best_classifier(
    features: Float[Array, "d n"], targets: Float[Array, "C n"], weight_decay: Scalar
) -> Float[Array, "C d"]:
    r"""The ridge regression of targets on features, $W = Y H^\top (H H^\top + \frac{n}{C} \lambda_W I)^{-1}$.

    It minimizes $\frac{1}{2n} \|W H - Y\|_F^2 + \frac{\lambda_W}{2 C} \|W\|_F^2$.

    Arguments:
        features: H, a column for each example.
        targets: Y, such as one-hot labels.
        weight_decay: $\lambda_W > 0$.

    Raises:
        ValueError: if ``weight_decay`` is not positive.

    Paper: Perturbation Analysis of Neural Collapse.
    """
    in_range("weight_decay", weight_decay, 0.0, open_low=True)
    ridge = weight_decay * features.shape[1] / targets.shape[0]
    gram = features @ features.T + ridge * jnp.eye(len(features), dtype=features.dtype)
    return jnp.linalg.solve(gram, features @ targets.T).T


def feature_pull(
    features: Float[Array, "d n"], targets: Float[Array, "C n"], weight_decay: Scalar, feature_decay: Scalar
) -> Float[Array, "d n"]:
    r"""The gradient of the loss with respect to features, the classifier at its optimum, times n.

    $W^\top (W H - Y) + \lambda_H H$ with W of `best_classifier`. Its negative is the flow on the central path, and
    ``features - feature_pull(…) / beta`` is `anchored_features` to first order in $1 / \beta$.

    Arguments:
        features: H.
        targets: Y.
        weight_decay: $\lambda_W > 0$.
        feature_decay: $\lambda_H$, in [0, inf).

    Raises:
        ValueError: for an argument out of range.

    Paper: Perturbation Analysis of Neural Collapse.
    """
    in_range("feature_decay", feature_decay, 0.0)
    weight = best_classifier(features, targets, weight_decay)
    return weight.T @ (weight @ features - targets) + feature_decay * features


def anchored_features(
    anchor: Float[Array, "d n"],
    targets: Float[Array, "C n"],
    beta: Scalar,
    weight_decay: Scalar,
    feature_decay: Scalar,
    iterations: int = 500,
) -> tuple[Float[Array, "C d"], Float[Array, "d n"]]:
    r"""Classifier and features that are free only near given ones, by alternating exact minimization.

    $$ \frac{1}{2n} \|W H - Y\|_F^2 + \frac{\lambda_W}{2 C} \|W\|_F^2 + \frac{\lambda_H}{2n} \|H\|_F^2 +
    \frac{\beta}{2n} \|H - H_0\|_F^2 $$

    W is that of `best_classifier`, and $H = (W^\top W + (\lambda_H + \beta) I)^{-1} (W^\top Y + \beta H_0)$.

    Arguments:
        anchor: $H_0$, such as the features of an earlier layer; a column for each example.
        targets: Y, such as one-hot labels.
        beta: $\beta$, in [0, inf): how strongly they are held.
        weight_decay: $\lambda_W > 0$.
        feature_decay: $\lambda_H$, in [0, inf); the sum with $\beta$ is positive.
        iterations: Of the alternation, at least 1; it converges linearly, the slower the smaller $\beta$.

    Returns:
        W and H.

    Raises:
        ValueError: for an argument out of range.

    Paper: Perturbation Analysis of Neural Collapse.
    """
    in_range("beta", beta, 0.0)
    in_range("feature_decay", feature_decay, 0.0)
    in_range("iterations", iterations, 1)
    held = (beta + feature_decay) * jnp.eye(len(anchor), dtype=anchor.dtype)

    def alternate(_: Any, features: Array) -> Array:
        weight = best_classifier(features, targets, weight_decay)
        return jnp.linalg.solve(weight.T @ weight + held, weight.T @ targets + beta * anchor)

    features = jax.lax.fori_loop(0, iterations, alternate, anchor)
    return best_classifier(features, targets, weight_decay), features
