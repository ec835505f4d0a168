"""Networks of large width: their limiting kernels, criticality, and what is left of randomness at finite width."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from attractor.checks import in_range
from attractor.linalg.curvature import hvp
from attractor.linalg.hutchinson import rademacher_like

NODES = np.linspace(-12.0, 12.0, 2001)  # of the trapezoidal rule, which converges geometrically for smooth functions
WEIGHTS = np.exp(-(NODES**2) / 2) * (NODES[1] - NODES[0]) / np.sqrt(2 * np.pi)
DEGREE = 64  # of Hermite expansions
STEP = 1e-5  # of central differences


class PiecewiseLinear(eqx.Module):
    r"""A scale-invariant activation, $\sigma(z) = a_+ z$ for $z > 0$ and $a_- z$ else; ReLU by default.

    Its Gaussian expectations are known in closed form; of other activations they are taken by quadrature.

    Attributes:
        positive: $a_+$.
        negative: $a_-$; 1 makes it linear, -1 the absolute value.
    """

    positive: float = 1.0
    negative: float = 0.0

    def __call__(self, z: Any) -> Any:
        """The values, of NumPy and JAX arrays alike."""
        return z * (self.negative + (self.positive - self.negative) * (z > 0))


Activation = Callable[[Any], Any]  # elementwise on arrays of NumPy, and of JAX where a network is made of it
RELU = PiecewiseLinear()


class Dual(NamedTuple):
    """Expectations under a Gaussian pair: of the product of activations, and of the product of their derivatives."""

    value: Float[np.ndarray, "..."]
    slope: Float[np.ndarray, "..."]


def _derivative(activation: Activation, z: np.ndarray) -> np.ndarray:
    return (np.asarray(activation(z + STEP)) - np.asarray(activation(z - STEP))) / (2 * STEP)


def _coefficients(values: np.ndarray) -> np.ndarray:
    """Of normalized Hermite polynomials, ``(DEGREE, ...)``, for values at the nodes ``(..., nodes)``."""
    weighted, last, this = values * WEIGHTS, np.zeros_like(NODES), np.ones_like(NODES)
    found = []
    for j in range(DEGREE):
        found.append(weighted @ this)
        last, this = this, (NODES * this - np.sqrt(j) * last) / np.sqrt(j + 1)
    return np.stack(found)


def dual_activation(activation: Activation, kxx: ArrayLike, kxy: ArrayLike, kyy: ArrayLike) -> Dual:
    r"""$E[\sigma(u)\sigma(v)]$ and $E[\sigma'(u)\sigma'(v)]$ for $(u, v)$ Gaussian with mean zero.

    `PiecewiseLinear` has the arc-cosine closed forms. Others are expanded in Hermite polynomials,
    $\sum_{j<64} a_j(\sqrt{k_{xx}})\, a_j(\sqrt{k_{yy}})\, \rho^j$, which suits smooth functions.

    Arguments:
        activation: Elementwise on NumPy arrays, in double precision (``np.tanh``).
        kxx: Variance of u, positive.
        kxy: Covariance; the correlation is clipped to [-1, 1].
        kyy: Variance of v, positive.

    Returns:
        Arrays of the shape to which the three broadcast.

    Raises:
        ValueError: if a variance is not positive.

    Paper: Neural Tangent Kernel: Convergence and Generalization in Neural Networks.
    """
    in_range("kxx", kxx, 0.0, open_low=True)
    in_range("kyy", kyy, 0.0, open_low=True)
    left, cross, right = np.broadcast_arrays(*(np.asarray(k, float) for k in (kxx, kxy, kyy)))
    scale = np.sqrt(left * right)
    cosine = np.clip(cross / scale, -1.0, 1.0)
    if isinstance(activation, PiecewiseLinear):
        even, odd = (activation.positive - activation.negative) / 2, (activation.positive + activation.negative) / 2
        angle = np.arccos(cosine)
        folded = 2 / np.pi * (np.sin(angle) + (np.pi / 2 - angle) * cosine)  # of |u| |v|, at unit variances
        value = scale * (odd**2 * cosine + even**2 * folded)
        return Dual(value, odd**2 + even**2 * (1 - 2 * angle / np.pi))
    roots = [np.sqrt(k)[..., None] * NODES for k in (left, right)]
    powers = cosine ** np.arange(DEGREE).reshape(-1, *[1] * cosine.ndim)
    value, slope = (
        np.sum(_coefficients(np.asarray(f(roots[0]))) * _coefficients(np.asarray(f(roots[1]))) * powers, 0)
        for f in (activation, lambda z: _derivative(activation, z))
    )
    return Dual(value, slope)


class WideKernels(NamedTuple):
    """Limits of infinite width: the covariance of outputs at initialization, and the tangent kernel."""

    covariance: Float[np.ndarray, "n m"]
    tangent: Float[np.ndarray, "n m"]


def infinite_ntk(
    inputs: Float[Array | np.ndarray, "n d"],
    others: Float[Array | np.ndarray, "m d"] | None = None,
    *,
    hidden: int = 1,
    activation: Activation = RELU,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
) -> WideKernels:
    r"""The kernels of a fully connected network of infinite width, with the scaling of `WideMLP`.

    $\Sigma^1 = C_w\, x \cdot x' / d + C_b$, $\Theta^1 = \Sigma^1$, and layer by layer
    $\Sigma^{l+1} = C_w E[\sigma(u)\sigma(v)] + C_b$ and
    $\Theta^{l+1} = \Sigma^{l+1} + C_w E[\sigma'(u)\sigma'(v)]\, \Theta^l$ with $(u, v) \sim N(0, \Sigma^l)$.

    Arguments:
        inputs: One a row, none of them zero unless there are biases.
        others: Of the second argument; default: ``inputs``.
        hidden: Number of hidden layers, at least 0.
        activation: See `dual_activation`.
        weight_variance: $C_w$, positive; 2 keeps the scale of ReLU networks.
        bias_variance: $C_b$, at least 0.

    Raises:
        ValueError: if a number is out of its range.

    Paper: Neural Tangent Kernel: Convergence and Generalization in Neural Networks.
    """
    in_range("hidden", hidden, 0)
    in_range("weight_variance", weight_variance, 0.0, open_low=True)
    in_range("bias_variance", bias_variance, 0.0)
    x = np.asarray(inputs, float)
    y = x if others is None else np.asarray(others, float)

    def first(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return weight_variance * a @ b.T / x.shape[1] + bias_variance

    cross = first(x, y)
    left, right = (weight_variance * np.mean(a * a, 1) + bias_variance for a in (x, y))
    tangent = cross
    for _ in range(hidden):
        dual = dual_activation(activation, left[:, None], cross, right[None])
        cross = weight_variance * dual.value + bias_variance
        tangent = cross + weight_variance * dual.slope * tangent
        left, right = (
            weight_variance * dual_activation(activation, k, k, k).value + bias_variance for k in (left, right)
        )
    return WideKernels(cross, tangent)


def linearized_dynamics(
    kernel: Float[Array | np.ndarray, "n n"],
    start: Float[Array | np.ndarray, " n"],
    targets: Float[Array | np.ndarray, " n"],
    times: ArrayLike,
) -> Float[np.ndarray, "times n"]:
    r"""Gradient flow of half the squared error in function space, $f_t = y + e^{-t K} (f_0 - y)$.

    Arguments:
        kernel: K, symmetric: of the sum over examples, not of their mean.
        start: $f_0$.
        targets: y.
        times: ``(times,)``, at least 0; gradient descent with rate $\eta$ is at $\eta k$ after k steps.

    Raises:
        ValueError: if a time is negative.

    Paper: Neural Tangent Kernel: Convergence and Generalization in Neural Networks.
    """
    in_range("times", times, 0.0)
    values, vectors = np.linalg.eigh(np.asarray(kernel, float))
    residual = vectors.T @ (np.asarray(start, float) - np.asarray(targets, float))
    return np.asarray(targets, float) + (np.exp(-np.multiply.outer(times, values)) * residual) @ vectors.T


class WideMLP(eqx.Module):
    r"""A network in the tangent-kernel parametrization: $h^{l+1} = \sqrt{C_w / n_l}\, W \sigma(h^l) + \sqrt{C_b}\, b$.

    All entries of W and b are standard normal, so that gradients, too, have a limit of infinite width.

    Attributes:
        weights: One ``(n out, n in)`` a layer.
        biases: One ``(n out,)`` a layer; left alone by training if ``bias_variance`` is 0.
        activation: Elementwise on JAX arrays.
        weight_variance: $C_w$.
        bias_variance: $C_b$.

    Paper: Neural Tangent Kernel: Convergence and Generalization in Neural Networks.
    """

    weights: list[Float[Array, "out n"]]
    biases: list[Float[Array, " out"]]
    activation: Activation = eqx.field(static=True)
    weight_variance: float = eqx.field(static=True)
    bias_variance: float = eqx.field(static=True)

    def __init__(
        self,
        widths: Sequence[int],
        activation: Activation = RELU,
        *,
        weight_variance: float = 1.0,
        bias_variance: float = 0.0,
        key: PRNGKeyArray,
    ):
        """Draw the parameters.

        Arguments:
            widths: Of the input, the hidden layers, the output, each at least 1; two of them or more.
            activation: Default: ReLU.
            weight_variance: Positive.
            bias_variance: At least 0.
            key: Of the draw.

        Raises:
            ValueError: if there are fewer than two widths, or a number is out of its range.
        """
        if len(widths) < 2:
            raise ValueError(f"widths: expected those of input and output at least, got {list(widths)}")
        in_range("widths", widths, 1)
        in_range("weight_variance", weight_variance, 0.0, open_low=True)
        in_range("bias_variance", bias_variance, 0.0)
        pairs = list(pairwise(widths))
        ends = np.cumsum([(a + 1) * b for a, b in pairs])
        drawn = jnp.split(jr.normal(key, (int(ends[-1]),)), ends[:-1])  # at once: one program compiles faster
        layers = [part.reshape(b, a + 1) for part, (a, b) in zip(drawn, pairs, strict=True)]
        self.weights, self.biases = [layer[:, :-1] for layer in layers], [layer[:, -1] for layer in layers]
        self.activation = activation
        self.weight_variance, self.bias_variance = weight_variance, bias_variance

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " k"]:
        """The outputs of one input."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x if i == 0 else self.activation(x)
            x = (self.weight_variance / weight.shape[1]) ** 0.5 * weight @ x + self.bias_variance**0.5 * bias
        return x


