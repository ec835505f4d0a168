"""Unrolled systems: losses after many steps, derivatives through all or some of them, and what chaos does to both."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range

Step = Callable[[PyTree, PyTree], PyTree]


class UnrolledLoss(eqx.Module):
    r"""The loss of a system $s_{t+1} = F(\theta, s_t)$ after T steps; a function of θ for any estimator of gradients.

    $$ L = \frac1k \sum_{t > T - k} \ell(\theta, s_t), \qquad
       \frac{d\ell(s_T)}{d\theta} = \partial_\theta \ell + \sum_{t \le T}
       \partial_s \ell \Big(\prod_{i = t + 1}^{T} \partial_s F(s_{i-1})\Big) \partial_\theta F(s_{t-1}) $$

    `jax.grad` of it is backpropagation through time, whose products of Jacobians grow as $e^{\lambda T}$ with the
    largest Lyapunov exponent λ (`jacobian_growth`); with a ``window`` it is truncated. For λ > 0 ask for function
    values instead (`attractor.blackbox.two_point_gradient`).

    Arguments:
        step: ``step(params, state) -> state``.
        criterion: ``criterion(params, state) -> scalar``.
        steps: T ≥ 1.
        last: k, over how many of the last states the criterion is averaged, from 1 to T.
        window: At least 1: no derivative passes from one stretch of so many steps to the next, counted from the end;
            `None`: through all steps. The value does not change.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Gradients are Not All You Need.
    """

    step: Step
    criterion: Callable[[PyTree, PyTree], Float[Array, ""]]
    steps: int = eqx.field(static=True)
    last: int = eqx.field(static=True, default=1)
    window: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        in_range("steps", self.steps, 1)
        in_range("last", self.last, 1, self.steps)
        if self.window is not None:
            in_range("window", self.window, 1)

    def __call__(self, params: PyTree, state: PyTree) -> Float[Array, ""]:
        """The loss from a first state ``state``."""

        def advance(state: PyTree, left: Array) -> tuple[PyTree, Array]:
            if self.window is not None:
                cut = left % self.window == 0
                state = jax.tree.map(lambda a: jnp.where(cut, jax.lax.stop_gradient(a), a), state)
            state = self.step(params, state)
            return state, self.criterion(params, state)

        left = jnp.arange(self.steps, 0, -1)  # steps still to go
        return jax.lax.scan(advance, state, left)[1][-self.last :].mean()


def jacobian_growth(
    step: Step, params: PyTree, state: PyTree, key: PRNGKeyArray, *, steps: int, discard: int = 0
) -> Float[Array, ""]:
    r"""By what power of e per step the product of a system's Jacobians grows: its largest Lyapunov exponent.

    A random tangent v goes along, $v \leftarrow \partial_s F(s)\, v$, and is made of length one again at every step;
    the result is the mean of the logarithms of its lengths. Above zero, gradients through many steps explode, and
    below it they do not; `jacobian_spectrum` looks at one step.

    Arguments:
        step: ``step(params, state) -> state``.
        params: θ.
        state: Where to start.
        key: Draws the tangent.
        steps: How many count, at least 1.
        discard: How many go before, at least 0, while state and tangent settle.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Gradients are Not All You Need.
    """
    in_range("steps", steps, 1)
    in_range("discard", discard, 0)

    def advance(carry: tuple[PyTree, PyTree], _: None) -> tuple[Any, Array]:
        state, tangent = jax.jvp(lambda s: step(params, s), carry[:1], carry[1:])
        length = optax.tree.norm(tangent)
        return (state, jax.tree.map(lambda v: (v / length).astype(v.dtype), tangent)), jnp.log(length)

    tangent = optax.tree.random_like(key, state, jax.random.normal)
    tangent = jax.tree.map(lambda v: v / optax.tree.norm(tangent), tangent)
    return jax.lax.scan(advance, (state, tangent), length=discard + steps)[1][discard:].mean()


def jacobian_spectrum(step: Step, params: PyTree, state: PyTree) -> Float[Array, " d"]:
    """The moduli of the eigenvalues of one step's Jacobian, the largest first; d numbers in ``state``.

    Arguments:
        step: ``step(params, state) -> state``.
        params: θ.
        state: Where.

    Paper: Gradients are Not All You Need.
    """
    flat, unravel = ravel_pytree(state)
    jacobian = jax.jacfwd(lambda s: ravel_pytree(step(params, unravel(s)))[0])(flat)
    return jnp.sort(jnp.abs(jnp.linalg.eigvals(jacobian)))[::-1]
