"""Advantage estimation: how much better an action was than what the policy does on average."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from attractor.checks import Scalar, in_range


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
