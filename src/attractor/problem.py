"""Problems: where an iteration starts, and the oracles a method may call along the way."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.gradients import grad, value_and_grad
from attractor.masks import fill, mask_like, of_parts, operator_on_parts
from attractor.probe import Probe, as_probe
from attractor.trees import difference, norm


def _constant(value: PyTree, key: PRNGKeyArray) -> PyTree:
    return value


def as_init(init: PyTree) -> Callable[[PRNGKeyArray], PyTree]:
    """A starting point, or a function of a key that draws one, as a function of a key."""
    if callable(init) and not _is_tree(init):
        return init
    for leaf in jax.tree.leaves(init):
        if not eqx.is_array_like(leaf):
            wanted = (
                "use Minimization.of_model(build, loss, data), where build(key) -> model; its arrays are trained"
                if any(map(_is_model, jax.tree.leaves(init, is_leaf=_is_model)))
                else "expected a pytree of arrays, or a function of a key that draws one"
            )
            raise TypeError(f"init: {type(init).__name__} holds {leaf!r}, which is not an array; {wanted}")
    # A Partial keeps the arrays as leaves, so that they are program arguments and not baked-in constants.
    return eqx.Partial(_constant, as_arrays("init", init))


def as_arrays(argument: str, tree: PyTree) -> PyTree:
    """The leaves of a tree as JAX arrays.

    Arguments:
        argument: What it was given for, for errors.
        tree: Arrays, or what NumPy makes arrays of.

    Raises:
        ValueError: for one that does not hold numbers, such as labels that are strings.
    """

    def convert(path: Any, leaf: Any) -> Array:
        kind = "" if isinstance(leaf, jax.Array) else np.asarray(leaf).dtype.kind
        if kind and kind in "USOMm":  # JAX itself refuses the others that are no numbers
            what = {"U": "strings", "S": "bytes", "O": "objects"}.get(kind, "dates")
            hint = (
                "np.unique(labels, return_inverse=True)[1] numbers them"
                if kind in "US"
                else "say what they are as numbers"
            )
            where = f"{argument}{jax.tree_util.keystr(path)}"
            raise ValueError(f"{where}: expected an array of numbers, got {what} such as {_first(leaf)!r}; {hint}")
        return jnp.asarray(leaf)

    return jax.tree_util.tree_map_with_path(convert, tree)


def _first(leaf: Any) -> Any:
    return next(iter(np.asarray(leaf, object).flat), leaf)


def _differentiable(x: PyTree) -> None:
    """Refuse parameters that have no gradient, in words."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise ValueError(
                f"init{jax.tree_util.keystr(path)}: expected floating-point parameters, as gradients are taken, got "
                f"{jnp.result_type(leaf)}; start from floats, as in jnp.zeros(2) or x.astype(float)"
            )


def _is_tree(init: Callable) -> bool:
    """Whether it is a tree of arrays first, although it can be called: a model is, with an input and not with a key.

    A function is its own only leaf; one that keeps arguments as leaves is a function all the same.
    """
    if isinstance(init, jax.tree_util.Partial) or hasattr(init, "__wrapped__"):
        return False
    if isinstance(init, eqx.Module):
        return _is_model(init)
    return jax.tree.structure(init) != jax.tree.structure(0) and bool(jax.tree.leaves(init))


def _is_model(tree: PyTree) -> bool:
    """Whether this is an Equinox module with leaves, and not one of those that Equinox wraps functions in."""
    wraps = isinstance(tree, eqx.Partial) or hasattr(tree, "__wrapped__")
    return isinstance(tree, eqx.Module) and not wraps and bool(jax.tree.leaves(tree))


def _forget_batch(function: Callable, x: PyTree, batch: PyTree = None) -> Any:
    return function(x)


def _forget_batch_of_pair(function: Callable, x: PyTree, y: PyTree, batch: PyTree = None) -> Any:
    return function(x, y)


