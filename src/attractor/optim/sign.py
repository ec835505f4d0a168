"""Sign momentum and its relatives: momentum through the subgradient of a convex function, with decoupled decay."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from attractor.checks import Scalar, in_range
from attractor.registry import LogUniform, method


def unit_vector(m: PyTree) -> PyTree:
    """All leaves together divided by their Euclidean norm, a subgradient of that norm; zeros stay zero."""
    size = optax.tree.norm(m)
    return jax.tree.map(lambda leaf: (leaf / jnp.where(size > 0, size, 1)).astype(leaf.dtype), m)


def signs(m: PyTree) -> PyTree:
    """The sign of every entry, a subgradient of the sum of absolute values."""
    return jax.tree.map(jnp.sign, m)


class ScaleByLionKState(NamedTuple):
    """State of `scale_by_lion_k`."""

    mu: PyTree  # mean of gradients, like the parameters


def scale_by_lion_k(
    subgradient: Callable[[PyTree], PyTree] = signs, b1: Scalar = 0.9, b2: Scalar = 0.99
) -> optax.GradientTransformation:
    r"""Momentum through the subgradient of a convex function K.

    $$
    u_t = \partial K\bigl(\beta_1 m_{t-1} + (1 - \beta_1) g_t\bigr), \qquad m_t = \beta_2 m_{t-1} + (1 - \beta_2) g_t
    $$

    With decoupled decay $x \leftarrow x - \eta (u + \lambda x)$ its limits minimize
    $f(x) + \frac1\lambda K^*(\lambda x)$, with $K^*$ the convex conjugate: the sign (Lion) keeps
    $\lVert x \rVert_\infty \le 1/\lambda$, `unit_vector` keeps $\lVert x \rVert_2 \le 1/\lambda$. See `lion_lyapunov`.

    Arguments:
        subgradient: Of K, on pytrees like the parameters; default: `signs`.
        b1: Share of the momentum in what K sees, in [0, 1].
        b2: Decay of the momentum, in [0, 1).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Lion Secretly Solves Constrained Optimization: As Lyapunov Predicts.
    """
    in_range("b1", b1, 0.0, 1.0)
    in_range("b2", b2, 0.0, 1.0, open_high=True)

    def init(params: PyTree) -> ScaleByLionKState:
        return ScaleByLionKState(optax.tree.zeros_like(params))

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, ScaleByLionKState]:
        direction = subgradient(optax.tree.update_moment(updates, state.mu, b1, 1))
        return direction, ScaleByLionKState(optax.tree.update_moment(updates, state.mu, b2, 1))

    return optax.GradientTransformation(init, update)


@method(
    "lion-k",
    {"learning_rate": LogUniform(1e-5, 1e-1)},
    paper="lion-k",
    example={"subgradient": unit_vector},
    bad={"learning_rate": -1.0, "b1": 1.5, "b2": 1.0, "weight_decay": -1.0},
)
def lion_k(
    learning_rate: optax.ScalarOrSchedule,
    subgradient: Callable[[PyTree], PyTree] | None = None,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """Lion for any convex function K: `scale_by_lion_k` with decoupled decay. `optax.lion` is the case of `signs`.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule.
        subgradient: As in `scale_by_lion_k`; `None`: `signs`. Name it in ``static_args`` of
            `optax.inject_hyperparams`, which takes functions for schedules.
        b1: As in `scale_by_lion_k`.
        b2: As in `scale_by_lion_k`.
        weight_decay: The coefficient lambda, in [0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Lion Secretly Solves Constrained Optimization: As Lyapunov Predicts.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("weight_decay", weight_decay, 0.0)
    return optax.chain(
        scale_by_lion_k(signs if subgradient is None else subgradient, b1, b2),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def lion_lyapunov(
    value: Float[Array, ""],
    x: Float[Array, " d"],
    m: Float[Array, " d"],
    convex: Callable[[Float[Array, " d"]], Float[Array, ""]],
    conjugate: Callable[[Float[Array, " d"]], Float[Array, ""]],
    *,
    alpha: float,
    gamma: float,
    epsilon: float,
    weight_decay: float,
) -> Float[Array, ""]:
    r"""The function that Lion in continuous time never increases.

    Along $\dot m = -\alpha \nabla f(x) - \gamma m$ and
    $\dot x = \nabla K(m - \epsilon(\alpha \nabla f(x) + \gamma m)) - \lambda x$ with $\epsilon\gamma \le 1$,

    $$
    H(x, m) = \alpha f(x) + \frac\gamma\lambda K^*(\lambda x)
      + \frac{1 - \epsilon\gamma}{1 + \epsilon\lambda} \bigl(K^*(\lambda x) + K(m) - \lambda \langle m, x \rangle\bigr)
    $$

    does not increase; here m is minus the mean of gradients that `scale_by_lion_k` keeps.

    Arguments:
        value: f(x).
        x: The point.
        m: The momentum.
        convex: The function K.
        conjugate: Its convex conjugate $K^*$, finite at $\lambda x$.
        alpha: Weight of the gradient, in (0, inf).
        gamma: Damping of the momentum, in (0, inf).
        epsilon: Share of the present gradient, in [0, 1 / gamma].
        weight_decay: The coefficient lambda, in (0, inf).

    Raises:
        ValueError: for an argument out of range.

    Paper: Lion Secretly Solves Constrained Optimization: As Lyapunov Predicts.
    """
    in_range("alpha", alpha, 0.0, open_low=True)
    in_range("gamma", gamma, 0.0, open_low=True)
    in_range("weight_decay", weight_decay, 0.0, open_low=True)
    in_range("epsilon", epsilon, 0.0, 1 / gamma)
    constraint = conjugate(weight_decay * x)
    gap = constraint + convex(m) - weight_decay * jnp.vdot(m, x)  # never negative, by Fenchel and Young
    share = (1 - epsilon * gamma) / (1 + epsilon * weight_decay)
    return alpha * value + gamma / weight_decay * constraint + share * gap


def smoothed_absolute_sum(z: Float[Array, " d"], smoothing: float = 0.1) -> Float[Array, ""]:
    r"""$\sum_i \sqrt{z_i^2 + s^2}$, a smooth K for `lion_k`: the sum of absolute values with rounded corners.

    Arguments:
        z: Any point.
        smoothing: s, in (0, inf).
    """
    return jnp.sum(jnp.sqrt(z**2 + smoothing**2))


def smoothed_absolute_conjugate(z: Float[Array, " d"], smoothing: float = 0.1) -> Float[Array, ""]:
    r"""The conjugate of `smoothed_absolute_sum`, $-s \sum_i \sqrt{1 - z_i^2}$, for $|z_i| \le 1$.

    Arguments:
        z: In the unit box.
        smoothing: s, in (0, inf).
    """
    return -smoothing * jnp.sum(jnp.sqrt(1 - z**2))
