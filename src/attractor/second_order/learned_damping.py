"""Levenberg-Marquardt whose damping is chosen by a policy, and the environment in which a policy learns to."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.decision import Decision, Gaussian
from attractor.method import Method, hyper
from attractor.objectives import Composite
from attractor.registry import method
from attractor.second_order.levenberg_marquardt import LocalModel, known_solve, model_step
from attractor.trees import as_vector

Rule = Callable[[Float[Array, "4"]], Float[Array, ""]]
WEAKEST, STRONGEST = -8.0, 6.0  # common logarithms of the damping


class DampingState(NamedTuple):
    """What a rule may look at, besides the value of the loss: nothing in it depends on units."""

    value: Float[Array, ""]
    log_damping: Float[Array, ""]  # common logarithm
    gain: Float[Array, ""]  # actual over predicted decrease of the last step, within [-1, 2]
    drop: Float[Array, ""]  # tens by which the last step lowered the loss, at most 3
    accepted: Float[Array, ""]  # 1 or -1, and 0 before the first step

    @property
    def observation(self) -> Float[Array, "4"]:
        """All but the value."""
        return jnp.stack([self.log_damping / 4, self.gain, self.drop, self.accepted])


def first_state(value: Float[Array, ""], log_damping: Scalar = -3.0) -> DampingState:
    """The state before the first step."""
    gain, drop, accepted = (jnp.zeros_like(value) for _ in range(3))
    return DampingState(value, gain + log_damping, gain, drop, accepted)


def damped_iteration(
    x: Float[Array, " d"],
    jacobian: Float[Array, "m d"],
    gradient: Float[Array, " d"],
    loss: Callable[[Float[Array, " d"]], Float[Array, ""]],
    state: DampingState,
    change: Float[Array, ""],
    solve: str = "cholesky",
) -> tuple[Float[Array, " d"], DampingState]:
    r"""One step, after the damping is multiplied by a power of ten; a step that does not lower the loss is refused.

    $$ d = -(J^\top J + \mu \operatorname{diag}(J^\top J))^{-1} g $$

    Arguments:
        x: Where.
        jacobian: J there.
        gradient: g, of the loss there.
        loss: To be lowered.
        state: After the last step.
        change: The power.
        solve: As in `model_step`.
    """
    log_damping = jnp.clip(state.log_damping + change, WEAKEST, STRONGEST)
    step, predicted = model_step(jacobian, gradient, 10.0**log_damping, diagonal=True, solve=solve)
    new = loss(x + step)
    accepted = new < state.value
    value = jnp.where(accepted, new, state.value)
    ratio = (state.value - new) / jnp.where(predicted > 0, predicted, 1)
    gain = jnp.where(jnp.isfinite(ratio), jnp.clip(ratio, -1.0, 2.0), -1.0)
    before, after = (jnp.log10(jnp.maximum(v, jnp.finfo(x.dtype).tiny)) for v in (state.value, value))
    drop, sign = jnp.clip(before - after, 0.0, 3.0), jnp.where(accepted, 1.0, -1.0).astype(x.dtype)
    return jnp.where(accepted, x + step, x), DampingState(value, log_damping, gain, drop, sign)


def tenfold_rule(observation: Float[Array, "4"]) -> Float[Array, ""]:
    """The classic rule: a tenth of the damping after a step that was accepted, ten times as much after another."""
    return -observation[3]


def constant_rule(log_damping: Scalar) -> Rule:
    """The same damping always; its common logarithm."""
    return eqx.Partial(_return_to, log_damping)


def _return_to(log_damping: Scalar, observation: Float[Array, "4"]) -> Float[Array, ""]:
    return log_damping - 4 * observation[0]


def learned_rule(decision: Decision, actor: PyTree) -> Rule:
    """The mean action of a trained actor of `damping_environment`."""
    return eqx.Partial(_mean_action, decision.policy, actor)


def _mean_action(policy: Callable[[PyTree, Array], Gaussian], actor: PyTree, observation: Array) -> Array:
    return policy(actor, observation).mean[0]


@method("learned-damping", paper="learned-damping-ba", example={"log_damping": -1.0})
class LearnedDamping(Method):
    r"""Levenberg-Marquardt with a rule that looks at how the last step went and sets the damping of the next.

    $$ \log_{10} \mu \leftarrow \log_{10} \mu + \pi(\log_{10} \mu, \text{gain}, \text{drop}, \text{accepted}) $$

    then `damped_iteration`. What the rule sees does not depend on the units of the residuals or the parameters, so that
    one rule serves problems of all sizes; the classic one makes it `LevenbergMarquardt` with ``diagonal=True``. For
    another outer loss than half the squared norm, $J^\top J$ is the Gauss-Newton matrix. All parameters are taken as
    one vector.

    Arguments:
        rule: ``observation (4,) -> change``, as `DampingState` has it: `tenfold_rule`, a `learned_rule`, or your own.
        log_damping: Common logarithm of the damping that the rule starts from, in [-8, 6].
        solve: ``"svd"`` or ``"cholesky"``, see `model_step`.

    Raises:
        ValueError: for an argument out of range.

    Paper: A Game of Bundle Adjustment -- Learning Efficient Convergence.
    """

    rule: Rule = hyper(tenfold_rule)
    log_damping: Scalar = hyper(-3.0, low=WEAKEST, high=STRONGEST)
    solve: str = eqx.field(static=True, default="cholesky")

    def __check_init__(self) -> None:
        known_solve(self.solve)

    def init(self, problem: Composite, x: PyTree, key: PRNGKeyArray) -> DampingState:
        return first_state(problem.loss(x, problem.sample(key)).astype(as_vector(x)[0].dtype), self.log_damping)

    def step(
        self, problem: Composite, x: PyTree, state: DampingState, key: PRNGKeyArray
    ) -> tuple[PyTree, DampingState]:
        model = LocalModel.at(problem, x, problem.sample(key))
        fresh = state._replace(value=model.value)  # another batch has another value
        change = self.rule(state.observation)
        new, state = damped_iteration(model.flat, model.jacobian, model.gradient, model.loss, fresh, change, self.solve)
        return model.unravel(new), state


def losses_of_many(
    method: Method, residuals: Callable, data: PyTree, starts: Float[Array, "n d"], steps: int
) -> Float[Array, "n records"]:
    """Half the squared norm of ``residuals(x, instance)`` before and after each iteration, on many instances at once.

    Arguments:
        method: For least squares problems, such as `LearnedDamping`.
        residuals: ``residuals(x, instance) -> (m,)``.
        data: The instances, stacked: leaves ``(n, …)``.
        starts: Where each begins, ``(n, d)``.
        steps: Iterations, at least 1.

    Returns:
        ``(n, steps + 1)``.

    Raises:
        ValueError: for a number of steps out of range.
    """
    in_range("steps", steps, 1)

    def solve(instance: PyTree, start: Array) -> Array:
        problem = Composite.least_squares(lambda x: residuals(x, instance), start)

        def step(carry: tuple[Array, PyTree], _: None) -> tuple[tuple[Array, PyTree], Array]:
            x, state = method.step(problem, *carry, jr.key(0))
            return (x, state), problem.loss(x, None)

        first = start, method.init(problem, start, jr.key(0))
        return jnp.append(problem.loss(start, None), jax.lax.scan(step, first, length=steps)[1])

    return jax.vmap(solve)(data, starts)


class DampingPolicy(eqx.Module):
    """Normally distributed changes around the classic rule's, corrected by a network."""

    correction: eqx.nn.MLP
    log_std: Float[Array, "1"]

    def __call__(self, observation: Float[Array, "4"]) -> Gaussian:
        return Gaussian(tenfold_rule(observation) + self.correction(observation), self.log_std)


