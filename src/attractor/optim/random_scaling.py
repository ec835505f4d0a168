"""Steps of random length: an exponential factor turns any base method's steps into ones with a nonsmooth guarantee."""

from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.registry import LogUniform, method

Sampler = Callable[[PRNGKeyArray], Float[Array, ""]]


def random_scaling(
    base: optax.GradientTransformation, sampler: Sampler = jr.exponential
) -> optax.GradientTransformationExtraArgs:
    r"""Multiply every update of a base method by one random number with mean 1.

    $$ x_{t+1} = x_t + s_t \Delta_t, \qquad s_t \sim \operatorname{Exp}(1) $$

    with $\Delta_t$ the base's update. For this law, and only for it, a gradient at the random end point measures the
    progress without bias, however rough the loss: $E[f(x + s\Delta) - f(x)] = E\langle \nabla f(x + s\Delta), \Delta
    \rangle$. So the regret of the base, seen as an online learner of $\Delta$, bounds how far from stationary the
    iterates are.

    ``update`` takes the extra argument ``key``, a fresh PRNG key; `attractor.run` passes it. All other extra arguments
    go to the base, which sees another key.

    Arguments:
        base: A complete method, learning rate included, or its last piece.
        sampler: Draws the factor from a key; another law than the exponential one loses the guarantee.

    Raises:
        ValueError: for an update without ``key``.

    Paper: Random Scaling and Momentum for Non-smooth Non-convex Optimization.
    """
    base = optax.with_extra_args_support(base)

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, *, key: PRNGKeyArray | None = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        if key is None:
            raise ValueError("key: expected a PRNG key, as in update(grads, state, params, key=key)")
        updates, state = base.update(updates, state, params, key=jr.fold_in(key, 1), **extra)
        factor = sampler(key)
        return jax.tree.map(lambda u: factor.astype(u.dtype) * u, updates), state

    return optax.GradientTransformationExtraArgs(base.init, update)


@method(
    "random-scaled-sgdm",
    {"learning_rate": LogUniform(1e-3, 10.0)},
    paper="random-scaled-sgdm",
    bad={"learning_rate": -1.0, "beta": 1.0},
)
def random_scaled_sgdm(
    learning_rate: optax.ScalarOrSchedule = 0.1, beta: Scalar = 0.9
) -> optax.GradientTransformationExtraArgs:
    r"""Gradient descent along a running mean of gradients, every step scaled by an exponential random number.

    $$ m_t = \beta m_{t-1} + (1 - \beta) g_t, \qquad x_{t+1} = x_t - s_t\, \eta\, m_t, \qquad s_t \sim
    \operatorname{Exp}(1) $$

    Over a horizon of T steps the theory takes $1 - \beta$ of the order of $T^{-2/3}$ and $\eta$ of $T^{-1/3}$; without
    bias correction, as in the paper.

    Arguments:
        learning_rate: The rate eta: a number in (0, inf) or a schedule.
        beta: Decay of the mean of gradients, in [0, 1).

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``key``.

    Paper: Random Scaling and Momentum for Non-smooth Non-convex Optimization.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("beta", beta, 0.0, 1.0, open_high=True)
    momentum = optax.ema(beta, debias=False)
    return random_scaling(optax.chain(momentum, optax.scale_by_learning_rate(learning_rate)))
