"""Straight through: derivatives for what has none, samples of categories and signs, as functions for any model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import Scalar, in_range
from attractor.credit.layered import Activation, Unit, dense, plain

Logits = Float[Array, "*batch k"]


@jax.custom_vjp
def _sampled(logits: Logits, one_hot: Logits, laws: Float[Array, "m *batch k"], weights: Float[Array, " m"]) -> Logits:
    """``one_hot``, with the Jacobian Σ_m weights_m (diag(laws_m) - laws_m laws_mᵀ) by the logits."""
    return one_hot


def _sampled_forward(
    logits: Logits, one_hot: Logits, laws: Array, weights: Array
) -> tuple[Logits, tuple[Array, Array, Array]]:
    return one_hot, (one_hot, laws, weights)


def _sampled_backward(kept: tuple[Array, Array, Array], slope: Logits) -> tuple[Array, ...]:
    one_hot, laws, weights = kept
    each = laws * (slope - (laws * slope).sum(-1, keepdims=True))
    return jnp.tensordot(weights, each, 1), jnp.zeros_like(one_hot), jnp.zeros_like(laws), jnp.zeros_like(weights)


_sampled.defvjp(_sampled_forward, _sampled_backward)


def _one_hot(noisy: Logits) -> Logits:
    return jax.nn.one_hot(noisy.argmax(-1), noisy.shape[-1], dtype=noisy.dtype)


def _noisy(logits: Logits, key: PRNGKeyArray) -> Logits:
    """What has its largest entry at each category as often as the softmax says."""
    return logits + jr.gumbel(key, logits.shape, logits.dtype)


def straight_through(
    logits: Logits, key: PRNGKeyArray, temperature: Scalar = 1.0, sample: Logits | None = None
) -> Logits:
    r"""A one-hot sample of categories, with the softmax's derivative: a first-order estimate.

    Forward $D \sim \pi = \operatorname{softmax}(\theta)$, as a one-hot vector; backward
    $J(\pi_\tau)\, g / \tau$ with the slope g by D, $J(q) = \operatorname{diag}(q) - q q^\top$ and
    $\pi_\tau = \operatorname{softmax}(\theta / \tau)$.

    Arguments:
        logits: θ, categories along the last axis; every row is a variable.
        key: Draws the samples.
        temperature: τ > 0, of the derivative alone.
        sample: One-hot vectors to be taken in place of drawn ones.

    Raises:
        ValueError: if ``temperature`` is not positive.

    Paper: Bridging Discrete and Backpropagation: Straight-Through and Beyond.
    """
    in_range("temperature", temperature, 0.0, open_low=True)
    one_hot = _one_hot(_noisy(logits, key)) if sample is None else sample
    law = jax.nn.softmax(logits / temperature)
    return _sampled(logits, one_hot, law[None], jnp.array([1.0], logits.dtype) / temperature)


def gumbel_straight_through(logits: Logits, key: PRNGKeyArray, temperature: Scalar = 1.0) -> Logits:
    r"""A one-hot sample of categories, with the derivative of a softmax that has the sample's own Gumbel noise G in it.

    Forward the largest of $\theta + G$, backward $J(y)\, g / \tau$ with
    $y = \operatorname{softmax}((\theta + G) / \tau)$.

    Arguments:
        logits: θ, categories along the last axis.
        key: Draws the samples.
        temperature: τ > 0.

    Raises:
        ValueError: if ``temperature`` is not positive.

    Paper: Bridging Discrete and Backpropagation: Straight-Through and Beyond (as a baseline).
    """
    in_range("temperature", temperature, 0.0, open_low=True)
    noisy = _noisy(logits, key)
    law = jax.nn.softmax(noisy / temperature)
    return _sampled(logits, _one_hot(noisy), law[None], jnp.array([1.0], logits.dtype) / temperature)


def reinmax(logits: Logits, key: PRNGKeyArray, temperature: Scalar = 1.0, sample: Logits | None = None) -> Logits:
    r"""A one-hot sample of categories, with a second-order estimate of the derivative from one sample.

    Forward $D \sim \pi = \operatorname{softmax}(\theta)$, backward
    $2 J\big(\tfrac12 (\pi_\tau + D)\big)\, g - \tfrac12 J(\pi)\, g$, in the terms of `straight_through`. Where the loss
    is a quadratic function of D, the mean over D is the exact gradient (τ = 1).

    Arguments:
        logits: θ, categories along the last axis; every row is a variable.
        key: Draws the samples.
        temperature: τ > 0; the paper tunes it from 1 upwards.
        sample: One-hot vectors to be taken in place of drawn ones.

    Raises:
        ValueError: if ``temperature`` is not positive.

    Paper: Bridging Discrete and Backpropagation: Straight-Through and Beyond.
    """
    in_range("temperature", temperature, 0.0, open_low=True)
    one_hot = _one_hot(_noisy(logits, key)) if sample is None else sample
    middle = (jax.nn.softmax(logits / temperature) + one_hot) / 2
    laws = jnp.stack([middle, jax.nn.softmax(logits)])
    return _sampled(logits, one_hot, laws, jnp.array([2.0, -0.5], logits.dtype))


def exact_categorical_gradient(f: Callable[[Float[Array, " k"]], Array], logits: Float[Array, " k"]) -> Array:
    r"""$\nabla_\theta\, E_{D \sim \operatorname{softmax}(\theta)} f(D)$ of one variable, by trying every category.

    Arguments:
        f: A scalar function of a one-hot vector.
        logits: θ of one variable.
    """
    values = jax.vmap(f)(jnp.eye(logits.shape[-1], dtype=logits.dtype))
    return jax.grad(lambda theta: jax.nn.softmax(theta) @ values)(logits)


def expected_categorical_gradient(
    sampler: Callable[..., Logits], f: Callable[[Float[Array, " k"]], Array], logits: Float[Array, " k"]
) -> Array:
    """The mean of a sampler's estimates, by trying every category; of one variable.

    Arguments:
        sampler: ``(logits, key, sample=one_hot) -> one_hot``, such as `reinmax`, with no other noise in its derivative.
        f: A scalar function of a one-hot vector.
        logits: θ of one variable.
    """
    each = jnp.eye(logits.shape[-1], dtype=logits.dtype)
    slopes = jax.vmap(lambda d: jax.grad(lambda theta: f(sampler(theta, jr.key(0), sample=d)))(logits))(each)
    return jax.nn.softmax(logits) @ slopes


def categorical_bound(
    params: tuple[Any, Any], images: Float[Array, "n d"], key: PRNGKeyArray, sampler: Callable, variables: int = 4
) -> Float[Array, ""]:
    """The negative evidence lower bound, in nats an image, of an autoencoder with categories between `dense` networks.

    Arguments:
        params: Of the encoder, whose outputs are logits, and of the decoder, whose outputs are those of the pixels.
        images: Pixels in [0, 1].
        key: Draws the samples.
        sampler: ``(logits (n, variables, k), key) -> one-hot``, such as `reinmax`.
        variables: How many the encoder's outputs are divided into, at least 1.

    Raises:
        ValueError: if ``variables < 1``.
    """
    in_range("variables", variables, 1)
    logits = jax.vmap(lambda x: dense(params[0], x, plain))(images).reshape(len(images), variables, -1)
    outputs = jax.vmap(lambda d: dense(params[1], d.ravel(), plain))(sampler(logits, key))
    divergence = jax.nn.softmax(logits) * (jax.nn.log_softmax(logits) + jnp.log(logits.shape[-1]))
    return (optax.sigmoid_binary_cross_entropy(outputs, images).sum(1) + divergence.sum((1, 2))).mean()


@jax.custom_vjp
def sign_with_slope(inputs: Array, slope: Array) -> Array:
    """The sign, +1 at 0, with ``slope`` as its derivative, an array of the same shape."""
    return jnp.where(inputs >= 0, 1.0, -1.0).astype(inputs.dtype)


sign_with_slope.defvjp(
    lambda inputs, slope: (sign_with_slope(inputs, slope), slope), lambda slope, g: (slope * g, jnp.zeros_like(slope))
)


def power_sign_slope(inputs: Array, o: Scalar = 3.0, t: Scalar = 1.5, m: Scalar = 0.1) -> Array:
    r"""The derivative that `power_sign` has.

    $\frac1o |x|^{(1 - o)/o}$ for $m < |x| \le t$, $m^{1/o - 1}$ below, 0 above.

    Arguments:
        inputs: x.
        o: Exponent, at least 1.
        t: Where it is cut off, > 0.
        m: Below it the slope is that of the chord, > 0.

    Raises:
        ValueError: if an argument is out of range.
    """
    in_range("o", o, 1.0)
    in_range("t", t, 0.0, open_low=True)
    in_range("m", m, 0.0, open_low=True)
    size = jnp.abs(inputs)
    power = jnp.maximum(size, m) ** ((1 - o) / o) / o
    return jnp.where(size > t, 0.0, jnp.where(size > m, power, jnp.asarray(m) ** (1 / o - 1))).astype(inputs.dtype)


def power_sign(inputs: Array, o: Scalar = 3.0, t: Scalar = 1.5, m: Scalar = 0.1) -> Array:
    r"""The sign of x (+1 at 0), with the derivative of $\operatorname{sign}(x)|x|^{1/o}$ in its place.

    With o = 1 this is `sign_through`; the larger o is, the nearer the function is to the sign, and the more its
    derivative varies (`power_sign_slope`). The paper lets o grow from 1 to 3 while a network is trained.

    Arguments:
        inputs: x.
        o: Exponent, at least 1; may be traced, as a schedule needs it.
        t: Beyond this size the derivative is zero, > 0.
        m: Below this size the derivative is the slope of the chord, $m^{1/o - 1}$; > 0.

    Raises:
        ValueError: if an argument is out of range.

    Paper: Estimator Meets Equilibrium Perspective: A Rectified Straight Through Estimator for Binary Neural Networks
    Training. Its text gives the function; the values of t and m are those of its published program.
    """
    return sign_with_slope(inputs, power_sign_slope(inputs, o, t, m))


def sign_through(inputs: Array, t: Scalar = 1.0) -> Array:
    """The sign of x (+1 at 0), with the derivative 1 where |x| <= t, and 0 elsewhere.

    Arguments:
        inputs: x.
        t: Beyond this size the derivative is zero, > 0.

    Raises:
        ValueError: if ``t`` is not positive.
    """
    in_range("t", t, 0.0, open_low=True)
    return sign_with_slope(inputs, (jnp.abs(inputs) <= t).astype(inputs.dtype))


def binary_dense(params: list[tuple[Array, Array]], x: Array, unit: Unit, activation: Activation) -> Array:
    """`dense` with binary weights in all layers but the first and the last; ``activation`` makes weights binary, too.

    Before their signs are taken, a row of weights gets mean 0 and variance 1; sums are divided by the square root of
    how many numbers they add.

    Arguments:
        params: As `dense_params` makes them.
        x: Inputs of one example.
        unit: What applies the nonlinearity.
        activation: A sign with a derivative, such as `power_sign`.
    """
    (first, bias), *middle, (last, offset) = params
    x = unit(activation, first @ x + bias)
    for weight, bias in middle:
        standard = (weight - weight.mean(1, keepdims=True)) / weight.std(1, keepdims=True)
        x = unit(activation, activation(standard) @ x / x.size**0.5 + bias)
    return last @ x + offset