class LayerRecursion(NamedTuple):
    """What one input meets, layer by layer, in a random network; the first entry belongs to the first layer.

    Attributes:
        kernel: K, the variance of a preactivation.
        tangent: The limiting tangent kernel of a preactivation.
        vertex: V, the connected four-point function times the width: $E z^4 = 3 (K^2 + V / n)$.
        parallel: The susceptibility $dK^{l+1} / dK^l$.
        perpendicular: $C_w E[\\sigma'^2]$: what a gradient's square is multiplied by.
    """

    kernel: Float[np.ndarray, " depth"]
    tangent: Float[np.ndarray, " depth"]
    vertex: Float[np.ndarray, " depth"]
    parallel: Float[np.ndarray, " depth"]
    perpendicular: Float[np.ndarray, " depth"]


def _moments(activation: Activation, kernel: float) -> tuple[float, float, float, float]:
    """E s^2, E s^4, E s'^2 and d E s^2 / dK, at variance K."""
    if isinstance(activation, PiecewiseLinear):
        second, fourth = ((activation.positive**p + activation.negative**p) / 2 for p in (2, 4))
        return second * kernel, 3 * fourth * kernel**2, second, second
    z = np.sqrt(kernel) * NODES
    square, slope = np.asarray(activation(z)) ** 2, _derivative(activation, z)
    pull = square * (NODES**2 - 1) / (2 * kernel)
    return tuple(float(WEIGHTS @ f) for f in (square, square**2, slope**2, pull))  # pyright: ignore[reportReturnType]


