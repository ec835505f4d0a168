"""Networks whose layers learn from signals of their own, and how such gradients differ from backpropagation's."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.credit.forward import Estimator, ForwardGradient
from attractor.nn import pgd_attack
from attractor.probe import Probe
from attractor.problem import Minimization
from attractor.problems.digits import digits
from attractor.problems.held_out import halves, held_out

Activation = Callable[[Array], Array]
Unit = Callable[[Activation, Array], Array]
Assign = Callable[[Float[Array, " n"], Array, list[Array]], list[Array]]


def plain(activation: Activation, inputs: Array) -> Array:
    """The unit of an ordinary forward pass: ``activation(inputs)``."""
    return activation(inputs)


class LayeredLoss(eqx.Module):
    """The mean loss of a network that says where its units are; a function of the parameters, as any other loss.

    Arguments:
        network: ``network(params, x, unit) -> output`` for one example: wherever it applies a nonlinearity ``f`` to
            the inputs ``a`` of hidden units it writes ``unit(f, a)``, each time it runs in the same order.
        criterion: ``criterion(output, target) -> scalar`` for one example.
        batch: ``(inputs, targets)``, both with a leading axis of examples; or given at the call.
    """

    network: Callable[[PyTree, Array, Unit], Array]
    criterion: Callable[[Array, Array], Array]
    batch: Any = None

    def at(self, batch: tuple[Array, Array]) -> "LayeredLoss":
        """The loss on this batch."""
        return LayeredLoss(self.network, self.criterion, batch)

    def __call__(self, params: PyTree, batch: Any = None) -> Float[Array, ""]:
        inputs, targets = self.batch if batch is None else batch
        return jax.vmap(lambda x, y: self.criterion(self.network(params, x, plain), y))(inputs, targets).mean()

    def units(self, params: PyTree) -> list[tuple[int, ...]]:
        """The shapes of the inputs of hidden units, for one example."""
        shapes: list[tuple[int, ...]] = []

        def unit(activation: Activation, inputs: Array) -> Array:
            shapes.append(inputs.shape)
            return activation(inputs)

        jax.eval_shape(lambda p, x: self.network(p, x, unit), params, jax.tree.map(lambda a: a[0], self.batch[0]))
        return shapes


def local_gradient(
    loss: LayeredLoss, params: PyTree, assign: Assign, *, noise: Sequence[Array] | None = None, after: bool = False
) -> tuple[Float[Array, ""], PyTree]:
    r"""The gradient that every layer makes of a signal of its own; no derivative passes from one layer to another.

    Layer i gets $\sum_n (\partial a_i / \partial \theta_i)^\top s_i / n$ with the signal $s_i$ in place of the
    derivative of the loss by $a_i$, and the layers after the last unit the derivative of the criterion.

    Arguments:
        loss: On n examples.
        params: Where to differentiate.
        assign: ``assign(losses (n,), outputs (n, …), values) -> signals``: one per unit, shaped as its values
            ``(n, …)``; ``losses`` are the n examples' own.
        noise: What is added to the inputs of the units, one array ``(n, …)`` each; none: nothing.
        after: Whether values and signals are those of the units' outputs, and not of their inputs.

    Returns:
        The mean loss, with the noise, and a pytree as ``params``.
    """

    def forward(params: PyTree, x: Array, y: Array, noise: Any) -> tuple[tuple[Array, list[Array]], Array]:
        values: list[Array] = []

        def unit(activation: Activation, inputs: Array) -> Array:
            outputs = activation(inputs if noise is None else inputs + noise[len(values)])
            values.append(outputs if after else inputs)
            return jax.lax.stop_gradient(outputs)

        output = loss.network(params, x, unit)
        return (loss.criterion(output, y), values), output

    inputs, targets = loss.batch
    (losses, values), pull, outputs = jax.vjp(
        lambda p: jax.vmap(forward, (None, 0, 0, 0))(p, inputs, targets, noise), params, has_aux=True
    )
    n = losses.shape[0]
    signals = [s / n for s in assign(losses, outputs, values)]
    return losses.mean(), pull((jnp.full_like(losses, 1 / n), signals))[0]


class Layered(Minimization):
    """Minimize the mean loss of a network that says where its units are: `LayeredLoss`.

    Arguments:
        network: As in `LayeredLoss`.
        criterion: As in `LayeredLoss`.
        init: Starting point, as in `attractor.Minimization`.
        data: ``(inputs, targets)`` with a leading axis of N examples.
        **kwargs: As in `attractor.Minimization`.

    Raises:
        ValueError: if ``data`` is not a pair.
    """

    def __init__(self, network: Callable, criterion: Callable, init: PyTree, data: Any, **kwargs: Any):
        if not (isinstance(data, tuple | list) and len(data) == 2):
            raise ValueError(f"data: expected a pair (inputs, targets), got {type(data).__name__}")
        super().__init__(LayeredLoss(network, criterion), init, tuple(data), **kwargs)

    def at(self, batch: Any) -> LayeredLoss:
        """The loss on a batch, as a function of the parameters that shows its units."""
        assert isinstance(self.loss, LayeredLoss)
        return self.loss.at(batch)

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> "Layered":
        """A regression with one hidden layer; see `attractor.problem.Problem.example`."""
        data = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
        start = {"first": jnp.full((4, 3), 0.5, dtype), "last": jnp.full((4,), -0.5, dtype)}

        def network(params: PyTree, x: Array, unit: Unit) -> Array:
            return params["last"] @ unit(jnp.tanh, params["first"] @ x.astype(dtype))

        def criterion(output: Array, target: Array) -> Array:
            return (output - target.astype(dtype)) ** 2

        return Layered(network, criterion, start, (data, data.sum(1)), batch_size=4)


class LayeredGradient(ForwardGradient):
    """Any optax transformation, fed by an estimator that looks at the units of a `Layered` problem.

    Arguments:
        transformation: What to do with the estimate, such as ``optax.adam(1e-3)``.
        estimator: ``(loss: LayeredLoss, params, key) -> (value, estimate)``, such as `likelihood_ratio()`.
    """

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, problem: Layered, x: PyTree, state: PyTree, key: PRNGKeyArray
    ) -> tuple[PyTree, PyTree]:
        loss = problem.at(problem.sample(key))
        for_estimate, for_transformation = jr.split(jr.fold_in(key, 1))
        value, grad = self.estimator(loss, x, for_estimate)
        updates, state = self.transformation.update(
            grad, state, x, value=value, grad=grad, value_fn=loss, obj_fn=loss, key=for_transformation
        )
        return optax.apply_updates(x, updates), state


def backpropagation(loss: Callable, params: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], PyTree]:
    """The exact gradient, as an estimator among others."""
    return jax.value_and_grad(loss)(params)


def dense_params(key: PRNGKeyArray, sizes: Sequence[int]) -> list[tuple[Array, Array]]:
    r"""Weights $\mathcal N(0, 1/\text{inputs})$ and zero biases of layers from ``sizes[i]`` to ``sizes[i + 1]``.

    Raises:
        ValueError: if there are fewer than two ``sizes``, or one below 1.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes: expected at least two numbers >= 1, inputs first, outputs last, got {tuple(sizes)}")
    keys = jr.split(key, len(sizes) - 1)
    return [(jr.normal(k, (n, m)) / m**0.5, jnp.zeros(n)) for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)]


