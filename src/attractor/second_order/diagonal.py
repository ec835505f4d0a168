"""Methods that scale each coordinate by an estimate of the Hessian's diagonal."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Count, Scalar, in_range
from attractor.linalg.curvature import MatVec
from attractor.linalg.hutchinson import block_average, hutchinson_diagonal
from attractor.registry import LEARNING_RATE, method


class ScaleByAdahessianState(NamedTuple):
    """State of `scale_by_adahessian`."""

    steps: Int[Array, ""]
    mu: PyTree  # mean of gradients, like the parameters
    nu: PyTree  # mean of squared Hessian diagonals, like the parameters


def spatial_average(diagonal: Float[Array, "..."], block_size: Count = 1) -> Float[Array, "..."]:
    """Average a leaf's Hessian diagonal over entries that belong together, which lowers the variance of its estimate.

    A convolution kernel ``(out, in, *window)``, as Equinox and PyTorch lay it out, is averaged over its window; a
    matrix over runs of ``block_size`` entries; vectors and scalars stay as they are.

    Arguments:
        diagonal: One leaf.
        block_size: Entries per block of a matrix, at least 1 (no averaging).

    Paper: ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning.
    """
    if diagonal.ndim > 2:
        window = tuple(range(2, diagonal.ndim))
        return jnp.broadcast_to(diagonal.mean(window, keepdims=True), diagonal.shape)
    if diagonal.ndim != 2 or (isinstance(block_size, int) and block_size == 1):
        return diagonal
    return block_average(diagonal, block_size)


def scale_by_adahessian(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-4,
    hessian_power: Scalar = 1.0,
    block_size: Count = 1,
) -> optax.GradientTransformationExtraArgs:
    r"""Momentum divided by a root mean square of the Hessian diagonal, estimated by one random probe per step.

    $$
    \begin{aligned}
    D_t &= \operatorname{average}(z_t \odot \nabla^2 f(x_t) z_t), \qquad z_t \in \{-1, 1\}^d \\
    m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) D_t^2 \\
    u_t &= \hat m_t / (\hat v_t^{\,k/2} + \epsilon)
    \end{aligned}
    $$

    with hats for the bias corrections ``/ (1 - b^t)``. The average is `spatial_average`, of D itself as in the paper's
    formula, which keeps it unbiased (the authors' program averages its absolute value).

    ``update`` takes two extra arguments: ``hvp``, the function ``v -> Hv`` (see `attractor.linalg.hvp`), and
    ``key``, a fresh PRNG key. `attractor.run` passes both.

    Arguments:
        b1: Decay of the mean of gradients, in [0, 1).
        b2: Decay of the mean of squared Hessian diagonals, in [0, 1).
        eps: Added to the denominator, in (0, inf): a ReLU network has weights with no curvature at all.
        hessian_power: The exponent k, in [0, 1]: 1 scales as Newton's method does, 0 is gradient descent with momentum.
        block_size: Entries averaged together in matrices, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``hvp`` and ``key``.

    Paper: ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning.
    """
    in_range("b1", b1, 0.0, 1.0, open_high=True)
    in_range("b2", b2, 0.0, 1.0, open_high=True)
    in_range("eps", eps, 0.0, open_low=True)
    in_range("hessian_power", hessian_power, 0.0, 1.0)
    in_range("block_size", block_size, 1.0)

    def init(params: PyTree) -> ScaleByAdahessianState:
        steps = jnp.zeros([], jnp.int32)
        return ScaleByAdahessianState(steps, optax.tree.zeros_like(params), optax.tree.zeros_like(params))

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        hvp: MatVec | None = None,
        key: PRNGKeyArray | None = None,
        **_: Any,
    ) -> tuple[PyTree, ScaleByAdahessianState]:
        if hvp is None or key is None:
            raise ValueError("hvp, key: expected both, as in update(grads, state, params, hvp=hvp(loss, x), key=key)")
        diagonal = hutchinson_diagonal(hvp, updates, key)
        diagonal = jax.tree.map(lambda d: spatial_average(d, block_size), diagonal)
        steps = jnp.asarray(optax.safe_increment(state.steps))
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(diagonal, state.nu, b2, 2)
        mean = optax.tree.bias_correction(mu, b1, steps)
        mean_square = optax.tree.bias_correction(nu, b2, steps)
        direction = jax.tree.map(lambda m, v: m / (v ** (hessian_power / 2) + eps), mean, mean_square)
        return direction, ScaleByAdahessianState(steps, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)


@method(
    "adahessian",
    {"learning_rate": LEARNING_RATE},
    paper="adahessian",
    bad={
        "learning_rate": -1.0,
        "b1": 1.0,
        "b2": 1.0,
        "eps": 0.0,
        "hessian_power": 1.5,
        "weight_decay": -1.0,
        "block_size": 0,
    },
)
def adahessian(
    learning_rate: optax.ScalarOrSchedule = 0.15,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-4,
    hessian_power: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
    block_size: Count = 1,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam whose denominator follows the Hessian diagonal in place of the squared gradient.

    $$ x \leftarrow x - \eta\, (\hat m / (\hat v^{\,k/2} + \epsilon) + \lambda x) $$

    with the moments of `scale_by_adahessian`, whose ``update`` needs ``hvp`` and ``key``.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule; 1 is a Newton step on a diagonal quadratic.
        b1: Decay of the mean of gradients, in [0, 1).
        b2: Decay of the mean of squared Hessian diagonals, in [0, 1).
        eps: Added to the denominator, in (0, inf).
        hessian_power: The exponent k, in [0, 1].
        weight_decay: Decoupled decay lambda, in [0, inf).
        block_size: Entries averaged together in matrices, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``hvp`` and ``key``.

    Paper: ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("weight_decay", weight_decay, 0.0)
    return optax.chain(
        scale_by_adahessian(b1, b2, eps, hessian_power, block_size),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
