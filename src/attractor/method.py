"""Methods: update rules that take a point to a next point."""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.problem import Minimization, Problem
from attractor.transformations import Transformation, as_transformation, averaged, is_transformation, update


class Range(typing.NamedTuple):
    """What a hyper-parameter accepts; see `hyper`."""

    low: float
    high: float
    open_low: bool
    open_high: bool
    choices: tuple[Any, ...] | None
    optional: bool

    def check(self, name: str, value: Any) -> None:
        """Raise a `ValueError` that names the hyper-parameter unless the value is accepted."""
        if value is None and self.optional:
            return
        if self.choices is None:
            in_range(name, value, self.low, self.high, open_low=self.open_low, open_high=self.open_high)
        elif value not in self.choices:
            raise ValueError(f"{name}: expected {' or '.join(map(repr, self.choices))}, got {value!r}")

    def outside(self) -> Any:
        """A value just outside; `None` where every finite number is accepted."""
        if self.choices is not None:
            return "none of the choices"
        if self.high < math.inf:
            return self.high if self.open_high else self.high + 1
        if self.low > -math.inf:
            return self.low if self.open_low else self.low - 1
        return None


def hyper(
    default: Any = dataclasses.MISSING,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    choices: tuple[Any, ...] | None = None,
    optional: bool = False,
    static: bool = False,
    kw_only: bool = False,
) -> Any:
    """A hyper-parameter of a `Method`: a field with its default and the values it accepts.

    Whoever makes the method gets a `ValueError` that names the field and its range for any other value. Traced
    numbers and schedules pass.

    Arguments:
        default: As in `equinox.field`; none: the field has to be given.
        low: Smallest accepted number.
        high: Largest accepted number.
        open_low: Whether ``low`` itself is refused.
        open_high: Whether ``high`` itself is refused.
        choices: The accepted values, in place of a range of numbers.
        optional: Whether `None` is accepted too; it always is where it is the default.
        static: As in `equinox.field`.
        kw_only: Whether it is given by keyword only.

    !!! example
        ```python
        class Descent(Method):
            learning_rate: float = hyper(0.1, low=0.0, open_low=True)
        ```
    """
    accepted = Range(low, high, open_low, open_high, choices, optional or default is None)
    given = {} if default is dataclasses.MISSING else {"default": default}
    return eqx.field(static=static, kw_only=kw_only, metadata={"range": accepted}, **given)


def ranges(method: "Method | type[Method]") -> dict[str, Range]:
    """What the hyper-parameters of a method accept, by name, where it is declared with `hyper`."""
    return {f.name: f.metadata["range"] for f in dataclasses.fields(method) if "range" in f.metadata}


@typing.dataclass_transform(field_specifiers=(eqx.field, hyper))
class Method(eqx.Module):
    """An update rule. Subclasses write `step`, and `init` when they keep a state; `hyper` declares their fields.

    The annotation of ``problem`` in `step` names the kind of problem the method needs; `attractor.run` refuses
    another kind with a `TypeError`. Two conventions make runs comparable and restartable:

    - a method that samples asks ``problem.sample(key)`` with the very key it was given, so that all methods see the
      same minibatches under the same seed, and takes its own randomness from ``jax.random.fold_in(key, 1)``;
    - ``step`` returns an ``x`` and a ``state`` of the same structure, shapes and dtypes as it was given.
    """

    def __check_init__(self) -> None:
        for name, accepted in ranges(self).items():
            accepted.check(name, getattr(self, name))

    def init(self, problem: Any, x: PyTree, key: PRNGKeyArray) -> PyTree:
        """The state to start with; `None` when there is nothing to remember."""
        return None

    def step(self, problem: Any, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """One iteration."""
        raise NotImplementedError(f"{type(self).__name__}: write step(self, problem, x, state, key) -> (x, state)")

    def readout(self, x: PyTree, state: PyTree) -> PyTree:
        """The point that probes look at; another one than ``x`` for methods that average their iterates."""
        return x


@custom_vmap
def _anywhere(due: Bool[Array, ""]) -> Bool[Array, ""]:
    return due


@_anywhere.def_vmap
def _anywhere_in_a_batch(size: int, batched: list[bool], due: Bool[Array, " n"]) -> tuple[Bool[Array, ""], bool]:
    return _anywhere(jnp.any(due)), False


def when_due(due: Bool[Array, ""], renew: Callable[[], PyTree], keep: Callable[[], PyTree]) -> PyTree:
    """``renew()`` where it is due and ``keep()`` elsewhere, for what is costly and seldom.

    `jax.lax.cond` computes both under `jax.vmap`, at every step. Of this the costly side is computed at the steps at
    which any of the batch is due: where all count their steps alike, as the configurations and seeds of a run do, at
    those steps only.

    Arguments:
        due: Whether to renew.
        renew: Without arguments; it gives what ``keep`` does, in structure, shapes and dtypes.
        keep: Cheap.
    """

    def some() -> PyTree:
        return jax.tree.map(lambda new, old: jnp.where(due, new, old), renew(), keep())

    return jax.lax.cond(_anywhere(due), some, keep)


class Gradient(Method):
    """An optax transformation as a `Method`: one stochastic gradient, one update.

    Transformations with extra arguments are offered, by keyword, the problem's oracles (`Minimization.oracles`:
    ``value``, ``grad``, ``value_fn``, ``obj_fn``, ``grad_fn``, ``hvp``, ``per_example``; some kinds have more) and
    ``key``, as far as they accept them. What a transformation does not use costs nothing: it is compiled away.

    Where a `optax.contrib.schedule_free` is anywhere in the transformation, probes look at its averaged point.

    Arguments:
        transformation: Any `optax.GradientTransformation`, or another object with its two functions.
    """

    transformation: optax.GradientTransformationExtraArgs

    def __init__(self, transformation: Transformation):
        self.transformation = as_transformation(transformation)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> PyTree:
        return self.transformation.init(x)

    def step(self, problem: Minimization, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        oracles = problem.oracles(x, problem.sample(key))
        offered = {**oracles, "key": jr.fold_in(key, 1)}
        updates, state = update(self.transformation, oracles["grad"], state, x, offered)
        return optax.apply_updates(x, updates), state

    def readout(self, x: PyTree, state: PyTree) -> PyTree:
        return averaged(x, state)


def as_method(method: Any) -> Method:
    """A `Method`, from a `Method` or an `optax.GradientTransformation`.

    What has ``init`` and ``update`` as an optax transformation has them, such as `optax.MultiSteps`, will do too.

    Raises:
        TypeError: for anything else, saying what is accepted.
    """
    if isinstance(method, Method):
        return method
    if is_transformation(method):
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
            + ("; see attractor.games.DescentAscent" if type(method) is Gradient and hasattr(problem, "field") else "")
        )


def name_of(method: Callable | Method | Transformation) -> str:
    """A readable name for a factory or a method."""
    if isinstance(method, functools.partial):
        return name_of(method.func)
    if isinstance(method, optax.GradientTransformation):
        return getattr(method.update, "__qualname__", "transformation").split(".")[0]
    return getattr(method, "__name__", type(method).__name__)