def dense(params: list[tuple[Array, Array]], x: Array, unit: Unit, activation: Activation = jnp.tanh) -> Array:
    """A network of full layers as `LayeredLoss` wants it; the last layer is linear.

    Arguments:
        params: As `dense_params` makes them.
        x: Inputs of one example.
        unit: What applies the nonlinearity.
        activation: Of the hidden units.
    """
    *hidden, (weight, bias) = params
    for w, b in hidden:
        x = unit(activation, w @ x + b)
    return weight @ x + bias


def layered_digits(
    sizes: Sequence[int] = (64, 64, 10),
    activation: Activation = jnp.tanh,
    batch_size: int | None = 64,
    seed: int = 0,
    network: Callable = dense,
) -> Layered:
    """Classify handwritten digits with `dense` layers; records loss and accuracy on validation and test images.

    ``attacked_accuracy`` is that on test images of which every pixel went 0.1 uphill.

    Arguments:
        sizes: Units of every layer, 64 inputs and 10 outputs included.
        activation: Of the hidden units.
        batch_size: Images per step; `None`: all 1,437.
        seed: Of the split, as in `attractor.problems.digits.digits`.
        network: Another one of the same parameters, ``network(params, x, unit, activation)``.
    """
    train, test = digits(seed=seed)
    outputs = eqx.Partial(_with_activation, network, activation)
    loss = LayeredLoss(outputs, optax.softmax_cross_entropy_with_integer_labels)
    measures = {"loss": (loss, "min"), "accuracy": (eqx.Partial(_accuracy, outputs), "max")}
    init = eqx.Partial(_start, tuple(sizes))
    attacked = Probe.on(halves(test)["test"], eqx.Partial(_attacked, outputs), "max")
    probes = held_out(halves(test), measures) | {"attacked_accuracy": attacked}
    return Layered(outputs, loss.criterion, init, train, batch_size=batch_size, probes=probes)