def with_batch(function: Callable, points: Literal[1, 2] = 1) -> Callable:
    """Let ``f(x)`` be called as ``f(x, batch)``; with two ``points``, ``f(x, y)`` as ``f(x, y, batch)``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # builtins and some C functions hide their signature
        return function
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_batch = len(positional) > points or any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return function if takes_batch else eqx.Partial(_forget_batch if points == 1 else _forget_batch_of_pair, function)


def as_probes(probes: Mapping[str, Any]) -> dict[str, Probe]:
    """Measurements by name, each a `Probe` or a function ``(problem, x, key) -> array``, as probes."""
    return {name: as_probe(probe) for name, probe in probes.items()}


@dataclass(frozen=True)
class _Named:
    """A function, as where it is found: in a module, or as a method of an object."""

    owner: Any
    name: str


def _by_name(leaf: Any) -> Any:
    """What `pickle` cannot: it takes a jitted function for the one inside, and knows no lambda nor Equinox' methods."""
    if (owner := getattr(leaf, "__self__", None)) is not None and isinstance(leaf, eqx.Module):
        return _Named(owner, getattr(leaf, "__name__", ""))
    module = getattr(leaf, "__module__", None) or ""
    if not callable(leaf) or module.partition(".")[0] not in ("attractor", "equinox", "jax", "optax"):
        return leaf
    return next((_Named(module, k) for k, v in vars(sys.modules[module]).items() if v is leaf), leaf)


def _found(leaf: Any) -> Any:
    if not isinstance(leaf, _Named):
        return leaf
    return getattr(importlib.import_module(leaf.owner) if isinstance(leaf.owner, str) else leaf.owner, leaf.name)


def _each(function: Callable[[Any], Any], tree: Any) -> Any:
    """`jax.tree.map` that reaches static fields, and keeps dicts in their order: the first probe decides."""
    if isinstance(tree, eqx.Module) and not hasattr(tree, "__self__"):
        copy = object.__new__(type(tree))
        vars(copy).update(_each(function, vars(tree)))
        return copy
    if type(tree) is dict:
        return {name: _each(function, value) for name, value in tree.items()}
    if type(tree) is tuple or type(tree) is list:
        mapped = [_each(function, value) for value in tree]
        return tuple(mapped) if type(tree) is tuple else mapped
    return function(tree)


class Problem(eqx.Module):
    """Where to start (``init``) and, in the subclasses, what may be asked along the way.

    Attributes:
        init: Starting point as a function of a PRNG key; a pytree of arrays is accepted and means "always here".
        probes: Measurements recorded when `attractor.run` is given none.
    """

    init: eqx.AbstractVar[Callable[[PRNGKeyArray], PyTree]]
    probes: eqx.AbstractVar[dict[str, Probe]]

    def __getstate__(self) -> dict[str, Any]:
        """What `pickle` keeps: the fields, with functions that it cannot find itself by their names."""
        return _each(_by_name, vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(_each(_found, state))

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> "Problem":
        """A small instance of this kind, on which the contract tests try every method that needs it.

        Arguments:
            dtype: Of the iterate's floating-point leaves.

        Raises:
            NotImplementedError: if the kind has none.
        """
        raise NotImplementedError(f"{cls.__name__}: write the class method example(dtype), a small instance")


def small_regression(dtype: DTypeLike) -> tuple[Callable[[PyTree, PyTree], Array], PyTree, Array]:
    """``(outputs(x, batch), start, data)`` of the examples: a matrix, a vector and a scalar, 12 samples of 3 inputs."""
    start = {"w": jnp.full((3, 4), 0.5, dtype), "b": jnp.zeros((4,), dtype), "scale": jnp.asarray(1.5, dtype)}
    data = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)

    def outputs(x: PyTree, batch: Array) -> Array:
        return x["scale"] * jnp.tanh(batch.astype(dtype) @ x["w"] + x["b"])

    return outputs, start, jnp.asarray(data)


def near_one(outputs: Array, batch: PyTree = None) -> Float[Array, ""]:
    """The outer loss of the examples."""
    return jnp.mean((outputs - 1) ** 2)


