"""Weight decay: which coordinates are shrunk, and when."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Inexact, PyTree

from attractor.checks import Scalar, in_range
from attractor.optim.spectral import DimensionNumbers, scale_by_muon
from attractor.registry import LEARNING_RATE, LogUniform, method

WeightDecayMask = PyTree | Callable[[PyTree], PyTree] | None


def add_cautious_decayed_weights(weight_decay: Scalar, mask: WeightDecayMask = None) -> optax.GradientTransformation:
    r"""Decay only the weights that the update shrinks anyway, so that decay never fights the loss.

    $$ u \leftarrow u + \lambda\, \mathbb{1}[u x \ge 0]\, x \qquad\text{entrywise, then } x \leftarrow x - \eta u $$

    A drop-in for `optax.add_decayed_weights`: chain it after the pieces that make the direction and before the
    learning rate. A stationary point of the loss stays one: where decay has moved a weight off it, the next update has
    the opposite sign and switches decay off. Signs are compared instead of multiplying, as a product may underflow.

    Arguments:
        weight_decay: The coefficient lambda, in [0, inf); the one that suits ordinary decay.
        mask: Which leaves are decayed at all: a pytree of bools (a prefix of the parameters' is enough), or a
            function of the parameters that gives one; `None`: every leaf.

    Raises:
        ValueError: for a ``weight_decay`` out of range, or an update without ``params``.

    Paper: Cautious Weight Decay.
    """
    in_range("weight_decay", weight_decay, 0.0)

    def decay(u: Inexact[Array, "..."] | None, x: Inexact[Array, "..."] | None) -> Inexact[Array, "..."] | None:
        if u is None or x is None:  # a leaf that another transformation has masked
            return None
        return u + jnp.where(jnp.real(jnp.conj(jnp.sign(u)) * jnp.sign(x)) >= 0, weight_decay * x, 0)

    def update(updates: PyTree, params: PyTree | None) -> PyTree:
        if params is None:
            raise ValueError("params: cautious decay needs the parameters; call update(grads, state, params)")
        return jax.tree.map(decay, updates, params, is_leaf=lambda leaf: leaf is None)

    transformation = optax.stateless(update)
    return transformation if mask is None else optax.masked(transformation, mask)


def cautious_weight_decay(
    direction: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: Scalar = 0.1,
    mask: WeightDecayMask = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer from its direction: ``direction``, then cautious decay, then the learning rate.

    Arguments:
        direction: Maps gradients to the direction u of ``x <- x - learning_rate u``, such as `optax.scale_by_adam`.
        learning_rate: A number in (0, inf) or a schedule.
        weight_decay: As in `add_cautious_decayed_weights`.
        mask: As in `add_cautious_decayed_weights`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Cautious Weight Decay.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    return optax.chain(
        direction, add_cautious_decayed_weights(weight_decay, mask), optax.scale_by_learning_rate(learning_rate)
    )


_BAD = {"learning_rate": -1.0, "weight_decay": -1.0}
_SPACE = {"learning_rate": LEARNING_RATE, "weight_decay": LogUniform(1e-3, 1.0)}
_SLUG: dict[str, Any] = {"paper": "cautious-weight-decay", "example": {"learning_rate": 1e-3}}


@method("cautious-adamw", _SPACE, bad=_BAD | {"b1": 1.0, "b2": 1.0, "eps": 0.0}, **_SLUG)
def cautious_adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.1,
    mask: WeightDecayMask = None,
) -> optax.GradientTransformationExtraArgs:
    """AdamW with cautious weight decay: `cautious_weight_decay` around `optax.scale_by_adam`.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule.
        b1: Decay of the mean of gradients, in [0, 1).
        b2: Decay of the mean of squared gradients, in [0, 1).
        eps: Added to the denominator, in (0, inf).
        weight_decay: As in `add_cautious_decayed_weights`.
        mask: As in `add_cautious_decayed_weights`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Cautious Weight Decay.
    """
    in_range("b1", b1, 0.0, 1.0, open_high=True)
    in_range("b2", b2, 0.0, 1.0, open_high=True)
    in_range("eps", eps, 0.0, open_low=True)
    return cautious_weight_decay(optax.scale_by_adam(b1, b2, eps), learning_rate, weight_decay, mask)


@method(
    "cautious-lion",
    _SPACE | {"learning_rate": LogUniform(1e-5, 1e-1)},
    bad=_BAD | {"b1": 1.5, "b2": 1.0},
    **_SLUG,
)
def cautious_lion(
    learning_rate: optax.ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    weight_decay: Scalar = 0.1,
    mask: WeightDecayMask = None,
) -> optax.GradientTransformationExtraArgs:
    """Lion with cautious weight decay: `cautious_weight_decay` around `optax.scale_by_lion`.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule.
        b1: Share of the momentum in the direction whose sign is taken, in [0, 1].
        b2: Decay of the momentum, in [0, 1).
        weight_decay: As in `add_cautious_decayed_weights`.
        mask: As in `add_cautious_decayed_weights`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Cautious Weight Decay.
    """
    in_range("b1", b1, 0.0, 1.0)
    in_range("b2", b2, 0.0, 1.0, open_high=True)
    return cautious_weight_decay(optax.scale_by_lion(b1, b2), learning_rate, weight_decay, mask)


@method("cautious-sgdm", _SPACE | {"learning_rate": LogUniform(1e-3, 10.0)}, bad=_BAD | {"momentum": 1.0}, **_SLUG)
def cautious_sgdm(
    learning_rate: optax.ScalarOrSchedule,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.1,
    mask: WeightDecayMask = None,
) -> optax.GradientTransformationExtraArgs:
    """Momentum SGD with cautious weight decay: `cautious_weight_decay` around `optax.trace`.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule.
        momentum: Decay of the sum of gradients, in [0, 1).
        weight_decay: As in `add_cautious_decayed_weights`.
        mask: As in `add_cautious_decayed_weights`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Cautious Weight Decay.
    """
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    return cautious_weight_decay(optax.trace(momentum), learning_rate, weight_decay, mask)


@method("cautious-muon", _SPACE, bad=_BAD | {"beta": 1.0}, **_SLUG)
def cautious_muon(
    learning_rate: optax.ScalarOrSchedule,
    beta: Scalar = 0.95,
    weight_decay: Scalar = 0.1,
    mask: WeightDecayMask = None,
    dimension_numbers: DimensionNumbers = "out, in",
) -> optax.GradientTransformationExtraArgs:
    """Muon with cautious weight decay, on matrices; Adam with cautious weight decay on everything else.

    `cautious_weight_decay` around `scale_by_muon`.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule.
        beta: Decay of Muon's momentum, in [0, 1).
        weight_decay: As in `add_cautious_decayed_weights`.
        mask: As in `add_cautious_decayed_weights`.
        dimension_numbers: As in `scale_by_muon`: which leaves are matrices, and how they are laid out.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Cautious Weight Decay.
    """
    direction = scale_by_muon(beta, dimension_numbers=dimension_numbers)
    return cautious_weight_decay(direction, learning_rate, weight_decay, mask)
