"""Minimize the largest of many losses: the softmax instead of the max, in balls where its weights hardly change."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.linalg.amplification import amplified_sampling
from attractor.method import Method, hyper
from attractor.problem import Minimization
from attractor.registry import LogUniform, method
from attractor.trees import as_vector

Vector = Float[Array, " d"]
Sampler = Callable[[PRNGKeyArray, Float[Array, " n"], int], Int[Array, " draws"]]


def soft_maximum(values: Float[Array, "... n"], smoothing: Scalar) -> Float[Array, "..."]:
    r"""$\mu \log \sum_i e^{v_i / \mu}$: above the largest value, by at most $\mu \log n$, and $1/\mu$-smooth.

    Arguments:
        values: $v$, along the last axis.
        smoothing: $\mu$, in (0, inf).

    Raises:
        ValueError: for a ``smoothing`` out of range.
    """
    in_range("smoothing", smoothing, 0.0, open_low=True)
    return smoothing * jax.scipy.special.logsumexp(values / smoothing, axis=-1)


def categorical(key: PRNGKeyArray, logits: Float[Array, " n"], draws: int) -> Int[Array, " draws"]:
    """Indices with probability proportional to ``exp(logits)``; it looks at all n of them."""
    return jr.categorical(key, logits, shape=(draws,))


def amplified_categorical(key: PRNGKeyArray, logits: Float[Array, " n"], draws: int) -> Int[Array, " draws"]:
    """The same by (simulated) `amplified_sampling`: of order sqrt(n) oracle calls a draw, at worst."""
    found = amplified_sampling(jnp.exp((logits - logits.max()) / 2))
    return jr.categorical(key, jnp.log(found.probabilities), shape=(draws,))


@method(
    "ball-descent",
    {"smoothing": LogUniform(1e-3, 1.0), "radius": LogUniform(1e-3, 1.0)},
    paper="quantum-minimize-maximal-loss",
)
class BallDescent(Method):
    r"""Minimize $\max_i f_i(x)$ over the problem's examples by stochastic steps that see one example each.

    Around a center $\bar x$, where all losses are looked at once,

    $$
    i \sim p_i \propto e^{f_i(\bar x) / \mu}, \qquad
    x \leftarrow \Pi_{\lVert x - \bar x \rVert \le r}\Big[ x - \tfrac{r^2}{\mu \sqrt T}\,
    e^{(f_i(x) - f_i(\bar x)) / \mu}\, \nabla f_i(x) \Big]
    $$

    T times; then the last x is the next center. The factor makes the step unbiased for $\sum_i p_i\, e^{(f_i(x) -
    f_i(\bar x)) / \mu}$, which grows with the `soft_maximum` of the losses. With losses of Lipschitz constant
    $\mu / r$ it stays between 1/e and e in the ball. One ball follows the other here; for the paper's accelerated
    sequence of balls see `BallAcceleration`. For an error of $\epsilon$ take $\mu = \epsilon / (2
    \log n)$.

    Arguments:
        smoothing: $\mu$, in (0, inf), in units of the losses.
        radius: r, in (0, inf), in units of the parameters.
        draws: T, steps per ball, at least 1.
        sampler: ``(key, logits, draws) -> indices``: `categorical` or `amplified_categorical`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Near-Optimal Quantum Algorithm for Minimizing the Maximal Loss.
    """

    smoothing: Scalar = hyper(1e-2, low=0.0, open_low=True)
    radius: Scalar = hyper(1e-2, low=0.0, open_low=True)
    draws: int = hyper(64, low=1)
    sampler: Sampler = hyper(categorical)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> None:
        return None

    def step(self, problem: Minimization, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        center, unravel = as_vector(x)
        each, loss, examples = _losses(problem, unravel, center.dtype)
        values = each(center)
        rate = self.radius**2 / (self.smoothing * self.draws**0.5)

        def descend(z: Array, i: Array) -> tuple[Array, None]:
            value, gradient = jax.value_and_grad(loss)(z, jax.tree.map(lambda leaf: leaf[i], examples))
            z = z - rate * jnp.exp((value - values[i]) / self.smoothing) * gradient
            length = jnp.linalg.norm(z - center)
            return center + (z - center) * jnp.where(length > self.radius, self.radius / length, 1.0), None

        chosen = self.sampler(key, values / self.smoothing, self.draws)
        return unravel(lax.scan(descend, center, chosen)[0]), None


def _losses(problem: Minimization, unravel: Callable, dtype: Any) -> tuple[Callable, Callable, PyTree]:
    """All losses of a vector, the loss on one example, and the examples, each with an axis of length 1."""
    examples = jax.tree.map(lambda leaf: leaf[:, None], problem.full)

    def loss(z: Array, example: PyTree) -> Array:
        return problem.loss(unravel(z), example).astype(dtype)

    several = bool(jax.tree.leaves(examples))
    return (lambda z: jax.vmap(loss, (None, 0))(z, examples) if several else loss(z, None)[None]), loss, examples


def minimize_in_ball(
    objective: Callable[[Vector], Float[Array, ""]], center: Vector, radius: Scalar, steps: int = 8
) -> tuple[Vector, Float[Array, ""]]:
    r"""The minimizer $\tilde x$ of a convex function in a ball, and $\lambda$ with $\nabla f(\tilde x) = -\lambda
    (\tilde x - c)$.

    By Newton steps, each of which minimizes the quadratic model in the same ball. They settle where the Hessian hardly
    changes within it, as that of a `soft_maximum` with $\mu$ of the order of the losses' change.

    Arguments:
        objective: f, twice differentiable.
        center: c, ``(d,)``.
        radius: Of the ball, in (0, inf).
        steps: Newton steps, at least 1.

    Paper: Near-Optimal Quantum Algorithm for Minimizing the Maximal Loss.
    """
    in_range("radius", radius, 0.0, open_low=True)
    in_range("steps", steps, 1)

    def step(away: Array, _: None) -> tuple[Array, Array]:
        gradient, hessian = jax.grad(objective)(center + away), jax.hessian(objective)(center + away)
        values, basis = jnp.linalg.eigh(hessian)
        values, target = jnp.maximum(values, 0), basis.T @ (hessian @ away - gradient)

        def solution(multiplier: Array) -> Array:
            shifted = values + multiplier
            return jnp.where(shifted > 0, target / jnp.where(shifted > 0, shifted, 1), jnp.inf * jnp.abs(target))

        def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bounds
            middle = (low + high) / 2
            outside = jnp.linalg.norm(solution(middle)) > radius
            return jnp.where(outside, middle, low), jnp.where(outside, high, middle)

        most = jnp.linalg.norm(target) / radius
        _, multiplier = lax.fori_loop(0, 60, halve, (jnp.zeros_like(most), most))
        # Without a multiplier the step would stay inside: the bisection has ended at (almost) zero.
        return basis @ solution(jnp.maximum(multiplier, jnp.finfo(most.dtype).tiny)), multiplier

    away, multipliers = lax.scan(step, jnp.zeros_like(center), length=steps)
    return center + away, multipliers[-1]


class BallAccelerationState(NamedTuple):
    """State of `BallAcceleration`."""

    momentum: Vector  # v
    weight: Float[Array, ""]  # A
    guess: Float[Array, ""]  # of the next multiplier; negative before the first


@method(
    "ball-acceleration",
    {"smoothing": LogUniform(1e-3, 1.0), "radius": LogUniform(1e-3, 1.0)},
    paper="quantum-minimize-maximal-loss",
)
class BallAcceleration(Method):
    r"""Minimize the `soft_maximum` of the problem's losses by minimizers in balls whose centers are accelerated.

    With $\lambda'$ a guess of the multiplier, $a' = \frac{1 + \sqrt{1 + 4 \lambda' A}}{2 \lambda'}$ and $A' = A + a'$,

    $$
    y = \frac{A}{A'} x + \frac{a'}{A'} v, \qquad \tilde x, \lambda = \text{minimize\_in\_ball}(y), \qquad
    \gamma = \min(1, \lambda' / \lambda), \quad a = \gamma a',
    $$
    $$
    x \leftarrow \frac{(1 - \gamma) A\, x + \gamma A' \tilde x}{A + a}, \qquad v \leftarrow v - a \nabla f(\tilde
    x), \qquad A \leftarrow A + a
    $$

    after which $\lambda'$ is divided by the factor if $\lambda \le \lambda'$ and multiplied by it otherwise. Of order
    $(R / r)^{2/3}$ balls of radius r come to the minimizer at a distance R, where balls that follow one another need
    $R / r$. This is the outer loop of the paper, with the adaptive guess of Carmon et al. (2022) for a bisection;
    the ball's minimizer is found by Newton steps here, and by samples of single losses there.

    Arguments:
        smoothing: $\mu$, in (0, inf), in units of the losses.
        radius: r, in (0, inf), in units of the parameters.
        factor: Of the guess, in (1, inf).
        newton_steps: Per ball, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Near-Optimal Quantum Algorithm for Minimizing the Maximal Loss.
    """

    smoothing: Scalar = hyper(1e-2, low=0.0, open_low=True)
    radius: Scalar = hyper(1e-2, low=0.0, open_low=True)
    factor: Scalar = hyper(2.0, low=1.0, open_low=True)
    newton_steps: int = hyper(8, low=1)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> BallAccelerationState:
        start = jnp.array(as_vector(x)[0])  # a copy: x and the state may both be donated
        return BallAccelerationState(start, jnp.zeros((), start.dtype), -jnp.ones((), start.dtype))

    def step(
        self, problem: Minimization, x: PyTree, state: BallAccelerationState, key: PRNGKeyArray
    ) -> tuple[PyTree, BallAccelerationState]:
        flat, unravel = as_vector(x)
        each, _, _ = _losses(problem, unravel, flat.dtype)

        def objective(z: Array) -> Array:
            return soft_maximum(each(z), self.smoothing)

        tiny = jnp.finfo(flat.dtype).tiny ** 0.5
        first = state.guess < 0
        guess = jnp.where(first, 1.0, jnp.maximum(state.guess, tiny))
        added = (1 + jnp.sqrt(1 + 4 * guess * state.weight)) / (2 * guess)
        whole = state.weight + added
        center = (state.weight * flat + added * state.momentum) / whole
        found, multiplier = minimize_in_ball(objective, center, self.radius, self.newton_steps)
        multiplier = jnp.maximum(multiplier, tiny)
        # Before the first ball there is no guess, and A = 0: then a' is 1 over it.
        guess = jnp.where(first, multiplier, guess)
        added, whole = (jnp.where(first, 1 / multiplier, value) for value in (added, whole))
        share = jnp.minimum(1, guess / multiplier)
        weight = state.weight + share * added
        new = ((1 - share) * state.weight * flat + share * whole * found) / weight
        momentum = state.momentum - share * added * jax.grad(objective)(found)
        guess = jnp.where(multiplier <= guess, guess / self.factor, guess * self.factor)
        return unravel(new), BallAccelerationState(momentum, weight, guess)
