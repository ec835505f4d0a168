"""Training as a feasibility problem: projections onto what each operation of a network demands, and no derivatives."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Count, Scalar, in_range
from attractor.credit.layer_splitting import leaky, leaky_proximal
from attractor.credit.layered import dense_params
from attractor.method import Method, hyper
from attractor.problem import Minimization
from attractor.problems.digits import digits
from attractor.problems.held_out import halves, held_out
from attractor.registry import LogUniform, method

_BISECTIONS = 40


def project_product(
    w: Float[Array, "*n d"], x: Float[Array, "*n d"], b: Float[Array, "*n"], y: Float[Array, "*n"]
) -> tuple[Array, Array, Array, Array]:
    r"""The nearest $(w, x, b, y)$ with $w \cdot x + b = y$.

    $$ w = \frac{w_0 - \lambda x_0}{1 - \lambda^2}, \quad x = \frac{x_0 - \lambda w_0}{1 - \lambda^2}, \quad
       b = b_0 - \lambda, \quad y = y_0 + \lambda $$

    with the one $\lambda \in (-1, 1)$ that makes it so, found by bisection: what is left of the demand falls with
    $\lambda$, being the derivative of the dual.

    Arguments:
        w: Factors.
        x: The others.
        b: What is added.
        y: What comes out.
    """
    inner, outer, sum0 = (w * x).sum(-1), (w * w + x * x).sum(-1), b - y

    def left(m: Array) -> Array:
        return (inner * (1 + m**2) - m * outer) / (1 - m**2) ** 2 + sum0 - 2 * m

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = left(middle) > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    edge = 1 - 4 * jnp.finfo(y.dtype).eps
    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.full_like(y, -edge), jnp.full_like(y, edge)))
    m = (low + high) / 2
    scale = (1 - m**2)[..., None]
    return (w - m[..., None] * x) / scale, (x - m[..., None] * w) / scale, b - m, y + m


def project_affine(
    w: Float[Array, "*n d"], x: Float[Array, "*#n d"], b: Float[Array, "*n"], y: Float[Array, "*n"]
) -> tuple[Array, Array, Array]:
    r"""The nearest $(w, b, y)$ with $w \cdot x + b = y$, where x is given: data."""
    m = ((w * x).sum(-1) + b - y) / ((x * x).sum(-1) + 2)
    return w - m[..., None] * x, b - m, y + m


def project_relu(y: Float[Array, "*n"], h: Float[Array, "copies *n"]) -> tuple[Array, Array]:
    """The nearest ``(y, h)`` of which every copy of h is ``max(y, 0)``."""
    y = leaky_proximal(h.mean(0), y, 1 / len(h))
    return y, jnp.broadcast_to(leaky(y, 0.0), h.shape)


def project_step(y: Float[Array, "*n"], h: Float[Array, "copies *n"], gap: float = 0.1) -> tuple[Array, Array]:
    """The nearest ``(y, h)`` of which every copy of h is 1 with ``y >= gap``, or 0 with ``y <= -gap``."""
    on, off = jnp.maximum(y, gap), jnp.minimum(y, -gap)
    costs = [(at - y) ** 2 + ((value - h) ** 2).sum(0) for at, value in ((on, 1.0), (off, 0.0))]
    best = costs[0] < costs[1]
    return jnp.where(best, on, off), jnp.broadcast_to(best.astype(h.dtype), h.shape)


def project_margin(
    scores: Float[Array, "n classes"], labels: Int[Array, " n"], margin: Scalar = 1.0
) -> Float[Array, "n classes"]:
    """The nearest scores of which that of the label is above every other by ``margin`` at least.

    The others above a level go down to it, and the label's goes up by what they went down in sum.
    """
    own = jnp.take_along_axis(scores, labels[:, None], 1)
    is_own = jnp.arange(scores.shape[1]) == labels[:, None]
    others = jnp.sort(jnp.where(is_own, -jnp.inf, scores), 1)[:, ::-1][:, :-1]
    counts = jnp.arange(1, scores.shape[1])
    # The level if the k largest others are cut: level = own + sum(others - level) - margin.
    levels = (own - margin + jnp.cumsum(others, 1)) / (1 + counts)
    cut = (others > levels).sum(1, keepdims=True)
    level = jnp.take_along_axis(levels, jnp.maximum(cut - 1, 0), 1)
    moved = jnp.where(is_own, level + margin, jnp.minimum(scores, level))
    return jnp.where(cut > 0, moved, scores)


UNITS: dict[str, tuple[Callable, Callable]] = {
    "relu": (lambda y: leaky(y, 0.0), project_relu),
    "step": (lambda y: (y > 0).astype(y.dtype), project_step),
}


class Demands(NamedTuple):
    """Every operation's own copies of its variables, for the examples of one batch."""

    weights: tuple[Float[Array, "n out _"], ...]
    biases: tuple[Float[Array, "n out"], ...]
    inputs: tuple[Float[Array, "n out _"], ...]  # of a layer's products; those of the first are data
    outputs: tuple[Float[Array, "n out"], ...]