def kernel_recursion(
    activation: Activation,
    depth: int,
    *,
    weight_variance: float,
    bias_variance: float = 0.0,
    start: float = 1.0,
) -> LayerRecursion:
    r"""The flow of one input's kernel, tangent kernel and four-point vertex through the layers.

    $K' = C_b + C_w E[\sigma^2]$, $\Theta' = K' + \chi_\perp \Theta$ (learning rates as in `WideMLP`) and
    $V' = C_w^2 (E[\sigma^4] - E[\sigma^2]^2) + \chi_\parallel^2 V$ at leading order in depth over width, with
    $\chi_\perp = C_w E[\sigma'^2]$, $\chi_\parallel = C_w\, d E[\sigma^2] / dK$; all layers are equally wide.

    Arguments:
        activation: See `dual_activation`.
        depth: Number of layers L, at least 1.
        weight_variance: $C_w$, positive.
        bias_variance: $C_b$, at least 0.
        start: K of the first layer, positive; there $\Theta = K$, and V = 0.

    Raises:
        ValueError: if a number is out of its range.

    Paper: The Principles of Deep Learning Theory.
    """
    in_range("depth", depth, 1)
    in_range("weight_variance", weight_variance, 0.0, open_low=True)
    in_range("bias_variance", bias_variance, 0.0)
    in_range("start", start, 0.0, open_low=True)
    kernel, tangent, vertex, rows = float(start), float(start), 0.0, []
    for _ in range(depth):
        second, fourth, slope, pull = _moments(activation, kernel)
        parallel, perpendicular = weight_variance * pull, weight_variance * slope
        rows.append((kernel, tangent, vertex, parallel, perpendicular))
        vertex = weight_variance**2 * (fourth - second**2) + parallel**2 * vertex
        kernel = bias_variance + weight_variance * second
        tangent = kernel + perpendicular * tangent
    return LayerRecursion(*np.array(rows).T)


