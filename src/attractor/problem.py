"""Problems: where an iteration starts, and the oracles a method may call along the way."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from attractor.probe import Probe, as_probe


def _constant(value: PyTree, key: PRNGKeyArray) -> PyTree:
    return value


def _as_init(init: PyTree) -> Callable[[PRNGKeyArray], PyTree]:
    """A starting point, or a function of a key that draws one, as a function of a key."""
    if callable(init):
        return init
    # A Partial keeps the arrays as leaves, so that they are program arguments and not baked-in constants.
    return eqx.Partial(_constant, jax.tree.map(jnp.asarray, init))


def _forget_batch(function: Callable, x: PyTree, batch: PyTree = None) -> Any:
    return function(x)


def with_batch(function: Callable) -> Callable:
    """Let ``f(x)`` be called as ``f(x, batch)``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # builtins and some C functions hide their signature
        return function
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_two = len(positional) >= 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return function if takes_two else eqx.Partial(_forget_batch, function)


def _as_probes(probes: Mapping[str, Any]) -> dict[str, Probe]:
    return {name: as_probe(probe) for name, probe in probes.items()}


class Problem(eqx.Module):
    """Where to start (``init``) and, in the subclasses, what may be asked along the way.

    Attributes:
        init: Starting point as a function of a PRNG key; a pytree of arrays is accepted and means "always here".
        probes: Measurements recorded when `attractor.run` is given none.
    """

    init: eqx.AbstractVar[Callable[[PRNGKeyArray], PyTree]]
    probes: eqx.AbstractVar[dict[str, Probe]]


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
        ValueError: if data leaves disagree about N, or ``batch_size`` is outside ``1 … N``.

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
        self.init = _as_init(init)
        self.full = jax.tree.map(jnp.asarray, data)
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(self.full)}
        if len(sizes) > 1 or () in sizes:
            raise ValueError(f"data: every leaf needs the same leading axis (one entry a sample), got {sorted(sizes)}")
        if batch_size is not None and (not sizes or not 1 <= batch_size <= min(sizes)[0]):
            known = f"1 … {min(sizes)[0]} (the number of samples)" if sizes else "None, as there is no data"
            raise ValueError(f"batch_size: expected {known}, got {batch_size}")
        self.batch_size = batch_size
        self.probes = {"loss": Probe(_full_loss)} | _as_probes(probes or {})
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
        """
        _, static = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
        return cls(eqx.Partial(_model_loss, loss, static), eqx.Partial(model_init, build), data, **kwargs)

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
        parameters; ``hvp``, a function ``v -> Hv``; ``per_example``, a function that gives the gradient of every
        example (leaves ``(B, …)``; needs data). What a transformation does not use is compiled away.
        """

        def loss(params: PyTree) -> Array:
            return self.loss(params, batch)

        def per_example() -> PyTree:
            single = jax.tree.map(lambda leaf: leaf[:, None], batch)
            return jax.vmap(jax.grad(self.loss), in_axes=(None, 0))(x, single)

        value, grad = jax.value_and_grad(loss)(x)
        return {
            "value": value,
            "grad": grad,
            "value_fn": loss,
            "obj_fn": loss,
            "hvp": lambda v: jax.jvp(jax.grad(loss), (x,), (v,))[1],
            "per_example": per_example,
        }


def _full_loss(problem: Minimization, x: PyTree, key: PRNGKeyArray) -> Array:
    return problem.loss(x, problem.full)


def _model_loss(loss: Callable, static: PyTree, params: PyTree, batch: PyTree) -> Array:
    return loss(eqx.combine(params, static), batch)