def _with_activation(network: Callable, activation: Activation, params: PyTree, x: Array, unit: Unit) -> Array:
    return network(params, x, unit, activation)


def _start(sizes: tuple[int, ...], key: PRNGKeyArray) -> list[tuple[Array, Array]]:
    return dense_params(key, sizes)


def _accuracy(network: Callable, params: PyTree, batch: tuple[Array, Array]) -> Float[Array, ""]:
    inputs, labels = batch
    return jnp.mean(jax.vmap(lambda x: network(params, x, plain))(inputs).argmax(-1) == labels)


def _attacked(network: Callable, params: PyTree, batch: tuple[Array, Array]) -> Float[Array, ""]:
    """Accuracy after a fast gradient sign of 0.1."""
    images, labels = batch
    loss = LayeredLoss(network, optax.softmax_cross_entropy_with_integer_labels)
    moved = pgd_attack(lambda x: loss(params, (x, labels)), jnp.asarray(images), 0.1, 1, 1.0)
    return _accuracy(network, params, (moved, labels))


class Quality(NamedTuple):
    """How an estimator of the gradient does in every layer; see `estimator_quality`."""

    bias: Float[Array, " layers"]  # |E g - gradient| / |gradient|
    variance: Float[Array, " layers"]  # E|g - E g|² / |gradient|²
    cosine: Float[Array, " layers"]  # mean cosine of one estimate with the gradient


def estimator_quality(
    estimator: Estimator, loss: Callable, params: PyTree, key: PRNGKeyArray, draws: int = 256, gradient: PyTree = None
) -> Quality:
    r"""Bias, variance and cosine of a gradient estimator in every layer, against backpropagation.

    The bias is corrected for what the variance of the mean adds to its square, and zero where that is all there is. It
    can be compiled, and mapped over ``params`` and ``key``.

    Arguments:
        estimator: ``(loss, params, key) -> (value, estimate)``.
        loss: What it estimates the gradient of.
        params: Where, a pytree; a layer is what its top level holds, such as one pair of weights and biases.
        key: Draws the estimates.
        draws: How many, at least 2.
        gradient: What to compare with; default: that of backpropagation through ``loss``.

    Raises:
        ValueError: if ``draws < 2``.
    """
    in_range("draws", draws, 2)
    true = jax.grad(loss)(params) if gradient is None else gradient

    def by_layer(tree: PyTree) -> list[Array]:
        return [ravel_pytree(layer)[0] for layer in jax.tree.leaves(tree, is_leaf=lambda t: t is not tree)]

    drawn = jax.lax.map(lambda k: by_layer(estimator(loss, params, k)[1]), jr.split(key, draws))
    rows = []
    for g, exact in zip(drawn, by_layer(true), strict=True):
        variance, size = g.var(0, ddof=1).sum(), exact @ exact
        bias = jnp.maximum(((g.mean(0) - exact) ** 2).sum() - variance / draws, 0.0)
        lengths = jnp.linalg.norm(g, axis=1) * jnp.sqrt(size)
        cosines = g @ exact / jnp.where(lengths > 0, lengths, 1.0)
        rows.append((jnp.sqrt(bias / size), variance / size, cosines.mean()))
    return Quality(*map(jnp.stack, zip(*rows, strict=True)))
