"""Networks split into layers by quadratic penalties, trained block after block in closed form."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import Scalar, in_range
from attractor.method import Method, hyper
from attractor.probe import Probe
from attractor.problem import Minimization
from attractor.problems.digits import digits
from attractor.problems.held_out import halves
from attractor.registry import LogUniform, method


class Split(NamedTuple):
    """The blocks of a `SplitNetwork`, one entry per layer in each; n examples."""

    weights: tuple[Float[Array, "out _"], ...]  # (units, inputs + 1): the last column is the bias
    inputs: tuple[Float[Array, "n _"], ...]  # U, in place of what goes into a layer's units
    outputs: tuple[Float[Array, "n _"], ...]  # V, in place of what comes out of them


def _squares(x: Array) -> Float[Array, ""]:
    return jnp.sum(x**2)


def leaky(x: Array, slope: Scalar) -> Array:
    """x where it is positive, ``slope`` x elsewhere; its derivative at 0 is that from the left."""
    return jnp.where(x > 0, x, slope * x)


def leaky_proximal(
    v: Float[Array, "..."], center: Float[Array, "..."], weight: Scalar, slope: Scalar = 0.0
) -> Float[Array, "..."]:
    r"""Entry by entry, $\arg\min_u\; (v - \sigma(u))^2 + w (u - c)^2$ with $\sigma$ = `leaky`.

    The better one of the minimizers of its two quadratic pieces.

    Arguments:
        v: What $\sigma(u)$ is to be.
        center: c.
        weight: w, in (0, inf).
        slope: Of $\sigma$ on the left, in [0, 1]; 0: rectified linear units.

    Raises:
        ValueError: for ``weight`` or ``slope`` out of range.
    """
    in_range("weight", weight, 0.0, open_low=True)
    in_range("slope", slope, 0.0, 1.0)
    right = jnp.maximum((v + weight * center) / (1 + weight), 0)
    left = jnp.minimum((slope * v + weight * center) / (slope**2 + weight), 0)
    costs = [(v - leaky(u, slope)) ** 2 + weight * (u - center) ** 2 for u in (right, left)]
    return jnp.where(costs[0] <= costs[1], right, left)


class SplitLoss(eqx.Module):
    """The objective of a `SplitNetwork`, a function of the blocks and ``(inputs, targets)``; arguments as there."""

    penalty: Scalar
    criterion: Callable[[Array, Array], Array] | None
    decay: Scalar
    slope: Scalar
    skips: tuple[bool, ...] = eqx.field(static=True)

    def __call__(self, x: Split, batch: tuple[Array, Array]) -> Float[Array, ""]:
        before = (batch[0], *x.outputs[:-1])
        penalties = sum(
            _squares(v - self.units(i, u) - self.past(i, b)) + _squares(u - b @ w[:, :-1].T - w[:, -1])
            for i, (w, u, v, b) in enumerate(zip(*x, before, strict=True))
        )
        decay = self.decay / 2 * sum(map(_squares, x.weights))
        return self.fit(x.outputs[-1], batch[1]) + decay + self.penalty / 2 * penalties

    def units(self, i: int, u: Array) -> Array:
        """What the units of layer i make of their inputs."""
        return u if i == len(self.skips) - 1 else leaky(u, self.slope)

    def past(self, i: int, before: Array) -> Array | float:
        """What goes past layer i: its input where it is residual, else nothing."""
        return before if self.skips[i] else 0.0

    def fit(self, output: Float[Array, "n _"], targets: Array) -> Float[Array, ""]:
        """The sum of the criterion over the examples."""
        if self.criterion is None:
            return _squares(output - targets) / 2
        return jax.vmap(self.criterion)(output, targets).sum()

    def passes(self, weights: tuple[Array, ...], x: Float[Array, "n _"]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """A forward pass: inputs and outputs of every layer. The network's output is ``passes(…)[1][-1]``."""
        inputs, outputs = (), ()
        for i, w in enumerate(weights):
            inputs = (*inputs, x @ w[:, :-1].T + w[:, -1])
            x = self.units(i, inputs[-1]) + self.past(i, x)
            outputs = (*outputs, x)
        return inputs, outputs


def _start(
    loss: SplitLoss, sizes: tuple[int, ...], scale: float | None, bias: float, x: Array, key: PRNGKeyArray
) -> Split:
    layers = zip(jr.split(key, len(sizes) - 1), sizes[:-1], sizes[1:], strict=True)
    drawn = [(scale or (2 / m) ** 0.5) * jr.normal(k, (n, m), x.dtype) for k, m, n in layers]
    weights = tuple(jnp.pad(w, ((0, 0), (0, 1)), constant_values=bias) for w in drawn)
    return Split(weights, *loss.passes(weights, x))