def model_init(build: Callable, key: PRNGKeyArray) -> PyTree:
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
        if batch_size is not None and not 1 <= batch_size <= samples:
            raise ValueError(f"batch_size: expected 1 … {samples} (samples per client), got {batch_size}")
        self.batch_size = batch_size
        self.client_loss = loss

    def sample(self, key: PRNGKeyArray) -> PyTree:
        """One independent minibatch per client: leaves ``(n_clients, batch_size, …)``."""
        if self.batch_size is None:
            return self.full
        samples = jax.tree.leaves(self.full)[0].shape[1]
        index = jr.randint(key, (self.n_clients, self.batch_size), 0, samples)
        return jax.tree.map(lambda leaf: jax.vmap(lambda rows, i: rows[i])(leaf, index), self.full)

    def client_gradients(self, x: PyTree, batches: PyTree) -> PyTree:
        """Gradients of every client's loss at ``x``: leaves ``(n_clients, …)``."""
        return jax.vmap(jax.grad(self.client_loss), in_axes=(None, 0))(x, batches)


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
        self.init = _as_init(init)
        self.noise = noise
        self.payoff = payoff
        self.solution = jax.tree.map(jnp.asarray, solution)
        known = {} if solution is None else {"distance": Probe(_distance)}
        self.probes = {"residual": Probe(_field_norm)} | known | _as_probes(probes or {})

    @classmethod
    def minimax(cls, payoff: Callable[[PyTree, PyTree], Array], init: PyTree, **kwargs: Any) -> "Game":
        """``min over x, max over y`` of ``payoff(x, y)``; the iterate is ``(x, y)``."""
        return cls(eqx.Partial(_minimax_field, payoff), init, payoff=payoff, **kwargs)

    def sample(self, key: PRNGKeyArray) -> PyTree:
        """What the stochastic field takes as its batch; `None` when the field is exact."""
        return None if self.noise is None else self.noise(key)


def _minimax_field(payoff: Callable, z: PyTree, batch: PyTree = None) -> PyTree:
    for_x, for_y = jax.grad(payoff, argnums=(0, 1))(*z)
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
        self.init = _as_init(init)
        self.solution = jax.tree.map(jnp.asarray, solution)
        known = {} if solution is None else {"distance": Probe(_distance)}
        self.probes = {"residual": Probe(_residual)} | known | _as_probes(probes or {})


def norm(tree: PyTree) -> Float[Array, ""]:
    """Euclidean norm of all the array leaves of a pytree together."""
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return jnp.sqrt(sum((jnp.sum(jnp.abs(leaf) ** 2) for leaf in leaves), start=jnp.zeros(())))


def as_vector(x: PyTree) -> tuple[Float[Array, " d"], Callable[[Float[Array, " d"]], PyTree]]:
    """A pytree's parameters as one vector, and the way back, for methods that solve dense systems.

    The vector has the leaves' common dtype, but never less than single precision, in which no decomposition works.

    Arguments:
        x: Pytree of floating-point arrays.
    """
    flat, unravel = ravel_pytree(x)
    return flat.astype(jnp.promote_types(flat.dtype, jnp.float32)), lambda z: unravel(z.astype(flat.dtype))


def _difference(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.subtract, a, b)


def _field_norm(problem: Game, z: PyTree, key: PRNGKeyArray) -> Array:
    return norm(problem.field(z, problem.sample(key)))


def _distance(problem: Game | FixedPoint, x: PyTree, key: PRNGKeyArray) -> Array:
    return norm(_difference(x, problem.solution))


def _residual(problem: FixedPoint, x: PyTree, key: PRNGKeyArray) -> Array:
    return norm(_difference(problem.operator(x), x))


class Distribution(Protocol):
    """What a policy gives for one observation: a pytree of arrays with these methods, such as an `eqx.Module`."""

    def sample(self, key: PRNGKeyArray) -> Array:
        """Draw an action."""
        ...

    def log_prob(self, action: Array) -> Array:
        """Log-probability, or log-density, of an action."""
        ...

    def divergence(self, other: Any) -> Array:
        """Kullback-Leibler divergence KL(self || other)."""
        ...


class Episode(NamedTuple):
    """An environment in the middle of an episode: its state, and the steps taken since its reset."""

    state: PyTree
    elapsed: Int[Array, "..."]


class Transition(NamedTuple):
    """One step of an environment, or arrays of them.

    ``next_observation`` is seen before any reset, so that a cut-off episode can still be valued where it stopped.
    """

    observation: Array
    action: Array
    reward: Array
    next_observation: Array
    terminated: Bool[Array, "..."]
    truncated: Bool[Array, "..."]


