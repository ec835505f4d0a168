"""Arithmetic units: layers whose weights select inputs to add, subtract or multiply, and what training them needs."""

import math
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.registry import part

NEEDS_PARAMS = "params: expected the current parameters, got None; call update(updates, state, params)"


class ArithmeticUnit(eqx.Module):
    """A layer with one weight matrix that belongs into ``[low, 1]`` and means something at whole numbers only."""

    weight: Float[Array, "d_out d_in"]
    low: ClassVar[float]


class NAU(ArithmeticUnit):
    r"""Neural addition unit: each output adds and subtracts chosen inputs.

    $y = W x$ with $W \in [-1, 1]^{d_{out} \times d_{in}}$, initially uniform in $[-r, r]$,
    $r = \min(1/2, \sqrt{6/(d_{in} + d_{out})})$. Train with `keep_in_range` and `add_sparsity_gradient`.

    Arguments:
        d_in: Inputs, at least 1.
        d_out: Outputs, at least 1.
        key: Draws the weights.

    Raises:
        ValueError: if a size is below 1.

    Paper: Neural Arithmetic Units.
    """

    low: ClassVar[float] = -1.0

    def __init__(self, d_in: int, d_out: int, *, key: PRNGKeyArray):
        _sizes(d_in, d_out)
        r = min(0.5, math.sqrt(6 / (d_in + d_out)))
        self.weight = jr.uniform(key, (d_out, d_in), minval=-r, maxval=r)

    def __call__(self, x: Float[Array, " d_in"], *, key: PRNGKeyArray | None = None) -> Float[Array, " d_out"]:
        return self.weight @ x


class NMU(ArithmeticUnit):
    r"""Neural multiplication unit: each output is the product of chosen inputs.

    $y_j = \prod_i (W_{ji} x_i + 1 - W_{ji})$ with $W \in [0, 1]^{d_{out} \times d_{in}}$, initially
    uniform in [1/4, 3/4]: weight 1 takes an input into the product, weight 0 leaves it out. Train with
    `keep_in_range` and `add_sparsity_gradient`.

    Arguments:
        d_in: Inputs, at least 1.
        d_out: Outputs, at least 1.
        key: Draws the weights.

    Raises:
        ValueError: if a size is below 1.

    Paper: Neural Arithmetic Units.
    """

    low: ClassVar[float] = 0.0

    def __init__(self, d_in: int, d_out: int, *, key: PRNGKeyArray):
        _sizes(d_in, d_out)
        self.weight = jr.uniform(key, (d_out, d_in), minval=0.25, maxval=0.75)

    def __call__(self, x: Float[Array, " d_in"], *, key: PRNGKeyArray | None = None) -> Float[Array, " d_out"]:
        return jnp.prod(self.weight * x + 1 - self.weight, axis=-1)


class NALU(eqx.Module):
    r"""Neural arithmetic logic unit, the earlier design: a gate between a sum and a product of powers.

    $W = \tanh(\hat W) \odot \sigma(\hat M)$, $a = W x$, $m = \exp(W \log(|x| + \epsilon))$,
    $g = \sigma(G x)$, $y = g \odot a + (1 - g) \odot m$; Glorot-uniform initial weights.

    Arguments:
        d_in: Inputs, at least 1.
        d_out: Outputs, at least 1.
        epsilon: Keeps the logarithm finite, above 0.
        key: Draws the weights.

    Raises:
        ValueError: if a size is below 1 or ``epsilon`` is not positive.

    Paper: Neural Arithmetic Units (where it is the baseline).
    """

    choice: Float[Array, "d_out d_in"]
    strength: Float[Array, "d_out d_in"]
    gate: Float[Array, "d_out d_in"]
    epsilon: float = eqx.field(static=True)

    def __init__(self, d_in: int, d_out: int, *, epsilon: float = 1e-7, key: PRNGKeyArray):
        _sizes(d_in, d_out)
        in_range("epsilon", epsilon, 0.0, open_low=True)
        glorot = jax.nn.initializers.glorot_uniform(in_axis=-1, out_axis=-2)
        self.choice, self.strength, self.gate = (glorot(k, (d_out, d_in)) for k in jr.split(key, 3))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, " d_in"], *, key: PRNGKeyArray | None = None) -> Float[Array, " d_out"]:
        weight = jnp.tanh(self.choice) * jax.nn.sigmoid(self.strength)
        gate = jax.nn.sigmoid(self.gate @ x)
        return gate * (weight @ x) + (1 - gate) * jnp.exp(weight @ jnp.log(jnp.abs(x) + self.epsilon))


