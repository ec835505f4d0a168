"""Minimization with structure that a method can use: layers of composition, several losses, constraints."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Inexact, PRNGKeyArray, PyTree

from attractor.gradients import adjoint, conjugate, grad
from attractor.masks import operator_on_parts
from attractor.probe import Probe
from attractor.problem import Minimization, Problem, model_init, near_one, small_regression, with_batch
from attractor.trees import as_vector, norm


class Composite(Minimization):
    r"""Minimize $f(x) = h(c(x))$: a smooth inner map to outputs, then an outer loss, convex as a rule.

    Networks (predictions, then cross-entropy) and nonlinear least squares (residuals, then half their squared norm)
    have this form. It is what Gauss-Newton, natural-gradient, prox-linear and Levenberg-Marquardt methods need.

    Arguments:
        inner: ``inner(x, batch) -> outputs``, an array; or ``inner(x)``.
        outer: ``outer(outputs, batch) -> scalar``, or ``outer(outputs)``.
        init: Starting point, as in `Minimization`.
        data: As in `Minimization`.
        **kwargs: As in `Minimization`.

    !!! example
        ```python
        Composite.least_squares(lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]), init=jnp.array([-1.2, 1.0]))
        ```
    """

    inner: Callable[[PyTree, PyTree], Inexact[Array, "..."]]
    outer: Callable[[Inexact[Array, "..."], PyTree], Float[Array, ""]]

    def __init__(self, inner: Callable, outer: Callable, init: PyTree, data: PyTree = None, **kwargs: Any):
        inner, outer = with_batch(inner), with_batch(outer)
        super().__init__(eqx.Partial(_composed, inner, outer), init, data, **kwargs)
        self.inner, self.outer = inner, outer

    @classmethod
    def least_squares(cls, residuals: Callable, init: PyTree, data: PyTree = None, **kwargs: Any) -> "Composite":
        """Half the squared norm of ``residuals(x, batch)``, or of ``residuals(x)``: no mean is taken."""
        return cls(residuals, half_square, init, data, **kwargs)

    @classmethod
    def of_model(
        cls,
        build: Callable[[PRNGKeyArray], PyTree],
        loss: Callable[[Any, PyTree], Array],
        data: PyTree,
        **kwargs: Any,
    ) -> "Composite":
        """Train an `equinox.Module`: ``data`` is ``(inputs, targets)``, the outputs are ``vmap(model)(inputs)``.

        Arguments:
            build: ``key -> model``; the iterate is the model's floating-point arrays.
            loss: ``(outputs (n, …), (inputs, targets)) -> scalar``.
            data: Pair of pytrees with leading axis N.
            **kwargs: As in `Minimization`.
        """
        _, static = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
        return cls(eqx.Partial(_model_outputs, static), loss, eqx.Partial(model_init, build), data, **kwargs)

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """A regression, outputs apart from their loss; see `Problem.example`."""
        outputs, start, data = small_regression(dtype)
        return Composite(outputs, near_one, start, data, batch_size=4)

    def ggn(self, x: PyTree, batch: PyTree) -> Callable[[PyTree], PyTree]:
        r"""Products with the generalized Gauss-Newton matrix $J^* \nabla^2 h\, J$ at ``x``: ``v -> Gv``."""
        outputs, push = jax.linearize(lambda x: self.inner(x, batch), x)
        pull = adjoint(push, x)
        outer_hvp = jax.linearize(grad(lambda z: self.outer(z, batch)), outputs)[1]
        return lambda v: pull(outer_hvp(push(v)))

    def oracles(self, x: PyTree, batch: PyTree) -> dict[str, Any]:
        """`Minimization.oracles`, and ``ggn``: a function ``v -> Gv``, products with the Gauss-Newton matrix."""
        return super().oracles(x, batch) | {"ggn": operator_on_parts(lambda v: self.ggn(x, batch)(v), x)}


def half_square(residuals: Inexact[Array, "..."], batch: PyTree = None) -> Float[Array, ""]:
    """Half the squared norm, of complex residuals too."""
    if jnp.iscomplexobj(residuals):
        return 0.5 * jnp.sum(residuals.real**2 + residuals.imag**2)
    return 0.5 * jnp.sum(residuals**2)


def _composed(inner: Callable, outer: Callable, x: PyTree, batch: PyTree) -> Array:
    return outer(inner(x, batch), batch)


def _model_outputs(static: PyTree, params: PyTree, batch: PyTree) -> Array:
    return jax.vmap(eqx.combine(params, static))(batch[0])


class MultiObjective(Minimization):
    r"""Several losses of one point: $F(x) = (f_1(x), \dots, f_m(x))$.

    As a `Minimization` it is their weighted sum, so that every method for one loss is a baseline. Each loss is
    recorded, as ``loss_0``, ``loss_1``, … or under the names given.

    Arguments:
        losses: ``losses(x, batch)`` or ``losses(x)``, giving m scalars: a tuple, out of which one can be differentiated
            without the cost of the others, or an array ``(m,)``.
        init: Starting point, as in `Minimization`.
        data: As in `Minimization`.
        names: One per loss; required.
        weights: Of the sum, one per loss, or `None`: all 1.
        **kwargs: As in `Minimization`.

    Raises:
        ValueError: if there are no names, or not as many weights as names.
    """

    terms: Callable[[PyTree, PyTree], Sequence[Float[Array, ""]] | Float[Array, " m"]]
    weights: Float[Array, " m"]
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        losses: Callable,
        init: PyTree,
        data: PyTree = None,
        *,
        names: tuple[str, ...],
        weights: tuple[float, ...] | None = None,
        probes: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        if not names or (weights is not None and len(weights) != len(names)):
            raise ValueError(f"names, weights: expected one of each per loss, got {names!r}, {weights!r}")
        losses = with_batch(losses)
        coefficients = jnp.asarray(weights or [1.0] * len(names), dtype=float)
        each = {name: Probe(eqx.Partial(_one_loss, i)) for i, name in enumerate(names)}
        super().__init__(
            eqx.Partial(_weighted, losses, coefficients), init, data, probes=each | dict(probes or {}), **kwargs
        )
        self.terms, self.weights, self.names = losses, coefficients, tuple(names)

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """A regression whose weights should be small as well; see `Problem.example`."""
        outputs, start, data = small_regression(dtype)

        def losses(x: PyTree, batch: PyTree) -> tuple[Array, Array]:
            return near_one(outputs(x, batch)), jnp.mean(x["w"] ** 2)

        return MultiObjective(losses, start, data, names=("fit", "size"), batch_size=4)

    def losses(self, x: PyTree, batch: PyTree) -> Float[Array, " m"]:
        """Every loss at ``x`` on a batch."""
        return jnp.asarray(self.terms(x, batch))

    def gradients(self, x: PyTree, batch: PyTree) -> PyTree:
        """The gradient of every loss at ``x``: leaves ``(m, …)``."""
        if isinstance(jax.eval_shape(self.terms, x, batch), tuple):  # one at a time: none pays for the others
            each = [grad(lambda x, i=i: self.terms(x, batch)[i])(x) for i in range(len(self.names))]
            return jax.tree.map(lambda *g: jnp.stack(g), *each)
        return conjugate(jax.jacrev(lambda x: self.losses(x, batch))(x))

    def oracles(self, x: PyTree, batch: PyTree) -> dict[str, Any]:
        """`Minimization.oracles`, and ``losses`` ``(m,)`` and ``gradients`` (leaves ``(m, …)``), both unweighted."""
        return super().oracles(x, batch) | {"losses": self.losses(x, batch), "gradients": self.gradients(x, batch)}


def _weighted(losses: Callable, weights: Array, x: PyTree, batch: PyTree) -> Array:
    return weights @ jnp.asarray(losses(x, batch))


def _one_loss(index: int, problem: MultiObjective, x: PyTree, key: PRNGKeyArray) -> Array:
    return problem.terms(x, problem.full)[index]


class Constrained(Minimization):
    r"""Minimize $f(x)$ subject to $c(x) = 0$.

    Recorded besides the loss: ``violation`` $\lVert c(x) \rVert$, and ``kkt``, the norm of $\nabla f + J^\top \lambda$
    and $c$ together with the least-squares multipliers.

    Arguments:
        loss: As in `Minimization`.
        constraint: ``constraint(x) -> (m,)``, always exact.
        init: Starting point, as in `Minimization`; an array or a pytree.
        data: As in `Minimization`.
        **kwargs: As in `Minimization`.
    """

    constraint: Callable[[PyTree], Float[Array, " m"]]

    def __init__(
        self,
        loss: Callable,
        constraint: Callable,
        init: PyTree,
        data: PyTree = None,
        *,
        probes: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        own = {"violation": Probe(_violation), "kkt": Probe(_kkt)}
        super().__init__(loss, init, data, probes=own | dict(probes or {}), **kwargs)
        self.constraint = constraint

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """A regression whose columns of weights sum to 1; see `Problem.example`."""
        outputs, start, data = small_regression(dtype)
        return Constrained(
            lambda x, batch: near_one(outputs(x, batch)),
            lambda x: jnp.sum(x["w"], axis=0) - 1,
            start,
            data,
            batch_size=4,
        )


def _violation(problem: Constrained, x: PyTree, key: PRNGKeyArray) -> Array:
    return norm(problem.constraint(x))


def _kkt(problem: Constrained, x: PyTree, key: PRNGKeyArray) -> Array:
    flat, unravel = as_vector(x)
    slope = jax.grad(lambda z: problem.loss(unravel(z), problem.full))(flat)
    constraint = problem.constraint(x)
    if not constraint.size:  # then the conditions are those of the loss alone, and there is no system to solve
        return norm(slope)
    jacobian = jax.jacrev(lambda z: problem.constraint(unravel(z)))(flat)
    multipliers = jnp.linalg.lstsq(jacobian.T, -slope)[0]
    return norm((slope + jacobian.T @ multipliers, constraint))