class MarginNetwork(Minimization):
    r"""A network of full layers whose label's score is to be above all others by a margin.

    The loss is the mean of $\max(0, \text{margin} - s_y + \max_{j \ne y} s_j)$; the parameters are pairs of weights and
    biases, as `dense_params` makes them.

    Arguments:
        sizes: Units of every layer, inputs and outputs included; one hidden layer at least.
        data: ``(inputs (n, sizes[0]), labels (n,))``.
        units: ``"relu"`` or ``"step"``.
        margin: In (0, inf).
        project_units: The projection onto the hidden units' demand; `None`: that of ``units``.
        **kwargs: As in `attractor.Minimization`.

    Raises:
        ValueError: for an argument out of range, or inputs that do not fit ``sizes``.

    Paper: A projection-based framework for gradient-free and parallel learning.
    """

    units: str = eqx.field(static=True)
    margin: float = eqx.field(static=True)
    project_units: Callable = eqx.field(static=True)

    def __init__(
        self, sizes: Sequence[int], data: tuple[Any, Any], units: str = "relu", margin: float = 1.0,
        project_units: Callable | None = None, **kwargs: Any,
    ):  # fmt: skip
        in_range("margin", margin, 0.0, open_low=True)
        if units not in UNITS:
            raise ValueError(f"units: expected {' or '.join(map(repr, UNITS))}, got {units!r}")
        if len(sizes) < 3:
            raise ValueError(f"sizes: expected inputs, at least one hidden layer and outputs, got {sizes}")
        if np.shape(data[0])[1:] != (sizes[0],):
            raise ValueError(f"data: expected inputs (n, {sizes[0]}), as sizes says, got {np.shape(data[0])}")
        self.units, self.margin, self.project_units = units, margin, project_units or UNITS[units][1]
        start = eqx.Partial(_start, tuple(sizes), jnp.asarray(data[0]).dtype)
        super().__init__(eqx.Partial(_hinge, UNITS[units][0], margin), start, data, **kwargs)

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> "MarginNetwork":
        """Two classes, one hidden layer; see `attractor.problem.Problem.example`."""
        x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 3)), dtype)
        return MarginNetwork((3, 4, 2), (x, (x[:, 0] > 0).astype(jnp.int32)), batch_size=4)


def _start(sizes: tuple[int, ...], dtype: Any, key: PRNGKeyArray) -> list[tuple[Array, Array]]:
    return jax.tree.map(lambda a: a.astype(dtype), dense_params(key, sizes))


def scores(units: Callable, params: list[tuple[Array, Array]], x: Float[Array, "n _"]) -> Float[Array, "n classes"]:
    """What a network of full layers, linear in the last one, gives for each example."""
    *hidden, (w, b) = params
    for weight, bias in hidden:
        x = units(x @ weight.T + bias)
    return x @ w.T + b


def _hinge(units: Callable, margin: float, params: PyTree, batch: tuple[Array, Array]) -> Float[Array, ""]:
    found = scores(units, params, batch[0])
    own = jnp.arange(found.shape[1]) == batch[1][:, None]
    gap = jnp.where(own, found, 0).sum(1) - jnp.where(own, -jnp.inf, found).max(1)
    return jnp.maximum(margin - gap, 0).mean()


