"""Acceleration for quasar-convex losses: from exact, stochastic or variance-reduced gradients."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.gradients import grad, value_and_grad
from attractor.method import Method, hyper, when_due
from attractor.problem import Minimization
from attractor.registry import LogUniform, method


def quasar_convexity(
    loss: Callable[[PyTree], Array], solution: PyTree, points: PyTree, optimum: Scalar | None = None
) -> Float[Array, ""]:
    r"""The largest $\gamma$ for which some points are consistent with $\gamma$-quasar-convexity:

    $$ \gamma \, (f(x) - f(x^*)) \le \langle \nabla f(x), x - x^* \rangle $$

    Convex functions have $\gamma = 1$; with $\gamma > 0$ every stationary point is a minimizer.

    Arguments:
        loss: f, of one point.
        solution: $x^*$, a minimizer.
        points: Leaves ``(n, …)``; those with the smallest loss itself do not count.
        optimum: $f(x^*)$; `None`: the loss there.

    Paper: Accelerated Stochastic Optimization Methods under Quasar-convexity.
    """
    least = loss(solution) if optimum is None else optimum

    def ratio(x: PyTree) -> Array:
        value, gradient = value_and_grad(loss)(x)
        away = jax.tree.map(jnp.subtract, x, solution)
        return jnp.where(value > least, optax.tree.vdot(gradient, away) / (value - least), jnp.inf)

    return jnp.min(jax.lax.map(ratio, points, batch_size=256))


def quasar_convexity_within(
    loss: Callable[[PyTree], Array], solution: PyTree, radius: Scalar, key: PRNGKeyArray, points: int = 10_000
) -> Float[Array, ""]:
    r"""`quasar_convexity` at random points around the solution, at distances uniform up to ``radius``.

    Arguments:
        loss: f, of one point.
        solution: $x^*$, a minimizer.
        radius: Largest distance, in the units of the solution, in (0, inf).
        key: Of the points.
        points: How many, at least 1.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("radius", radius, 0.0, open_low=True)
    in_range("points", points, 1)
    center, unravel = ravel_pytree(solution)
    directions, sizes = jr.split(key)
    away = jr.normal(directions, (points, center.size))
    sizes = radius * jr.uniform(sizes, (points, 1), minval=0.01)
    return quasar_convexity(
        lambda x: loss(unravel(x)), center, center + sizes * away / jnp.linalg.norm(away, axis=1, keepdims=True)
    )


class QuasarState(NamedTuple):
    """State of `quasar_accelerated`."""

    weight: Float[Array, ""]  # A
    descent: PyTree  # x
    mirror: PyTree  # z


