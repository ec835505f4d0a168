"""Model-based methods: each step minimizes a simple model of the sampled loss, plus a proximal term."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.method import Method, hyper
from attractor.objectives import Composite
from attractor.registry import LogUniform, method
from attractor.trees import as_vector

Vector = Float[Array, " d"]
Model = Literal["subgradient", "prox_linear", "prox_point"]
BISECTIONS = 45


def _scalar_prox(slope: Callable[[Array], Array], z: Array, step: Scalar | Array) -> Array:
    """The t that minimizes h(t) + (t - z)^2 / (2 step), for a convex h of one variable with this derivative."""
    reach = step * jnp.abs(slope(z))

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        beyond = middle - z + step * slope(middle) > 0
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    low, high = lax.fori_loop(0, BISECTIONS, halve, (z - reach, z + reach))
    return (low + high) / 2


def _linearized_step(inner: Callable, outer: Callable, at: Vector, center: Vector, step: Scalar | Array) -> Vector:
    """Minimize h(linearization of c at ``at``) + |x - center|^2 / (2 step), for one output."""
    value, gradient = jax.value_and_grad(inner)(at)
    square = gradient @ gradient
    predicted = value + gradient @ (center - at)
    moved = _scalar_prox(jax.grad(outer), predicted, step * square) - predicted
    return center + moved * gradient / jnp.maximum(square, jnp.finfo(at.dtype).tiny)


def _proximal_point(inner: Callable, outer: Callable, center: Vector, step: Scalar, inner_steps: int) -> Vector:
    """Minimize h(c(x)) + |x - center|^2 / (2 step), for one output, by prox-linear steps that must not go up."""

    def value(x: Vector) -> Array:
        return outer(inner(x)) + jnp.sum((x - center) ** 2) / (2 * step)

    def improve(_: Array, carry: tuple[Vector, Array]) -> tuple[Vector, Array]:
        x, damping = carry  # the weight of |x_new - x|^2 / 2 beside that of the proximal term
        weight = 1 / step + damping
        candidate = _linearized_step(inner, outer, x, (center / step + damping * x) / weight, 1 / weight)
        better = value(candidate) <= value(x)
        return jnp.where(better, candidate, x), jnp.where(better, damping / 4, 4 * damping + 1 / step)

    return lax.fori_loop(0, inner_steps, improve, (center, jnp.zeros_like(center[0])))[0]


def _descend(model: Callable[[Vector], Array], x: Vector, steps: int) -> Vector:
    """A few L-BFGS steps on a model with several outputs."""
    solver = optax.lbfgs()
    both = optax.value_and_grad_from_state(model)

    def step(_: Array, carry: tuple[Vector, PyTree]) -> tuple[Vector, PyTree]:
        x, state = carry
        value, gradient = both(x, state=state)
        updates, state = solver.update(gradient, state, x, value=value, grad=gradient, value_fn=model)
        return optax.apply_updates(x, updates), state  # pyright: ignore[reportReturnType]

    return lax.fori_loop(0, steps, step, (x, solver.init(x)))[0]


@method("model-based", {"learning_rate": LogUniform(1e-3, 10.0)}, paper="stochastic-model-based-weakly-convex")
class ModelBased(Method):
    r"""Minimize a model of the sampled loss $h(c(x, \xi))$, which is good near the iterate, plus a proximal term.

    $$ x_{t+1} = \arg\min_x \; m_t(x) + \frac{1}{2 \eta_t} \lVert x - x_t \rVert^2, \qquad \eta_t = \eta / (t + 1)^p $$

    - ``subgradient``: $m_t(x) = f(x_t) + \langle g_t, x - x_t \rangle$, a stochastic subgradient step;
    - ``prox_linear``: $m_t(x) = h(c(x_t) + J_t (x - x_t))$, a regularized Gauss-Newton step;
    - ``prox_point``: $m_t(x) = h(c(x))$, the sampled loss itself.

    With one output (batches of one sample in regression) the prox-linear step is exact, for any convex h, by
    bisection on its multiplier; the proximal point repeats such steps, damped so that they never go up. With several
    outputs, as in classification, ``inner_steps`` L-BFGS steps approximate either.

    Arguments:
        learning_rate: The step eta, in (0, inf), in units of squared distance per loss.
        model: ``"subgradient"``, ``"prox_linear"`` or ``"prox_point"``.
        power: The exponent p of the decay, in [0, 1]; 0 for a step chosen by the horizon.
        inner_steps: Of the iterative solvers, at least 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: Stochastic model-based minimization of weakly convex functions.
    """

    learning_rate: Scalar = hyper(0.1, low=0.0, open_low=True)
    model: str = hyper("prox_linear", choices=("subgradient", "prox_linear", "prox_point"))
    power: Scalar = hyper(0.5, low=0.0, high=1.0)
    inner_steps: int = hyper(10, low=1)

    def init(self, problem: Composite, x: PyTree, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.zeros([], jnp.int32)

    def step(
        self, problem: Composite, x: PyTree, state: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree, Int[Array, ""]]:
        flat, unravel = as_vector(x)
        batch = problem.sample(key)
        rate = (self.learning_rate / (state + 1.0) ** self.power).astype(flat.dtype)
        return unravel(self._minimize(problem, unravel, flat, batch, rate)), state + 1

    def _minimize(self, problem: Composite, unravel: Callable, x: Vector, batch: PyTree, rate: Array) -> Vector:
        def loss(x: Vector) -> Array:
            return problem.loss(unravel(x), batch).astype(x.dtype)

        if self.model == "subgradient":
            return x - rate * jax.grad(loss)(x)
        outputs, push = jax.linearize(lambda x: problem.inner(unravel(x), batch), x)
        if outputs.size == 1:

            def inner(x: Vector) -> Array:
                return problem.inner(unravel(x), batch).reshape(())

            def outer(t: Array) -> Array:
                return problem.outer(t.reshape(outputs.shape), batch)

            if self.model == "prox_linear":
                return _linearized_step(inner, outer, x, x, rate)
            return _proximal_point(inner, outer, x, rate, self.inner_steps)

        def model(y: Vector) -> Array:
            value = loss(y) if self.model == "prox_point" else problem.outer(outputs + push(y - x), batch)
            return value + jnp.sum((y - x) ** 2) / (2 * rate)

        return _descend(model, x, self.inner_steps)
