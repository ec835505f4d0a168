"""Descent for several losses with kinks at once, along the shortest vector of a hull of their gradients."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int
from scipy.interpolate import PchipInterpolator
from scipy.optimize import minimize

from attractor.checks import in_range
from attractor.optim.stationarity import min_norm_in_hull

Point = Float[Array, " d"]
Losses = Callable[[Point], Float[Array, " m"]]
SUFFICIENT = 0.25  # the share of the promised decrease that a step must bring
BISECTIONS = 30


class CommonDescent(NamedTuple):
    """Where `common_descent` stopped."""

    x: Point
    norm: float  # of the shortest vector of the last hull: 0 at a Pareto-critical point
    steps: int


def common_descent(
    losses: Losses,
    x: Point,
    radius: float = 1e-3,
    tolerance: float = 1e-4,
    steps: int = 500,
    hull: int = 8,
) -> CommonDescent:
    r"""Lower several nonsmooth losses together until no direction lowers them all.

    $$
    v = -\arg\min \{\lVert \xi \rVert : \xi \in \operatorname{conv} W\}, \qquad
    x \leftarrow x + t v
    $$

    W begins with the losses' gradients at x. If going as far as $\epsilon$ along v does not lower each loss by the
    share 1/4 of what v promises, a bisection finds a gradient on the way that says so; it joins W, and v is found
    again. Once v is as good as its word, t is doubled from there for as long as it remains so. It ends when v is
    shorter than the tolerance: x is then Pareto-critical up to gradients within reach $\epsilon$. How the losses are
    scaled decides how fast it is, and where on the Pareto set it ends.

    Arguments:
        losses: ``x -> (m,)``, differentiable almost everywhere; m = 1 is one nonsmooth loss.
        x: Start, ``(d,)``.
        radius: $\epsilon$, in the units of x, in (0, inf).
        tolerance: In the units of the gradient, in (0, inf).
        steps: Most steps, at least 1.
        hull: Most gradients in W, at least the number of losses; with no more than that it is blind to kinks.

    Raises:
        ValueError: for an argument out of range.

    Paper: Multiobjective Optimization of Non-Smooth PDE-Constrained Problems.
    """
    in_range("radius", radius, 0.0, open_low=True)
    in_range("tolerance", tolerance, 0.0, open_low=True)
    in_range("steps", steps, 1.0)
    value, gradients = jax.jit(losses), jax.jit(jax.jacrev(losses))
    current = np.asarray(value(x))
    in_range("hull", hull, len(current))
    shortest, length, taken = jax.jit(min_norm_in_hull), np.inf, 0

    def lowered(t: float) -> np.ndarray:
        return np.asarray(value(x + t * v)) <= current - SUFFICIENT * t * length**2

    while taken < steps:
        known = list(np.asarray(gradients(x)))
        while True:
            padded = known + [known[0]] * (hull - len(known))  # one shape for all hulls
            v = -shortest(jnp.asarray(np.stack(padded)))
            length = float(jnp.linalg.norm(v))
            if length <= tolerance:
                return CommonDescent(x, length, taken)
            reach = radius / length
            if (good := lowered(reach)).all() or len(known) >= hull:
                break
            known.append(_refuting(gradients, lowered, x, v, length, reach, int(np.argmin(good))))
        t = reach
        while t > 1e-12 * reach and not lowered(t).all():
            t /= 2
        while lowered(2 * t).all():
            t *= 2
        x, taken = x + t * v, taken + 1
        current = np.asarray(value(x))
    return CommonDescent(x, length, taken)


def _refuting(
    gradients: Callable, lowered: Callable, x: Point, v: Point, length: float, reach: float, index: int
) -> np.ndarray:
    """A gradient of a loss between x and x + reach v along which v lowers it by less than was promised."""
    low, high = 0.0, reach
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        found = np.asarray(gradients(x + high * v))[index]
        if found @ np.asarray(v) > -SUFFICIENT * length**2:
            break
        low, high = (middle, high) if lowered(middle)[index] else (low, middle)
    return np.asarray(gradients(x + high * v))[index]


def scalarized(
    objective: Callable[[Point, Array], Float[Array, ""]],
    x: Point,
    parameters: Sequence[ArrayLike] | Float[np.ndarray, "m *shape"],
    continued: bool = False,
    steps: int = 60,
) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
    r"""Points of a Pareto set, one for each parameter of a single objective made of the losses, by L-BFGS.

    Weighted sums, $\langle w, f(x) \rangle$ for weights w, and reference points, $\lVert f(x) - t \rVert^2$ for targets
    t below the front, are such objectives.

    Arguments:
        objective: ``(x, parameter) -> scalar``.
        x: Start, ``(d,)``.
        parameters: Numbers, or arrays of one shape.
        continued: Whether to start from the last point instead, which continues the set along the parameter.
        steps: Most steps for each, at least 1.

    Returns:
        The points, and how often the objective and its gradient were evaluated for each.

    Raises:
        ValueError: for ``steps`` below 1.

    Paper: Multiobjective Optimization of Non-Smooth PDE-Constrained Problems.
    """
    in_range("steps", steps, 1)
    derivatives = jax.jit(jax.value_and_grad(objective))
    how = {"jac": True, "method": "L-BFGS-B", "options": {"gtol": 1e-9, "ftol": 0.0, "maxiter": steps}}
    points, counts, start = [], [], np.asarray(x, float)
    for parameter in parameters:
        p = jnp.asarray(parameter)
        found = minimize(lambda x, p=p: [np.asarray(a, float) for a in derivatives(jnp.asarray(x), p)], start, **how)
        points.append(found.x)
        counts.append(found.nfev)
        start = found.x if continued else start
    return np.stack(points), np.array(counts)


def largest_front_gap(front: Float[np.ndarray, "n 2"], points: Float[np.ndarray, "m 2"]) -> float:
    """How far points are from a front of two losses: the largest relative difference of the first at an equal second.

    Between its points the front is a monotone cubic in the logarithm of the second loss; NaN beyond its ends.

    Arguments:
        front: Losses of points of the front, by falling second one, which is positive.
        points: Losses of others.
    """
    (tracking, cost), (ours, theirs) = front.T, points.T
    curve = PchipInterpolator(np.log(cost[::-1]), tracking[::-1], extrapolate=False)
    return float(np.max(np.abs(ours / curve(np.log(theirs)) - 1)))