class Criticality(NamedTuple):
    """Variances of the initialization at which signals and gradients neither explode nor vanish.

    Attributes:
        weight_variance: $C_w$.
        bias_variance: $C_b$.
        kernel: The fixed point $K^*$; NaN for scale-invariant activations, which keep any.
    """

    weight_variance: float
    bias_variance: float
    kernel: float


def criticality(activation: Activation, largest: float = 100.0) -> Criticality:
    r"""The variances at which both susceptibilities are 1 at a fixed point of the kernel.

    Scale-invariant activations have $C_w = 2 / (a_+^2 + a_-^2)$. Where $\sigma(0) = 0$ and the origin attracts
    ($\sigma''' / \sigma' + \tfrac34 (\sigma'' / \sigma')^2 < 0$), $K^* = 0$, $C_w = \sigma'(0)^{-2}$ and $C_b = 0$: the
    class of tanh. Else $K^* > 0$ is the first root of $\chi_\parallel = \chi_\perp$: the half-stable class of GELU.

    Arguments:
        activation: See `dual_activation`.
        largest: Where the search for $K^*$ ends, in (0, inf).

    Raises:
        ValueError: if the activation has no critical initialization, such as the logistic function.

    Paper: The Principles of Deep Learning Theory.
    """
    in_range("largest", largest, 0.0, open_low=True)
    if isinstance(activation, PiecewiseLinear):
        return Criticality(1 / _moments(activation, 1.0)[0], 0.0, float("nan"))
    h = 1e-3
    below2, below, zero, above, above2 = (float(v) for v in activation(h * np.arange(-2.0, 3.0)))
    first, second = (above - below) / (2 * h), (above - 2 * zero + below) / h**2
    third = (above2 - 2 * above + 2 * below - below2) / (2 * h**3)
    if zero == 0 and first != 0 and third / first + 0.75 * (second / first) ** 2 < -1e-6:
        return Criticality(float(_derivative(activation, np.zeros(1))[0]) ** -2, 0.0, 0.0)

    def imbalance(log_kernel: float) -> float:
        _, _, slope, pull = _moments(activation, float(np.exp(log_kernel)))
        return pull / slope - 1

    tried = np.linspace(np.log(1e-2), np.log(largest), 200)
    signs = np.sign([imbalance(t) for t in tried])
    for i in np.flatnonzero(signs[1:] != signs[:-1]):
        kernel = float(np.exp(brentq(imbalance, tried[i], tried[i + 1], xtol=1e-13)))  # pyright: ignore[reportArgumentType, reportCallIssue]
        square, _, slope, _ = _moments(activation, kernel)
        if kernel >= square / slope:
            return Criticality(1 / slope, kernel - square / slope, kernel)
    raise ValueError("activation: expected one that has a critical initialization, and found none")


