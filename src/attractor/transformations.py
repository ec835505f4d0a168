"""optax transformations from outside: what counts as one, what it accepts, where it keeps its averaged point."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeGuard, runtime_checkable

import jax
import optax
from jaxtyping import PyTree


@runtime_checkable
class Transformation(Protocol):
    """An `optax.GradientTransformation`, or another object with its two functions, such as `optax.MultiSteps`."""

    @property
    def init(self) -> Callable[..., PyTree]:
        """``params -> state``."""
        ...

    @property
    def update(self) -> Callable[..., tuple[PyTree, PyTree]]:
        """``(updates, state, params, **extra) -> (updates, state)``."""
        ...


def is_transformation(thing: Any) -> TypeGuard[Transformation]:
    """Whether this is a `Transformation`; a class of them is not."""
    return isinstance(thing, Transformation) and not isinstance(thing, type)


def as_transformation(thing: Transformation) -> optax.GradientTransformationExtraArgs:
    """A `Transformation` as optax's own type, with extra arguments."""
    if isinstance(thing, optax.GradientTransformation):
        return optax.with_extra_args_support(thing)
    return optax.GradientTransformationExtraArgs(thing.init, thing.update)


def update(
    transformation: optax.GradientTransformationExtraArgs,
    grads: PyTree,
    state: PyTree,
    params: PyTree,
    offered: Mapping[str, Any],
) -> tuple[PyTree, PyTree]:
    """``transformation.update`` with those of the extra arguments ``offered`` that it accepts.

    Returns:
        ``(updates, state)``.
    """
    parameters = inspect.signature(transformation.update).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        accepted = {p.name for p in parameters}
        offered = {name: value for name, value in offered.items() if name in accepted}
    if "value_fn" in offered:
        offered = {**offered, "value_fn": _ignoring(offered, offered["value_fn"])}
    try:
        return transformation.update(grads, state, params, **offered)
    except TypeError as error:
        # A part of a chain, such as optax.contrib.sam, may take no extra arguments where the chain passes all of them.
        if "unexpected keyword argument" not in str(error):
            raise
        return transformation.update(grads, state, params)


def _ignoring(names: Mapping[str, Any], loss: Callable[[PyTree], Any]) -> Callable[..., Any]:
    """``loss``, with a signature that has keyword arguments of these names, and no use for them.

    optax's line searches, wherever they are in a chain, insist that ``value_fn`` takes all other extra arguments.
    """

    def value_fn(params: PyTree, **_: Any) -> Any:
        return loss(params)

    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]
    value_fn.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
        [inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD), *keywords]
    )
    return value_fn


def averaged(params: PyTree, state: PyTree) -> PyTree:
    """The point to evaluate at: the average that schedule-free optimizers keep, for the parameters that they move.

    Arguments:
        params: The point where gradients are taken.
        state: The state of an optax transformation, with `optax.contrib.ScheduleFreeState` anywhere in it or nowhere.
    """

    def is_average(node: Any) -> bool:
        return isinstance(node, optax.contrib.ScheduleFreeState)

    def is_masked(node: Any) -> bool:  # what `optax.masked` and `optax.partition` leave of the other parameters
        return isinstance(node, optax.MaskedNode)

    for found in filter(is_average, jax.tree.leaves(state, is_leaf=is_average)):

        def evaluate(z: Any, y: Any, b1: Any = found.b1) -> Any:
            return y if is_masked(z) else (y - (1.0 - b1) * z) / b1

        params = jax.tree.map(evaluate, found.z, params, is_leaf=is_masked)
    return params