class _Solving(NamedTuple):
    """State of an episode."""

    instance: PyTree
    target: Float[Array, ""]
    x: Float[Array, " d"]
    damping: DampingState


class _Environment(eqx.Module):
    """Solve one of many problems, chosen at random, in few steps."""

    residuals: Callable
    data: PyTree
    starts: Float[Array, "n d"]
    targets: Float[Array, " n"]

    def reset(self, key: PRNGKeyArray) -> _Solving:
        i = jr.randint(key, (), 0, len(self.starts))
        instance, x = jax.tree.map(lambda leaf: leaf[i], (self.data, self.starts))
        return _Solving(instance, self.targets[i], x, first_state(self._loss(x, instance)))

    def step(self, state: _Solving, action: Array, key: PRNGKeyArray) -> tuple[_Solving, Array, Bool[Array, ""]]:
        residuals = eqx.Partial(self._residuals, state.instance)
        jacobian = jax.jacfwd(residuals)(state.x)
        gradient = jacobian.T @ residuals(state.x)
        loss = lambda x: self._loss(x, state.instance)  # noqa: E731
        x, damping = damped_iteration(state.x, jacobian, gradient, loss, state.damping, action[0])
        done = damping.value <= state.target
        return state._replace(x=x, damping=damping), -jnp.ones_like(damping.value), done

    def observe(self, state: _Solving) -> Float[Array, "4"]:
        return state.damping.observation

    def _residuals(self, instance: PyTree, x: Array) -> Array:
        return self.residuals(x, instance)

    def _loss(self, x: Array, instance: PyTree) -> Array:
        return 0.5 * jnp.sum(self.residuals(x, instance) ** 2)


def damping_environment(
    residuals: Callable[[Float[Array, " d"], PyTree], Float[Array, " m"]],
    data: PyTree,
    starts: Float[Array, "n d"],
    targets: Float[Array, " n"],
    horizon: int = 40,
    width: int = 16,
) -> Decision:
    """Learning to damp, as a decision problem: every step costs 1 until the loss has reached its target.

    An episode solves one of n least squares problems, chosen at random. The action, normally distributed, is the change
    of the damping's common logarithm. The actor (`DampingPolicy`) begins near the classic rule, with a standard
    deviation of half a power of ten; its network and the critic have one hidden layer each. (The paper trains a
    recurrent actor by soft actor-critic.)

    Arguments:
        residuals: ``residuals(x, instance) -> (m,)``.
        data: The instances, stacked: leaves ``(n, …)``.
        starts: Where each begins, ``(n, d)``.
        targets: Of half the squared norm of the residuals, ``(n,)``.
        horizon: Steps after which an episode is given up, at least 1.
        width: Units of the hidden layers, at least 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: A Game of Bundle Adjustment -- Learning Efficient Convergence.
    """
    in_range("horizon", horizon, 1)
    in_range("width", width, 1)
    environment = _Environment(residuals, data, starts, targets)

    def build(key: PRNGKeyArray) -> tuple[DampingPolicy, eqx.nn.MLP]:
        for_actor, for_critic = jr.split(key)
        correction = eqx.nn.MLP(4, 1, width, 1, activation=jnp.tanh, key=for_actor)
        critic = eqx.nn.MLP(4, "scalar", width, 1, activation=jnp.tanh, key=for_critic)
        return DampingPolicy(correction, jnp.full(1, -0.7)), critic

    return Decision.of_model(
        build, reset=environment.reset, step=environment.step, observe=environment.observe, horizon=horizon
    )
