"""Networks of any width: the maximal-update parametrization, and how to check it."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.method import as_method
from attractor.names import unknown
from attractor.objectives import Composite
from attractor.problem import Minimization
from attractor.problems.digits import classifier
from attractor.registry import problem

PARAMETRIZATIONS = ("standard", "mup")
# Powers of the width over the base width: what the product is multiplied by, and what the weights are drawn wider by.
MULTIPLIER = {"input": 0.0, "hidden": -1.0, "output": -1.0}
DEVIATION = {"input": 0.0, "hidden": 1.0, "output": 0.5}


class Dense(eqx.Module):
    r"""A linear layer, $y = a W x + b$, whose parametrization says how it grows with the width.

    $$ a = r^{-1}, \quad W_{ij} \sim N(0, r^2 / n) \text{ (hidden)}; \qquad a = r^{-1}, \quad W_{ij} \sim N(0, r / n)
    \text{ (output)}; \qquad a = 1, \quad W_{ij} \sim N(0, 1 / n) \text{ (input)} $$

    with n inputs and r the growth of the network's width over its base width. At r = 1, and where ``growth`` is left
    at 1 for every width, this is the standard parametrization, $y = W x + b$ with weights of variance 1 / n.

    Arguments:
        inputs: n, at least 1.
        outputs: How many, at least 1.
        kind: ``"input"`` where n does not grow with the width, ``"output"`` where only n does, else ``"hidden"``.
        growth: r, in (0, inf).
        use_bias: Whether there is b, from zero.
        key: Of the weights.

    Raises:
        ValueError: for an argument out of range.
    """

    weight: Float[Array, "outputs inputs"]
    bias: Float[Array, " outputs"] | None
    multiplier: float = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kind: str = "hidden",
        growth: float = 1.0,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
    ):
        in_range("inputs", inputs, 1)
        in_range("outputs", outputs, 1)
        in_range("growth", growth, 0.0, open_low=True)
        if kind not in MULTIPLIER:
            raise unknown("kind", kind, MULTIPLIER, f"kind is one of {', '.join(MULTIPLIER)}")
        self.weight = growth ** DEVIATION[kind] * inputs**-0.5 * jr.normal(key, (outputs, inputs))
        self.bias = jnp.zeros(outputs) if use_bias else None
        self.multiplier = growth ** MULTIPLIER[kind]

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        y = self.multiplier * (self.weight @ x)
        return y if self.bias is None else y + self.bias


def growth_of(parametrization: str, width: int, base_width: int) -> float:
    """How many times ``base_width`` a network is wide, as `Dense` is to know: 1 under the standard parametrization.

    Arguments:
        parametrization: ``"standard"`` or ``"mup"``.
        width: At least 1.
        base_width: The width at which both are the same, at least 1.

    Raises:
        ValueError: for an unknown parametrization or a width out of range.
    """
    in_range("width", width, 1)
    in_range("base_width", base_width, 1)
    if parametrization not in PARAMETRIZATIONS:
        named = f"parametrization is one of {', '.join(PARAMETRIZATIONS)}"
        raise unknown("parametrization", parametrization, PARAMETRIZATIONS, named)
    return width / base_width if parametrization == "mup" else 1.0


class WideMLP(eqx.Module):
    """A ReLU network of `Dense` layers.

    Arguments:
        width: Units per hidden layer, at least 1.
        depth: Hidden layers, at least 1.
        growth: As in `Dense`.
        key: Of the weights.
    """

    layers: list[Dense]

    def __init__(self, width: int, depth: int, growth: float = 1.0, *, key: PRNGKeyArray):
        first, *hidden, last = jr.split(key, depth + 1)
        self.layers = [
            Dense(64, width, "input", growth, key=first),
            *[Dense(width, width, "hidden", growth, key=k) for k in hidden],
            Dense(width, 10, "output", growth, key=last),
        ]

    def activations(self, pixels: Float[Array, "64"]) -> list[Array]:
        """The output of every layer, the logits last."""
        found = [self.layers[0](pixels)]
        for layer in self.layers[1:]:
            found.append(layer(jax.nn.relu(found[-1])))
        return found

    def __call__(self, pixels: Float[Array, "64"]) -> Float[Array, "10"]:
        return self.activations(pixels)[-1]


@problem("digits-wide-mlp", metric="test_loss", steps=500, target=0.12)
def digits_wide_mlp(
    width: int = 64,
    depth: int = 2,
    parametrization: str = "standard",
    base_width: int = 64,
    batch_size: int | None = 64,
    seed: int = 0,
) -> Composite:
    r"""The digits of `digits_mlp` for networks of any width, under the standard or the maximal-update parametrization.

    Under ``parametrization="mup"`` and a method whose step is of the learning rate's size, whatever the gradient's is
    (Adam, Lion and their relatives), every layer's part in the change of the outputs stays of one size as the width
    grows. On wide networks the paper finds that the best learning rate stays with it, and falls under ``"standard"``;
    from 64 to 512 units here it moves by no more than a factor of two under either (``benchmarks/widths.py``).
    With r = width / base_width:

    | weights | rate of the product aW | variance of aW at the start | here: multiplier a | variance of W |
    |---|---|---|---|---|
    | input, and all biases | η | 1 / inputs | 1 | 1 / inputs |
    | hidden | η / r | 1 / inputs | 1 / r | r² / inputs |
    | output | η / r | 1 / (r inputs) | 1 / r | r / inputs |

    That is Table 3 of the paper for Adam (rates of hidden and output weights, and the output's variance, over the
    width once more than usual), brought to one learning rate for all weights by the exchange that its Lemma J.1
    allows: for such a method the rate of aW is a times that of W. So it needs no rate per layer, and holds for any
    such method by its name. Decoupled weight decay, which is no gradient's, takes the same share of every layer.
    Under SGD the rate of aW is a² times that of W, which is not what SGD's column of that table wants, and methods that
    bring whole matrices to one norm (Muon, Shampoo, Scion) scale with the width by rules of their own: this is not
    their parametrization.

    Arguments:
        width: Units per hidden layer, at least 1.
        depth: Hidden layers, at least 1; from 2 on there are hidden weights.
        parametrization: ``"standard"`` or ``"mup"``.
        base_width: The width at which both are the same network, at least 1.
        batch_size: Images per step; `None`: all 1,437.
        seed: Of the split, as in `digits`.

    Raises:
        ValueError: for an argument out of range.

    Paper: Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer (2203.03466).
    """
    in_range("depth", depth, 1)
    growth = growth_of(parametrization, width, base_width)
    return classifier(eqx.Partial(_wide_mlp, width, depth, growth), batch_size, seed)


def _wide_mlp(width: int, depth: int, growth: float, key: PRNGKeyArray) -> WideMLP:
    return WideMLP(width, depth, growth, key=key)


def coordinate_check(
    make: Callable[[int], Minimization],
    method: Any,
    widths: Sequence[int] = (64, 128, 256, 512),
    *,
    steps: int = 5,
    samples: int = 8,
) -> Float[np.ndarray, "widths activations"]:
    """How far each layer's activations move in a few steps, over widths: what a right parametrization keeps level.

    The root mean square of the change since the start, on the first samples of the training data.

    Arguments:
        make: ``width -> problem``, made by `Minimization.of_model` of a model with ``activations(input) -> [array, …]``
            and data that are pairs, inputs first.
        method: What trains it, the same for every width: an optax transformation or a `Method`.
        widths: To compare.
        steps: How many, at least 1.
        samples: Inputs looked at, at least 1.

    Raises:
        ValueError: for an argument out of range.

    !!! example
        ```python
        moved = coordinate_check(partial(digits_wide_mlp, parametrization="mup"), optax.adam(1e-2))
        ```

    Paper: Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer (2203.03466).
    """
    in_range("steps", steps, 1)
    in_range("samples", samples, 1)

    method = as_method(method)

    @eqx.filter_jit
    def moved(problem: Minimization) -> list[Float[Array, ""]]:
        inputs = jax.tree.map(lambda leaf: leaf[:samples], problem.full[0])
        init_key, *keys = jr.split(jr.key(0), 1 + steps)
        start = problem.init(init_key)
        state = method.init(problem, start, init_key)

        def step(carry: PyTree, key: PRNGKeyArray) -> tuple[PyTree, None]:
            return method.step(problem, *carry, key), None

        (end, _), _ = jax.lax.scan(step, (start, state), jnp.stack(keys))
        pairs = zip(_activations(problem, start, inputs), _activations(problem, end, inputs), strict=True)
        return [jnp.sqrt(jnp.mean((after - before) ** 2)) for before, after in pairs]

    return np.asarray([moved(make(width)) for width in widths])


def _activations(problem: Minimization, x: PyTree, inputs: PyTree) -> list[Array]:
    return jax.vmap(problem.model(x).activations)(inputs)
