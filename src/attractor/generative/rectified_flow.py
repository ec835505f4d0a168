"""Rectified flows: transport between two distributions by an ODE, fitted to straight lines between paired samples."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.problem import Minimization
from attractor.registry import part

Coupling = tuple[Float[Array, "n d"], Float[Array, "n d"]]
Paths = tuple[Float[Array, "n d"], Float[Array, "n d"], Float[Array, " n"]]  # both ends, and a time on each line
Velocity = Callable[[Float[Array, " d"], Float[Array, ""]], Float[Array, " d"]]
Potential = Callable[[Float[Array, " d"], Float[Array, ""]], Float[Array, ""]]


class Cost(eqx.Module):
    """A convex transport cost of a displacement, with its convex conjugate.

    Arguments:
        value: ``c(displacement (d,)) -> scalar``, convex.
        conjugate: ``c*(y (d,)) -> scalar``, the supremum over z of ⟨y, z⟩ − c(z); differentiable.
    """

    value: Callable[[Float[Array, " d"]], Float[Array, ""]]
    conjugate: Callable[[Float[Array, " d"]], Float[Array, ""]]


def power_cost(exponent: float = 2.0) -> Cost:
    """The cost ``|z|^p / p``, whose conjugate is ``|y|^q / q`` with ``1/p + 1/q = 1``.

    Arguments:
        exponent: p, greater than 1; 2 is the quadratic cost.

    Raises:
        ValueError: for an exponent that is not greater than 1.
    """
    in_range("exponent", exponent, 1.0, open_low=True)
    return Cost(eqx.Partial(_power, exponent), eqx.Partial(_power, exponent / (exponent - 1)))


def _power(exponent: float, z: Float[Array, " d"]) -> Float[Array, ""]:
    square = z @ z
    nonzero = jnp.where(square > 0, square, 1.0)  # the root has no derivative at zero, the power has: zero
    return jnp.where(square > 0, nonzero ** (exponent / 2), 0.0) / exponent


class TimeMLP(eqx.Module):
    """A smooth network of a point and a time, for velocities (``out_size=d``) and potentials (``"scalar"``).

    Arguments:
        dim: Dimension d of the points.
        out_size: Number of outputs, or ``"scalar"``.
        width: Units per hidden layer.
        depth: Hidden layers.
        activation: Must be smooth for a potential, whose gradient is learned.
        key: Draws the parameters.
    """

    mlp: eqx.nn.MLP

    def __init__(
        self,
        dim: int,
        out_size: Any,
        width: int = 64,
        depth: int = 2,
        *,
        activation: Callable = jax.nn.silu,
        key: PRNGKeyArray,
    ):
        self.mlp = eqx.nn.MLP(dim + 1, out_size, width, depth, activation, key=key)

    def __call__(self, x: Float[Array, " d"], t: Float[Array, ""]) -> Float[Array, "..."]:
        return self.mlp(jnp.append(x, t))


def gradient_velocity(potential: Potential, cost: Cost | None = None) -> Velocity:
    """The velocity ``∇c*(∇ₓf(x, t))`` of a potential f; its gradient for the quadratic cost (the default)."""
    return eqx.Partial(_gradient, potential, cost)  # a pytree: another potential is no reason to compile again


def _gradient(potential: Potential, cost: Cost | None, x: Array, t: Array) -> Array:
    slope = jax.grad(potential)(x, t)
    return slope if cost is None else jax.grad(cost.conjugate)(slope)


def velocity_matching(velocity: Velocity, paths: Paths) -> Float[Array, ""]:
    """Mean of ``|X₁ − X₀ − v(X_t, t)|²`` with ``X_t = t X₁ + (1 − t) X₀``: the loss of the plain rectified flow."""

    def one(x0: Array, x1: Array, t: Array) -> Array:
        return jnp.sum((x1 - x0 - velocity(t * x1 + (1 - t) * x0, t)) ** 2)

    return jnp.mean(jax.vmap(one)(*paths))


def potential_matching(cost: Cost, potential: Potential, paths: Paths) -> Float[Array, ""]:
    """Mean of ``c*(∇f(X_t, t)) − ⟨X₁ − X₀, ∇f(X_t, t)⟩ + c(X₁ − X₀)``: the loss of the c-rectified flow.

    By the Fenchel-Young inequality it is nowhere negative, and zero only where the velocity ``∇c*(∇f)`` is the
    displacement: at couplings that are optimal for c.
    """

    def one(x0: Array, x1: Array, t: Array) -> Array:
        slope = jax.grad(potential)(t * x1 + (1 - t) * x0, t)
        return cost.conjugate(slope) - (x1 - x0) @ slope + cost.value(x1 - x0)

    return jnp.mean(jax.vmap(one)(*paths))


class _Matching(Minimization):
    """Fit a network to pairs of points, each at a fresh uniform time; the full loss has evenly spread times."""

    def sample(self, key: PRNGKeyArray) -> Paths:
        x0, x1, _ = super().sample(key)
        return x0, x1, jr.uniform(jr.fold_in(key, 2), (len(x0),), x0.dtype)


def _matching(build: Callable, loss: Callable, coupling: Coupling, batch_size: int | None) -> Minimization:
    x0, x1 = coupling
    if x0.shape != x1.shape or x0.ndim != 2:
        raise ValueError(f"coupling: expected two arrays of one shape (n, d), got {x0.shape} and {x1.shape}")
    # Golden-ratio steps spread the times evenly over any run of consecutive pairs.
    times = (jnp.arange(len(x0)) * 0.61803399 % 1.0).astype(x0.dtype)
    return _Matching.of_model(build, loss, (x0, x1, times), batch_size=batch_size)


def rectified_flow(
    build: Callable[[PRNGKeyArray], Velocity], coupling: Coupling, *, batch_size: int | None = None
) -> Minimization:
    r"""Fit the velocity that rectifies a coupling: minimize $E\int_0^1 |X_1 - X_0 - v(X_t, t)|^2 dt$.

    Its minimizer, the mean displacement of the lines through a point, moves the distribution of X₀ to that of X₁.
    A fresh uniform time is drawn for every pair at every step.

    Arguments:
        build: ``key -> model``, an `equinox.Module` with ``model(x (d,), t) -> (d,)``.
        coupling: Paired samples ``(x0, x1)``, each ``(n, d)``.
        batch_size: Pairs per step; `None`: all.

    Raises:
        ValueError: for a coupling of unequal shapes, or a batch size out of range.

    Paper: Rectified Flow: A Marginal Preserving Approach to Optimal Transport.
    """
    return _matching(build, velocity_matching, coupling, batch_size)


def c_rectified_flow(
    build: Callable[[PRNGKeyArray], Potential],
    coupling: Coupling,
    *,
    cost: Cost | None = None,
    batch_size: int | None = None,
) -> Minimization:
    r"""Fit the potential that rectifies a coupling without raising one transport cost c.

    $$ \min_f E\int_0^1 c^*(\nabla f(X_t, t)) - \langle X_1 - X_0, \nabla f(X_t, t)\rangle + c(X_1 - X_0)\,dt $$

    The velocity is then `gradient_velocity` of the potential. It moves the distributions as the plain flow does, and
    unlike there only couplings that are optimal for c are left as they are.

    Arguments:
        build: ``key -> model``, an `equinox.Module` with ``model(x (d,), t) -> scalar``.
        coupling: Paired samples ``(x0, x1)``, each ``(n, d)``.
        cost: The transport cost with its conjugate; default: quadratic.
        batch_size: Pairs per step; `None`: all.

    Raises:
        ValueError: for a coupling of unequal shapes, or a batch size out of range.

    Paper: Rectified Flow: A Marginal Preserving Approach to Optimal Transport.
    """
    loss = eqx.Partial(potential_matching, power_cost() if cost is None else cost)
    return _matching(build, loss, coupling, batch_size)


def transport(
    velocity: Velocity, x0: Float[Array, "n d"], *, steps: int = 20, solver: Any = None
) -> Float[Array, "n d"]:
    """Where the flow ``dZ = v(Z, t) dt`` takes the points from time 0 to time 1.

    Arguments:
        velocity: ``v(x (d,), t) -> (d,)``.
        x0: The points.
        steps: Equal time steps, at least 1.
        solver: Any `diffrax` solver; default: the explicit midpoint rule.

    Raises:
        ValueError: for a number of steps out of range.
    """
    in_range("steps", steps, 1)
    solver = diffrax.Midpoint() if solver is None else solver
    term, times = diffrax.ODETerm(_field), diffrax.StepTo(jnp.linspace(0.0, 1.0, steps + 1))
    solution = diffrax.diffeqsolve(term, solver, 0.0, 1.0, None, x0, velocity, stepsize_controller=times)
    return solution.ys[-1]  # pyright: ignore[reportOptionalSubscript]


def _field(t: Any, z: Float[Array, "n d"], velocity: Velocity) -> Float[Array, "n d"]:
    return jax.vmap(velocity, (0, None))(z, jnp.asarray(t, z.dtype))


def reflow(fit: Callable[[Coupling], Velocity], coupling: Coupling, rounds: int, **kwargs: Any) -> list[Coupling]:
    """Rectify again and again: fit a velocity to the coupling, let it carry the first points, pair them with where
    they arrive.

    Arguments:
        fit: ``coupling -> velocity``: how a flow is trained.
        coupling: Paired samples to start from.
        rounds: How often, at least 0.
        **kwargs: For `transport`.

    Returns:
        The coupling of every round, the given one first: ``rounds + 1`` in all.

    Raises:
        ValueError: for a number of rounds out of range.
    """
    in_range("rounds", rounds, 0)
    couplings = [coupling]
    for _ in range(rounds):
        x0, _ = couplings[-1]
        couplings.append((x0, transport(fit(couplings[-1]), x0, **kwargs)))
    return couplings


def _spiral(x: Float[Array, " d"], t: Float[Array, ""]) -> Float[Array, " d"]:
    return (1 - t) * x - x[::-1]


def _carried(key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
    return transport(_spiral, jax.random.normal(key, (n, 2)), steps=4)


part("sampler", "rectified-flow", example=lambda: _carried)(transport)
part(
    "layer",
    "time-mlp",
    example=lambda: (TimeMLP(2, 2, width=4, key=jax.random.key(0)), (jnp.array([0.5, -1.0]), jnp.asarray(0.3))),
)(TimeMLP)
