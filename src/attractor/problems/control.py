"""Control tasks: gymnasium's environments as pure functions, so that whole rollouts compile and batch.

gymnasium's own functional versions (``gymnasium.envs.phys2d``) are not wrapped: they need flax, and their CartPole
takes the sum of the pole's mass and length where CartPole-v1 takes the product. What is here takes its constants and
time limit from the installed gymnasium and agrees with its NumPy environments step by step.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from attractor.decision import Categorical, Decision, Gaussian
from attractor.extras import missing
from attractor.registry import problem


class CategoricalPolicy(eqx.Module):
    """Logits from a network."""

    logits: eqx.nn.MLP

    def __call__(self, observation: Float[Array, " n"]) -> Categorical:
        return Categorical(self.logits(observation))


class GaussianPolicy(eqx.Module):
    """Mean from a network; standard deviations that do not depend on the observation."""

    mean: eqx.nn.MLP
    log_std: Float[Array, " d"]

    def __call__(self, observation: Float[Array, " n"]) -> Gaussian:
        return Gaussian(self.mean(observation), self.log_std)


class CartPole(eqx.Module):
    """CartPole-v1; the state is (position, velocity, angle, angular velocity) in m, m/s, rad, rad/s."""

    gravity: float
    masscart: float
    masspole: float
    length: float  # half the pole's
    force_mag: float
    tau: float
    x_threshold: float
    theta_threshold_radians: float

    def reset(self, key: PRNGKeyArray) -> Float[Array, "4"]:
        """Near upright at rest: every entry uniform in ±0.05."""
        return jr.uniform(key, (4,), minval=-0.05, maxval=0.05)

    def step(
        self, state: Float[Array, "4"], action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Float[Array, "4"], Float[Array, ""], Bool[Array, ""]]:
        """Push left (0) or right (1) for one time step, explicit Euler; reward 1 a step."""
        _, speed, angle, turn = state
        sine, cosine, mass = jnp.sin(angle), jnp.cos(angle), self.masscart + self.masspole
        force = jnp.where(action == 1, self.force_mag, -self.force_mag)
        pull = (force + self.masspole * self.length * turn**2 * sine) / mass
        inertia = self.length * (4 / 3 - self.masspole * cosine**2 / mass)
        turning = (self.gravity * sine - cosine * pull) / inertia
        push = pull - self.masspole * self.length * turning * cosine / mass
        state = state + self.tau * jnp.stack([speed, push, turn, turning])
        fallen = (jnp.abs(state[0]) > self.x_threshold) | (jnp.abs(state[2]) > self.theta_threshold_radians)
        return state, jnp.ones_like(pull), fallen

    def observe(self, state: Float[Array, "4"]) -> Float[Array, "4"]:
        """All of the state."""
        return state


class Pendulum(eqx.Module):
    """Pendulum-v1; the state is (angle from upright, angular velocity) in rad and rad/s."""

    max_speed: float
    max_torque: float
    dt: float
    g: float
    m: float
    l: float

    def reset(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        """Any angle, angular velocity within ±1."""
        return jr.uniform(key, (2,), minval=-1.0, maxval=1.0) * jnp.asarray([jnp.pi, 1.0])

    def step(
        self, state: Float[Array, "2"], action: Float[Array, "1"], key: PRNGKeyArray
    ) -> tuple[Float[Array, "2"], Float[Array, ""], Bool[Array, ""]]:
        """Apply a torque in N m, clipped to what the motor can give; the cost penalizes angle, speed and torque."""
        angle, turn = state
        torque = jnp.clip(action[0], -self.max_torque, self.max_torque)
        from_upright = (angle + jnp.pi) % (2 * jnp.pi) - jnp.pi
        cost = from_upright**2 + 0.1 * turn**2 + 0.001 * torque**2
        turning = 1.5 * self.g / self.l * jnp.sin(angle) + 3 / (self.m * self.l**2) * torque
        turn = jnp.clip(turn + turning * self.dt, -self.max_speed, self.max_speed)
        return jnp.stack([angle + turn * self.dt, turn]), -cost, jnp.zeros((), bool)

    def observe(self, state: Float[Array, "2"]) -> Float[Array, "3"]:
        """(cos angle, sin angle, angular velocity)."""
        return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])


@problem("cartpole", metric="return", steps=50)
def cartpole(width: int = 20, policy_depth: int = 0, horizon: int | None = None) -> Decision:
    """Balance a pole on a cart (gymnasium's CartPole-v1, at most 500 steps); records the mean return.

    Arguments:
        width: Units per hidden layer (tanh); the critic has one such layer.
        policy_depth: Hidden layers of the policy; 0 makes its logits linear in the observation.
        horizon: Steps after which an episode is cut off, at least 1; default: 500. With 200 it is CartPole-v0.

    Raises:
        ValueError: for a horizon below 1.
        ModuleNotFoundError: without gymnasium, the extra ``attractor[rl]``.
    """
    environment, limit = _from_gymnasium(CartPole, "CartPole-v1")

    build = eqx.Partial(_balancing, width, policy_depth)
    return _decision(environment, build, limit if horizon is None else horizon)


def _balancing(width: int, depth: int, key: PRNGKeyArray) -> tuple[CategoricalPolicy, eqx.nn.MLP]:
    for_actor, for_critic = jr.split(key)
    return CategoricalPolicy(_network(4, 2, width, depth, for_actor)), _network(4, "scalar", width, 1, for_critic)


@problem("pendulum", metric="return", steps=100)
def pendulum(width: int = 32, policy_depth: int = 1) -> Decision:
    """Swing a pendulum up with a weak motor (gymnasium's Pendulum-v1, 200 steps); records the mean return.

    Arguments:
        width: Units per hidden layer (tanh); the critic has one such layer.
        policy_depth: Hidden layers of the policy's mean; its standard deviation starts at 1 N m.

    Raises:
        ModuleNotFoundError: without gymnasium, the extra ``attractor[rl]``.
    """
    environment, horizon = _from_gymnasium(Pendulum, "Pendulum-v1")
    return _decision(environment, eqx.Partial(_swinging, width, policy_depth), horizon)


def _swinging(width: int, depth: int, key: PRNGKeyArray) -> tuple[GaussianPolicy, eqx.nn.MLP]:
    for_actor, for_critic = jr.split(key)
    mean = _network(3, 1, width, depth, for_actor)
    return GaussianPolicy(mean, jnp.zeros(1)), _network(3, "scalar", width, 1, for_critic)


def _network(inputs: int, outputs: Any, width: int, depth: int, key: PRNGKeyArray) -> eqx.nn.MLP:
    return eqx.nn.MLP(inputs, outputs, width, depth, activation=jnp.tanh, key=key)


def _decision(environment: Any, build: Any, horizon: int) -> Decision:
    return Decision.of_model(
        build, reset=environment.reset, step=environment.step, observe=environment.observe, horizon=horizon
    )


def _from_gymnasium(kind: type, name: str) -> tuple[Any, int]:
    """Our environment with gymnasium's constants, and gymnasium's time limit in steps."""
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise missing("gymnasium", "rl") from error
    theirs = gymnasium.make(name)
    constants = {f.name: float(getattr(theirs.unwrapped, f.name)) for f in dataclasses.fields(kind)}
    return kind(**constants), gymnasium.spec(name).max_episode_steps or 0