def _sizes(d_in: int, d_out: int) -> None:
    in_range("d_in", d_in, 1)
    in_range("d_out", d_out, 1)


def _is_unit(node: object) -> bool:
    return isinstance(node, ArithmeticUnit)


def _units(tree: PyTree) -> list[ArithmeticUnit]:
    return [node for node in jax.tree.leaves(tree, is_leaf=_is_unit) if _is_unit(node)]


def _distance_to_whole(weight: Array) -> Array:
    return jnp.minimum(jnp.abs(weight), jnp.abs(1 - jnp.abs(weight)))


def sparsity(model: PyTree) -> Float[Array, ""]:
    r"""The regularizer that pushes weights to whole numbers.

    $R = \sum_{\text{units}} \mathrm{mean}\,\min(|W|, 1 - |W|)$.

    Arguments:
        model: A pytree with `ArithmeticUnit` nodes; what else it contains does not count.

    Paper: Neural Arithmetic Units.
    """
    return sum((_distance_to_whole(unit.weight).mean() for unit in _units(model)), start=jnp.zeros(()))


def sparsity_error(model: PyTree) -> Float[Array, ""]:
    """The farthest that any weight of an `ArithmeticUnit` is from -1, 0 or 1; 0 for a model without units."""
    return jnp.stack([jnp.zeros(()), *(_distance_to_whole(unit.weight).max() for unit in _units(model))]).max()


class AddSparsityGradientState(NamedTuple):
    steps: Array  # () int32, taken so far


def add_sparsity_gradient(weight: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    r"""Add $\lambda_t \nabla R$ of the `sparsity` regularizer R to the gradient; goes before the optimizer.

    The paper waits with it, so that units choose before they are pushed:
    $\lambda_t = \lambda\,\mathrm{clip}((t - t_0)/(t_1 - t_0), 0, 1)$, which is
    ``optax.linear_schedule(0, lambda, t1 - t0, t0)``, with $\lambda = 10$ and the
    ramp from 20 % to 40 % of training.

    Arguments:
        weight: $\lambda_t$, at least 0, or a schedule.

    Raises:
        ValueError: if ``weight`` is negative or not finite.

    Paper: Neural Arithmetic Units.
    """
    in_range("weight", weight, 0.0)

    def init(params: PyTree) -> AddSparsityGradientState:
        return AddSparsityGradientState(jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: Any, params: PyTree = None):
        if params is None:
            raise ValueError(NEEDS_PARAMS)
        scale = weight(state.steps) if callable(weight) else weight
        pressure = jax.grad(sparsity)(params)
        updates = jax.tree.map(lambda u, p: u + jnp.asarray(scale * p).astype(u.dtype), updates, pressure)
        return updates, AddSparsityGradientState(jnp.asarray(optax.safe_increment(state.steps)))

    return optax.GradientTransformation(init, update)


def keep_in_range() -> optax.GradientTransformation:
    r"""Clip every `ArithmeticUnit`'s weights to its range after the step; goes last in a chain.

    $u \leftarrow \mathrm{clip}(W + u, \text{low}, 1) - W$, for W in [-1, 1] (`NAU`) or [0, 1] (`NMU`); other
    parameters pass.

    Paper: Neural Arithmetic Units.
    """

    def project(unit: PyTree, step: PyTree) -> PyTree:
        if not _is_unit(unit):
            return step
        kept = jnp.clip(unit.weight + step.weight, unit.low, 1.0) - unit.weight
        return eqx.tree_at(lambda s: s.weight, step, kept.astype(step.weight.dtype))

    def update(updates: PyTree, params: PyTree = None) -> PyTree:
        if params is None:
            raise ValueError(NEEDS_PARAMS)
        return jax.tree.map(project, params, updates, is_leaf=_is_unit)

    return optax.stateless(update)


part("layer", "nau", example=lambda: (NAU(3, 2, key=jr.key(0)), (jnp.array([0.5, -1.0, 2.0]),)))(NAU)
part("layer", "nmu", example=lambda: (NMU(3, 2, key=jr.key(0)), (jnp.array([0.5, -1.0, 2.0]),)))(NMU)
part("layer", "nalu", example=lambda: (NALU(3, 2, key=jr.key(0)), (jnp.array([0.5, -1.0, 2.0]),)))(NALU)
