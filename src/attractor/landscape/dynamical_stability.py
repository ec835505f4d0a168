"""Which minima stochastic gradient descent can stay at: its linear dynamics around one that fits every example."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import Scalar, in_range


def sgd_second_moment(
    jacobian: Float[Array, "n p"], moment: Float[Array, "p p"], learning_rate: Scalar, batch: Scalar = 1.0
) -> Float[Array, "p p"]:
    r"""The second moment $\mathbb{E}\, w w^\top$ of SGD's distance from a minimum, a step later.

    Around parameters that fit n examples, the loss is $\frac{1}{2n} \sum_i (a_i^\top w)^2$ with the Hessian
    $H = \frac1n \sum_i a_i a_i^\top$, and with b examples drawn with replacement
    $$ C' = (1 - \eta H)\, C\, (1 - \eta H)
       + \tfrac{\eta^2}{b} \bigl[\tfrac1n \textstyle\sum_i a_i a_i^\top C a_i a_i^\top - H C H\bigr]. $$

    Arguments:
        jacobian: Rows $a_i$: gradients of the outputs, of n examples.
        moment: C.
        learning_rate: $\eta$, in (0, inf).
        batch: b, at least 1; ``inf`` is not taken, but a large number is full-batch descent.

    Raises:
        ValueError: if ``learning_rate`` or ``batch`` is out of range.

    Paper: The Implicit Regularization of Dynamical Stability in Stochastic Gradient Descent.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("batch", batch, 1.0)
    n = len(jacobian)
    hessian = jacobian.T @ jacobian / n
    keep = jnp.eye(len(hessian), dtype=hessian.dtype) - learning_rate * hessian
    lengths = jnp.sum((jacobian @ moment) * jacobian, 1)
    noise = (jacobian.T * lengths) @ jacobian / n - hessian @ moment @ hessian
    return keep @ moment @ keep + learning_rate**2 / batch * noise


def sgd_stability_threshold(jacobian: Float[Array, "n p"], batch: Scalar = 1.0) -> Float[Array, ""]:
    r"""The largest learning rate at which SGD stays near a minimum that fits every example, in mean square.

    It is where the spectral radius of `sgd_second_moment` is 1: $1 / \eta$ is the largest eigenvalue of the symmetric
    pencil $H C H + \frac1b [\frac1n \sum_i a_i a_i^\top C a_i a_i^\top - H C H]$ against $H C + C H$. With one example
    it is $2 / \operatorname{tr} H$ where all $a_i$ have one length, and less otherwise; full-batch descent has
    $2 / \lambda_{\max}(H)$. Formed densely on the range of H: r^4 numbers for a rank r.

    Arguments:
        jacobian: Rows $a_i$: gradients of the outputs, of n examples.
        batch: b, at least 1, drawn with replacement.

    Raises:
        ValueError: if ``batch`` is out of range.

    Paper: The Implicit Regularization of Dynamical Stability in Stochastic Gradient Descent.
    """
    in_range("batch", batch, 1.0)
    n, p = jacobian.shape
    _, sigma, basis = jnp.linalg.svd(jacobian, full_matrices=False)
    # Directions without curvature do not move: their rows and columns are zero below.
    rows, values = jacobian @ basis.T, sigma**2 / n
    used = sigma > max(n, p) * jnp.finfo(sigma.dtype).eps * sigma.max()
    rows, values = rows * used, values * used
    r = len(values)
    pairs = (rows[:, :, None] * rows[:, None]).reshape(n, r * r)
    fourth, both = pairs.T @ pairs / n, jnp.outer(values, values).ravel()
    applied = fourth / batch + (1 - 1 / batch) * jnp.diag(both)
    drift = (values[:, None] + values).ravel()
    root = jnp.where(jnp.outer(used, used).ravel(), 1 / jnp.sqrt(jnp.where(drift > 0, drift, 1)), 0)
    return 1 / jnp.linalg.eigvalsh(root[:, None] * applied * root)[-1]


def diagonal_network_sgd(
    key: PRNGKeyArray, rate: Scalar, full: Scalar, steps: int, examples: int = 20, dim: int = 60
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    r"""SGD, one example a step, on a diagonal network $u^2 - v^2$ whose target has three entries of 1.

    Inputs are normal, scaled to length $\sqrt d$; all weights start at 0.5.

    Arguments:
        key: Of inputs and order.
        rate: Step size, in (0, inf).
        full: Whether each step takes all examples instead.
        steps: At least 1.
        examples: At least 1.
        dim: d, at least 3.

    Returns:
        The loss at the end, the trace of the Hessian of an interpolating network there, and the squared error.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("rate", rate, 0.0, open_low=True)
    in_range("steps", steps, 1)
    in_range("examples", examples, 1)
    in_range("dim", dim, 3)
    keys, truth = jax.random.split(key), jnp.zeros(dim).at[:3].set(1.0)
    inputs = jax.random.normal(keys[0], (examples, dim))
    inputs *= jnp.sqrt(dim) / jnp.linalg.norm(inputs, axis=1, keepdims=True)

    def loss(w: Array, rows: Array) -> Array:
        return jnp.mean((rows @ (w[0] ** 2 - w[1] ** 2 - truth)) ** 2) / 2

    def step(w: Array, i: Array) -> tuple[Array, None]:
        rows = jnp.where(full, inputs, inputs[i])  # as often the same one
        return w - rate * jax.grad(loss)(w, rows), None

    w, _ = jax.lax.scan(step, jnp.full((2, dim), 0.5), jax.random.randint(keys[1], (steps,), 0, examples))
    trace = 4 / examples * jnp.sum(inputs**2 @ (w**2).sum(0))
    return loss(w, inputs), trace, jnp.sum((w[0] ** 2 - w[1] ** 2 - truth) ** 2)
