"""Trust-region policy optimization, and value functions fitted within a trust region."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor import registry
from attractor.checks import Scalar, in_range
from attractor.decision import Decision, Episode, Transition
from attractor.linalg.trust_region import trust_region_step
from attractor.method import Method, hyper
from attractor.rl.online.advantages import gae


def trust_region_value_fit(
    predict: Callable[[PyTree], Float[Array, " *shape"]],
    critic: PyTree,
    targets: Float[Array, " *shape"],
    eps: Scalar = 0.1,
    *,
    damping: Scalar = 0.0,
    cg_steps: int = 10,
) -> PyTree:
    r"""Fit a value function by one Gauss-Newton step within a trust region.

    $$
    \min_\phi \sum_n (V_\phi(s_n) - \hat V_n)^2 \quad\text{s.t.}\quad
    \frac1N \sum_n \frac{(V_\phi(s_n) - V_{\phi_0}(s_n))^2}{2\sigma^2} \le \epsilon, \qquad
    \sigma^2 = \frac1N \sum_n (V_{\phi_0}(s_n) - \hat V_n)^2
    $$

    The Hessian of the constraint at $\phi_0$ is the Gauss-Newton matrix over $\sigma^2$, so this is a
    `trust_region_step`. For a V that is linear in $\phi$ (and without damping) the step solves the problem
    exactly. Choices: where the paper rescales every step to the boundary, we stop at the unconstrained minimum when
    that lies inside (the boundary is then worse), and a step is halved until the constraint truly holds.

    Arguments:
        predict: ``critic -> predictions`` at the N states.
        critic: Parameters $\phi_0$.
        targets: $\hat V_n$, such as discounted returns, in the shape of the predictions.
        eps: Radius $\epsilon$ > 0, in units of the present error's variance.
        damping: As in `trust_region_step`.
        cg_steps: As in `trust_region_step`.

    Raises:
        ValueError: for an argument out of range, or targets of another shape than the predictions.

    Paper: High-Dimensional Continuous Control Using Generalized Advantage Estimation.
    """
    in_range("eps", eps, 0.0, open_low=True)
    before = lax.stop_gradient(predict(critic))
    if before.shape != targets.shape:
        raise ValueError(f"targets: expected the shape of the predictions, {before.shape}, got {targets.shape}")
    twice_variance = jnp.maximum(2 * jnp.mean((before - targets) ** 2), jnp.finfo(before.dtype).tiny)

    def distance_to(reference: Array) -> Callable[[PyTree], Array]:
        return lambda critic: jnp.mean((predict(critic) - reference) ** 2) / twice_variance

    return trust_region_step(
        distance_to(targets), distance_to(before), critic, eps, longest=1.0, damping=damping, cg_steps=cg_steps
    )


@registry.method(
    "trpo",
    {
        "lam": registry.Uniform(0.9, 1.0),
        "delta": registry.LogUniform(1e-3, 1e-1),
        "eps": registry.LogUniform(1e-2, 1.0),
    },
    paper="gae",
)
class TRPO(Method):
    r"""Trust-region policy optimization with generalized advantages and a trust-region value fit.

    An iteration continues ``environments`` episodes for ``steps`` steps each, estimates advantages A by `gae` and
    takes

    $$
    \begin{aligned}
    \theta &\leftarrow \arg\max_\theta \tfrac1N \sum_n \frac{\pi_\theta(a_n|s_n)}{\pi_{\theta_0}(a_n|s_n)} A_n
    \quad\text{s.t.}\quad \tfrac1N \sum_n \mathrm{KL}(\pi_{\theta_0}(\cdot|s_n) \| \pi_\theta(\cdot|s_n)) \le \delta
    \\ \phi &\leftarrow \text{trust\_region\_value\_fit towards } \hat V_n = \text{discounted returns}
    \end{aligned}
    $$

    by one natural-gradient step and line search (`trust_region_step`), and `trust_region_value_fit`. The advantages
    come from the critic before its fit, and are neither centered nor rescaled. Choices: all samples enter the
    Fisher-vector products; where a return is cut off, the critic's value stands for the rest of it.

    Arguments:
        gamma: Discount factor in [0, 1].
        lam: The advantages' $\lambda$ in [0, 1].
        delta: Radius of the policy's step in nats, > 0.
        eps: Radius of the critic's step in variances of its error, > 0.
        environments: Episodes continued side by side, >= 1.
        steps: Steps per episode and iteration, >= 1; the batch is environments * steps.
        damping: Added to the diagonal of both curvature matrices, >= 0.
        cg_steps: Iterations of conjugate gradients, >= 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: High-Dimensional Continuous Control Using Generalized Advantage Estimation.
    """

    gamma: Scalar = hyper(0.99, low=0.0, high=1.0)
    lam: Scalar = hyper(0.96, low=0.0, high=1.0)
    delta: Scalar = hyper(0.01, low=0.0, open_low=True)
    eps: Scalar = hyper(0.1, low=0.0, open_low=True)
    environments: int = hyper(16, low=1, static=True, kw_only=True)
    steps: int = hyper(128, low=1, static=True, kw_only=True)
    damping: Scalar = hyper(0.0, low=0.0, kw_only=True)
    cg_steps: int = hyper(10, low=1, static=True, kw_only=True)

    def init(self, problem: Decision, x: PyTree, key: PRNGKeyArray) -> Episode:
        return jax.vmap(problem.start)(jr.split(key, self.environments))

    def step(self, problem: Decision, x: PyTree, state: Episode, key: PRNGKeyArray) -> tuple[PyTree, Episode]:
        actor, critic = x
        keys = jr.split(key, self.environments)
        rollout = jax.vmap(lambda episode, key: problem.rollout(actor, episode, key, self.steps), out_axes=(0, 1))
        state, seen = rollout(state, keys)

        def value(critic: PyTree, observation: Array) -> Array:
            return jax.vmap(jax.vmap(partial(problem.value, critic)))(observation)

        values, next_values = value(critic, seen.observation), value(critic, seen.next_observation)
        estimate = partial(
            gae, seen.reward, values, next_values, self.gamma, terminated=seen.terminated, truncated=seen.truncated
        )
        options = {"damping": self.damping, "cg_steps": self.cg_steps}
        new_actor = _improve(problem, actor, seen, estimate(lam=self.lam), self.delta, **options)
        # The policy's step uses the old critic: fitting it to this very batch first would bias the advantages.
        returns = values + estimate(lam=1.0)
        fit = partial(value, observation=seen.observation)
        return (new_actor, trust_region_value_fit(fit, critic, returns, self.eps, **options)), state


def _improve(problem: Decision, actor: PyTree, seen: Transition, advantages: Array, delta: Scalar, **options) -> PyTree:
    """Maximize the importance-weighted advantage within mean KL divergence ``delta`` of the old policy."""
    policy = jax.vmap(jax.vmap(problem.policy, (None, 0)), (None, 0))
    log_prob = jax.vmap(jax.vmap(lambda distribution, action: distribution.log_prob(action)))
    divergence = jax.vmap(jax.vmap(lambda old, new: old.divergence(new)))
    old = policy(actor, seen.observation)
    old_log_prob = log_prob(old, seen.action)

    def surrogate_loss(actor: PyTree) -> Array:
        ratio = jnp.exp(log_prob(policy(actor, seen.observation), seen.action) - old_log_prob)
        return -jnp.mean(ratio * advantages)

    def mean_divergence(actor: PyTree) -> Array:
        return jnp.mean(divergence(old, policy(actor, seen.observation)))

    return trust_region_step(surrogate_loss, mean_divergence, actor, delta, **options)
