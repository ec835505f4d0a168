"""Combinatorial solvers inside of a loss: linear costs that are learned, so that the answer is what one wants."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import Scalar, in_range
from attractor.problem import Minimization

Solver = Callable[[Float[Array, " n"]], Float[Array, " n"]]


def solver_of(solve: Callable[[np.ndarray], Any], n: int) -> Solver:
    """Any Python program as a solver: what it gives for costs, SciPy's `milp` or OR-Tools for example.

    Arguments:
        solve: ``c (n,) -> x (n,)``, a minimizer of c·x among what is allowed. Called once for each of a batch.
        n: How many costs.

    Raises:
        ValueError: if ``n < 1``.
    """
    in_range("n", n, 1)

    def called(costs: Float[Array, " n"]) -> Float[Array, " n"]:
        told = jax.ShapeDtypeStruct((n,), costs.dtype)
        return jax.pure_callback(
            lambda c: np.asarray(solve(np.asarray(c)), c.dtype).reshape(n), told, costs, vmap_method="sequential"
        )

    return called


def interpolated(solver: Solver, strength: Scalar = 1.0) -> Solver:
    r"""A solver with a derivative: its answer is piecewise constant in the costs, and this is the slope between pieces.

    Forward $x(c) = \arg\min_{x \in X} c \cdot x$; backward, with the slope g by x,
    $-\frac1\lambda (x(c) - x(c + \lambda g))$: what the costs would have to be for an answer that is better, to first
    order. One more call of the solver.

    Arguments:
        solver: ``c (n,) -> x (n,)``, traceable (see `solver_of`).
        strength: λ > 0: how far costs are moved, in units of costs per unit of slope.

    Raises:
        ValueError: if ``strength`` is not positive.

    Paper: Differentiation of Blackbox Combinatorial Solvers (arXiv 1912.02175), as SurCo (arXiv 2210.12547) uses it.
    """
    in_range("strength", strength, 0.0, open_low=True)

    @jax.custom_vjp
    def answer(costs: Float[Array, " n"]) -> Float[Array, " n"]:
        return solver(costs)

    def backward(kept: tuple[Array, Array], slope: Array) -> tuple[Array]:
        costs, found = kept
        return ((solver(costs + strength * slope) - found) / strength,)

    def forward(costs: Array) -> tuple[Array, tuple[Array, Array]]:
        found = solver(costs)
        return found, (costs, found)

    answer.defvjp(forward, backward)
    return answer


def surrogate_costs(
    loss: Callable[[Float[Array, " n"]], Float[Array, ""]],
    solver: Solver,
    start: Float[Array, " n"] | Callable[[PRNGKeyArray], Float[Array, " n"]],
    strength: Scalar = 1.0,
) -> Minimization:
    r"""SurCo-zero: minimize a nonlinear loss over what a linear solver can answer, $\min_c f(x(c))$, as a problem.

    Any method that takes gradients solves it; the iterate is c. Costs count by their direction, so that rates are to
    be seen beside the size of ``start``.

    Arguments:
        loss: f of an answer, differentiable where the answers are.
        solver: ``c -> x(c)``, traceable (see `solver_of`).
        start: The first costs, such as those of a linearized problem, or ``key -> costs``.
        strength: As in `interpolated`.

    Paper: SurCo: Learning Linear Surrogates For Combinatorial Nonlinear Optimization Problems (arXiv 2210.12547).
    """
    return Minimization(eqx.Partial(_answered, loss, interpolated(solver, strength)), start)


def _answered(loss: Callable, answer: Solver, costs: Float[Array, " n"], batch: None = None) -> Float[Array, ""]:
    return loss(answer(costs))


def surrogate_network(
    loss: Callable[[Float[Array, " n"], Any], Float[Array, ""]],
    solver: Solver,
    build: Callable[[PRNGKeyArray], Callable[[Any], Float[Array, " n"]]],
    instances: Any,
    strength: Scalar = 1.0,
    batch_size: int | None = None,
) -> Minimization:
    r"""SurCo-prior: a model that says, for each instance, the costs with which one call of the solver answers well.

    $\min_\theta \frac1N \sum_i f(x(c_\theta(y_i)); y_i)$. Costs of unseen instances come from ``problem.model(x)``, and
    are a start for `surrogate_costs` (SurCo-hybrid).

    Arguments:
        loss: f of an answer and an instance.
        solver: ``c -> x(c)``, traceable.
        build: ``key -> model``, the model an `equinox.Module` from an instance to costs.
        instances: y, a pytree whose leaves have the instances along the first axis.
        strength: As in `interpolated`, for the slope of one instance's loss.
        batch_size: Instances per step; `None`: all.

    Paper: SurCo: Learning Linear Surrogates For Combinatorial Nonlinear Optimization Problems (arXiv 2210.12547).
    """

    def mean(model: Any, batch: Any) -> Float[Array, ""]:
        # The slope that an answer is told is its share of the mean.
        answer = interpolated(solver, strength * len(jax.tree.leaves(batch)[0]))
        return jax.vmap(lambda y: loss(answer(model(y)), y))(batch).mean()

    return Minimization.of_model(build, mean, instances, batch_size=batch_size)
