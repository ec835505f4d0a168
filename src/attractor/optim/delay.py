"""Late gradients, as in pipelines and asynchronous training, and momentum that brakes in time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from attractor.checks import Scalar, in_range
from attractor.registry import LogUniform, Uniform, method


class DelayGradientsState(NamedTuple):
    """State of `delay_gradients`: a ring of the last gradients, leaves ``(delay, …)``."""

    steps: Int[Array, ""]
    ring: PyTree


def delay_gradients(delay: int) -> optax.GradientTransformation:
    """Hand on the gradient of ``delay`` steps ago; zeros until there is one. Chain any optimizer behind it.

    Arguments:
        delay: In steps, at least 0; so many gradients are kept.

    Raises:
        ValueError: for a negative ``delay``.
    """
    in_range("delay", delay, 0)
    if delay == 0:
        return optax.identity()

    def init(params: PyTree) -> DelayGradientsState:
        ring = jax.tree.map(lambda leaf: jnp.zeros((delay, *jnp.shape(leaf)), jnp.asarray(leaf).dtype), params)
        return DelayGradientsState(jnp.zeros((), jnp.int32), ring)

    def update(
        updates: PyTree, state: DelayGradientsState, params: PyTree = None
    ) -> tuple[PyTree, DelayGradientsState]:
        at = state.steps % delay
        late = jax.tree.map(lambda leaf: leaf[at], state.ring)
        ring = jax.tree.map(lambda leaf, g: leaf.at[at].set(g), state.ring, updates)
        return late, DelayGradientsState(state.steps + 1, ring)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def trace_with_braking(momentum: Scalar = 0.9, rho: Scalar = 2.0) -> optax.GradientTransformation:
    r"""Momentum that takes less of a gradient that agrees with it, and more of one that opposes it.

    $$ v \leftarrow \mu v + \Big(1 - \rho \frac{\langle g, v \rangle}{\lVert g \rVert \lVert v \rVert}\Big) g $$

    A late gradient agrees with the velocity for too long; braking counters it before it does. The cosine is taken over
    all parameters together. With $\rho = 0$ it is `optax.trace`.

    Arguments:
        momentum: $\mu$, in [0, 1).
        rho: $\rho$; positive brakes, negative would push.

    Raises:
        ValueError: for ``momentum`` out of range.

    Paper: Adaptive Braking for Mitigating Gradient Delay.
    """
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)

    def update(updates: PyTree, state: optax.TraceState, params: PyTree = None) -> tuple[PyTree, optax.TraceState]:
        size = optax.tree.norm(updates) * optax.tree.norm(state.trace)
        cosine = optax.tree.vdot(updates, state.trace) / jnp.where(size > 0, size, 1)
        factor = 1 - rho * cosine
        trace = jax.tree.map(lambda g, v: (momentum * v + factor * g).astype(v.dtype), updates, state.trace)
        return trace, optax.TraceState(trace)

    return optax.GradientTransformation(optax.trace(0.0).init, update)  # pyright: ignore[reportArgumentType]


@method(
    "adaptive-braking",
    {"learning_rate": LogUniform(1e-4, 1.0), "rho": Uniform(0.0, 4.0)},
    paper="adaptive-braking",
    bad={"learning_rate": -1.0, "momentum": 1.0},
)
def adaptive_braking(
    learning_rate: optax.ScalarOrSchedule, momentum: Scalar = 0.9, rho: Scalar = 2.0
) -> optax.GradientTransformation:
    """SGD with momentum that brakes (`trace_with_braking`), for gradients that arrive late.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        momentum: In [0, 1).
        rho: How hard it brakes; 0: plain momentum.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Adaptive Braking for Mitigating Gradient Delay.
    """
    if not callable(learning_rate):
        in_range("learning_rate", learning_rate, 0.0)
    return optax.chain(trace_with_braking(momentum, rho), optax.scale_by_learning_rate(learning_rate))
