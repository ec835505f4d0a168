"""Functional gradient descent in a kernel's space, one example a step, and teachers who choose the example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import ArrayLike

from attractor.checks import Scalar, in_range

Loss = Callable[[Array, Array], Array]
Teacher = Callable[[Array, Array], Array]


def gaussian_kernel(x: Float[Array, "n d"], z: Float[Array, "m d"], width: Scalar = 1.0) -> Float[Array, "n m"]:
    r"""$\exp(-\lVert x_i - z_j \rVert^2 / (2 h^2))$.

    Arguments:
        x: One point per row.
        z: One point per row.
        width: h, in the units of x, in (0, inf).

    Raises:
        ValueError: for a ``width`` out of range.
    """
    in_range("width", width, 0.0, open_low=True)
    return jnp.exp(-jnp.sum((x[:, None] - z) ** 2, -1) / (2 * width**2))


def functional_gradient_learner(
    values: Float[Array, " n"],
    chosen: Array,
    targets: Float[Array, " n"],
    kernel: Float[Array, "n n"],
    learning_rate: Scalar,
    loss: Loss = optax.l2_loss,
) -> Float[Array, " n"]:
    r"""One step of a learner in a reproducing kernel Hilbert space, on the mean loss of the chosen examples.

    $$ f \leftarrow f - \eta\, \frac1k \sum_{j=1}^k \partial_1 \ell(f(x_j), y_j)\, K(x_j, \cdot) $$

    Arguments:
        values: f at the points of a pool.
        chosen: Indices of k examples in the pool.
        targets: y at the points of the pool; only those of the chosen ones are used.
        kernel: K between the points of the pool.
        learning_rate: $\eta$, in (0, inf); up to 1 / max K(x, x) the half square loss of a lone example never grows.
        loss: ``(values, targets) -> losses``, entrywise.

    Raises:
        ValueError: for a ``learning_rate`` out of range.

    Paper: Nonparametric Iterative Machine Teaching.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    slopes = jax.grad(lambda f: jnp.sum(loss(f, targets[chosen])))(values[chosen])
    return values - learning_rate * (slopes @ kernel[chosen]) / len(chosen)


def functional_teaching(
    targets: Float[Array, " n"],
    kernel: Float[Array, "n n"],
    learning_rate: Scalar,
    steps: int,
    key: PRNGKeyArray,
    teacher: str | Teacher = "greedy",
    count: int = 1,
    start: Float[Array, " n"] | None = None,
    loss: Loss = optax.l2_loss,
) -> tuple[Float[Array, " n"], Float[Array, " steps"]]:
    r"""Teach a target function to a `functional_gradient_learner` with examples from a pool.

    The random teacher draws examples uniformly, without replacement within a step; the greedy one knows the learner,
    and takes those with the largest $|\partial_1 \ell(f(x), f^*(x))|$, the norm of the functional gradient up to
    $\sqrt{K(x, x)}$.

    Arguments:
        targets: The target function at the points of the pool.
        kernel: The learner's kernel between them.
        learning_rate: The learner's, in (0, inf).
        steps: Examples, or packs, shown; at least 1.
        key: Of the random teacher.
        teacher: ``"greedy"``, ``"random"``, or one's own ``(slopes, key) -> scores``, of which the largest are shown.
        count: Examples per step, 1 to the size of the pool.
        start: The learner's first function; default: 0.
        loss: As in `functional_gradient_learner`.

    Returns:
        The last function at the pool's points, and the mean loss over the pool after every step.

    Raises:
        ValueError: for an argument out of range.

    Paper: Nonparametric Iterative Machine Teaching.
    """
    in_range("steps", steps, 1.0)
    in_range("count", count, 1.0, float(len(targets)))
    known: dict[Any, Teacher] = {"greedy": lambda s, _: jnp.abs(s), "random": lambda s, key: jr.uniform(key, s.shape)}
    if not callable(teacher) and teacher not in known:
        raise ValueError(f"teacher: expected 'greedy', 'random' or a function, got {teacher!r}")
    score = teacher if callable(teacher) else known[teacher]

    def choose(values: Array, key: PRNGKeyArray) -> Array:
        slopes = jax.grad(lambda f: jnp.sum(loss(f, targets)))(values)
        return jax.lax.top_k(score(slopes, key), count)[1]

    def step(values: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        values = functional_gradient_learner(values, choose(values, key), targets, kernel, learning_rate, loss)
        return values, jnp.mean(loss(values, targets))

    return jax.lax.scan(step, jnp.zeros_like(targets) if start is None else start, jr.split(key, steps))


def iterative_teaching_dimension(losses: ArrayLike, eps: float) -> float:
    """Steps until a curve of losses is at most ``eps``; infinite if it never is.

    Arguments:
        losses: After each step.
        eps: Accepted loss above the target's.

    Paper: Nonparametric Iterative Machine Teaching.
    """
    reached = np.asarray(losses) <= eps
    return float(reached.argmax() + 1) if reached.any() else float("inf")
