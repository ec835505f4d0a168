"""Decisions: environments to act in, what a policy gives for an observation, and what an episode leaves behind."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from attractor.probe import Probe
from attractor.problem import Problem, as_init, as_probes, model_init


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


class Categorical(eqx.Module):
    """One of k actions, with log-probabilities up to a constant."""

    logits: Float[Array, " k"]

    def sample(self, key: PRNGKeyArray) -> Int[Array, ""]:
        """Draw an action."""
        return jr.categorical(key, self.logits)

    def log_prob(self, action: Int[Array, ""]) -> Float[Array, ""]:
        """Log-probability of an action."""
        return jax.nn.log_softmax(self.logits)[action]

    def divergence(self, other: "Categorical") -> Float[Array, ""]:
        """KL(self || other)."""
        mine, theirs = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        return jnp.sum(jnp.exp(mine) * (mine - theirs))


class Gaussian(eqx.Module):
    """Real action vectors with independent normal entries."""

    mean: Float[Array, " d"]
    log_std: Float[Array, " d"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, " d"]:
        """Draw an action."""
        return self.mean + jnp.exp(self.log_std) * jr.normal(key, self.mean.shape, self.mean.dtype)

    def log_prob(self, action: Float[Array, " d"]) -> Float[Array, ""]:
        """Log-density of an action."""
        return jax.scipy.stats.norm.logpdf(action, self.mean, jnp.exp(self.log_std)).sum()

    def divergence(self, other: "Gaussian") -> Float[Array, ""]:
        """KL(self || other)."""
        ratio = jnp.exp(2 * (self.log_std - other.log_std))
        distance = (self.mean - other.mean) ** 2 * jnp.exp(-2 * other.log_std)
        return 0.5 * jnp.sum(ratio + distance - 1 - jnp.log(ratio))


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
        self.policy, self.value, self.init = policy, value, as_init(init)
        self.horizon = horizon
        self.probes = {"return": Probe(_mean_return, "max")} | as_probes(probes or {})

    @classmethod
    def of_model(cls, build: Callable[[PRNGKeyArray], tuple[Any, Any]], **kwargs: Any) -> "Decision":
        """Policy and critic as a pair of `equinox.Module`: ``build(key) -> (actor, critic)``.

        ``actor(observation)`` is a `Distribution`, ``critic(observation)`` a scalar; ``kwargs`` are the rest of
        `Decision`'s arguments. The iterate is the modules' floating-point arrays.
        """
        _, (actor, critic) = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
        policy, value = eqx.Partial(_apply_model, actor), eqx.Partial(_apply_model, critic)
        return cls(policy=policy, value=value, init=eqx.Partial(model_init, build), **kwargs)

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """Keep a point in the plane near zero by pushing it along one axis, for five steps; see `Problem.example`."""
        actor = {"w": jnp.full((1, 2), 0.1, dtype), "b": jnp.zeros(1, dtype), "log_std": jnp.asarray(-0.5, dtype)}
        critic = {"w": jnp.asarray([0.3, -0.2], dtype), "b": jnp.asarray(0.1, dtype)}

        def step(state: Array, action: Array, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
            moved = 0.9 * state + jnp.asarray([0.0, 0.3]) * action.astype(state.dtype)
            return moved, -jnp.sum(moved**2), jnp.abs(moved).max() > 3

        def policy(x: PyTree, observation: Array) -> Gaussian:
            mean = x["w"] @ observation.astype(dtype) + x["b"]
            return Gaussian(mean, jnp.broadcast_to(x["log_std"], mean.shape))

        return Decision(
            reset=lambda key: jr.normal(key, (2,)),
            step=step,
            observe=lambda state: state,
            policy=policy,
            value=lambda x, observation: x["w"] @ observation.astype(dtype) + x["b"],
            init=(actor, critic),
            horizon=5,
        )

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
