"""Proximal policy optimization: epochs of minibatches on a surrogate that is clipped where policies part."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor import registry
from attractor.checks import Scalar, in_range
from attractor.decision import Decision, Episode
from attractor.gradients import grad
from attractor.method import Method, hyper
from attractor.rl.online.advantages import gae


class Experience(NamedTuple):
    """Steps of several episodes in one row of n: what policy and critic learn from."""

    observation: Float[Array, "n ..."]
    action: Array
    log_prob: Float[Array, " n"]  # of the action, under the policy that took it
    advantage: Float[Array, " n"]  # standardized
    returns: Float[Array, " n"]  # what the critic is fitted to


def experience(
    problem: Decision,
    x: PyTree,
    episodes: Episode,
    key: PRNGKeyArray,
    steps: int,
    gamma: Scalar = 0.99,
    lam: Scalar = 0.95,
) -> tuple[Episode, Experience]:
    r"""Continue episodes under a policy, and estimate what its actions were worth.

    Advantages A are those of `gae`, the returns $A + V(s)$; A is then standardized over all steps.

    Arguments:
        problem: Where to act.
        x: Parameters of policy and critic.
        episodes: Several, side by side: leaves ``(environments, …)``.
        key: Of actions and transitions.
        steps: Of each episode, at least 1.
        gamma: Discount factor in [0, 1].
        lam: The advantages' $\lambda$ in [0, 1].

    Returns:
        Where the episodes stopped, and environments * steps steps.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("steps", steps, 1)
    actor, critic = x
    rollout = jax.vmap(lambda episode, key: problem.rollout(actor, episode, key, steps), out_axes=(0, 1))
    episodes, seen = rollout(episodes, jr.split(key, len(episodes.elapsed)))
    each = lambda f: jax.vmap(jax.vmap(f))  # noqa: E731
    values, later = (each(lambda o: problem.value(critic, o))(o) for o in (seen.observation, seen.next_observation))
    gain = gae(seen.reward, values, later, gamma, lam, terminated=seen.terminated, truncated=seen.truncated)
    log_prob = each(lambda o, a: problem.policy(actor, o).log_prob(a))(seen.observation, seen.action)
    standard = (gain - gain.mean()) / jnp.maximum(gain.std(), jnp.finfo(gain.dtype).eps)
    parts = Experience(seen.observation, seen.action, log_prob, standard, gain + values)
    return episodes, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), parts)


def clipped_losses(
    problem: Decision, seen: Experience, clip: Scalar = 0.2
) -> tuple[Callable[[PyTree], Float[Array, ""]], Callable[[PyTree], Float[Array, ""]]]:
    r"""The two losses of proximal policy optimization, of the policy's and of the critic's parameters.

    $$ -\tfrac1n \sum \min\bigl(r A,\ \mathrm{clip}(r, 1 - \epsilon, 1 + \epsilon)\, A\bigr), \qquad
    r = \frac{\pi(a|s)}{\pi_0(a|s)}; \qquad \tfrac1n \sum (V(s) - \hat V)^2 $$

    Arguments:
        problem: Whose policy and values they are.
        seen: Steps under the old policy $\pi_0$.
        clip: $\epsilon$ > 0.

    Raises:
        ValueError: for ``clip`` out of range.

    Paper: Proximal Policy Optimization Algorithms.
    """
    in_range("clip", clip, 0.0, open_low=True)

    def actor_loss(actor: PyTree) -> Array:
        log_prob = jax.vmap(lambda o, a: problem.policy(actor, o).log_prob(a))(seen.observation, seen.action)
        ratio = jnp.exp(log_prob - seen.log_prob)
        return -jnp.mean(jnp.minimum(ratio * seen.advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * seen.advantage))

    def critic_loss(critic: PyTree) -> Array:
        return jnp.mean((jax.vmap(lambda o: problem.value(critic, o))(seen.observation) - seen.returns) ** 2)

    return actor_loss, critic_loss


class PPOState(NamedTuple):
    """Episodes under way, and Adam's state."""

    episodes: Episode
    optimizer: Any


@registry.method(
    "ppo",
    {"learning_rate": registry.LogUniform(1e-4, 1e-2), "clip": registry.Uniform(0.1, 0.3)},
    paper="policy-gradient-subspaces",
)
class PPO(Method):
    r"""Proximal policy optimization with a clipped surrogate.

    An iteration continues ``environments`` episodes for ``steps`` steps each (`experience`), and then goes through
    them ``epochs`` times, in shuffled minibatches, each time with a step of Adam along the gradients of
    `clipped_losses`. Choices: one learning rate for policy and critic; no bonus for entropy; gradients are not clipped.

    Arguments:
        learning_rate: Adam's, >= 0.
        clip: $\epsilon$ > 0: how far the ratio of policies may move and still gain.
        gamma: Discount factor in [0, 1].
        lam: The advantages' $\lambda$ in [0, 1].
        environments: Episodes continued side by side, >= 1.
        steps: Steps per episode and iteration, >= 1.
        epochs: Passes through them, >= 1.
        minibatches: Of each pass, >= 1; a divisor of environments * steps.

    Raises:
        ValueError: for an argument out of range.

    Paper: Proximal Policy Optimization Algorithms.
    """

    learning_rate: Scalar = hyper(3e-4, low=0.0)
    clip: Scalar = hyper(0.2, low=0.0, open_low=True)
    gamma: Scalar = hyper(0.99, low=0.0, high=1.0)
    lam: Scalar = hyper(0.95, low=0.0, high=1.0)
    environments: int = hyper(8, low=1, static=True, kw_only=True)
    steps: int = hyper(128, low=1, static=True, kw_only=True)
    epochs: int = hyper(4, low=1, static=True, kw_only=True)
    minibatches: int = hyper(4, low=1, static=True, kw_only=True)

    def init(self, problem: Decision, x: PyTree, key: PRNGKeyArray) -> PPOState:
        episodes = jax.vmap(problem.start)(jr.split(key, self.environments))
        return PPOState(episodes, optax.adam(self.learning_rate).init(x))

    def step(self, problem: Decision, x: PyTree, state: PPOState, key: PRNGKeyArray) -> tuple[PyTree, PPOState]:
        count = self.environments * self.steps
        if count % self.minibatches:
            raise ValueError(
                f"minibatches: expected a divisor of environments * steps, {count}, got {self.minibatches}; "
                "choose one, or other numbers of environments and steps"
            )
        for_rollout, for_order = jr.split(key)
        episodes, seen = experience(problem, x, state.episodes, for_rollout, self.steps, self.gamma, self.lam)
        orders = jax.vmap(lambda key: jr.permutation(key, count))(jr.split(for_order, self.epochs))

        def descend(carry: tuple[PyTree, Any], rows: Array) -> tuple[tuple[PyTree, Any], None]:
            x, optimizer = carry
            losses = clipped_losses(problem, jax.tree.map(lambda a: a[rows], seen), self.clip)
            gradients = tuple(grad(loss)(part) for loss, part in zip(losses, x, strict=True))
            updates, optimizer = optax.adam(self.learning_rate).update(gradients, optimizer, x)
            return (optax.apply_updates(x, updates), optimizer), None

        rows = orders.reshape(self.epochs * self.minibatches, -1)
        (x, optimizer), _ = jax.lax.scan(descend, (x, state.optimizer), rows)
        return x, PPOState(episodes, optimizer)