@method("projection-training", {"rate": LogUniform(0.03, 1.0)}, paper="pjax-projection-training")
class ProjectionTraining(Method):
    r"""Train a `MarginNetwork` by projections: find copies of all variables that meet the demands of all operations.

    Every product of a layer has weights and inputs of its own. The demands are of two kinds, of which no two share a
    variable: A, products give their outputs; B, all copies of a weight are the same, the inputs that a layer's products
    see are what the units before make of their inputs, and scores keep their margin. With the projections
    $P_A, P_B$ onto them, from a forward pass on the batch,

    $$ z \leftarrow P_A P_B z \;\text{(alternating)}, \qquad
       z \leftarrow z + P_A(2 P_B z - z) - P_B z \;\text{(Douglas–Rachford)} $$

    and the weights go the part ``rate`` of the way to those of $P_B z$ at the end.

    Arguments:
        rate: In (0, 1].
        rule: ``"douglas-rachford"`` or ``"alternating"``.
        iterations: Per batch, at least 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: A projection-based framework for gradient-free and parallel learning.
    """

    rate: Scalar = hyper(1.0, low=0.0, high=1.0, open_low=True)
    rule: str = hyper("douglas-rachford", choices=("douglas-rachford", "alternating"), static=True)
    iterations: Count = hyper(20, low=1)

    def step(
        self, problem: MarginNetwork, x: list[tuple[Array, Array]], state: None, key: PRNGKeyArray
    ) -> tuple[list[tuple[Array, Array]], None]:
        data, labels = problem.sample(key)

        def products(z: Demands) -> Demands:
            first = project_affine(z.weights[0], data[:, None, :], z.biases[0], z.outputs[0])
            found = [(first[0], z.inputs[0], *first[1:])]
            found += map(project_product, z.weights[1:], z.inputs[1:], z.biases[1:], z.outputs[1:])
            weights, inputs, biases, outputs = zip(*found, strict=True)
            return Demands(weights, biases, inputs, outputs)

        def agreement(z: Demands) -> Demands:
            weights, biases = (tuple(_same(a) for a in copies) for copies in (z.weights, z.biases))
            inputs, outputs = [z.inputs[0]], []
            for y, h in zip(z.outputs[:-1], z.inputs[1:], strict=True):
                y, h = problem.project_units(y, jnp.moveaxis(h, 1, 0))
                inputs, outputs = [*inputs, jnp.moveaxis(h, 0, 1)], [*outputs, y]
            outputs = *outputs, project_margin(z.outputs[-1], labels, problem.margin)
            return Demands(weights, biases, tuple(inputs), tuple(outputs))

        def iterate(_: Any, z: Demands) -> Demands:
            if self.rule == "alternating":
                return products(agreement(z))
            shadow = agreement(z)
            reflected = products(jax.tree.map(lambda p, a: 2 * p - a, shadow, z))
            return jax.tree.map(lambda a, q, p: a + q - p, z, reflected, shadow)

        z = jax.lax.fori_loop(0, self.iterations, iterate, _copies(UNITS[problem.units][0], x, data))
        found = agreement(z)
        ends = [(w[0], b[0]) for w, b in zip(found.weights, found.biases, strict=True)]
        return jax.tree.map(lambda a, end: a + (self.rate * (end - a)).astype(a.dtype), x, ends), None


def _same(copies: Array) -> Array:
    return jnp.broadcast_to(copies.mean(0), copies.shape)


def _copies(units: Callable, params: list[tuple[Array, Array]], data: Array) -> Demands:
    """A forward pass, every product with copies of its own."""
    n, found, x = len(data), [], data
    for i, (w, b) in enumerate(params):
        y = x @ w.T + b
        inputs = jnp.broadcast_to(x[:, None], (n, *w.shape)) if i else jnp.zeros((n, 0), x.dtype)
        found.append((jnp.broadcast_to(w, (n, *w.shape)), jnp.broadcast_to(b, (n, *b.shape)), inputs, y))
        x = units(y)
    return Demands(*zip(*found, strict=True))


def margin_digits(
    hidden: Sequence[int] = (32,), units: str = "relu", batch_size: int = 32, seed: int = 0, **how: Any
) -> MarginNetwork:
    """Handwritten digits for a `MarginNetwork`; records loss and accuracy on validation and test images.

    Arguments:
        hidden: Units of the hidden layers.
        units: ``"relu"`` or ``"step"``.
        batch_size: Images per step, in [1, 1437].
        seed: Of the split of the data.
        **how: As in `MarginNetwork`.
    """
    train, test = digits(seed=seed)

    def accuracy(params: PyTree, data: tuple[Array, Array]) -> Float[Array, ""]:
        return (scores(UNITS[units][0], params, data[0]).argmax(1) == data[1]).mean()

    probes = held_out(halves(test), {"accuracy": (accuracy, "max")})
    return MarginNetwork((64, *hidden, 10), train, units, batch_size=batch_size, probes=probes, **how)
