"""Methods: update rules that take a point to a next point."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.random as jr
import optax
from jaxtyping import PRNGKeyArray, PyTree

from attractor.problem import Minimization, Problem


class Method(eqx.Module):
    """An update rule. Subclasses write `step`, and `init` when they keep a state.

    The annotation of ``problem`` in `step` names the kind of problem the method needs; `attractor.run` refuses
    another kind with a `TypeError`. Two conventions make runs comparable and restartable:

    - a method that samples asks ``problem.sample(key)`` with the very key it was given, so that all methods see the
      same minibatches under the same seed, and takes its own randomness from ``jax.random.fold_in(key, 1)``;
    - ``step`` returns an ``x`` and a ``state`` of the same structure, shapes and dtypes as it was given.
    """

    def init(self, problem: Any, x: PyTree, key: PRNGKeyArray) -> PyTree:
        """The state to start with; `None` when there is nothing to remember."""
        return None

    def step(self, problem: Any, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """One iteration."""
        raise NotImplementedError(f"{type(self).__name__}: write step(self, problem, x, state, key) -> (x, state)")

    def readout(self, x: PyTree, state: PyTree) -> PyTree:
        """The point that probes look at; another one than ``x`` for methods that average their iterates."""
        return x


class Gradient(Method):
    """An optax transformation as a `Method`: one stochastic gradient, one update.

    Transformations with extra arguments are offered, by keyword, the problem's oracles (`Minimization.oracles`:
    ``value``, ``grad``, ``value_fn``, ``obj_fn``, ``hvp``, ``per_example``; some kinds have more) and ``key``. What a
    transformation does not use costs nothing: it is compiled away.

    Arguments:
        transformation: Any `optax.GradientTransformation`.
    """

    transformation: optax.GradientTransformationExtraArgs

    def __init__(self, transformation: optax.GradientTransformation):
        self.transformation = optax.with_extra_args_support(transformation)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> PyTree:
        return self.transformation.init(x)

    def step(self, problem: Minimization, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        oracles = problem.oracles(x, problem.sample(key))
        updates, state = self.transformation.update(oracles["grad"], state, x, **oracles, key=jr.fold_in(key, 1))
        return optax.apply_updates(x, updates), state

    def readout(self, x: PyTree, state: PyTree) -> PyTree:
        if isinstance(state, optax.contrib.ScheduleFreeState):
            return optax.contrib.schedule_free_eval_params(state, x)
        return x


def as_method(method: Any) -> Method:
    """A `Method`, from a `Method` or an `optax.GradientTransformation`.

    Raises:
        TypeError: for anything else, saying what is accepted.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, optax.GradientTransformation):
        return Gradient(method)
    raise TypeError(
        f"method: expected an attractor Method or an optax.GradientTransformation, got {type(method).__name__}; "
        "a function that makes one (such as optax.adam) needs its hyper-parameters: call it, or pass sweep=…"
    )


def kind(method: Method | type[Method]) -> type[Problem]:
    """The kind of problem a method's ``step`` is annotated with; `Problem` when it says nothing."""
    step = type(method).step if isinstance(method, Method) else method.step
    step = inspect.unwrap(step)
    annotation = step.__annotations__.get("problem", Problem)
    if isinstance(annotation, str):
        annotation = typing.get_type_hints(step)["problem"]
    return annotation if isinstance(annotation, type) and issubclass(annotation, Problem) else Problem


def require(problem: Problem, method: Method) -> None:
    """Raise a `TypeError` naming both kinds when ``method`` cannot work on ``problem``."""
    if not isinstance(problem, Problem):
        raise TypeError(
            f"problem: expected an attractor Problem, got {type(problem).__name__}; "
            "wrap a loss as attractor.Minimization(loss, init, data)"
        )
    needed = kind(method)
    if not isinstance(problem, needed):
        raise TypeError(
            f"{type(method).__name__} needs a {needed.__name__} problem, and this is a {type(problem).__name__}"
        )


def name_of(method: Callable | Method | optax.GradientTransformation) -> str:
    """A readable name for a factory or a method."""
    if isinstance(method, functools.partial):
        return name_of(method.func)
    if isinstance(method, optax.GradientTransformation):
        return getattr(method.update, "__qualname__", "transformation").split(".")[0]
    return getattr(method, "__name__", type(method).__name__)