class Decision(Problem):
    """Choose actions in an environment whose transitions are pure functions of a state and a key.

    The iterate is a pair ``(actor, critic)`` of parameter pytrees. The environment's functions are traced, so that
    whole rollouts compile and batch; `attractor.problems.control` has gymnasium's environments in this form.
    Always recorded: ``return``, the mean undiscounted return of 16 fresh episodes.

    Arguments:
        reset: ``key -> state``.
        step: ``(state, action, key) -> (state, reward, terminated)``.
        observe: ``state -> observation``, an array.
        policy: ``(actor, observation) -> Distribution`` of actions.
        value: ``(critic, observation) -> scalar``: the discounted return to be expected from there.
        init: Starting pair ``(actor, critic)``, or a function ``key -> pair``.
        horizon: Steps after which an episode is cut off (truncated, not terminated).
        probes: Extra measurements by name.

    Raises:
        ValueError: if ``horizon < 1``.
    """

    reset: Callable[[PRNGKeyArray], PyTree]
    step: Callable[[PyTree, Array, PRNGKeyArray], tuple[PyTree, Array, Array]]
    observe: Callable[[PyTree], Array]
    policy: Callable[[PyTree, Array], Distribution]
    value: Callable[[PyTree, Array], Array]
    init: Callable[[PRNGKeyArray], PyTree]
    horizon: int = eqx.field(static=True)
    probes: dict[str, Probe]

    def __init__(
        self,
        *,
        reset: Callable,
        step: Callable,
        observe: Callable,
        policy: Callable,
        value: Callable,
        init: PyTree,
        horizon: int,
        probes: Mapping[str, Any] | None = None,
    ):
        if horizon < 1:
            raise ValueError(f"horizon: expected a number of steps >= 1, got {horizon}")
        self.reset, self.step, self.observe = reset, step, observe
        self.policy, self.value, self.init = policy, value, _as_init(init)
        self.horizon = horizon
        self.probes = {"return": Probe(_mean_return, "max")} | _as_probes(probes or {})

    @classmethod
    def of_model(cls, build: Callable[[PRNGKeyArray], tuple[Any, Any]], **kwargs: Any) -> "Decision":
        """Policy and critic as a pair of `equinox.Module`: ``build(key) -> (actor, critic)``.

        ``actor(observation)`` is a `Distribution`, ``critic(observation)`` a scalar; ``kwargs`` are the rest of
        `Decision`'s arguments. The iterate is the modules' floating-point arrays.
        """
        _, (actor, critic) = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
        policy, value = eqx.Partial(_apply_model, actor), eqx.Partial(_apply_model, critic)
        return cls(policy=policy, value=value, init=eqx.Partial(model_init, build), **kwargs)

    def start(self, key: PRNGKeyArray) -> Episode:
        """A fresh episode."""
        return Episode(self.reset(key), jnp.zeros((), int))

    def rollout(self, actor: PyTree, episode: Episode, key: PRNGKeyArray, steps: int) -> tuple[Episode, Transition]:
        """Follow the policy for ``steps`` steps from ``episode``, starting a fresh one wherever one ends.

        Returns:
            Where it stopped, and the transitions, leaves ``(steps, …)``.
        """

        def advance(episode: Episode, keys: Array) -> tuple[Episode, Transition]:
            for_action, for_step, for_reset = keys
            observation = self.observe(episode.state)
            action = self.policy(actor, observation).sample(for_action)
            state, reward, terminated = self.step(episode.state, action, for_step)
            going = Episode(state, episode.elapsed + 1)
            truncated = (going.elapsed >= self.horizon) & ~terminated
            seen = Transition(observation, action, reward, self.observe(state), terminated, truncated)
            ended = terminated | truncated
            return jax.tree.map(lambda a, b: jnp.where(ended, a, b), self.start(for_reset), going), seen

        return lax.scan(advance, episode, jr.split(key, (steps, 3)))


def _apply_model(static: PyTree, params: PyTree, observation: Array) -> Any:
    return eqx.combine(params, static)(observation)


def _mean_return(problem: Decision, x: PyTree, key: PRNGKeyArray) -> Array:
    def episode_return(key: PRNGKeyArray) -> Array:
        for_start, for_rollout = jr.split(key)
        _, seen = problem.rollout(x[0], problem.start(for_start), for_rollout, problem.horizon)
        ended = seen.terminated | seen.truncated
        return jnp.sum(seen.reward, where=jnp.cumsum(ended) - ended == 0)

    return jnp.mean(jax.vmap(episode_return)(jr.split(key, 16)))