class Minimization(Problem):
    r"""Minimize $f(x) = \frac1N \sum_i \ell(x, \xi_i)$, or any scalar function of a pytree.

    Arguments:
        loss: ``loss(x, batch) -> scalar``, or ``loss(x) -> scalar`` when there is no data.
        init: Starting point: a pytree of arrays, or a function ``key -> pytree``.
        data: Pytree of arrays whose leading axes (all of length N) index the samples. `None`: deterministic loss.
        batch_size: Samples per stochastic oracle call, drawn with replacement; `None` means all of them.
        probes: Extra measurements by name, each a `Probe` or a function ``(problem, x, key) -> array``.
        optimum: The smallest value of the full loss, where it is known.
        solution: A minimizer, where it is known.
        constants: Known constants of the problem, such as ``{"L": …, "mu": …}``.

    Raises:
        ValueError: if data or start hold no numbers, data leaves disagree about N, N is 0, or ``batch_size`` is outside
            ``1 … N``.

    !!! example
        ```python
        Minimization(lambda x: jnp.sum((x - 3.0) ** 2), init=jnp.zeros(2))
        ```
    """

    loss: Callable[[PyTree, PyTree], Float[Array, ""]]
    init: Callable[[PRNGKeyArray], PyTree]
    full: PyTree
    batch_size: int | None = eqx.field(static=True)
    probes: dict[str, Probe]
    optimum: float | None = eqx.field(static=True)
    solution: PyTree
    constants: dict[str, float] = eqx.field(static=True)

    def __init__(
        self,
        loss: Callable,
        init: PyTree,
        data: PyTree = None,
        *,
        batch_size: int | None = None,
        probes: Mapping[str, Any] | None = None,
        optimum: float | None = None,
        solution: PyTree = None,
        constants: Mapping[str, float] | None = None,
    ):
        self.loss = with_batch(loss)
        self.init = as_init(init)
        self.full = as_arrays("data", data)
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(self.full)}
        if len(sizes) > 1 or () in sizes:
            raise ValueError(f"data: every leaf needs the same leading axis (one entry a sample), got {sorted(sizes)}")
        if (0,) in sizes:
            raise ValueError("data: expected at least one sample, got none; look at what was filtered out before")
        if batch_size is not None and (not sizes or not 1 <= batch_size <= min(sizes)[0]):
            known = f"1 … {min(sizes)[0]} (the number of samples)" if sizes else "None, as there is no data"
            raise ValueError(f"batch_size: expected {known}, got {batch_size}")
        self.batch_size = batch_size
        self.probes = {"loss": Probe(_full_loss)} | as_probes(probes or {})
        self.optimum = optimum
        self.solution = solution
        self.constants = _Frozen(constants or {})

    @classmethod
    def of_model(
        cls,
        build: Callable[[PRNGKeyArray], PyTree],
        loss: Callable[[Any, PyTree], Array],
        data: PyTree,
        **kwargs,
    ) -> "Minimization":
        """Train an `equinox.Module`: ``build(key) -> model``, ``loss(model, batch) -> scalar``.

        The iterate is the model's floating-point arrays; everything else is put back before ``loss`` sees the model.
        A probe of one's own gets the model back with `model`.
        """
        _, static = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
        return cls(eqx.Partial(_model_loss, loss, static), eqx.Partial(model_init, build), data, **kwargs)

    def model(self, x: PyTree) -> Any:
        """The model of `of_model` with the parameters ``x``: what a probe ``(problem, x, key)`` looks into.

        Raises:
            ValueError: if the problem was not made by `of_model`, so that ``x`` is all there is.
        """
        if not (isinstance(self.init, eqx.Partial) and self.init.func is model_init):
            raise ValueError(f"model: {type(self).__name__} is not of_model(build, loss, data); x is all it has")
        _, static = eqx.partition(self.init.args[0](jr.key(0)), eqx.is_inexact_array)
        return eqx.combine(x, static)

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """A regression with minibatches; see `Problem.example`."""
        outputs, start, data = small_regression(dtype)
        return Minimization(lambda x, batch: near_one(outputs(x, batch)), start, data, batch_size=4)

    def sample(self, key: PRNGKeyArray) -> PyTree:
        """A minibatch, uniformly with replacement; the full data when ``batch_size`` is `None`."""
        if self.batch_size is None:
            return self.full
        n = jax.tree.leaves(self.full)[0].shape[0]
        index = jr.randint(key, (self.batch_size,), 0, n)
        return jax.tree.map(lambda leaf: leaf[index], self.full)

    def oracles(self, x: PyTree, batch: PyTree) -> dict[str, Any]:
        """What may be asked at ``x`` on one minibatch; an optax transformation gets these as extra arguments.

        ``value`` and ``grad`` of the minibatch loss; ``value_fn`` and ``obj_fn``, that loss as a function of the
        parameters; ``grad_fn``, its gradient as one; ``hvp``, a function ``v -> Hv``; ``per_example``, a function that
        gives the gradient of every example (leaves ``(B, …)``; needs data). What a transformation does not use is
        compiled away. Gradients of complex parameters point uphill, see `attractor.gradients`. The functions take the
        parts of a tree that `optax.masked` and `optax.partition` leave, too.
        """

        def loss(params: PyTree) -> Array:
            return self.loss(params, batch)

        def per_example() -> PyTree:
            single = jax.tree.map(lambda leaf: leaf[:, None], batch)
            return jax.vmap(grad(self.loss), in_axes=(None, 0))(x, single)

        _differentiable(x)
        value, slope = value_and_grad(loss)(x)
        return {
            "value": value,
            "grad": slope,
            "value_fn": of_parts(loss, x),
            "obj_fn": of_parts(loss, x),
            "grad_fn": lambda part, *_: mask_like(grad(loss)(fill(part, x)), part),
            "hvp": operator_on_parts(lambda v: jax.jvp(grad(loss), (x,), (v,))[1], x),
            "per_example": per_example,
        }


