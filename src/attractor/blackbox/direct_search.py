"""Direct search: trial points around the best one so far, by function values alone; attacks on a network beside it."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Count, Scalar, in_range
from attractor.method import Method, hyper
from attractor.nn.robust.attacks import pgd_attack
from attractor.problem import Minimization
from attractor.registry import LogUniform, method

Attack = Callable[[Float[Array, " n"], Scalar], Float[Array, " n"]]
Network = Callable[[Float[Array, " n"]], Float[Array, " m"]]

GROWN, GROWN_LITTLE = 1.3, 1.1  # of an attack's radius; it shrinks by the first


def penalized(
    objective: Callable[[Float[Array, " m"]], Float[Array, ""]],
    constraints: Callable[[Float[Array, " m"]], Float[Array, " c"]],
) -> Callable[[Float[Array, " m"]], Float[Array, ""]]:
    r"""Constraints into an objective of a network's outputs: $y \mapsto f(y) + \sum_i \max(c_i(y), 0)^2$.

    Smooth, so that an attack is led back to where all hold. A barrier (infinite outside) suits `DirectSearch`, too, but
    tells an attack nothing. For constraints on the inputs let the network give them among its outputs.

    Arguments:
        objective: f of the outputs, to be small.
        constraints: c of the outputs; all at most 0 where they hold, in the units of the root of f.
    """
    return lambda y: objective(y) + jnp.sum(jnp.maximum(constraints(y), 0) ** 2)


def attack_operator(
    network: Network,
    objective: Callable[[Float[Array, " m"]], Float[Array, ""]],
    steps: Count = 1,
    step_size: Scalar = 1.0,
) -> Attack:
    r"""Directional attack: inputs near x, of which a network's outputs go where an objective of theirs falls.

    $$ a(x, r) \approx \arg\max_{\|d\|_\infty \le r} \langle -\nabla f(\Phi(x)),\ \Phi(x + d) - \Phi(x) \rangle $$

    by the fast gradient sign, or by projected steps of it (`attractor.nn.robust.attacks.pgd_attack`). The direction is
    kept while the attack goes on.

    Arguments:
        network: $\Phi$, from x ``(n,)`` to outputs ``(m,)``, differentiable.
        objective: f, smooth, to be small; see `penalized` for constraints.
        steps: At least 1; 1 with ``step_size`` 1 is the fast gradient sign.
        step_size: Of each step, in units of the radius, in (0, inf).

    Returns:
        ``attack(x, radius) -> (n,)``, for `DirectSearch`.

    Raises:
        ValueError: for an argument out of range.

    Paper: Optimization by Directional Attacks (Bouchet and Vidal, 2025), which makes f large.
    """
    in_range("steps", steps, 1.0)
    in_range("step_size", step_size, 0.0, open_low=True)
    return eqx.Partial(_attacked, network, objective, steps, step_size)


def _attacked(network: Network, objective: Callable, steps: Count, step_size: Scalar, x: Array, radius: Scalar):
    direction = jax.grad(objective)(network(x))
    return pgd_attack(lambda moved: -jnp.vdot(direction, network(moved)), x, radius, steps, step_size)


class SearchState(NamedTuple):
    """Where a `DirectSearch` stands beside its iterate."""

    radius: Float[Array, ""]  # of the poll
    attack_radius: Float[Array, ""]
    searches: Int[Array, ""]  # how often the search was reached
    evaluations: Int[Array, ""]  # of trial points, attacks included


@method("direct-search", {"radius": LogUniform(1e-3, 10.0)}, paper="directional-attack-dfo")
class DirectSearch(Method):
    r"""Covering direct search, and the hybrid of it with attacks: the first trial point that is better is gone to.

    A step tries, one after another until one is better than x:

    - *attack*, if there is one: $a(x, r_a)$. A gain of at least ``sufficient`` |f| ends the step;
      $r_a$ grows by 1.3, by 1.1 after a smaller gain, and shrinks by 1.3 after none;
    - *covering*: a point drawn from the ball of radius ``radius`` around x, so that in the end points are dense there;
    - *search*: a random direction at the length ``radius`` $\sqrt{j+1}$, the j-th time;
    - *poll*: the n + 1 directions of a minimal positive basis, $h_1, …, h_n, -\sum_i h_i$ with h the columns of
      a random reflection, each of largest entry r. r doubles after a better point of search or poll, and halves after
      none.

    Function values only (but for the attack). Without an attack it converges to local minimizers, even of functions
    that jump; what an attack adds is speed.

    Arguments:
        radius: In (0, inf), in units of x: of the covering, and r and $r_a$ at first.
        attack: ``attack(x, radius) -> x``, such as from `attack_operator`, for x that are one vector; `None`: none.
        sufficient: Gain of an attack, as a share of |f(x)|, from which on nothing else is tried; in [0, inf).
        smallest: In (0, inf): r and $r_a$ do not fall below it, and at it search and poll are left out.
        largest: In (0, inf): $r_a$ does not exceed it.
        search: Whether anything but the attack is tried; attacks alone may stall where they fail.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Optimization by Directional Attacks (Bouchet and Vidal, 2025), in the order and with the numbers of its
    authors' program, whose poll directions are also turned, each by itself. The covering is that of Convergence towards
    a local minimum by direct search methods with a covering step (arXiv 2401.07097).
    """

    radius: Scalar = hyper(1.0, low=0.0, open_low=True)
    attack: Attack | None = None
    sufficient: Scalar = hyper(1e-3, low=0.0, kw_only=True)
    smallest: Scalar = hyper(1e-5, low=0.0, open_low=True, kw_only=True)
    largest: Scalar = hyper(1.0, low=0.0, open_low=True, kw_only=True)
    search: bool = eqx.field(default=True, kw_only=True)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> SearchState:
        radius, number = jnp.asarray(self.radius, float), jnp.asarray(0)
        return SearchState(radius, radius + 0, number, number + 0)

    def step(
        self, problem: Minimization, x: PyTree, state: SearchState, key: PRNGKeyArray
    ) -> tuple[PyTree, SearchState]:
        for_batch, for_trials = jr.split(key)
        batch = problem.sample(for_batch)
        at, whole = ravel_pytree(x)
        value = problem.loss(x, batch)
        stay = jnp.asarray(False)  # whether the attack was enough
        attack_radius, tried = state.attack_radius, state.evaluations
        if self.attack is not None:
            moved = self.attack(at, attack_radius).astype(at.dtype)
            gain = value - problem.loss(whole(moved), batch)
            stay, better = gain >= jnp.maximum(self.sufficient * jnp.abs(value), 1e-30), gain > 0
            at, value = jnp.where(better, moved, at), jnp.where(better, value - gain, value)
            factor = jnp.where(stay, GROWN, jnp.where(better, GROWN_LITTLE, 1 / GROWN))
            attack_radius, tried = jnp.clip(attack_radius * factor, self.smallest, self.largest), tried + 1

        polling = state.radius > self.smallest
        moves = self._moves(at, state, for_trials)
        number = jnp.where(stay | jnp.logical_not(self.search), 0, jnp.where(polling, len(moves), 1))

        def go_on(carry: tuple) -> Array:
            return (carry[0] < number) & ~carry[1]

        def trial(carry: tuple) -> tuple:
            i, _, _ = carry
            there = problem.loss(whole(at + moves[i]), batch)
            better = there < value
            return i + 1, better, jnp.where(better, at + moves[i], at)

        count, found, at = jax.lax.while_loop(go_on, trial, (jnp.asarray(0), jnp.asarray(False), at))
        factor = jnp.where(found, jnp.where(count > 1, 2.0, 1.0), jnp.where((number > 0) & polling, 0.5, 1.0))
        factor = jnp.where(stay & ~polling, 2.0, factor)  # an attack that works calls the poll back
        radius = jnp.maximum(state.radius * factor, self.smallest)
        searches = state.searches + ((number > 0) & ~(found & (count == 1)))
        return whole(at), SearchState(radius, attack_radius, searches, tried + count)

    def _moves(self, at: Float[Array, " n"], state: SearchState, key: PRNGKeyArray) -> Float[Array, "moves n"]:
        """Covering, search and poll, in the order in which they are tried."""
        for_directions, for_length = jr.split(key)
        unit = jr.normal(for_directions, (3, at.size), at.dtype)
        unit = unit / jnp.linalg.norm(unit, axis=1, keepdims=True)
        covering = self.radius * jr.uniform(for_length, dtype=at.dtype) ** (1 / at.size) * unit[0]
        searched = self.radius * jnp.sqrt(state.searches + 1.0) * unit[1]
        basis = jnp.eye(at.size, dtype=at.dtype) - 2 * jnp.outer(unit[2], unit[2])
        poll = jnp.concatenate([basis, -basis.sum(0, keepdims=True)])
        poll = state.radius * poll / jnp.abs(poll).max(1, keepdims=True)
        return jnp.concatenate([covering[None], searched[None], poll]).astype(at.dtype)


def best_by_call(
    method: DirectSearch, problem: Minimization, calls: int, key: PRNGKeyArray, charged: Scalar = 0
) -> Float[Array, " records"]:
    """The best value of one run after each call, the start's first: what a budget of calls buys.

    Arguments:
        method: The search; a step's calls count where it ends.
        problem: What it searches, whose loss takes no batches.
        calls: The budget, at least 1; the step that reaches it is the last, and no call after it counts.
        key: Of the search.
        charged: As how many calls the gradient of each attack counts, at least 0; -1: its own trial is free, too.

    Raises:
        ValueError: if ``calls`` is out of range.
    """
    in_range("calls", calls, 1)
    x = problem.init(key)

    def step(carry: tuple) -> tuple:
        x, state, steps, curve = carry
        x, state = method.step(problem, x, state, jr.fold_in(key, steps))
        at = state.evaluations + charged * (steps + 1)
        return x, state, steps + 1, curve.at[at].min(problem.loss(x, None), mode="drop")

    first = jnp.full(calls + 1, jnp.inf).at[0].set(problem.loss(x, None))
    begun = x, method.init(problem, x, key), jnp.asarray(0), first
    end = jax.lax.while_loop(lambda c: c[1].evaluations + charged * c[2] < calls, step, begun)
    return jax.lax.cummin(end[-1])
