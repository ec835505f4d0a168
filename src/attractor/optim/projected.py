"""Momentum methods for scale-invariant weights: steps without a radial part, so that norms grow less."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Inexact, PyTree

from attractor.checks import Scalar, in_range
from attractor.registry import LEARNING_RATE, LogUniform, method

Weights = Inexact[Array, "..."]


def _looks_invariant(
    xg: Float[Array, "..."], xx: Float[Array, "..."], gg: Float[Array, "..."], bound: Scalar
) -> Bool[Array, ""]:
    """Whether gradients are nearly orthogonal to weights (their products given), as where the loss ignores scale."""
    return jnp.all(jnp.abs(xg) <= bound * jnp.sqrt(xx) * jnp.sqrt(gg))  # true of units without a gradient


def _row_sums(a: Weights, b: Weights) -> Float[Array, " rows"]:
    """Inner products of rows: their eighths are added entry by entry first, which a compiler vectorizes."""
    products = jnp.real(jnp.conj(a) * b)
    products = products.astype(jnp.promote_types(products.dtype, jnp.float32))
    width = products.shape[1] // 8
    folded = sum((products[:, i * width : (i + 1) * width] for i in range(1, 8)), products[:, :width])
    return folded.sum(1) + products[:, 8 * width :].sum(1)


def _share(xu: Float[Array, "..."], xx: Float[Array, "..."]) -> Float[Array, "..."]:
    return xu / jnp.where(xx > 0, xx, 1)


def project_out_radial(
    direction: optax.GradientTransformation,
    delta: Scalar = 0.1,
    weight_decay: Scalar = 0.0,
    wd_ratio: Scalar = 0.1,
) -> optax.GradientTransformation:
    r"""Remove the radial part of a direction's steps on weights whose scale the loss ignores.

    With u the step of ``direction`` on a matrix or kernel w and g its gradient,

    $$
    u \leftarrow u - \frac{\langle w, u \rangle}{\lVert w \rVert^2} w
    \quad\text{if}\quad \frac{|\langle w, g \rangle|}{\lVert w \rVert \lVert g \rVert} \le \frac{\delta}{\sqrt{\dim w}}
    $$

    Here w is an output channel (an index of the leading axis) if all channels of a leaf pass the test, else the whole
    leaf if that passes; otherwise, and for vectors and scalars, u stays as it is. These groups are those of the
    authors' program. On projected leaves ``weight_decay`` is multiplied by ``wd_ratio``, as norms no longer grow.

    Arguments:
        direction: Maps gradients to u of ``x <- x - learning_rate u``, such as `optax.trace` or `optax.scale_by_adam`.
        delta: Threshold of the cosine, in [0, inf); 0 switches the projection off.
        weight_decay: Coefficient of w, added to u, in [0, inf).
        wd_ratio: Share of it that projected leaves get, in [0, 1].

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``params``.

    Paper: AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights.
    """
    in_range("delta", delta, 0.0)
    in_range("weight_decay", weight_decay, 0.0)
    in_range("wd_ratio", wd_ratio, 0.0, 1.0)

    def project(u: Weights, g: Weights, x: Weights) -> Weights:
        if x.ndim < 2:
            return u + weight_decay * x
        rows, dim = x.reshape(len(x), -1), x.size // len(x)
        # The step is kept, or every sum would compute it anew. The products of the leaf are sums of its channels'.
        slopes, steps = g.reshape(rows.shape), jax.lax.optimization_barrier(u.reshape(rows.shape))
        pairs = (rows, slopes), (rows, rows), (slopes, slopes), (rows, steps)
        xg, xx, gg, xu = (_row_sums(*pair) for pair in pairs)
        channels = (delta > 0) & _looks_invariant(xg, xx, gg, delta / dim**0.5)
        layer = (delta > 0) & _looks_invariant(xg.sum(), xx.sum(), gg.sum(), delta / x.size**0.5)
        radial = jnp.where(channels, _share(xu, xx), jnp.where(layer, _share(xu.sum(), xx.sum()), 0))
        decay = weight_decay * jnp.where(channels | layer, wd_ratio, 1)
        return (steps + (decay - radial).astype(x.dtype)[:, None] * rows).reshape(x.shape)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        if params is None:
            raise ValueError("params: the projection needs the parameters; call update(grads, state, params)")
        steps, state = direction.update(updates, state, params)
        return jax.tree.map(project, steps, updates, params), state

    return optax.GradientTransformation(direction.init, update)


_BAD = {"learning_rate": -1.0, "delta": -0.1, "weight_decay": -1.0, "wd_ratio": 2.0}


@method("sgdp", {"learning_rate": LogUniform(1e-3, 10.0)}, paper="adamp", bad=_BAD | {"momentum": 1.0})
def sgdp(
    learning_rate: optax.ScalarOrSchedule,
    momentum: Scalar = 0.9,
    delta: Scalar = 0.1,
    weight_decay: Scalar = 0.0,
    wd_ratio: Scalar = 0.1,
) -> optax.GradientTransformation:
    """Momentum SGD without the radial part of its steps: `project_out_radial` around `optax.trace`.

    The momentum itself keeps its radial part, as in the paper's algorithm. The authors' program overwrites its buffer
    with the projected step (without Nesterov's momentum), which leads elsewhere.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule.
        momentum: Decay of the sum of gradients, in [0, 1).
        delta: As in `project_out_radial`.
        weight_decay: As in `project_out_radial`, but of the gradient: as steps are sums of gradients, the decay of a
            step is ``weight_decay / (1 - momentum)``.
        wd_ratio: As in `project_out_radial`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    projected = project_out_radial(optax.trace(momentum), delta, weight_decay / (1 - momentum), wd_ratio)
    return optax.chain(projected, optax.scale_by_learning_rate(learning_rate))


@method("adamp", {"learning_rate": LEARNING_RATE}, paper="adamp", bad=_BAD | {"b1": 1.0, "b2": 1.0, "eps": 0.0})
def adamp(
    learning_rate: optax.ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    delta: Scalar = 0.1,
    weight_decay: Scalar = 0.0,
    wd_ratio: Scalar = 0.1,
) -> optax.GradientTransformation:
    """Adam without the radial part of its steps: `project_out_radial` around `optax.scale_by_adam`.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule.
        b1: Decay of the mean of gradients, in [0, 1).
        b2: Decay of the mean of squared gradients, in [0, 1).
        eps: Added to the denominator, in (0, inf).
        delta: As in `project_out_radial`.
        weight_decay: As in `project_out_radial`.
        wd_ratio: As in `project_out_radial`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("b1", b1, 0.0, 1.0, open_high=True)
    in_range("b2", b2, 0.0, 1.0, open_high=True)
    in_range("eps", eps, 0.0, open_low=True)
    projected = project_out_radial(optax.scale_by_adam(b1, b2, eps), delta, weight_decay, wd_ratio)
    return optax.chain(projected, optax.scale_by_learning_rate(learning_rate))
