"""Softmax regression and the soft maximum, with the matrices that stand in for their Hessians."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from attractor.checks import in_range
from attractor.problem import Minimization

Batch = tuple[Float[Array, "n d"], Float[Array, "n c"]]


def softmax_regression(
    features: Float[ArrayLike, "n d"], labels: Int[np.ndarray, " n"], l2: float, start: Float[ArrayLike, " p"]
) -> Minimization:
    r"""Softmax regression on one's own data; logistic regression for two classes.

    $$ f(W) = \frac1n \sum_i \Big( \log \sum_c e^{s_{ic}} - s_{i y_i} \Big) + \frac{\lambda}{2} \lVert W \rVert^2,
    \qquad s_i = (x_i^\top W, 0) $$

    Arguments:
        features: X; a constant among them serves as the intercept.
        labels: y, in 0 … c - 1.
        l2: $\lambda$, in [0, inf).
        start: W (d, c - 1) as a vector.
    """
    in_range("l2", l2, 0.0)
    data = (jnp.asarray(features), jnp.eye(int(labels.max()) + 1)[labels])
    return Minimization(eqx.Partial(_cross_entropy, jnp.asarray(l2)), jnp.asarray(start), data, constants={"l2": l2})


def softmax_fisher(problem: Minimization, w: Float[Array, " p"], batch: Batch) -> Float[Array, "p p"]:
    """The mean outer product of the examples' gradients in `softmax_regression`, and the Hessian of its penalty."""
    x, y = batch
    residual = (jax.nn.softmax(_scores(w, x), axis=1) - y)[:, :-1]
    gradients = (x[:, :, None] * residual[:, None, :]).reshape(len(x), -1)
    return gradients.T @ gradients / len(x) + problem.constants["l2"] * jnp.eye(w.size)


def soft_maximum(
    slopes: Float[ArrayLike, "n d"], offsets: Float[ArrayLike, " n"], start: Float[ArrayLike, " d"]
) -> Minimization:
    r"""The soft maximum of affine functions, $f(w) = \log \sum_i \exp(a_i^\top w + b_i)$.

    Its Hessian is `soft_maximum_gauss_newton` minus $g g^\top$, with g the gradient.

    Arguments:
        slopes: The $a_i$, with 0 in their convex hull: otherwise there is no minimum.
        offsets: The $b_i$.
        start: w.
    """
    return Minimization(_soft_maximum, jnp.asarray(start), (jnp.asarray(slopes), jnp.asarray(offsets)))


def soft_maximum_gauss_newton(
    problem: Minimization, w: Float[Array, " d"], batch: tuple[Array, Array]
) -> Float[Array, "d d"]:
    r"""$\sum_i p_i a_i a_i^\top$ with p the soft maximum's weights: its Hessian without the term of rank one."""
    slopes, offsets = batch
    return (slopes.T * jax.nn.softmax(slopes @ w + offsets)) @ slopes


def _scores(w: Float[Array, " p"], x: Float[Array, "n d"]) -> Float[Array, "n c"]:
    return jnp.pad(x @ w.reshape(x.shape[1], -1), ((0, 0), (0, 1)))


def _cross_entropy(l2: Array, w: Float[Array, " p"], batch: Batch) -> Float[Array, ""]:
    x, y = batch
    scores = _scores(w, x)
    return jnp.mean(jax.nn.logsumexp(scores, axis=1) - jnp.sum(scores * y, 1)) + 0.5 * l2 * w @ w


def _soft_maximum(w: Float[Array, " d"], batch: tuple[Array, Array]) -> Float[Array, ""]:
    slopes, offsets = batch
    return jax.nn.logsumexp(slopes @ w + offsets)


def softmax_on_gaussians(
    key: PRNGKeyArray, classes: int = 5, dim: int = 50, examples: int = 1_000, noise: float = 0.1
) -> Callable[[Float[Array, "d k"]], Float[Array, ""]]:
    """The loss of softmax regression on Gaussians with orthogonal means of length one, all classes as often.

    Arguments:
        key: Of the examples.
        classes: k, from 2 to ``dim``.
        dim: d.
        examples: At least 1.
        noise: Their standard deviation around the mean, in [0, inf).

    Returns:
        ``loss(weight)``.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("classes", classes, 2, dim)
    in_range("noise", noise, 0.0)
    labels = jnp.arange(examples) % classes
    inputs = jnp.eye(dim)[labels] + noise * jr.normal(key, (examples, dim))

    def loss(weight: Float[Array, "d k"]) -> Float[Array, ""]:
        return optax.softmax_cross_entropy_with_integer_labels(inputs @ weight, labels).mean()

    return loss
