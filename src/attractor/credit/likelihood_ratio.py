"""Likelihood ratios: gradients from how the loss goes along with noise in the units, without a backward pass."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.scipy.stats import norm
from jaxtyping import Array, PRNGKeyArray, PyTree
from scipy.stats import qmc

from attractor.checks import Scalar, in_range
from attractor.credit.forward import Estimator
from attractor.credit.layered import LayeredGradient, LayeredLoss, local_gradient
from attractor.registry import LogUniform, method


def likelihood_ratio(
    sigma: Scalar = 0.1,
    copies: int = 16,
    *,
    antithetic: bool = True,
    baseline: bool = True,
    layerwise: bool = False,
    sobol: bool = False,
) -> Estimator:
    r"""An estimator of the gradient of a loss with noise in its units, from forward passes alone.

    Noise $\sigma \varepsilon_i$, $\varepsilon_i \sim \mathcal N(0, I)$, is added to the inputs $a_i$ of the hidden
    units of every example, c times. Layer i gets the mean over examples and copies of
    $(\partial a_i / \partial \theta_i)^\top (\ell - b)\, \varepsilon_i / \sigma$, with the loss $\ell$ of that example
    and copy, and the layers after the last unit the derivative of the criterion. This is without bias for the gradient
    of $E_\varepsilon\, f(\theta, \sigma\varepsilon)$, whatever the units do: steps and spikes have a gradient, too.

    Arguments:
        sigma: σ > 0, in the units of $a$.
        copies: c, forward passes per example and step, at least 2; where ``antithetic`` an even number, and at least 4
            with a ``baseline``.
        antithetic: Whether the second half of the copies has the first one's noise with the other sign. It takes out
            what is even in the noise, and half of the directions.
        baseline: Whether b is the mean loss of the example's other copies (or pairs of them), and not 0. It is needed
            with pairs, too, as what a layer sees of the layer before differs between the two.
        layerwise: Whether every copy has noise in one layer only, in turns; the objective is smoothed less, and
            ``copies`` (half of them where ``antithetic``) is a multiple of the number of layers with units.
        sobol: Whether the copies' noise is a Sobol sequence, shifted at random for every example. Copies depend on each
            other then, and a ``baseline`` of few of them brings a small bias.

    Returns:
        ``(loss: LayeredLoss, params, key) -> (value, estimate)``.

    Raises:
        ValueError: if an argument is out of range, or ``copies`` cannot be divided as said above.

    Paper: One Forward is Enough for Neural Network Training via Likelihood Ratio Method.
    """
    in_range("sigma", sigma, 0.0, open_low=True)
    in_range("copies", copies, 2)
    least = 4 if antithetic and baseline else 2
    if antithetic and (copies % 2 or copies < least):
        raise ValueError(
            f"copies: expected an even number >= {least}, as noise comes in pairs of both signs, got {copies}"
        )

    def estimate(loss: LayeredLoss, params: PyTree, key: PRNGKeyArray) -> tuple[Array, PyTree]:
        shapes, (inputs, _) = loss.units(params), loss.batch
        drawn, n, layers = copies // 2 if antithetic else copies, len(inputs), len(shapes)
        if layerwise and drawn % layers:
            raise ValueError(
                f"copies: expected a multiple of {layers * copies // drawn}, as layerwise noise takes turns in "
                f"{layers} layers, got {copies}"
            )
        noise = _normal(key, drawn, n, shapes, sobol, jax.tree.leaves(params)[0].dtype)
        if layerwise:
            turn = jnp.arange(drawn) % layers
            noise = [e * _along(turn == i, e) for i, e in enumerate(noise)]
        if antithetic:
            noise = [jnp.concatenate([e, -e]) for e in noise]
        flat = [e.reshape(copies * n, *e.shape[2:]) for e in noise]

        def assign(losses: Array, outputs: Array, values: list[Array]) -> list[Array]:
            reward = losses.reshape(copies, n)
            if baseline:  # the mean of the others, without this one's twin
                twin = jnp.roll(reward, drawn, 0) if antithetic else 0.0
                reward = reward - (reward.sum(0) - reward - twin) / (copies - (2 if antithetic else 1))
            heard = reward.ravel() * (layers if layerwise else 1) / sigma  # a layer is tried by one copy in so many
            return [_along(heard, e) * e for e in flat]

        repeated = jax.tree.map(lambda a: jnp.tile(a, (copies, *[1] * (a.ndim - 1))), loss.batch)
        return local_gradient(loss.at(repeated), params, assign, noise=[sigma * e for e in flat])

    return estimate  # pyright: ignore[reportReturnType]


def smoothed_backpropagation(sigma: Scalar = 0.1, copies: int = 1) -> Estimator:
    r"""Backpropagation through noise in the units: of $E_\varepsilon\, f(\theta, \sigma\varepsilon)$, too.

    What `likelihood_ratio` is to be compared with: the same objective, and the chain of derivatives.

    Arguments:
        sigma: Size of the noise in the inputs of the units, at least 0.
        copies: Passes per example, at least 1.

    Raises:
        ValueError: if an argument is out of range.
    """
    in_range("sigma", sigma, 0.0)
    in_range("copies", copies, 1)

    def estimate(loss: LayeredLoss, params: PyTree, key: PRNGKeyArray) -> tuple[Array, PyTree]:
        inputs, targets = loss.batch
        units = len(loss.units(params))

        def noisy(params: PyTree, x: Array, y: Array, key: PRNGKeyArray) -> Array:
            left = iter(jr.split(key, units))
            output = loss.network(params, x, lambda f, a: f(a + sigma * jr.normal(next(left), a.shape, a.dtype)))
            return loss.criterion(output, y)

        def mean(params: PyTree) -> Array:
            keys = jr.split(key, (copies, len(inputs)))
            return jax.vmap(jax.vmap(noisy, (None, 0, 0, 0)), (None, None, None, 0))(
                params, inputs, targets, keys
            ).mean()

        return jax.value_and_grad(mean)(params)

    return estimate  # pyright: ignore[reportReturnType]


def _along(first: Array, like: Array) -> Array:
    """An array for the first axis, to be multiplied with all of another."""
    return first.reshape(-1, *[1] * (like.ndim - 1)).astype(like.dtype)


def _normal(
    key: PRNGKeyArray, copies: int, n: int, shapes: list[tuple[int, ...]], sobol: bool, dtype: jnp.dtype
) -> list[Array]:
    """Standard normal numbers ``(copies, n, *shape)`` for every shape."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    if sobol:
        points = qmc.Sobol(sum(sizes), scramble=False).random_base2((copies - 1).bit_length())[:copies]
        shifted = (jnp.asarray(points, dtype)[:, None] + jr.uniform(key, (n, sum(sizes)), dtype)) % 1.0
        drawn = norm.ppf(jnp.clip(shifted, 1e-6, 1 - 1e-6))
    else:
        drawn = jr.normal(key, (copies, n, sum(sizes)), dtype)
    parts = jnp.split(drawn, np.cumsum(sizes)[:-1], axis=-1)
    return [part.reshape(copies, n, *shape) for part, shape in zip(parts, shapes, strict=True)]


@method(
    "likelihood-ratio-descent",
    {"learning_rate": LogUniform(1e-4, 0.1)},
    paper="unified-likelihood-ratio",
    example={"copies": 4},
    bad={"learning_rate": -1.0, "sigma": 0.0, "copies": 2},
)
def likelihood_ratio_descent(
    learning_rate: optax.ScalarOrSchedule, sigma: Scalar = 0.1, copies: int = 16
) -> LayeredGradient:
    r"""Adam with gradients by `likelihood_ratio`: no backward pass through the network.

    $\theta_{t+1} = \theta_t - \text{Adam}(\hat g_t)$.

    Arguments:
        learning_rate: At least 0, or an optax schedule.
        sigma: Size of the noise in the units, > 0.
        copies: Forward passes per example and step: an even number, at least 4.

    Raises:
        ValueError: if ``learning_rate`` is negative, or another argument out of range.

    Paper: One Forward is Enough for Neural Network Training via Likelihood Ratio Method.
    """
    in_range("learning_rate", learning_rate, 0.0)
    return LayeredGradient(optax.adam(learning_rate), likelihood_ratio(sigma, copies))
