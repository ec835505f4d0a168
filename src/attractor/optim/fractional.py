"""Minimization of a ratio: coordinate descent with exact one-dimensional steps, and Dinkelbach's method."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import Scalar, in_range
from attractor.linalg.proximal import soft_threshold
from attractor.optim.splitting import fista

Vector = Float[Array, " n"]
OnLine = Callable[[Array], Array]


class Denominator(eqx.Module):
    """A positive function that is piecewise linear along every coordinate."""

    def __call__(self, x: Vector) -> Float[Array, ""]:
        """Its value."""
        raise NotImplementedError

    def line(self, x: Vector, i: Int[Array, ""]) -> tuple[Float[Array, " kinks"], OnLine]:
        """Where it may bend as entry i moves: values of that entry in order, 0 among them; and the function of it."""
        raise NotImplementedError


class AffineForm(Denominator):
    r"""The concave denominator $a^\top x + b$, positive on the program's box.

    Arguments:
        weights: a, ``(n,)``.
        offset: b.
    """

    weights: Vector
    offset: Scalar

    def __call__(self, x: Vector) -> Float[Array, ""]:
        return self.weights @ x + self.offset

    def line(self, x: Vector, i: Int[Array, ""]) -> tuple[Float[Array, " kinks"], OnLine]:
        rest = self(x) - self.weights[i] * x[i]
        return jnp.zeros(1, x.dtype), lambda t: rest + self.weights[i] * t


class TopKNorm(Denominator):
    """The convex denominator that sums the k largest absolute values.

    Arguments:
        k: At least 1, at most n.
    """

    k: int = eqx.field(static=True)

    def __call__(self, x: Vector) -> Float[Array, ""]:
        return jax.lax.top_k(jnp.abs(x), self.k)[0].sum()

    def line(self, x: Vector, i: Int[Array, ""]) -> tuple[Float[Array, " kinks"], OnLine]:
        others = jax.lax.top_k(jnp.abs(x.at[i].set(0)), self.k)[0]
        certain, last = others[:-1].sum(), others[-1]
        return jnp.stack([-last, jnp.zeros_like(last), last]), lambda t: certain + jnp.maximum(last, jnp.abs(t))


class FractionalProgram(eqx.Module):
    r"""A penalized least-squares loss in the numerator, over a denominator that rewards size or direction:

    $$ F(x) = \frac{\frac12 \lVert G x - y \rVert^2 + \rho \lVert x \rVert_1}{g(x)}, \qquad l \le x \le u $$

    Arguments:
        matrix: G, ``(m, n)``.
        target: y, ``(m,)``.
        l1: $\rho$, in [0, inf).
        denominator: g, positive where x may go.
        low: l, a number, -inf for none.
        high: u, a number, inf for none.

    Raises:
        ValueError: for a negative ``l1``.
    """

    matrix: Float[Array, "m n"]
    target: Float[Array, " m"]
    l1: Scalar
    denominator: Denominator
    low: Scalar = -jnp.inf
    high: Scalar = jnp.inf

    def __check_init__(self) -> None:
        in_range("l1", self.l1, 0.0)

    def numerator(self, x: Vector) -> Float[Array, ""]:
        """What stands above the line."""
        return jnp.sum((self.matrix @ x - self.target) ** 2) / 2 + self.l1 * jnp.abs(x).sum()

    def __call__(self, x: Vector) -> Float[Array, ""]:
        """The ratio; infinite where the denominator is not positive."""
        return _ratio(self.numerator(x), self.denominator(x))


def _ratio(above: Array, below: Array) -> Array:
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), jnp.inf)


def fractional_coordinate_descent(
    program: FractionalProgram,
    x: Vector,
    sweeps: int,
    theta: Scalar = 1e-8,
    subproblem: Literal["fractional", "parametric"] = "fractional",
    key: PRNGKeyArray | None = None,
) -> tuple[Vector, Float[Array, " sweeps"]]:
    r"""Minimize a ratio over one coordinate after another, each time globally.

    With $c_i$ the squared norm of column i of G, f the least-squares part and h the penalty, the step is

    $$ \eta \in \arg\min_\eta \frac{N_i(\eta)}{g(x + \eta e_i)} \quad\text{(fractional)} \qquad\text{or}\qquad
       \eta \in \arg\min_\eta N_i(\eta) - F(x)\, g(x + \eta e_i) \quad\text{(parametric)} $$

    $$ N_i(\eta) = f(x) + \eta \nabla_i f(x) + \tfrac{c_i + \theta}{2} \eta^2 + h(x + \eta e_i),
       \qquad x \leftarrow x + \eta e_i $$

    Between two kinks the numerator is quadratic and the denominator linear, so that the stationary points are roots of
    a quadratic; the best of them and of the kinks is the global minimizer. A point that no step leaves is a minimizer
    along every coordinate, up to $\theta$. The default of $\theta$ was chosen here.

    Arguments:
        program: What to minimize.
        x: Start, ``(n,)``, with a positive denominator.
        sweeps: At least 1; a sweep is n steps.
        theta: Weight of the proximal term, in [0, inf); the theory wants it positive.
        subproblem: Which of the two.
        key: Draws the coordinates uniformly; `None`: in order.

    Returns:
        The last point, and F after each sweep.

    Raises:
        ValueError: for an argument out of range.

    Paper: Coordinate Descent Methods for Fractional Minimization.
    """
    in_range("sweeps", sweeps, 1)
    in_range("theta", theta, 0.0)
    if subproblem not in ("fractional", "parametric"):
        raise ValueError(f"subproblem: expected 'fractional' or 'parametric', got {subproblem!r}")
    n = len(x)

    def step(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        x, residual = carry
        column = program.matrix[:, i]
        moved = _along_coordinate(program, x, residual, i, theta, subproblem == "parametric")
        return (x.at[i].set(moved), residual + (moved - x[i]) * column), None

    def sweep(x: Array, order: Array) -> tuple[Array, Array]:
        (x, _), _ = jax.lax.scan(step, (x, program.matrix @ x - program.target), order)
        return x, program(x)

    cyclic = jnp.tile(jnp.arange(n), (sweeps, 1))
    return jax.lax.scan(sweep, x, cyclic if key is None else jr.randint(key, (sweeps, n), 0, n))


def _along_coordinate(
    program: FractionalProgram, x: Vector, residual: Array, i: Array, theta: Scalar, parametric: bool
) -> Array:
    """The value of entry i at which the subproblem is smallest."""
    column, now, low, high = program.matrix[:, i], x[i], program.low, program.high
    slope, bend = column @ residual, (column @ column + theta) / 2
    fixed = residual @ residual / 2 + program.l1 * (jnp.abs(x).sum() - jnp.abs(now))
    kinks, below = program.denominator.line(x, i)

    def above(t: Array) -> Array:
        return fixed + slope * (t - now) + bend * (t - now) ** 2 + program.l1 * jnp.abs(t)

    level = _ratio(above(now), below(now))

    # Two points of every piece between kinks give its lines: penalty and denominator as functions of u = t - now.
    knots = jnp.clip(kinks, low, high)
    left, right = jnp.append(knots[0] - 1, knots), jnp.append(knots, knots[-1] + 1)

    def line(values: OnLine) -> tuple[Array, Array]:
        rise = (values(right) - values(left)) / jnp.where(right > left, right - left, 1)
        return rise, values(left) + rise * (now - left)

    (penalty, at_zero), (d, e) = line(lambda t: program.l1 * jnp.abs(t)), line(below)
    b, c = slope + penalty, fixed + at_zero
    if parametric:
        stationary = -(b - level * d) / (2 * bend)
    else:  # the roots of a d u² + 2 a e u + b e - c d, in the form that allows d = 0
        q = bend * e + jnp.where(e < 0, -1, 1) * jnp.sqrt(jnp.maximum((bend * e) ** 2 - bend * d * (b * e - c * d), 0))
        stationary = jnp.concatenate([_quotient(c * d - b * e, q), _quotient(-q, bend * d)])
    ends = jnp.where(jnp.isfinite(jnp.stack([low, high])), jnp.stack([low, high]), now)
    candidates = jnp.concatenate([jnp.clip(now + stationary, low, high), knots, ends, now[None]])
    merit = (
        above(candidates) - level * below(candidates) if parametric else _ratio(above(candidates), below(candidates))
    )
    return candidates[jnp.argmin(merit)]


def _quotient(a: Array, b: Array) -> Array:
    return jnp.where(b == 0, 0.0, a / jnp.where(b == 0, 1.0, b))


def dinkelbach(program: FractionalProgram, x: Vector, steps: int, inner_steps: int = 1) -> tuple[Vector, Array]:
    r"""Dinkelbach's method: minimize numerator minus F times denominator, by proximal gradient steps.

    $$ x \leftarrow \arg\min_z f(z) + h(z) - F(x) \langle \xi, z \rangle, \qquad \xi \in \partial g(x) $$

    An affine denominator is its own linearization. One inner step makes it the proximal gradient method for ratios,
    more of them take momentum (`fista`).

    Arguments:
        program: What to minimize.
        x: Start, ``(n,)``, with a positive denominator.
        steps: At least 1.
        inner_steps: Proximal gradient steps for each new F, at least 1.

    Returns:
        The last point, and F after each step.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("steps", steps, 1)
    in_range("inner_steps", inner_steps, 1)
    matrix, target = program.matrix, program.target
    rate = 1 / jnp.linalg.norm(matrix, 2) ** 2

    def prox(v: Array, step: Scalar) -> Array:
        return jnp.clip(soft_threshold(v, step * program.l1), program.low, program.high)

    def step(x: Array, _: None) -> tuple[Array, Array]:
        pull = program(x) * jax.grad(program.denominator)(x)
        x, _ = fista(lambda z: matrix.T @ (matrix @ z - target) - pull, prox, x, rate, inner_steps)
        return x, program(x)

    return jax.lax.scan(step, x, None, steps)