@method(
    "quasar-accelerated",
    {"learning_rate": LogUniform(1e-3, 10.0)},
    paper="qasgd",
    bad={"learning_rate": -1.0, "gamma": 0.0},
)
def quasar_accelerated(learning_rate: Scalar = 0.1, gamma: Scalar = 1.0) -> optax.GradientTransformation:
    r"""Accelerated (stochastic) gradient descent for quasar-convex losses.

    The parameters are the point y where the gradient g is taken, between a point x that descends and a point z that
    collects gradients with growing weights a:

    $$
    \begin{aligned}
    a &= \tfrac12 \bigl(\gamma s + \sqrt{\gamma^2 s^2 + 4 s A}\bigr), \qquad A \leftarrow A + \gamma a, \\
    x &\leftarrow y - s g, \qquad z \leftarrow z - a g, \qquad
    y \leftarrow \frac{A x + a' z}{A + a'} \quad \text{with the next weight } a'
    \end{aligned}
    $$

    The weights satisfy $a^2 = s A$ and grow no faster than $\gamma$-quasar-convexity allows. For exact gradients of a
    convex loss and $s \le 1/L$ they give $f(x) - f^* \le \lVert x_0 - x^* \rVert^2 / 2A$, where
    $A \ge \gamma^2 s k^2 / 4$ after k steps; without convexity the same bound takes a search for y on the segment from
    x to z at each step, which minibatches cannot afford. That y has the weight that convexity asks for was chosen here.

    Arguments:
        learning_rate: s, in (0, inf); 1/L for exact gradients, less for noisy ones.
        gamma: In (0, 1]; 1 for a convex loss.

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``params``.

    Paper: Accelerated Stochastic Optimization Methods under Quasar-convexity.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("gamma", gamma, 0.0, 1.0, open_low=True)

    def step_weight(total: Array) -> Array:
        return (gamma * learning_rate + jnp.sqrt((gamma * learning_rate) ** 2 + 4 * learning_rate * total)) / 2

    def init(params: PyTree) -> QuasarState:
        # Copies, so that a loop may donate parameters and state.
        return QuasarState(jnp.zeros([], float), jax.tree.map(jnp.array, params), jax.tree.map(jnp.array, params))

    def update(updates: PyTree, state: QuasarState, params: PyTree = None) -> tuple[PyTree, QuasarState]:
        if params is None:
            raise ValueError("params: the point of the gradient is needed; call update(grads, state, params)")
        weight = step_weight(state.weight)
        total = state.weight + gamma * weight
        share = total / (total + step_weight(total))
        x = jax.tree.map(lambda y, g: (y - learning_rate * g).astype(y.dtype), params, updates)
        z = jax.tree.map(lambda z, g: (z - weight * g).astype(z.dtype), state.mirror, updates)
        change = jax.tree.map(lambda x, z, y: (share * x + (1 - share) * z - y).astype(y.dtype), x, z, params)
        return change, QuasarState(total.astype(state.weight.dtype), x, z)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


class StagedState(NamedTuple):
    """State of `VarianceReduced`."""

    steps: Int[Array, ""]  # in this stage
    snapshot: PyTree
    gradient: PyTree  # of the full loss there
    inner: PyTree


class VarianceReduced(Method):
    r"""Any optax transformation, in stages, on minibatch gradients corrected by the full gradient at a snapshot.

    $$ g = \nabla f_B(x) - \nabla f_B(\tilde x) + \nabla f(\tilde x) $$

    After ``period`` steps the point becomes the snapshot $\tilde x$ of the next stage, and the transformation starts
    anew. A stage costs the n component gradients of the snapshot and two minibatches a step.

    Arguments:
        transformation: What turns g into a step.
        period: Steps in a stage, a whole number of at least 1; may be a float, so that periods can be swept in one
            program.

    Raises:
        ValueError: for a ``period`` below 1.
    """

    transformation: optax.GradientTransformation
    period: Scalar = hyper(100, low=1)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> StagedState:
        full = grad(problem.loss)(x, problem.full)
        snapshot = jax.tree.map(jnp.array, x)  # a copy: no two buffers are one
        return StagedState(jnp.zeros((), jnp.int32), snapshot, full, self.transformation.init(x))

    def step(
        self, problem: Minimization, x: PyTree, state: StagedState, key: PRNGKeyArray
    ) -> tuple[PyTree, StagedState]:
        batch, gradient = problem.sample(key), grad(problem.loss)
        now, before = gradient(x, batch), gradient(state.snapshot, batch)
        corrected = jax.tree.map(lambda a, b, c: a - b + c, now, before, state.gradient)
        updates, inner = self.transformation.update(corrected, state.inner, x)
        x = optax.apply_updates(x, updates)

        def keep() -> StagedState:
            return StagedState(state.steps + 1, state.snapshot, state.gradient, inner)

        return x, when_due(state.steps + 1 == self.period, lambda: self.init(problem, x, key), keep)


@method(
    "quasar-accelerated-svrg",
    {"learning_rate": LogUniform(1e-3, 10.0)},
    paper="qasgd",
    bad={"learning_rate": -1.0, "gamma": 1.5, "period": 0},
)
def quasar_accelerated_svrg(learning_rate: Scalar = 0.1, gamma: Scalar = 1.0, period: Scalar = 100) -> VarianceReduced:
    """Accelerated variance-reduced descent for quasar-convex losses: `VarianceReduced` around `quasar_accelerated`.

    Minibatches of about the square root of the number of samples keep the noise below what momentum amplifies.

    Arguments:
        learning_rate: As in `quasar_accelerated`.
        gamma: As in `quasar_accelerated`.
        period: Steps in a stage, at least 1; the momentum starts anew with each.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Accelerated Stochastic Optimization Methods under Quasar-convexity.
    """
    return VarianceReduced(quasar_accelerated(learning_rate, gamma), period)