class SplitNetwork(Minimization):
    r"""Train a network of which all layers' inputs U and outputs V are unknowns, too (three-way splitting):

    $$ \min_{W, U, V}\; \sum_n \ell(V_{N,n}, y_n) + \frac\lambda2 \sum_i \lVert W_i \rVert^2
       + \frac\gamma2 \sum_{i=1}^{N} \bigl( \lVert V_i - \sigma_i(U_i) - c_i V_{i-1} \rVert^2
       + \lVert U_i - W_i (V_{i-1}, 1) \rVert^2 \bigr) $$

    with $V_0$ the data, $\sigma$ `leaky` and the identity in the last layer. The start is a forward pass, so that all
    penalties begin at zero.

    Arguments:
        sizes: Units of every layer, inputs and outputs included.
        data: ``(inputs (n, sizes[0]), targets (n, …))``.
        penalty: $\gamma$, in (0, inf).
        criterion: $\ell$, ``(output, target) -> scalar`` for one example; `None`: half the squared error.
        decay: $\lambda$, in [0, inf).
        slope: Of the units where their input is negative, in [0, 1].
        residual: Whether a hidden layer adds its input to its output ($c_i = 1$) where both have the same size.
        scale: Standard deviation of the first weights, in (0, inf); `None`: ``(2 / inputs) ** 0.5`` in each layer.
        bias: All first biases.
        probes: As in `attractor.Minimization`.

    Raises:
        ValueError: for an argument out of range, or data that do not fit ``sizes``.

    Paper: Global Convergence of Block Coordinate Descent in Deep Learning.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        data: tuple[Any, Any],
        penalty: Scalar = 1.0,
        criterion: Callable[[Array, Array], Array] | None = None,
        decay: Scalar = 0.0,
        slope: Scalar = 0.0,
        residual: bool = False,
        scale: float | None = None,
        bias: float = 0.0,
        probes: Mapping[str, Any] | None = None,
    ):
        in_range("penalty", penalty, 0.0, open_low=True)
        in_range("decay", decay, 0.0)
        in_range("slope", slope, 0.0, 1.0)
        if scale is not None:
            in_range("scale", scale, 0.0, open_low=True)
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes: expected at least two numbers >= 1, inputs first, outputs last, got {sizes}")
        inputs, targets = map(jnp.asarray, data)
        if inputs.shape[1:] != (sizes[0],) or (criterion is None and targets.shape[1:] != (sizes[-1],)):
            raise ValueError(
                f"data: expected inputs (n, {sizes[0]}) and targets (n, {sizes[-1]}), as sizes says, got "
                f"{inputs.shape} and {targets.shape}; one-hot labels, or give a criterion"
            )
        skips = [residual and i > 0 and sizes[i] == sizes[i + 1] for i in range(len(sizes) - 2)]
        loss = SplitLoss(penalty, criterion, decay, slope, (*skips, False))
        start = eqx.Partial(_start, loss, tuple(sizes), scale, bias, inputs)
        super().__init__(loss, start, (inputs, targets), probes=probes)

    @property
    def split(self) -> SplitLoss:
        """The objective, with its parts."""
        assert isinstance(self.loss, SplitLoss)
        return self.loss

    def stationarity(self, x: Split) -> Float[Array, ""]:
        """How far from critical: the distance of 0 from the (limiting) subdifferential of the objective."""
        net = self.split
        g = jax.grad(net)(x, self.full)
        total = sum(map(_squares, (*g.weights, *g.outputs, g.inputs[-1])))
        before = (self.full[0], *x.outputs[:-1])
        for i, (left, u, v) in enumerate(zip(g.inputs[:-1], x.inputs, x.outputs, strict=False)):
            # At the kink: slopes from both sides, and all between where it is convex.
            residual = v - net.units(i, u) - net.past(i, before[i])
            right = left - net.penalty * (1 - net.slope) * residual
            between = jnp.maximum(jnp.maximum(left, -right), 0)
            kink = jnp.where(residual <= 0, between, jnp.minimum(jnp.abs(left), jnp.abs(right)))
            total = total + _squares(jnp.where(u == 0, kink, left))
        return jnp.sqrt(total)

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> "SplitNetwork":
        """Three layers, one of them residual; see `attractor.problem.Problem.example`."""
        x = jnp.asarray(np.random.default_rng(0).standard_normal((6, 3)), dtype)
        return SplitNetwork((3, 4, 4, 2), (x, jnp.stack([x.sum(1), x[:, 0] ** 2], 1)), slope=0.1, residual=True)


@method("layer-splitting", {"proximal": LogUniform(1e-2, 1e2)}, paper="bcd-dnn-kl")
class LayerSplitting(Method):
    r"""Block coordinate descent on a `SplitNetwork`: from the last layer to the first, V, U, W by turns, no gradients.

    Every block goes to the exact minimizer of the objective, all others as they are now; where that is not strongly
    convex in it, with the proximal term $\frac\alpha2 \lVert \cdot - \cdot^{\text{old}} \rVert^2$: in all weights, in
    the inputs of hidden units and in the outputs of the network. With a criterion other than the squared error the
    network's outputs take the gradient step that its linear model gives,
    $V_N \leftarrow (\gamma U_N + \alpha V_N - \nabla \ell(V_N)) / (\gamma + \alpha)$. A sweep brings the objective down
    by at least $\frac12 \min(\alpha, \gamma)$ times the squared length of the step, with the linear model where
    $\alpha > (L - \gamma) / 2$ with L the smoothness of the criterion, and by $\alpha + (\gamma - L) / 2$ if that is
    less.

    Arguments:
        proximal: $\alpha$, in (0, inf).

    Raises:
        ValueError: for ``proximal`` out of range.

    Paper: Global Convergence of Block Coordinate Descent in Deep Learning.
    """

    proximal: Scalar = hyper(1.0, low=0.0, open_low=True)

    def step(self, problem: SplitNetwork, x: Split, state: None, key: PRNGKeyArray) -> tuple[Split, None]:
        net, alpha, gamma = problem.split, self.proximal, problem.split.penalty
        weights, inputs, outputs = map(list, x)
        data, targets = problem.full
        for i in reversed(range(len(weights))):
            before = outputs[i - 1] if i else data
            past = net.past(i, before)
            if i == len(weights) - 1:
                outputs[i] = self._last(net, inputs[i], outputs[i], targets)
                inputs[i] = (outputs[i] + before @ weights[i][:, :-1].T + weights[i][:, -1]) / 2
            else:
                after, bias = weights[i + 1][:, :-1], weights[i + 1][:, -1]
                beyond = net.past(i + 1, outputs[i + 1] - net.units(i + 1, inputs[i + 1]))
                wanted = net.units(i, inputs[i]) + past + (inputs[i + 1] - bias) @ after + beyond
                near = (1 + net.skips[i + 1]) * jnp.eye(after.shape[1], dtype=after.dtype)
                outputs[i] = _solve(near + after.T @ after, wanted.T).T
                mean = before @ weights[i][:, :-1].T + weights[i][:, -1]
                center = (gamma * mean + alpha * inputs[i]) / (gamma + alpha)
                inputs[i] = leaky_proximal(outputs[i] - past, center, (gamma + alpha) / gamma, net.slope)
            seen = jnp.pad(before, ((0, 0), (0, 1)), constant_values=1)
            quadratic = gamma * seen.T @ seen + (alpha + net.decay) * jnp.eye(seen.shape[1], dtype=seen.dtype)
            weights[i] = _solve(quadratic, (gamma * inputs[i].T @ seen + alpha * weights[i]).T).T
        return Split(tuple(weights), tuple(inputs), tuple(outputs)), None

    def _last(self, net: SplitLoss, u: Array, v: Array, targets: Array) -> Array:
        alpha, gamma = self.proximal, net.penalty
        if net.criterion is None:
            return (targets + gamma * u + alpha * v) / (1 + gamma + alpha)
        return (gamma * u + alpha * v - jax.grad(net.fit)(v, targets)) / (gamma + alpha)


def _solve(matrix: Float[Array, "d d"], right: Float[Array, "d n"]) -> Float[Array, "d n"]:
    return jax.scipy.linalg.solve(matrix, right, assume_a="pos")


def split_digits(
    hidden: Sequence[int] = (64, 64), examples: int | None = None, seed: int = 0, **how: Any
) -> SplitNetwork:
    """Handwritten digits for a `SplitNetwork`, one-hot; records ``accuracy`` of the network on training, validation and
    test images, and ``stationarity``.

    Arguments:
        hidden: Units of the hidden layers.
        examples: How many of the 1,437 training images, in [1, 1437]; `None`: all.
        seed: Of the split of the data.
        **how: As in `SplitNetwork`.

    Raises:
        ValueError: for ``examples`` out of range.
    """
    train, test = digits(seed=seed)
    if examples is not None:
        in_range("examples", examples, 1, len(train[0]))
    train = tuple(a[:examples] for a in train)
    parts = {"train": train, **halves(test)}
    probes = {
        f"{name}_accuracy": Probe(eqx.Partial(_accuracy, *map(jnp.asarray, part)), "max")
        for name, part in parts.items()
    } | {"stationarity": Probe(_stationarity)}
    given = train[0], np.eye(10, dtype=np.float32)[train[1]]
    return SplitNetwork((64, *hidden, 10), given, probes=probes, **how)


def _accuracy(images: Array, labels: Array, problem: SplitNetwork, x: Split, key: PRNGKeyArray) -> Float[Array, ""]:
    return jnp.mean(problem.split.passes(x.weights, images)[1][-1].argmax(-1) == labels)


def _stationarity(problem: SplitNetwork, x: Split, key: PRNGKeyArray) -> Float[Array, ""]:
    return problem.stationarity(x)
