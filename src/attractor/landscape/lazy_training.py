"""Lazy and rich training: models that are centered and scaled, linearized ones, and how late a network generalizes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range

Predictor = Callable[..., Array]  # (params, inputs) -> outputs


def centered(model: Predictor, start: PyTree, scale: Scalar = 1.0) -> Predictor:
    r"""A model whose outputs count from those at the start, times a scale: $\alpha (f(\theta) - f(\theta_0))$.

    Training is the lazier the larger the scale; at a rate of $\alpha^{-2}$ times that at 1 it begins equally fast.

    Arguments:
        model: ``(params, inputs) -> outputs``.
        start: $\theta_0$.
        scale: $\alpha$, positive.

    Raises:
        ValueError: if ``scale`` is not positive.

    Paper: Grokking as the Transition from Lazy to Rich Training Dynamics.
    """
    in_range("scale", scale, 0.0, open_low=True)
    return lambda params, inputs: scale * (model(params, inputs) - model(start, inputs))


def linearized(model: Predictor, start: PyTree) -> Predictor:
    r"""The model's first-order expansion in its parameters, $f(\theta_0) + J(\theta_0) (\theta - \theta_0)$.

    Arguments:
        model: ``(params, inputs) -> outputs``.
        start: $\theta_0$.

    Paper: Grokking as the Transition from Lazy to Rich Training Dynamics.
    """

    def expansion(params: PyTree, inputs: Any) -> Array:
        away = jax.tree.map(jnp.subtract, params, start)
        return sum(jax.jvp(lambda p: model(p, inputs), (start,), (away,)))  # pyright: ignore[reportReturnType]

    return expansion


def quadratic_units(
    weights: Float[Array, "d n"], inputs: Float[Array, "m d"], curvature: Scalar = 0.5
) -> Float[Array, " m"]:
    r"""A two-layer network whose second layer is a mean: $\frac1n \sum_i \phi(w_i \cdot x)$.

    The activation is $\phi(h) = h + \frac\epsilon2 h^2$.

    Arguments:
        weights: One unit a column.
        inputs: One a row.
        curvature: $\epsilon$; small, and the tangent kernel at the start hardly sees quadratic targets.

    Paper: Grokking as the Transition from Lazy to Rich Training Dynamics.
    """
    hidden = inputs @ weights
    return jnp.mean(hidden + curvature / 2 * hidden**2, 1)


def quadratic_test_loss(
    weights: Float[Array, "d n"],
    start: Float[Array, "d n"],
    direction: Float[Array, " d"],
    *,
    scale: Scalar = 1.0,
    curvature: Scalar = 0.5,
) -> Float[Array, ""]:
    r"""The mean squared error of centered `quadratic_units` on $y = \frac12 (b \cdot x)^2$, for $x \sim N(0, I / d)$.

    It depends on the mean weight and on $M = W W^\top / n$ alone: with $a = \alpha \Delta \bar w$ and
    $C = \alpha \epsilon\, \Delta M - b b^\top$ it is $|a|^2 / d + (2\, tr\, C^2 + (tr\, C)^2) / (4 d^2)$.

    Arguments:
        weights: One unit a column.
        start: Those whose outputs are subtracted.
        direction: b.
        scale: $\alpha$, of the outputs.
        curvature: $\epsilon$.

    Paper: Grokking as the Transition from Lazy to Rich Training Dynamics.
    """
    d, n = weights.shape
    mean = scale * (weights - start).mean(1)
    excess = scale * curvature / n * (weights @ weights.T - start @ start.T) - jnp.outer(direction, direction)
    return mean @ mean / d + (2 * jnp.sum(excess**2) + jnp.trace(excess) ** 2) / (4 * d**2)


def grokking_gap(
    train: Float[ArrayLike, "... records"],
    test: Float[ArrayLike, "... records"],
    steps: Float[ArrayLike, " records"],
    fraction: float = 0.1,
) -> Float[np.ndarray, "..."]:
    """How many times later the test loss falls to a fraction of its first value than the training loss does.

    Arguments:
        train: Losses, the first of them before training.
        test: As many.
        steps: At which they were recorded.
        fraction: In (0, 1).

    Returns:
        A ratio for every curve: infinite if only the training loss falls so far, NaN if not even that does.

    Raises:
        ValueError: if ``fraction`` is not in (0, 1).

    Paper: Grokking as the Transition from Lazy to Rich Training Dynamics.
    """
    in_range("fraction", fraction, 0.0, 1.0, open_low=True, open_high=True)

    def fallen(curve: ArrayLike) -> np.ndarray:
        values = np.asarray(curve, float)
        hit = values <= fraction * values[..., :1]
        return np.where(hit.any(-1), np.asarray(steps, float)[hit.argmax(-1)], np.inf)

    with np.errstate(invalid="ignore"):
        return fallen(test) / fallen(train)


def quadratic_teacher(
    key: PRNGKeyArray, examples: int, dim: int, units: int
) -> tuple[Float[Array, " d"], Float[Array, "n d"], Float[Array, " n"], Float[Array, "d units"]]:
    r"""A regression for `quadratic_units`: the direction of the teacher, inputs, targets, and weights to start from.

    The direction c is $\sqrt d$ long, inputs are normal with mean square norm 1, the target of x is
    $\tfrac12 \langle c, x \rangle^2$, and the weights are standard normal.

    Arguments:
        key: Of all of them.
        examples: n, at least 1.
        dim: d, at least 1.
        units: At least 1.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("examples", examples, 1)
    in_range("dim", dim, 1)
    in_range("units", units, 1)
    keys = jax.random.split(key, 3)
    direction = jax.random.normal(keys[0], (dim,))
    direction *= dim**0.5 / jnp.linalg.norm(direction)
    inputs = jax.random.normal(keys[1], (examples, dim)) / dim**0.5
    return direction, inputs, 0.5 * (inputs @ direction) ** 2, jax.random.normal(keys[2], (dim, units))


def quadratic_units_kernel(inputs: Any, start: Any, curvature: Any) -> Any:
    r"""The tangent kernel of `quadratic_units`, times their number and the dimension: of JAX or NumPy arrays.

    $$ K_{ij} = \langle x_i, x_j \rangle \sum_u (1 + \kappa \langle w_u, x_i \rangle)
        (1 + \kappa \langle w_u, x_j \rangle) $$

    Arguments:
        inputs: x, ``(n, d)``.
        start: The weights w, ``(d, units)``.
        curvature: κ.
    """
    slopes = 1 + curvature * inputs @ start
    return (inputs @ inputs.T) * (slopes @ slopes.T)
