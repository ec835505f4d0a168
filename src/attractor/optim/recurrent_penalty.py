"""The backward signal of recurrent networks: how it decays or grows, and a penalty that keeps its size."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attractor.checks import in_range

Step = Callable[[Array, Array], Array]
States = Float[Array, "steps width"]
Inputs = Float[Array, "steps ..."]


def jacobian_product_norms(step: Step, states: States, inputs: Inputs) -> Float[Array, " steps"]:
    r"""Spectral norms of $\partial x_T / \partial x_{T-1}, \partial x_T / \partial x_{T-2}, \dots$ along a trajectory.

    With $x_t = W \sigma(x_{t-1}) + \dots$ and $|\sigma'| \le \gamma$ the k-th is at most $(\gamma \lVert W \rVert)^k$:
    below 1 the gradient must vanish. It can explode once $\gamma$ times the spectral radius exceeds 1.

    Arguments:
        step: ``(x_t, u_t) -> x_{t+1}``.
        states: Where the Jacobians are taken: $x_0, \dots, x_{T-1}$.
        inputs: $u_0, \dots, u_{T-1}$.

    Paper: On the difficulty of training Recurrent Neural Networks.
    """

    def back(product: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        product = product @ jax.jacobian(step)(*at)
        return product, jnp.linalg.norm(product, 2)

    whole = jnp.eye(states.shape[1], dtype=states.dtype)
    return jax.lax.scan(back, whole, (states, inputs), reverse=True)[1][::-1]


def backward_signals(
    step: Step, x: Float[Array, " width"], inputs: Inputs, loss: Callable[[States], Float[Array, ""]]
) -> tuple[States, States]:
    r"""States $x_1 \dots x_T$ of a recurrence and the total derivatives $\partial E / \partial x_t$ of a loss on them.

    Arguments:
        step: ``(x_t, u_{t+1}) -> x_{t+1}``.
        x: First state $x_0$.
        inputs: $u_1, \dots, u_T$.
        loss: A function E of all the states.

    Paper: On the difficulty of training Recurrent Neural Networks.
    """

    def nudged(nudges: Array) -> tuple[Array, Array]:
        def body(x: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
            u, nudge = at
            x = step(x, u) + nudge
            return x, x

        states = jax.lax.scan(body, x, (inputs, nudges))[1]
        return loss(states), states

    signals, states = jax.grad(nudged, has_aux=True)(jnp.zeros((len(inputs), *x.shape), x.dtype))
    return states, signals


def vanishing_gradient_penalty(
    step: Step,
    x: Float[Array, " width"],
    inputs: Inputs,
    loss: Callable[[States], Float[Array, ""]],
    weight: float | Float[Array, ""] = 1.0,
) -> Float[Array, ""]:
    r"""Penalty on a recurrence that shrinks or stretches the gradient of a loss on its way back through time.

    $$
    \Omega = \frac{\alpha}{T - 1} \sum_{k=1}^{T-1}
    \left(\frac{\lVert \delta_{k+1}\, \partial x_{k+1} / \partial x_k \rVert}{\lVert \delta_{k+1} \rVert} - 1\right)^2,
    \qquad \delta_k = \partial E / \partial x_k
    $$

    Added to E. The gradient takes the states and the signals $\delta$ as constants, and so reaches only what the
    Jacobian itself depends on. For one sequence; ``jax.vmap`` it over a batch. The average over steps, where the paper
    writes a sum, makes one weight fit all lengths; steps whose signal is 0 are left out of it.

    Arguments:
        step: ``(x_t, u_{t+1}) -> x_{t+1}``, differentiable in the parameters it holds.
        x: First state $x_0$.
        inputs: $u_1, \dots, u_T$.
        loss: E, a function of all the states $x_1, \dots, x_T$.
        weight: $\alpha$, in [0, inf).

    Raises:
        ValueError: for a negative weight.

    Paper: On the difficulty of training Recurrent Neural Networks.
    """
    in_range("weight", weight, 0.0)
    states, signals = jax.lax.stop_gradient(backward_signals(step, x, inputs, loss))

    def stretched(x: Array, u: Array, signal: Array) -> tuple[Array, Array]:
        (before,) = jax.vjp(lambda x: step(x, u), x)[1](signal)
        alive = jnp.any(signal != 0) & jnp.any(before != 0)
        scale = jnp.where(alive, jnp.max(jnp.abs(signal)), 1.0)  # squares of small signals would underflow
        ratio = _norm(before / scale, alive) / _norm(signal / scale, alive)
        return jnp.where(alive, (ratio - 1) ** 2, 0.0), alive

    penalties, counted = jax.vmap(stretched)(states[:-1], inputs[1:], signals[1:])
    return weight * penalties.sum() / jnp.maximum(counted.sum(), 1)


def _norm(vector: Array, alive: Array) -> Array:
    """Euclidean norm, 1 where the vector is 0, so that its derivative is finite there too."""
    return jnp.sqrt(jnp.where(alive, jnp.sum(vector**2), 1.0))
