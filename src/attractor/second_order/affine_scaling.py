"""Nonlinear equations with bounds: trust regions shaped by the distance to the bounds, and steps that stay inside."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.gradients import refuse_complex
from attractor.method import Method, hyper
from attractor.objectives import Composite
from attractor.registry import LogUniform, method
from attractor.second_order.levenberg_marquardt import damped_step
from attractor.trees import as_vector

Vector = Float[Array, " d"]
Scaling = Callable[[Vector, Vector, Vector, Vector], Vector]


def _ahead(x: Vector, gradient: Vector, lower: Vector, upper: Vector) -> Vector:
    """Distance to the bound that a descent step heads for; to the nearer one where the gradient is zero."""
    nearer = jnp.minimum(x - lower, upper - x)
    return jnp.where(gradient < 0, upper - x, jnp.where(gradient > 0, x - lower, nearer))


def coleman_li(x: Vector, gradient: Vector, lower: Vector, upper: Vector) -> Vector:
    r"""Coleman's and Li's scaling: the distance to the bound ahead, 1 where there is none.

    $$ d_i = \begin{cases} u_i - x_i & g_i < 0 \\ x_i - l_i & g_i > 0 \\ \min(x_i - l_i, u_i - x_i) & g_i = 0
    \end{cases} $$

    Arguments:
        x: Strictly inside the bounds.
        gradient: g, of half the squared residuals.
        lower: l, -inf where there is no bound.
        upper: u, inf where there is no bound.
    """
    ahead = _ahead(x, gradient, lower, upper)
    return jnp.where(jnp.isfinite(ahead), ahead, 1)


def heinkenschloss_ulbrich(x: Vector, gradient: Vector, lower: Vector, upper: Vector, exponent: Scalar = 2.0) -> Vector:
    r"""Coleman's and Li's scaling where a bound is near or the gradient is small, by powers of one another; else 1.

    $$ d_i = d^{\text{CL}}_i \text{ if } |g_i| < \delta_i^p \text{ or } \delta_i < |g_i|^p, \text{ else } 1, \qquad
    \delta_i = \min(x_i - l_i, u_i - x_i) $$

    Arguments:
        x: As in `coleman_li`.
        gradient: As in `coleman_li`.
        lower: As in `coleman_li`.
        upper: As in `coleman_li`.
        exponent: p, in (1, inf).
    """
    in_range("exponent", exponent, 1.0, open_low=True)
    nearer, size = jnp.minimum(x - lower, upper - x), jnp.abs(gradient)
    matters = (size < nearer**exponent) | (nearer < size**exponent)
    return jnp.where(matters, coleman_li(x, gradient, lower, upper), 1)


def kanzow_klug(x: Vector, gradient: Vector, lower: Vector, upper: Vector, weight: Scalar = 1.0) -> Vector:
    r"""Kanzow's and Klug's scaling, a locally Lipschitz function.

    $$ d_i = \min\big(x_i - l_i + \gamma \max(0, -g_i),\; u_i - x_i + \gamma \max(0, g_i)\big) $$

    Arguments:
        x: As in `coleman_li`.
        gradient: As in `coleman_li`.
        lower: As in `coleman_li`.
        upper: As in `coleman_li`.
        weight: $\gamma$, in (0, inf).
    """
    in_range("weight", weight, 0.0, open_low=True)
    below = x - lower + weight * jnp.maximum(-gradient, 0)
    above = upper - x + weight * jnp.maximum(gradient, 0)
    scale = jnp.minimum(below, above)
    return jnp.where(jnp.isfinite(scale), scale, 1)


def hager_mair_zhang(x: Vector, gradient: Vector, lower: Vector, upper: Vector, weight: Scalar = 1.0) -> Vector:
    r"""Hager's, Mair's and Zhang's scaling: the length, up to the bound ahead, of a step of a cyclic Barzilai-Borwein
    model.

    $$ d_i = \frac{X_i}{\alpha X_i + |g_i|}, \qquad X_i \text{ the distance to the bound ahead} $$

    Arguments:
        x: As in `coleman_li`.
        gradient: As in `coleman_li`.
        lower: As in `coleman_li`.
        upper: As in `coleman_li`.
        weight: $\alpha$, in (0, inf), the curvature of the model.
    """
    in_range("weight", weight, 0.0, open_low=True)
    ahead = _ahead(x, gradient, lower, upper)
    finite = jnp.where(jnp.isfinite(ahead), ahead, 1)
    return jnp.where(jnp.isfinite(ahead), finite / (weight * finite + jnp.abs(gradient)), 1 / weight)


SCALINGS: tuple[Scaling, ...] = (coleman_li, heinkenschloss_ulbrich, kanzow_klug, hager_mair_zhang)


class MixedScaling(NamedTuple):
    r"""A convex combination of scalings, $d = \sum_j \theta_j d^{(j)}$.

    It has what they have in common: positive inside, bounded, and zero on a bound that the negative gradient points
    across.

    Arguments:
        weights: $\theta$, one per scaling, nonnegative; they are divided by their sum.
        scalings: Functions such as `coleman_li`.

    Paper: A New Class of Scaling Matrices for Scaled Trust Region Algorithms.
    """

    weights: Float[Array, " k"] | tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    scalings: tuple[Scaling, ...] = SCALINGS

    def __call__(self, x: Vector, gradient: Vector, lower: Vector, upper: Vector) -> Vector:
        weights = jnp.asarray(self.weights, x.dtype)
        each = jnp.stack([scaling(x, gradient, lower, upper) for scaling in self.scalings])
        return weights @ each / weights.sum()


class ScaledTrustRegionState(NamedTuple):
    """State of `ScaledTrustRegion`."""

    radius: Float[Array, ""]


@method("scaled-trust-region", {"radius": LogUniform(1e-2, 1e2)}, paper="convex-combo-scaling-tr")
class ScaledTrustRegion(Method):
    r"""Solve $F(x) = 0$, $l \le x \le u$, by dogleg steps in an ellipse that is thin towards near bounds.

    $$ p \approx \arg\min_p \tfrac12 \lVert F + J p \rVert^2 \quad\text{subject to}\quad \lVert D^{-1/2} p \rVert \le
    \Delta $$

    on the path from the minimizer along $-D g$ to the Gauss-Newton step. A step that would leave the interior is cut
    to the share $\max(\theta, 1 - \lVert p \rVert)$ of the way to the bound; if it then has less than a tenth of the
    decrease of the model that the (cut) gradient step has, that one is taken. A step with less than 1/4 of the decrease
    that the model predicts is refused, and $\Delta$ becomes $\min(\Delta / 4, \lVert D^{-1/2} p \rVert / 2)$; with more
    than 3/4 it becomes at least $2 \lVert D^{-1/2} p \rVert$. A refused step counts as a step. Start strictly inside.
    All parameters are taken as one vector; half the squared residual is minimized, whatever the outer loss.

    Arguments:
        lower: l, a number for all or one per parameter; -inf where there is no bound.
        upper: u, likewise; inf where there is no bound.
        scaling: ``(x, gradient, lower, upper) -> d``, positive inside: `coleman_li`, …, or a `MixedScaling`.
        radius: $\Delta$ to start with, in (0, inf).
        interior: $\theta$, in (0, 1).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: A New Class of Scaling Matrices for Scaled Trust Region Algorithms.
    """

    lower: Scalar | Vector | Float[np.ndarray, " d"] = -jnp.inf
    upper: Scalar | Vector | Float[np.ndarray, " d"] = jnp.inf
    scaling: Scaling = MixedScaling()
    radius: Scalar = hyper(1.0, low=0.0, open_low=True)
    interior: Scalar = hyper(0.99995, low=0.0, high=1.0, open_low=True, open_high=True)

    def init(self, problem: Composite, x: PyTree, key: PRNGKeyArray) -> ScaledTrustRegionState:
        return ScaledTrustRegionState(jnp.asarray(self.radius, as_vector(x)[0].dtype))

    def step(
        self, problem: Composite, x: PyTree, state: ScaledTrustRegionState, key: PRNGKeyArray
    ) -> tuple[PyTree, ScaledTrustRegionState]:
        batch = problem.sample(key)
        flat, unravel = as_vector(x)
        lower, upper = (jnp.broadcast_to(jnp.asarray(b, flat.dtype), flat.shape) for b in (self.lower, self.upper))

        def residuals(z: Array) -> Array:
            y = problem.inner(unravel(z), batch)
            refuse_complex("this least-squares method", y, "outputs")
            return y.ravel().astype(flat.dtype)

        value, jacobian = residuals(flat), jax.jacfwd(residuals)(flat)
        gradient = jacobian.T @ value
        scale = self.scaling(flat, gradient, lower, upper)

        def decrease(p: Array) -> Array:  # of the model
            change = jacobian @ p
            return -(value @ change + change @ change / 2)

        def inside(p: Array) -> Array:
            moves = jnp.where(p == 0, 1, p)
            reach = jnp.where(p == 0, jnp.inf, jnp.where(p > 0, upper - flat, lower - flat) / moves).min()
            share = jnp.maximum(self.interior, 1 - jnp.linalg.norm(p))
            return p * jnp.where(reach > 1, 1, share * reach)

        root = jnp.sqrt(scale)
        whole = damped_step(jacobian, gradient, 0.0)
        steepest = -scale * gradient
        slope, bend = -gradient @ steepest, jnp.sum((jacobian @ steepest) ** 2)
        cauchy = steepest * slope / jnp.where(bend > 0, bend, jnp.inf)
        p = inside(root * _dogleg(cauchy / root, whole / root, state.radius))
        length = jnp.linalg.norm(cauchy / root)
        cauchy = inside(cauchy * jnp.minimum(1, state.radius / jnp.where(length > 0, length, 1)))
        p = jnp.where(decrease(p) >= 0.1 * decrease(cauchy), p, cauchy)

        predicted, length = decrease(p), jnp.linalg.norm(p / root)
        new = flat + p
        achieved = (value @ value - jnp.sum(residuals(new) ** 2)) / 2
        ratio = jnp.where(predicted > 0, achieved / jnp.where(predicted > 0, predicted, 1), 0)
        accepted = (ratio >= 0.25) & (new > lower).all() & (new < upper).all()
        smaller = jnp.minimum(state.radius / 4, length / 2)
        larger = jnp.where(ratio >= 0.75, jnp.maximum(state.radius, 2 * length), state.radius)
        radius = jnp.where(accepted, larger, jnp.maximum(smaller, jnp.finfo(flat.dtype).tiny ** 0.5))
        return unravel(jnp.where(accepted, new, flat)), ScaledTrustRegionState(radius)


def _dogleg(cauchy: Vector, newton: Vector, radius: Scalar) -> Vector:
    """Where the path from 0 over the Cauchy point to Newton's leaves the ball."""
    length = jnp.linalg.norm(cauchy)
    leg = newton - cauchy
    a, b, c = leg @ leg, cauchy @ leg, length**2 - radius**2
    # The positive root of |cauchy + t leg| = radius, in the form without cancellation.
    t = -c / (b + jnp.sqrt(jnp.maximum(b**2 - a * c, 0)))
    on_leg = cauchy + jnp.clip(jnp.where(jnp.isfinite(t), t, 1), 0, 1) * leg
    return jnp.where(length < radius, on_leg, cauchy * radius / jnp.where(length > 0, length, 1))
