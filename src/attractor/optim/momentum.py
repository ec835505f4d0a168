"""Momentum with known constants: Nesterov's method, triple momentum, the heavy ball."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from attractor.checks import Scalar, in_range
from attractor.registry import LogUniform, method

SPACE = {"learning_rate": LogUniform(1e-4, 10.0), "condition": LogUniform(1.0, 1e5)}
BAD = {"learning_rate": -1.0, "condition": 0.5}


class TwoStepState(NamedTuple):
    """State of `two_step_momentum`: the last two iterates."""

    now: PyTree
    before: PyTree


def two_step_momentum(learning_rate: Scalar, momentum: Scalar, lookahead: Scalar) -> optax.GradientTransformation:
    r"""The family of accelerated methods with two iterates.

    $$ z_{k+1} = z_k + \beta (z_k - z_{k-1}) - \alpha \nabla f(x_k), \qquad x_k = z_k + \gamma (z_k - z_{k-1}) $$

    The parameters are the points $x_k$ at which gradients are taken.

    Arguments:
        learning_rate: $\alpha$, in (0, inf).
        momentum: $\beta$, in [0, 1).
        lookahead: $\gamma$, in [0, inf): 0 is the heavy ball, $\beta$ Nesterov's method.

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``params``.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    in_range("lookahead", lookahead, 0.0)

    def init(params: PyTree) -> TwoStepState:
        # Copies, as an argument's buffer can be donated only once.
        return TwoStepState(jax.tree.map(jnp.array, params), jax.tree.map(jnp.array, params))

    def update(updates: PyTree, state: TwoStepState, params: PyTree = None) -> tuple[PyTree, TwoStepState]:
        if params is None:
            raise ValueError("params: the lookahead needs the parameters; call update(grads, state, params)")
        z = jax.tree.map(lambda z, b, g: (z + momentum * (z - b) - learning_rate * g).astype(z.dtype), *state, updates)
        moves = jax.tree.map(lambda z, b, x: (z + lookahead * (z - b) - x).astype(x.dtype), z, state.now, params)
        return moves, TwoStepState(z, state.now)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _root(condition: Scalar) -> Array:
    in_range("condition", condition, 1.0)
    return jnp.sqrt(jnp.asarray(condition, float))


@method("nesterov", SPACE, paper="passivity-immersion-acceleration-ode", bad=BAD)
def nesterov(learning_rate: Scalar, condition: Scalar) -> optax.GradientTransformation:
    r"""Nesterov's method for strongly convex losses: $\beta = \gamma = (\sqrt\kappa - 1) / (\sqrt\kappa + 1)$.

    With ``learning_rate`` 1/L the distance shrinks by $(1 - 1/\sqrt\kappa)^{1/2}$ a step at least.

    Arguments:
        learning_rate: In (0, inf); 1/L.
        condition: $\kappa = L / \mu$, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: On the Dynamics of Acceleration in First order Gradient Methods.
    """
    root = _root(condition)
    momentum = (root - 1) / (root + 1)
    return two_step_momentum(learning_rate, momentum, momentum)


@method("triple-momentum", SPACE, paper="passivity-immersion-acceleration-ode", bad=BAD)
def triple_momentum(learning_rate: Scalar, condition: Scalar) -> optax.GradientTransformation:
    r"""The fastest known method of two steps for smooth, strongly convex losses.

    $$ \rho = 1 - 1/\sqrt\kappa, \qquad \alpha = (1 + \rho)/L, \qquad \beta = \frac{\rho^2}{2 - \rho}, \qquad
    \gamma = \frac{\rho^2}{(1 + \rho)(2 - \rho)} $$

    The distance shrinks by $\rho$ a step.

    Arguments:
        learning_rate: 1/L, in (0, inf).
        condition: $\kappa = L / \mu$, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: On the Dynamics of Acceleration in First order Gradient Methods.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    rho = 1 - 1 / _root(condition)
    lookahead = rho**2 / ((1 + rho) * (2 - rho))
    return two_step_momentum((1 + rho) * learning_rate, rho**2 / (2 - rho), lookahead)


@method("heavy-ball", SPACE, paper="passivity-immersion-acceleration-ode", bad=BAD)
def heavy_ball(learning_rate: Scalar, condition: Scalar) -> optax.GradientTransformation:
    r"""Polyak's heavy ball with the parameters that are best on quadratics; elsewhere it may cycle.

    $$ \alpha = \frac{4}{(\sqrt L + \sqrt\mu)^2}, \qquad
    \beta = \Big(\frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}\Big)^2, \qquad \gamma = 0 $$

    Arguments:
        learning_rate: 1/L, in (0, inf).
        condition: $\kappa = L / \mu$, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: On the Dynamics of Acceleration in First order Gradient Methods.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    root = _root(condition)
    return two_step_momentum(learning_rate * (2 * root / (root + 1)) ** 2, ((root - 1) / (root + 1)) ** 2, 0.0)