def _full_loss(problem: Minimization, x: PyTree, key: PRNGKeyArray) -> Array:
    return problem.loss(x, problem.full)


def _model_loss(loss: Callable, static: PyTree, params: PyTree, batch: PyTree) -> Array:
    return loss(eqx.combine(params, static), batch)


def model_init(build: Callable, key: PRNGKeyArray) -> PyTree:
    """The floating-point arrays of the model that ``build(key)`` gives."""
    return eqx.filter(build(key), eqx.is_inexact_array)


class _Frozen(dict):
    """A dict that hashes by content, so that it may be a static field."""

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return hash(frozenset(self.items()))


class Federated(Minimization):
    r"""Minimize $f(x) = \frac1n \sum_{i=1}^n f_i(x)$, where client i holds its own data.

    It is also a `Minimization` (of the mean over clients), so that every centralized method is a baseline.

    Arguments:
        loss: ``loss(x, batch) -> scalar`` on one client's batch.
        init: Starting point, as in `Minimization`.
        clients: Pytree of arrays with axes ``(n_clients, samples_per_client, …)``.
        batch_size: Samples each client draws per oracle call; `None` means all of its own.
        **kwargs: As in `Minimization`.
    """

    client_loss: Callable[[PyTree, PyTree], Float[Array, ""]]
    n_clients: int = eqx.field(static=True)

    def __init__(self, loss: Callable, init: PyTree, clients: PyTree, *, batch_size: int | None = None, **kwargs: Any):
        super().__init__(eqx.Partial(_client_mean, loss), init, clients, **kwargs)
        shapes = {leaf.shape[:2] for leaf in jax.tree.leaves(self.full)}
        if len(shapes) != 1 or len(min(shapes)) != 2:
            raise ValueError(f"clients: every leaf needs axes (n_clients, samples, …), got leading {sorted(shapes)}")
        ((self.n_clients, samples),) = shapes
        if not samples:
            raise ValueError("clients: expected at least one sample per client, got none")
        if batch_size is not None and not 1 <= batch_size <= samples:
            raise ValueError(f"batch_size: expected 1 … {samples} (samples per client), got {batch_size}")
        self.batch_size = batch_size
        self.client_loss = loss

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """A regression by four clients; see `Problem.example`."""
        outputs, start, data = small_regression(dtype)
        return Federated(lambda x, batch: near_one(outputs(x, batch)), start, data.reshape(4, 3, 3), batch_size=2)

    def sample(self, key: PRNGKeyArray) -> PyTree:
        """One independent minibatch per client: leaves ``(n_clients, batch_size, …)``."""
        if self.batch_size is None:
            return self.full
        samples = jax.tree.leaves(self.full)[0].shape[1]
        index = jr.randint(key, (self.n_clients, self.batch_size), 0, samples)
        return jax.tree.map(lambda leaf: jax.vmap(lambda rows, i: rows[i])(leaf, index), self.full)

    def client_gradients(self, x: PyTree, batches: PyTree) -> PyTree:
        """Gradients of every client's loss at ``x``: leaves ``(n_clients, …)``."""
        return jax.vmap(grad(self.client_loss), in_axes=(None, 0))(x, batches)


def _client_mean(client_loss: Callable, x: PyTree, batches: PyTree) -> Array:
    return jnp.mean(jax.vmap(client_loss, in_axes=(None, 0))(x, batches))


