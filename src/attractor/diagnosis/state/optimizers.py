"""What an optimizer does with a gradient, measured: its rate, its momentum, and where it becomes unstable."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from attractor.checks import in_range
from attractor.landscape import adam_preconditioner, stability_threshold
from attractor.transformations import as_transformation, is_transformation, update


def as_optimizer(optimizer: Any, learning_rate: Any) -> optax.GradientTransformationExtraArgs | None:
    """An optax transformation, from one, a factory of one, a name, or a learning rate alone (of gradient descent).

    Arguments:
        optimizer: An `optax.GradientTransformation`, a function of ``learning_rate`` that makes one, its name in optax
            or in `attractor.registry`, or `None`.
        learning_rate: A number in [0, inf), a schedule, or `None`.

    Raises:
        ValueError: for an unknown name, a rate out of range, a factory without a rate, or a rate beside a
            transformation, which has its own.
        TypeError: for anything else.
    """
    if learning_rate is not None:
        in_range("learning_rate", learning_rate, 0.0)
    if optimizer is None:
        return None if learning_rate is None else as_transformation(optax.sgd(learning_rate))
    if isinstance(optimizer, str):
        optimizer = _by_name(optimizer)
    if is_transformation(optimizer):
        if learning_rate is not None:
            raise ValueError(
                "learning_rate: expected None beside an optimizer that is made already and has its own; give a "
                "factory, such as optax.adam, to set it here"
            )
        return as_transformation(optimizer)
    if not callable(optimizer):
        kind = type(optimizer).__name__
        raise TypeError(
            f"optimizer: expected an optax transformation, a factory such as optax.adam, or a name; got {kind}"
        )
    try:
        made = optimizer() if learning_rate is None else optimizer(learning_rate)
    except TypeError as error:
        if learning_rate is None:
            raise ValueError("learning_rate: expected a number: this optimizer is a factory that needs one") from error
        raise
    if not is_transformation(made):
        raise TypeError(f"optimizer: expected a factory of optax transformations, but it made a {type(made).__name__}")
    return as_transformation(made)


def _by_name(name: str) -> Callable[..., Any]:
    made = getattr(optax, name.strip().lower().replace("-", "_"), None)
    if callable(made):
        return made
    from attractor.registry import find_method

    return find_method(name).factory


YOUNG = 10  # steps before which Adam's averages say little: single gradients near zero make its steps look unstable


class Response(NamedTuple):
    r"""How an optimizer answers to a small gradient g: the first update is $-\eta\, g / P$.

    Attributes:
        threshold: Largest eigenvalue of the Hessian preconditioned by ``scale`` at which steps do not blow up; NaN
            where the optimizer is none whose threshold is known.
        scale: P, like the parameters; infinite where they are not moved.
        kind: ``"descent"``, ``"heavy ball"``, ``"Nesterov"``, ``"Adam"``, or empty.
        learning_rate: $\eta$.
        momentum: $\beta$.
    """

    threshold: float
    scale: PyTree
    kind: str = ""
    learning_rate: float = float("nan")
    momentum: float = 0.0


def respond(
    optimizer: optax.GradientTransformationExtraArgs, params: PyTree, state: PyTree, gradient: PyTree, extra: Any = None
) -> Response:
    r"""Rate, momentum and stability threshold of an optimizer at its present state, found by what it does.

    An impulse, a small gradient and then none, answers $-\eta \beta^t$ with heavy-ball momentum, and
    $-\eta (1 + \beta), -\eta \beta^2, -\eta \beta^3, \ldots$ with Nesterov's, so that rates, schedules, masks and
    rates per layer need not be told. Averages start at zero and the weights are taken to be zero, which leaves weight
    decay out. Adam is known by its state, from which its preconditioner is read.

    Arguments:
        optimizer: An optax transformation.
        params: Pytree of floating-point arrays.
        state: Its state now.
        gradient: Like ``params``; sets the size of Adam's averages.
        extra: Further keyword arguments of the update, by name.
    """
    unknown = Response(float("nan"), jax.tree.map(jnp.ones_like, params))
    if [s for s in jax.tree.leaves(state, is_leaf=_is_adam) if _is_adam(s)]:
        return _adam(optimizer, params, state, gradient, extra or {}) or unknown
    count = sum(leaf.size for leaf in jax.tree.leaves(params))

    @jax.jit
    def answers(params: PyTree, state: PyTree) -> list[list[PyTree]]:
        zeros, empty = jax.tree.map(jnp.zeros_like, params), _emptied(state)
        found = []
        for size in (1e-3, 2e-3):
            g, now, updates = jax.tree.map(lambda p: jnp.full_like(p, size / np.sqrt(count)), params), empty, []  # noqa: B023
            for part in (g, zeros, zeros):
                u, now = update(optimizer, part, now, zeros, extra or {})
                updates.append(jax.tree.map(lambda a, b: -a / b, u, g))
            found.append(updates)
        return found

    (first, second, third), double = answers(params, state)
    flat = [_flat(t) for t in (first, second, third, double[0])]
    rate = float(np.max(flat[0]))
    if not rate > 0 or not np.allclose(flat[0], flat[3], rtol=2e-2, atol=1e-3 * rate) or np.min(flat[0]) < 0:
        return unknown  # no answer, or not a linear one
    at = int(np.argmax(flat[0]))
    u0, u1, u2 = (float(f[at]) for f in flat[:3])
    beta = u2 / u1 if u1 > 1e-6 * u0 else 0.0
    if not 0 <= beta < 1:
        return unknown
    if abs(u1 - beta * u0) <= 2e-2 * u1 or u1 <= 1e-6 * u0:
        kind, rate, nesterov = ("heavy ball" if beta else "descent"), u0, False
    elif abs(u1 * (1 + beta) - beta**2 * u0) <= 2e-2 * u1 * (1 + beta):
        kind, rate, nesterov = "Nesterov", u0 / (1 + beta), True
    else:
        return unknown
    with np.errstate(divide="ignore"):
        scale = jax.tree.map(lambda a: np.asarray(u0 / np.maximum(np.asarray(a), 0), a.dtype), first)
    threshold = stability_threshold(rate, momentum=beta, nesterov=nesterov)
    return Response(float(threshold), scale, kind, rate, beta)


def _adam(optimizer: Any, params: PyTree, state: PyTree, gradient: PyTree, extra: Any) -> Response | None:
    """Decays from what is left of an impulse in the averages, the rate from the update that the averages make."""

    @jax.jit
    def look(params: PyTree, gradient: PyTree, state: PyTree) -> tuple[PyTree, ...]:
        zeros, empty = jax.tree.map(jnp.zeros_like, params), _emptied(state)
        _, once = update(optimizer, jax.tree.map(lambda p: jnp.full_like(p, 1e-2), params), empty, zeros, extra)
        _, twice = update(optimizer, zeros, once, zeros, extra)
        return once, twice, *update(optimizer, gradient, state, zeros, extra)

    once, twice, moved, after = look(params, gradient, state)
    found = [[s for s in jax.tree.leaves(t, is_leaf=_is_adam) if _is_adam(s)] for t in (once, twice, after)]
    if any(len(f) != 1 for f in found) or jax.tree.structure(found[0][0].mu) != jax.tree.structure(params):
        return None
    first, second, adam = (f[0] for f in found)
    b1, b2 = _ratio(second.mu, first.mu), _ratio(second.nu, first.nu)
    if adam.count < YOUNG or not 0 <= b1 < 1 or not 0 <= b2 < 1:
        return None
    # Adam's own direction at these averages: the rate is the update over it, if the update is along it at all.
    count = int(adam.count)
    root = np.sqrt(_flat(adam.nu) / (1 - b2**count)) + 1e-8
    direction, moved = _flat(adam.mu) / (1 - b1**count) / root, _flat(moved)
    rate = -float(moved @ direction / max(direction @ direction, 1e-30))
    if not rate > 0 or np.linalg.norm(moved + rate * direction) > 0.02 * np.linalg.norm(moved):
        return None  # a relative of Adam's, such as Nesterov's, with a threshold of its own
    threshold = stability_threshold(rate, momentum=b1, averaged=True)
    return Response(float(threshold), adam_preconditioner(adam, b1=b1, b2=b2), "Adam", rate, b1)


def _ratio(after: PyTree, before: PyTree) -> float:
    top, bottom = _flat(after).sum(), _flat(before).sum()
    return float(top / bottom) if bottom else float("nan")


def _flat(tree: PyTree) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(a, float)) for a in jax.tree.leaves(tree)])


def _is_adam(node: object) -> bool:
    return isinstance(node, optax.ScaleByAdamState)


def _emptied(state: PyTree) -> PyTree:
    """A state without its averages, which have axes; numbers such as a count, or a rate that was injected, stay."""

    def empty(leaf: Any) -> Any:
        average = jnp.ndim(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
        return jnp.zeros_like(leaf) if average else leaf

    return jax.tree.map(empty, state)


def relative_curvature(scale: PyTree, matvec: Callable[[PyTree], PyTree]) -> Callable[[PyTree], PyTree]:
    """Products with the Hessian preconditioned by ``scale``, without entries that are not moved (infinite scale)."""
    root = jax.tree.map(lambda p: jnp.where(jnp.isfinite(p), 1 / jnp.sqrt(p), 0.0), scale)

    def product(v: PyTree) -> PyTree:
        return jax.tree.map(jnp.multiply, root, matvec(jax.tree.map(jnp.multiply, root, v)))

    return product