def correlation_exponent(tensors: int, contractions: Sequence[tuple[int, int]] = ()) -> float:
    r"""The power of the width that bounds a correlation of derivatives of the outputs, $n_e + (n_o - m) / 2$.

    Of m derivative tensors, those that share a contracted index form a cluster; $n_e$ and $n_o$ clusters have an even
    and an odd number of tensors. $E[f\, \partial_\mu f\, \partial_\nu f\, \partial_{\mu\nu} f]$, say, has clusters of 1
    and 3.

    Arguments:
        tensors: m, at least 1.
        contractions: Pairs of tensors, from 0, that share an index; a tensor may be contracted with itself.

    Raises:
        ValueError: if there is no tensor, or a pair names one that is not there.

    Paper: On the asymptotics of wide networks with polynomial activations.
    """
    in_range("tensors", tensors, 1)
    cluster = list(range(tensors))
    for a, b in contractions:
        in_range("contractions", (a, b), 0, tensors - 1)
        cluster = [cluster[b] if c == cluster[a] else c for c in cluster]
    odd = [cluster.count(c) % 2 for c in set(cluster)]
    return len(odd) - sum(odd) + (sum(odd) - tensors) / 2


class Contractions(NamedTuple):
    """Contracted derivatives of one network's output; their means over initializations are the correlations.

    Attributes:
        square: $f^2$.
        tangent: $\\partial_\\mu f\\, \\partial_\\mu f$, the tangent kernel.
        drift: $f\\, \\partial_\\mu f\\, \\partial_\\nu f\\, \\partial_{\\mu\\nu} f$, which makes the kernel change.
        trace: $f\\, \\partial_{\\mu\\mu} f$, from random signs, one leaf at a time.
    """

    square: Float[Array, ""]
    tangent: Float[Array, ""]
    drift: Float[Array, ""]
    trace: Float[Array, ""]


def derivative_contractions(
    output: Callable[[PyTree], Float[Array, ""]], params: PyTree, key: PRNGKeyArray
) -> Contractions:
    r"""The contractions of an output's first and second derivatives by the parameters, at the price of a few gradients.

    Derivatives are those of automatic differentiation: of a kink, the second is zero.

    Arguments:
        output: Parameters to a number.
        params: Pytree of floating-point arrays.
        key: Of the signs for the trace.

    Paper: On the asymptotics of wide networks with polynomial activations.
    """
    value, gradient = jax.value_and_grad(output)(params)
    curvature = hvp(output, params)
    signs, structure = jax.tree.flatten(rademacher_like(key, params))

    def inner(a: PyTree, b: PyTree) -> Array:
        return jnp.asarray(optax.tree.vdot(a, b))

    # Leaf by leaf, so that what is multilinear in the leaves has no trace exactly.
    probes = [structure.unflatten([s * (i == j) for j, s in enumerate(signs)]) for i in range(len(signs))]
    block = [inner(probe, curvature(probe)) for probe in probes]
    return Contractions(
        value**2,
        inner(gradient, gradient),
        value * inner(gradient, curvature(gradient)),
        value * sum(block, start=jnp.zeros_like(value)),
    )


def recorded_descent(
    model: PyTree,
    inputs: Float[Array, "n d"],
    targets: Float[Array, " n"],
    rate: float | Float[Array, ""],
    records: int,
    steps: int,
    scale: float | Float[Array, ""] = 1.0,
) -> tuple[Float[Array, "records n"], PyTree]:
    r"""Gradient descent on half the squared error of ``scale`` times a model of one output.

    Arguments:
        model: A callable pytree of arrays, such as a `WideMLP`.
        inputs: One example per row.
        targets: Of each.
        rate: Step size, in (0, inf).
        records: How often the outputs are recorded, the first time at the start, at least 1.
        steps: From one record to the next, and after the last one.
        scale: Of the outputs.

    Returns:
        The outputs at each record, and the model at the end.

    Raises:
        ValueError: for too few records or steps.
    """
    in_range("records", records, 1)
    in_range("steps", steps, 1)

    def outputs(model: PyTree) -> Array:
        return scale * jax.vmap(model)(inputs)[:, 0]

    def step(model: PyTree, _: None) -> tuple[PyTree, None]:
        slope = jax.grad(lambda m: 0.5 * jnp.sum((outputs(m) - targets) ** 2))(model)
        return jax.tree.map(lambda p, g: p - rate * g, model, slope), None

    def record(model: PyTree, _: None) -> tuple[PyTree, Array]:
        return jax.lax.scan(step, model, length=steps)[0], outputs(model)

    end, values = jax.lax.scan(record, model, length=records)
    return values, end
