"""Advantage estimation: how much better an action was than what the policy does on average."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from attractor.checks import Scalar, in_range
from attractor.problems.random_mdp import RandomMDP


def gae(
    rewards: Float[Array, "t *envs"],
    values: Float[Array, "t *envs"],
    next_values: Float[Array, "t *envs"],
    gamma: Scalar = 0.99,
    lam: Scalar = 0.95,
    *,
    terminated: Bool[Array, "t *envs"] | bool = False,
    truncated: Bool[Array, "t *envs"] | bool = False,
) -> Float[Array, "t *envs"]:
    r"""Generalized advantage estimates: TD residuals summed with weights $(\gamma\lambda)^l$.

    $$
    \begin{aligned}
    \delta_t &= r_t + \gamma (1 - \text{terminated}_t) V(s_{t+1}) - V(s_t) \\
    A_t &= \delta_t + \gamma\lambda (1 - \text{ended}_t) A_{t+1}
    \end{aligned}
    $$

    with *ended* = terminated or truncated. ``lam=0`` gives the TD residual, ``lam=1`` the discounted return minus
    the value. After termination there is nothing more to come; where an episode was merely cut off (also at the end
    of the arrays) the value of the next state stands for the rest, but no residual is taken over from the next
    episode.

    Arguments:
        rewards: $r_t$, time first.
        values: $V(s_t)$.
        next_values: $V(s_{t+1})$, of the state reached by step t, before any reset.
        gamma: Discount factor in [0, 1].
        lam: Weight $\lambda$ in [0, 1]: less variance towards 0, less bias towards 1.
        terminated: Whether step t ended the episode for good.
        truncated: Whether the episode was cut off after step t.

    Raises:
        ValueError: if ``gamma`` or ``lam`` is outside [0, 1], or the shapes differ.

    Paper: High-Dimensional Continuous Control Using Generalized Advantage Estimation.
    """
    in_range("gamma", gamma, 0.0, 1.0)
    in_range("lam", lam, 0.0, 1.0)
    if not rewards.shape == values.shape == next_values.shape:
        raise ValueError(
            "values, next_values: expected the shape of rewards, "
            f"{rewards.shape}, got {values.shape} and {next_values.shape}"
        )
    terminated = jnp.broadcast_to(terminated, rewards.shape)
    ended = terminated | truncated
    residuals = rewards + gamma * jnp.where(terminated, 0.0, next_values) - values
    weights = jnp.where(ended, 0.0, gamma * lam).astype(residuals.dtype)

    def backward(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        residual, weight = now
        advantage = residual + weight * later
        return advantage, advantage

    _, advantages = lax.scan(backward, jnp.zeros_like(residuals[0]), (residuals, weights), reverse=True)
    return advantages


def policy_gradient_error(
    estimate: Callable[..., Array],
    mdp: RandomMDP,
    values: Float[np.ndarray, " s"],
    rollouts: tuple[Int[np.ndarray, "t1 count"], Int[np.ndarray, "t count"]],
    gamma: float,
    lams: Sequence[float],
) -> tuple[list[float], list[float]]:
    """Of policy gradients by advantage estimates with some values, for each ``lam``: the exact bias, the variance.

    The gradient is that of the first action of each rollout. `gae` is linear in rewards and values, so that it maps
    expectations to expectations: the bias is the length of what remains with 300 expected steps.

    Arguments:
        estimate: ``estimate(rewards, values, next_values, gamma, lam)``, such as `gae`.
        mdp: The environment, and its policy.
        values: Of each state, right or wrong.
        rollouts: States and actions, of `RandomMDP.rollouts`.
        gamma: Discount factor, in [0, 1).
        lams: As of `gae`.

    Returns:
        Bias and one rollout's variance, each one number for each of ``lams``.
    """
    (states, actions), expected = rollouts, mdp.visits(300)
    score = mdp.score(states[0], actions[0])

    def advantages(rewards: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
        data = [jnp.asarray(a, float) for a in (rewards, values[:-1], values[1:])]
        return [np.asarray(estimate(*data, gamma, lam)[0]) for lam in lams]  # of the first action

    with jax.enable_x64(True):
        exact = advantages(expected[:-1] @ mdp.reward.ravel(), expected @ np.repeat(values, mdp.policy.shape[1]))
    bias = [float(np.linalg.norm(mdp.gradient(a.reshape(mdp.policy.shape) - mdp.advantage))) for a in exact]
    drawn = advantages(mdp.reward[states[:-1], actions], values[states])
    return bias, [float((a[:, None, None] * score).var(0).sum()) for a in drawn]
