"""Gradient descent with an energy variable that bounds its steps, in a metric of one's own."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from attractor.checks import Scalar, in_range
from attractor.registry import LogUniform, method


def euclidean(params: PyTree, gradient: PyTree) -> PyTree:
    """The gradient itself."""
    return gradient


def simplex_metric(params: Float[Array, " n"], gradient: Float[Array, " n"]) -> Float[Array, " n"]:
    r"""The gradient in the Hessian metric of the entropy, $A = \operatorname{diag}(1 / x)$, within $\sum_i x_i = 1$.

    $$ v_i = x_i \big(g_i - \langle x, g \rangle\big) $$

    Arguments:
        params: x, positive, with sum 1.
        gradient: g.

    Paper: Adaptive Preconditioned Gradient Descent with Energy.
    """
    return params * (gradient - jnp.sum(params * gradient))


def gaussian_metric(params: tuple[Array, Array], gradient: tuple[Array, Array]) -> tuple[Array, Array]:
    r"""The natural gradient of a normal distribution $(\mu, \sigma)$, of Fisher matrix $\operatorname{diag}(1, 2) /
    \sigma^2$.

    Arguments:
        params: The means, and the standard deviations, of one shape.
        gradient: With respect to both.

    Paper: Adaptive Preconditioned Gradient Descent with Energy.
    """
    variance = params[1] ** 2
    return variance * gradient[0], variance * gradient[1] / 2


class EnergyDescentState(NamedTuple):
    """State of `energy_descent`."""

    steps: Int[Array, ""]
    energy: Float[Array, ""]


@method(
    "energy-descent",
    {"learning_rate": LogUniform(1e-3, 1e1)},
    paper="preconditioned-aegd",
    bad={"learning_rate": 0.0, "offset": -1.0},
)
def energy_descent(
    learning_rate: Scalar = 0.1,
    offset: Scalar = 1.0,
    precondition: Callable[[PyTree, PyTree], PyTree] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Preconditioned gradient descent whose steps are bounded by an energy that never grows, at any learning rate.

    $$
    g = \frac{\nabla f(x)}{2 \sqrt{f(x) + c}}, \qquad v = A(x)^{-1} g, \qquad r_+ = \frac{r}{1 + 2 \eta \langle g, v
    \rangle}, \qquad x_+ = x - 2 \eta\, r_+ v
    $$

    from $r = \sqrt{f(x) + c}$ at the first step. For every $\eta$, $r_+^2 = r^2 - (r_+ - r)^2 - \lVert x_+ - x
    \rVert_A^2 / \eta$. Within equality constraints, v is the solution in their tangent space.

    ``update`` takes the extra argument ``value``, f(x); `attractor.run` passes it.

    Arguments:
        learning_rate: $\eta$, in (0, inf).
        offset: c, in [0, inf), such that $f + c > 0$ everywhere.
        precondition: ``(x, g) -> v``, linear in g: `simplex_metric`, `gaussian_metric` or your own; `None` is
            `euclidean`. Name it in ``static_args`` of `optax.inject_hyperparams`, which takes functions for schedules.

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``value`` and the parameters.

    Paper: Adaptive Preconditioned Gradient Descent with Energy.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("offset", offset, 0.0)
    metric = euclidean if precondition is None else precondition

    def init(params: PyTree) -> EnergyDescentState:
        return EnergyDescentState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.result_type(float)))

    def update(
        updates: PyTree, state: Any, params: PyTree = None, *, value: Any = None, **_: Any
    ) -> tuple[PyTree, EnergyDescentState]:
        if value is None or params is None:
            raise ValueError("value, params: expected both, as in update(grads, state, params, value=loss(params))")
        root = jnp.sqrt(value + offset).astype(state.energy.dtype)
        before = jnp.where(state.steps == 0, root, state.energy)
        # At the root's zero the gradient is zero too: there is nowhere to go.
        slope = optax.tree.scale(jnp.where(root > 0, 0.5 / jnp.where(root > 0, root, 1), 0), updates)
        direction = metric(params, slope)
        energy = before / (1 + 2 * learning_rate * optax.tree.vdot(slope, direction))
        steps = optax.tree.cast_like(optax.tree.scale(-2 * learning_rate * energy, direction), updates)
        return steps, EnergyDescentState(state.steps + 1, energy.astype(state.energy.dtype))

    return optax.GradientTransformationExtraArgs(init, update)


class MetricProblem(NamedTuple):
    """A loss with the metric to descend in.

    Attributes:
        loss: With minimum 0.
        precondition: ``precondition(x, gradient)``, the gradient in the metric.
        metric: Its matrix ``A(x)``, for directions that the problem allows.
        start: The first point.
        positive: Coordinates that have to stay positive.
    """

    loss: Callable[[Array], Array]
    precondition: Callable[[Array, Array], Array]
    metric: Callable[[Array], Array]
    start: tuple[float, ...]
    positive: tuple[int, ...] = ()


def rosenbrock_by_fisher() -> MetricProblem:
    """Rosenbrock's function as the squared error of a model with two outputs, and that model's Fisher matrix."""

    def loss(x: Float[Array, " 2"]) -> Float[Array, ""]:
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    def fisher(x: Float[Array, " 2"]) -> Float[Array, "2 2"]:
        jacobian = jnp.array([[-20 * x[0], 10.0], [-1.0, 0.0]])
        return 2 * jacobian.T @ jacobian

    return MetricProblem(loss, lambda x, g: jnp.linalg.solve(fisher(x), g), fisher, (-1.2, 1.0))


def simplex_mixture(seed: int = 0) -> MetricProblem:
    """Least squares over mixtures of five columns, solved exactly by one of them all, by `simplex_metric`.

    Arguments:
        seed: Of columns and mixture.
    """
    rng = np.random.default_rng(seed)
    columns, solution = rng.standard_normal((8, 5)), rng.dirichlet(np.ones(5))

    def loss(p: Float[Array, " 5"]) -> Float[Array, ""]:
        return jnp.sum((jnp.asarray(columns) @ (p - jnp.asarray(solution))) ** 2)

    return MetricProblem(loss, simplex_metric, lambda p: jnp.diag(1 / p), (0.2,) * 5, (0, 1, 2, 3, 4))


def gaussian_divergence() -> MetricProblem:
    """The Kullback-Leibler divergence of N(3, 2) from N(mean, deviation), by `gaussian_metric`."""

    def loss(p: Float[Array, " 2"]) -> Float[Array, ""]:
        return jnp.log(p[1] / 2) + (4 + (p[0] - 3) ** 2) / (2 * p[1] ** 2) - 0.5

    def natural(p: Float[Array, " 2"], g: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return jnp.stack(gaussian_metric((p[0], p[1]), (g[0], g[1])))

    return MetricProblem(loss, natural, lambda p: jnp.diag(jnp.array([1, 2]) / p[1] ** 2), (0.0, 1.0), (1,))


class EnergyAudit(NamedTuple):
    """What came of a run by energy, see `audit_energy`."""

    violation: Float[Array, ""]
    loss: Float[Array, ""]
    feasible: Bool[Array, ""]


def audit_energy(
    optimizer: optax.GradientTransformation, problem: MetricProblem, rate: Scalar, offset: Scalar, steps: int
) -> EnergyAudit:
    r"""Run an optimizer and see whether it keeps the laws of the energy r of `energy_descent`.

    $$ r_{k+1}^2 = r_k^2 - (r_{k+1} - r_k)^2 - \tfrac1\eta \lVert x_{k+1} - x_k \rVert_{A(x_k)}^2, \qquad
       r_{k+1} \le r_k $$

    Arguments:
        optimizer: With the energy in its state, or without one: then it counts as constant.
        problem: The loss and its metric A.
        rate: η, in (0, inf).
        offset: Added to the loss under the root, in [0, inf).
        steps: At least 1.

    Returns:
        The largest violation while the point was feasible (of the identity, over the first squared energy, or of the
        energy's fall), the last loss, and whether every point was feasible.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("rate", rate, 0.0, open_low=True)
    in_range("offset", offset, 0.0)
    in_range("steps", steps, 1)
    made, x = optax.with_extra_args_support(optimizer), jnp.asarray(problem.start)
    total = problem.loss(x) + offset  # the first energy, squared

    def step(carry: Any, _: None) -> tuple[Any, None]:
        x, state, before, wrong, inside = carry
        value, gradient = jax.value_and_grad(problem.loss)(x)
        change: Any
        change, state = made.update(gradient, state, x, value=value)
        after = getattr(state, "energy", before)
        identity = after**2 - before**2 + (after - before) ** 2 + change @ problem.metric(x) @ change / rate
        violated = jnp.maximum(jnp.abs(identity) / total, after - before)
        wrong = jnp.where(inside, jnp.maximum(wrong, jnp.nan_to_num(violated, nan=jnp.inf)), wrong)
        x = x + change
        return (x, state, after, wrong, inside & (x[jnp.array(problem.positive, int)] > 0).all()), None

    carry = (x, made.init(x), jnp.sqrt(total), -jnp.inf, True)
    (x, _, _, wrong, inside), _ = jax.lax.scan(step, carry, length=steps)
    return EnergyAudit(wrong, problem.loss(x), inside)
