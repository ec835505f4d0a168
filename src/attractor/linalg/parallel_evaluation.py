"""Sequential computations as triangular systems: Jacobi and Gauss-Seidel sweeps that update many states at once."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from attractor.checks import in_range
from attractor.linalg.matrices import require_finite
from attractor.registry import part

Step = Callable[[Int[Array, ""], Float[Array, "steps *shape"]], Float[Array, "*shape"]]


class Evaluated(NamedTuple):
    """What sweeps have found."""

    states: Float[Array, "steps *shape"]
    sweeps: Int[Array, ""]  # all of them, those inside blocks too
    depth: Int[Array, ""]  # state updates that had to wait for one another; as many as steps if done in sequence
    change: Float[Array, ""]  # largest entry of the last sweep's change; of any block's last, where blocks take turns


def parallel_evaluation(
    step: Step,
    start: Float[Array, "steps *shape"],
    *,
    block: int = 1,
    order: Literal["jacobi-gs", "gs-jacobi"] = "jacobi-gs",
    tol: float | Float[Array, ""] = 0.0,
) -> Evaluated:
    r"""Solve $s_t = h_t(s_1, …, s_{t-1})$, $t = 1 … T$, by sweeps over all t instead of one t after another.

    ``"jacobi-gs"``: all blocks of consecutive states at once, from the other blocks' old values; in sequence, with the
    newest values, inside each. Blocks of one state are Jacobi's iteration $s_t^{k+1} = h_t(s^k_{<t})$, one block of
    all states is the usual evaluation. ``"gs-jacobi"``: one block after another, each by Jacobi's iteration; there a
    block of all states is Jacobi's iteration, and blocks of one are the usual evaluation.

    As the system is triangular, k sweeps make the first k blocks exact whatever the start, so that ``T / block``
    sweeps always suffice; where far states matter little, fewer do. ``step`` may look at all states, of which those
    from t on must have no influence.

    Arguments:
        step: ``step(t, states) -> state`` gives state t, t = 0 … T-1, from the states before it.
        start: A first guess of all T states, such as zeros or those of a similar input.
        block: States per block, a divisor of T.
        order: Which of the two.
        tol: Stop once no entry changes by more than this in a sweep, at least 0; 0 is exact.

    Raises:
        ValueError: for a start that is not finite, a block that does not divide T, an unknown order, a negative
            tolerance, or a step that gives another shape than a state's.

    Paper: Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (Song et al., 2020).
    """
    in_range("tol", tol, 0.0)
    require_finite("start", start)
    total = start.shape[0] if start.ndim else 0
    if total == 0 or block < 1 or total % block:
        raise ValueError(f"block: expected a divisor of the number of states, {total}, got {block}")
    if order not in ("jacobi-gs", "gs-jacobi"):
        raise ValueError(f"order: expected 'jacobi-gs' or 'gs-jacobi', got {order!r}")
    given = jax.eval_shape(step, jnp.asarray(0), start)
    if given.shape != start.shape[1:]:
        raise ValueError(f"step: expected a state of shape {start.shape[1:]}, got {given.shape}")
    times = jnp.arange(total).reshape(-1, block)
    run = _blocks_at_once if order == "jacobi-gs" else _blocks_in_turn
    return run(step, start, times, jnp.asarray(tol, start.dtype))


def _blocks_at_once(
    step: Step, start: Float[Array, "steps *shape"], times: Int[Array, "blocks block"], tol: Float[Array, ""]
) -> Evaluated:
    def evaluate(states: Float[Array, "steps *shape"], own: Int[Array, " block"]) -> Float[Array, "block *shape"]:
        return lax.scan(lambda s, t: (s.at[t].set(step(t, s)), None), states, own)[0][own]

    def sweep(states: Float[Array, "steps *shape"]) -> Float[Array, "steps *shape"]:
        if times.shape[1] == 1:  # no copy of the states for each block
            return jax.vmap(step, (0, None))(times[:, 0], states)
        return jax.vmap(evaluate, (None, 0))(states, times).reshape(start.shape)

    states, sweeps, change = _repeat(sweep, start, times.shape[0], tol)
    return Evaluated(states, sweeps, sweeps * times.shape[1], change)


def _blocks_in_turn(
    step: Step, start: Float[Array, "steps *shape"], times: Int[Array, "blocks block"], tol: Float[Array, ""]
) -> Evaluated:
    def solve(states: Float[Array, "steps *shape"], own: Int[Array, " block"]) -> tuple:
        within = lambda inner: jax.vmap(step, (0, None))(own, states.at[own].set(inner))  # noqa: E731
        found, sweeps, change = _repeat(within, states[own], times.shape[1], tol)
        return states.at[own].set(found), (sweeps, change)

    states, (sweeps, changes) = lax.scan(solve, start, times)
    return Evaluated(states, sweeps.sum(), sweeps.sum(), changes.max())


def _repeat(
    sweep: Callable[[Array], Array], start: Array, most: int, tol: Float[Array, ""]
) -> tuple[Array, Int[Array, ""], Float[Array, ""]]:
    """Sweeps until nothing changes by more than ``tol``, at most ``most``; how many, and the last change."""

    def go_on(carry: tuple[Array, Int[Array, ""], Float[Array, ""]]) -> Bool[Array, ""]:
        return (carry[1] < most) & ~(carry[2] <= tol)

    def once(carry: tuple[Array, Int[Array, ""], Float[Array, ""]]) -> tuple:
        new = sweep(carry[0])
        return new, carry[1] + 1, jnp.max(jnp.abs(new - carry[0]))

    return lax.while_loop(go_on, once, (start, jnp.asarray(0), jnp.asarray(jnp.inf, start.dtype)))


def _example() -> tuple[float, float]:
    step = lambda t, s: jnp.sin(s[t - 1] + 1) * (t > 0)  # noqa: E731
    found = parallel_evaluation(step, jnp.zeros(12), block=3)
    states = [0.0]
    while len(states) < 12:
        states.append(float(jnp.sin(states[-1] + 1)))
    return float(jnp.abs(found.states - jnp.array(states)).max()), 1e-6


part("solver", "parallel-evaluation", example=lambda: _example)(parallel_evaluation)