class Game(Problem):
    r"""Find a zero of the joint gradient field: each player follows its own gradient.

    The iterate is a tuple with one pytree per player. For $\min_x \max_y f(x, y)$ the field is
    $(\nabla_x f, -\nabla_y f)$; see `Game.minimax`.

    Arguments:
        field: ``field(z, batch) -> z-like``, or ``field(z)`` when there is no noise.
        init: Starting point, as in `Minimization`.
        noise: ``noise(key) -> batch``, what the stochastic oracle draws; `None`: exact field.
        payoff: ``f(x, y)``, kept for second-order questions; `None` for a general game.
        solution: An equilibrium, where it is known; then ``distance`` to it is recorded too.
        probes: Extra measurements by name.
    """

    field: Callable[[PyTree, PyTree], PyTree]
    init: Callable[[PRNGKeyArray], PyTree]
    noise: Callable[[PRNGKeyArray], PyTree] | None
    payoff: Callable[..., Float[Array, ""]] | None
    solution: PyTree
    probes: dict[str, Probe]

    def __init__(
        self,
        field: Callable,
        init: PyTree,
        *,
        noise: Callable[[PRNGKeyArray], PyTree] | None = None,
        payoff: Callable | None = None,
        solution: PyTree = None,
        probes: Mapping[str, Any] | None = None,
    ):
        self.field = with_batch(field)
        self.init = as_init(init)
        self.noise = noise
        self.payoff = payoff
        self.solution = jax.tree.map(jnp.asarray, solution)
        known = {} if solution is None else {"distance": Probe(_distance)}
        self.probes = {"residual": Probe(_field_norm)} | known | as_probes(probes or {})

    @classmethod
    def minimax(cls, payoff: Callable[[PyTree, PyTree], Array], init: PyTree, **kwargs: Any) -> "Game":
        """``min over x, max over y`` of ``payoff(x, y)``; the iterate is ``(x, y)``."""
        return cls(eqx.Partial(_minimax_field, payoff), init, payoff=payoff, **kwargs)

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """A saddle between two vectors; see `Problem.example`."""
        start = jnp.asarray([0.5, -0.3], dtype), jnp.asarray([0.2, 0.1], dtype)
        return Game.minimax(lambda x, y: jnp.sum(x**2) + x @ y - jnp.sum(y**2), start)

    def sample(self, key: PRNGKeyArray) -> PyTree:
        """What the stochastic field takes as its batch; `None` when the field is exact."""
        return None if self.noise is None else self.noise(key)


def _minimax_field(payoff: Callable, z: PyTree, batch: PyTree = None) -> PyTree:
    for_x, for_y = grad(payoff, argnums=(0, 1))(*z)
    return for_x, jax.tree.map(jnp.negative, for_y)


class FixedPoint(Problem):
    """Find ``x`` with ``operator(x) = x``.

    Arguments:
        operator: ``operator(x) -> x-like``.
        init: Starting point, as in `Minimization`.
        solution: The fixed point, where it is known; then ``distance`` to it is recorded too.
        probes: Extra measurements by name.
    """

    operator: Callable[[PyTree], PyTree]
    init: Callable[[PRNGKeyArray], PyTree]
    solution: PyTree
    probes: dict[str, Probe]

    def __init__(
        self,
        operator: Callable,
        init: PyTree,
        *,
        solution: PyTree = None,
        probes: Mapping[str, Any] | None = None,
    ):
        self.operator = operator
        self.init = as_init(init)
        self.solution = jax.tree.map(jnp.asarray, solution)
        known = {} if solution is None else {"distance": Probe(_distance)}
        self.probes = {"residual": Probe(_residual)} | known | as_probes(probes or {})

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """A contraction of two numbers; see `Problem.example`."""
        return FixedPoint(lambda x: 0.5 * jnp.cos(x), jnp.asarray([0.1, 0.2], dtype))


def _field_norm(problem: Game, z: PyTree, key: PRNGKeyArray) -> Array:
    return norm(problem.field(z, problem.sample(key)))


def _distance(problem: Game | FixedPoint, x: PyTree, key: PRNGKeyArray) -> Array:
    return norm(difference(x, problem.solution))


def _residual(problem: FixedPoint, x: PyTree, key: PRNGKeyArray) -> Array:
    return norm(difference(problem.operator(x), x))
