"""Chaotic flows: dysts's catalogue as JAX vector fields, and a fixed-step integrator for them.

The equations are not written again: dysts's own right-hand sides are plain arithmetic and NumPy ufuncs, so they are
evaluated on JAX arrays with the name ``np`` bound to `jax.numpy`.
"""

import functools
import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.extras import missing
from attractor.registry import part, unknown

Field = Callable[[Float[Array, "*batch d"]], Float[Array, "*batch d"]]


class ChaoticSystem(eqx.Module):
    """An autonomous flow with bounded coordinates, and what is known about it.

    Attributes:
        name: As in dysts.
        field: ``x (…, d) -> dx/dt (…, d)``.
        start: A point on or near the attractor, ``(d,)``.
        period: Dominant period of the power spectrum, in the flow's own time unit.
        lyapunov: dysts's estimate of the largest Lyapunov exponent (``maximum_lyapunov_estimated``), per time unit.
        kaplan_yorke: dysts's estimate of the Kaplan-Yorke dimension; `None` where it has none.
    """

    name: str = eqx.field(static=True)
    field: Field
    start: Float[np.ndarray, " d"]
    period: float
    lyapunov: float
    kaplan_yorke: float | None

    @property
    def lyapunov_per_period(self) -> float:
        """How many e-folds an error grows by in one period: the degree of chaos that a forecaster feels."""
        return self.lyapunov * self.period


def jax_field(flow: Any) -> Field:
    """The right-hand side of a dysts flow as a function of JAX arrays with any leading axes (at time 0).

    Arguments:
        flow: An instance of a dysts flow whose equations are its static ``_rhs``, such as ``dysts.flows.Lorenz()``.
    """
    source = type(flow)._rhs
    source = getattr(source, "py_func", source)  # what numba compiled, where it is installed
    rhs = types.FunctionType(
        source.__code__, {**source.__globals__, "np": jnp}, source.__name__, source.__defaults__, source.__closure__
    )
    # dysts passes parameters in the alphabetical order of their names; plain floats keep the dtype of x.
    parameters = [p.item() if np.ndim(p) == 0 else p for p in map(np.asarray, flow.param_list)]

    def field(x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        rates = rhs(*jnp.moveaxis(x, -1, 0), 0.0, *parameters)
        return jnp.stack([jnp.broadcast_to(rate, x.shape[:-1]) for rate in rates], axis=-1).astype(x.dtype)

    return field


@functools.cache
def chaos_registry() -> dict[str, ChaoticSystem]:
    """Every ordinary differential equation of dysts that can be traced, by name in alphabetical order.

    Left out are flows with a delay, with an explicit clock or an unbounded angle among their coordinates, Hamiltonian
    ones (their exponents depend on the energy surface), and those whose code branches on values.

    Raises:
        ImportError: without the optional dependency ``attractor[dynamics]``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dysts warns that numba is missing; it is not needed here
        try:
            from dysts import flows
            from dysts.base import DynSys
        except ImportError as error:
            raise missing("dysts", "dynamics") from error
        found = {}
        for name, kind in sorted(inspect.getmembers(flows, inspect.isclass)):
            if kind.__module__ != flows.__name__ or not issubclass(kind, DynSys) or kind.rhs is not DynSys.rhs:
                continue
            flow: Any = kind()
            if flow.unbounded_indices or flow.nonautonomous or flow.hamiltonian:
                continue
            field = jax_field(flow)
            try:
                jax.eval_shape(field, jax.ShapeDtypeStruct(flow.ic.shape, jnp.float32))
            except jax.errors.ConcretizationTypeError:
                continue
            found[name] = ChaoticSystem(
                name,
                field,
                np.asarray(flow.ic, float),
                float(flow.period),
                float(flow.maximum_lyapunov_estimated),
                getattr(flow, "kaplan_yorke_dimension", None),
            )
    return found


def chaotic_system(name: str) -> ChaoticSystem:
    """One system of `chaos_registry`.

    Raises:
        ValueError: for an unknown name, with a suggestion.
    """
    systems = chaos_registry()
    if name not in systems:
        raise unknown("system", name, list(systems))
    return systems[name]


def rk4_step(field: Callable[[Any], Any], x: Any, dt: float | Array) -> Any:
    r"""One step of the classical fourth-order Runge-Kutta method on any pytree.

    $x + \frac{h}{6}(k_1 + 2k_2 + 2k_3 + k_4)$. The four stages are a loop, which keeps the program small:
    compiling is what costs for a catalogue of small systems.

    Arguments:
        field: ``x -> dx/dt``, a pytree like ``x``.
        x: The state.
        dt: Step, in the time unit of ``field``.
    """

    def add(y: Any, scale: Array, k: Any) -> Any:
        return jax.tree.map(lambda a, b: a + (scale * b).astype(a.dtype), y, k)

    def stage(carry: tuple[Any, Any], weights: Array) -> tuple[tuple[Any, Any], None]:
        k, total = carry
        k = field(add(x, dt * weights[0], k))
        return (k, add(total, dt * weights[1], k)), None

    weights = jnp.array([[0.0, 1 / 6], [0.5, 1 / 3], [0.5, 1 / 3], [1.0, 1 / 6]])
    (_, end), _ = lax.scan(stage, (jax.tree.map(jnp.zeros_like, x), x), weights)
    return end


def trajectory(
    field: Field, x0: Float[Array, "*batch d"], dt: float, points: int, substeps: int = 1
) -> Float[Array, "points *batch d"]:
    """Integrate with `rk4_step`; the first point is one ``substeps * dt`` after ``x0``.

    Arguments:
        field: ``x (…, d) -> dx/dt (…, d)``.
        x0: Where to start, ``(…, d)``.
        dt: Step of the integrator, positive.
        points: Points to record.
        substeps: Steps between two of them.

    Raises:
        ValueError: for a ``dt`` that is not positive, or less than one point or step.
    """
    in_range("dt", dt, 0, open_low=True)
    in_range("points", points, 1)
    in_range("substeps", substeps, 1)

    def advance(x: Array, _: None) -> tuple[Array, Array]:
        x = lax.fori_loop(0, substeps, lambda _, y: rk4_step(field, y, dt), x)
        return x, x

    return lax.scan(advance, x0, length=points)[1]


part("integrator", "rk4", example=lambda: (rk4_step, 4))(rk4_step)
