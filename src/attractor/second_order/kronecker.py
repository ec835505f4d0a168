"""Kronecker-factored curvature: one factor for a layer's inputs, one for the gradients at its outputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.gradients import refuse_complex
from attractor.method import Method, hyper, when_due
from attractor.problem import Minimization
from attractor.registry import LogUniform, method
from attractor.trees import wide_dtype

Statistic = Callable[[Array, Array], tuple[Array, Array]]  # of one input and one output gradient


def second_moments(inputs: Float[Array, " m"], gradient: Float[Array, " n"]) -> tuple[Array, Array]:
    r"""$a a^\top$ and $g g^\top$, what K-FAC averages."""
    return jnp.outer(inputs, inputs), jnp.outer(gradient, gradient)


def first_moments(inputs: Float[Array, " m"], gradient: Float[Array, " n"]) -> tuple[Array, Array]:
    """a and g themselves: averages of rank one."""
    return inputs, gradient


Layer = eqx.nn.Linear | eqx.nn.LSTMCell


def _is_layer(node: Any) -> bool:
    if isinstance(node, eqx.nn.LSTMCell):
        return node.weight_ih is not None and node.weight_hh is not None and node.weight_ih.ndim == 2
    return isinstance(node, eqx.nn.Linear) and node.weight is not None and node.weight.ndim == 2


def _weights(layer: Layer) -> tuple[Any, ...]:
    """What multiplies the layer's inputs: of a cell, its input and then its state."""
    return (layer.weight_ih, layer.weight_hh) if isinstance(layer, eqx.nn.LSTMCell) else (layer.weight,)


def layer_matrix(layer: Layer) -> Float[Array, "n m"]:
    """A layer's weights side by side, and its bias as the last column; of a cell all four gates below each other."""
    bias = [] if layer.bias is None else [layer.bias[:, None]]
    return jnp.concatenate([*_weights(layer), *bias], 1)


def _with_matrix(layer: Layer, matrix: Float[Array, "n m"]) -> Layer:
    """`layer_matrix` undone."""
    sizes = [w.shape[1] for w in _weights(layer)]
    parts = jnp.split(matrix, [sum(sizes[: i + 1]) for i in range(len(sizes))], axis=1)
    layer = eqx.tree_at(_weights, layer, tuple(parts[: len(sizes)]))
    return layer if layer.bias is None else eqx.tree_at(lambda n: n.bias, layer, parts[-1][:, 0])


def _extended(inputs: Array, bias: Array | None) -> Array:
    """The input with a constant 1, whose weight is the bias."""
    return inputs if bias is None else jnp.append(inputs, jnp.ones((), inputs.dtype))


class _Tap:
    """A layer that hands out statistics of its inputs and output gradients as the gradient of its slots.

    Backpropagation adds up the gradients of what is used many times, so the sums over a batch and over the steps of a
    recurrence come for free. It is no pytree, so that a model with a tap in place of a layer keeps its structure.
    """

    def __init__(self, layer: Layer, slots: PyTree, statistic: Statistic):
        self.layer, self.slots, self.statistic = layer, slots, statistic

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def __call__(self, inputs: Array, hidden: tuple[Array, Array] | None = None, *, key: Any = None) -> Any:
        if hidden is None:
            return self._linear(inputs)
        h, c = hidden
        enter, forget, content, leave = jnp.split(self._linear(jnp.concatenate([inputs, h])), 4)
        c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(enter) * jnp.tanh(content)
        return jax.nn.sigmoid(leave) * jnp.tanh(c), c

    def _linear(self, inputs: Array) -> Array:
        weight = jnp.concatenate(_weights(self.layer), 1)
        return _tapped(self.statistic, weight, self.layer.bias, inputs, self.slots)


def _tapped_primal(statistic: Statistic, weight: Array, bias: Array | None, inputs: Array, slots: PyTree) -> Array:
    return weight @ inputs if bias is None else weight @ inputs + bias


_tapped = jax.custom_vjp(_tapped_primal, nondiff_argnums=(0,))


def _forward(statistic: Statistic, weight: Array, bias: Array | None, inputs: Array, slots: PyTree) -> Any:
    return _tapped_primal(statistic, weight, bias, inputs, slots), (weight, bias, inputs)


def _backward(statistic: Statistic, saved: Any, gradient: Array) -> Any:
    weight, bias, inputs = saved
    wide = jnp.promote_types(weight.dtype, jnp.float32)
    # vmap adds up only what depends on the example, as the gradient does: so everything is made to.
    one = jnp.where(gradient[0] == 0, 1, 1).astype(wide)
    sums = statistic(one * _extended(inputs, bias).astype(wide), gradient.astype(wide))
    for_bias = None if bias is None else gradient.astype(bias.dtype)
    for_weight = jnp.outer(gradient, inputs).astype(weight.dtype)
    return for_weight, for_bias, (weight.T @ gradient).astype(inputs.dtype), (*sums, one)


_tapped.defvjp(_forward, _backward)


def layers_of(x: PyTree) -> list[Layer]:
    """The `equinox.nn.Linear` layers and `equinox.nn.LSTMCell` cells among the parameters, in order."""
    return [node for node in jax.tree.leaves(x, is_leaf=_is_layer) if _is_layer(node)]


def layer_statistics(
    loss: Callable[[PyTree], Float[Array, ""]], x: PyTree, examples: int, statistic: Statistic = second_moments
) -> tuple[Float[Array, ""], PyTree, list[tuple[Array, Array]]]:
    r"""Value and gradient of a loss, and for every linear layer the statistics of its inputs and output gradients.

    An LSTM cell is one such layer, from its input and its last output to its four gates. With $a$ the inputs (a 1
    appended where the layer has a bias) and $g$ the gradients of one example's loss at the
    layer's outputs, `second_moments` give

    $$ A = \operatorname{mean}_{n,t}\, a_{nt} a_{nt}^\top, \qquad G = \operatorname{mean}_n \sum_t g_{nt} g_{nt}^\top $$

    over the examples n and the uses t of a layer that is applied several times to each, as in a recurrence. Everything
    comes out of one backward pass. (The gradients are those of the loss itself: the empirical Fisher matrix.)

    Arguments:
        loss: The mean over examples, of parameters in which layers are `equinox.nn.Linear` and `equinox.nn.LSTMCell`,
            called on one vector.
        x: Parameters, such as a model's arrays.
        examples: How many, at least 1.
        statistic: `second_moments` or `first_moments`; for the latter both are means over n and t.

    Returns:
        ``(value, gradient, [(of inputs, of output gradients) per layer])``.

    Raises:
        TypeError: for complex parameters.
    """
    refuse_complex("the Kronecker-factored curvature", x)
    nodes, structure = jax.tree.flatten(x, is_leaf=_is_layer)

    def slots(layer: Layer) -> PyTree:
        matrix = layer_matrix(layer)
        wide = jnp.promote_types(matrix.dtype, jnp.float32)
        a, g = jnp.zeros(matrix.shape[1], wide), jnp.zeros(matrix.shape[0], wide)
        return (*jax.tree.map(jnp.zeros_like, statistic(a, g)), jnp.zeros((), wide))

    def tapped(nodes: list[Any], slots: list[PyTree]) -> Array:
        taps = [None if s is None else _Tap(n, s, statistic) for n, s in zip(nodes, slots, strict=True)]
        return loss(structure.unflatten([n if t is None else t for n, t in zip(nodes, taps, strict=True)]))

    empty = [slots(node) if _is_layer(node) else None for node in nodes]
    value, (gradient, sums) = jax.value_and_grad(tapped, argnums=(0, 1))(nodes, empty)
    means = []
    for a, g, uses in (s for s in sums if s is not None):
        uses = jnp.maximum(uses, 1)  # the loss is a mean, so its gradients are those of an example over `examples`
        means.append((a / uses, g * (examples if statistic is second_moments else examples / uses)))
    return value, structure.unflatten(gradient), means


def map_layers(function: Callable[..., Array], gradient: PyTree, *factors: list[Any]) -> PyTree:
    """Apply ``function(matrix (out, in + 1), *factors)`` to every layer's gradient, as `layer_matrix` has it."""
    nodes, structure = jax.tree.flatten(gradient, is_leaf=_is_layer)
    rest = iter(zip(*factors, strict=True))

    def mapped(layer: Layer) -> Layer:
        matrix = layer_matrix(layer)
        new = function(matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32)), *next(rest))
        return _with_matrix(layer, new.astype(matrix.dtype))

    return structure.unflatten([mapped(node) if _is_layer(node) else node for node in nodes])


def kronecker_solve(
    gradient: Float[Array, "n m"], inputs: Float[Array, "m m"], outputs: Float[Array, "n n"], damping: Scalar
) -> Float[Array, "n m"]:
    r"""Multiply a layer's gradient by the inverse of its damped Kronecker-factored curvature.

    $$ (G + \tfrac{\sqrt\lambda}{\pi} I)^{-1}\, \nabla W\, (A + \pi \sqrt\lambda I)^{-1}, \qquad
    \pi^2 = \frac{\operatorname{tr}(A) / m}{\operatorname{tr}(G) / n} $$

    $\pi$ splits the damping in proportion to the factors' sizes (Martens and Grosse).

    Arguments:
        gradient: $\nabla W$.
        inputs: A, of the inputs.
        outputs: G, of the gradients at the outputs.
        damping: $\lambda$, in (0, inf).
    """
    tiny = jnp.finfo(gradient.dtype).tiny
    sizes = jnp.trace(inputs) / len(inputs), jnp.trace(outputs) / len(outputs)
    split = jnp.sqrt(jnp.clip(sizes[0] / jnp.maximum(sizes[1], tiny), 1e-6, 1e6))
    root = jnp.sqrt(jnp.asarray(damping, gradient.dtype))
    left = outputs + root / split * jnp.eye(len(outputs), dtype=gradient.dtype)
    right = inputs + root * split * jnp.eye(len(inputs), dtype=gradient.dtype)
    half = jax.scipy.linalg.solve(left, gradient, assume_a="pos")
    return jax.scipy.linalg.solve(right, half.T, assume_a="pos").T


def rank_one_inverse_update(
    inverse: Float[Array, "n n"], vector: Float[Array, " n"], decay: Scalar
) -> Float[Array, "n n"]:
    r"""The inverse of $\gamma M + (1 - \gamma) v v^\top$ out of that of M, at the cost of a few products of order n^2.

    $$ \frac1\gamma \left( M^{-1} - \frac{(1 - \gamma)\, M^{-1} v v^\top M^{-1}}{\gamma + (1 - \gamma)\, v^\top M^{-1}
    v} \right) $$

    by Sherman and Morrison's formula. (The paper prints $\gamma M^{-1}$ *plus* a multiple of the same matrix of rank
    one, which is not that inverse; what its text describes is.)

    Arguments:
        inverse: Of M, symmetric.
        vector: v.
        decay: $\gamma$, in (0, 1].

    Paper: MKOR: Momentum-Enabled Kronecker-Factor-Based Optimizer Using Rank-1 Updates.
    """
    image = inverse @ vector
    shrink = (1 - decay) / (decay + (1 - decay) * vector @ image)
    return (inverse - shrink * jnp.outer(image, image)) / decay


def stabilized(inverse: Float[Array, "n n"], threshold: Scalar, blend: Scalar) -> Float[Array, "n n"]:
    r"""$\zeta M + (1 - \zeta) I$ where the largest entry of M exceeds the threshold in size, M elsewhere.

    Arguments:
        inverse: M.
        threshold: $\epsilon$, in (0, inf).
        blend: $\zeta$, in [0, 1].

    Paper: MKOR: Momentum-Enabled Kronecker-Factor-Based Optimizer Using Rank-1 Updates.
    """
    blended = blend * inverse + (1 - blend) * jnp.eye(len(inverse), dtype=inverse.dtype)
    return jnp.where(jnp.abs(inverse).max() > threshold, blended, inverse)


def _examples(batch: PyTree) -> int:
    leaves = jax.tree.leaves(batch)
    return leaves[0].shape[0] if leaves else 1


class KfacState(NamedTuple):
    """State of `Kfac`."""

    steps: Int[Array, ""]
    factors: list[tuple[Array, Array]]  # running means of A and G, not yet corrected for their start at zero
    base: PyTree


@method("kfac", {"learning_rate": LogUniform(1e-3, 1.0), "damping": LogUniform(1e-4, 1.0)})
class Kfac(Method):
    r"""K-FAC: gradients preconditioned layer by layer with Kronecker-factored curvature, then momentum.

    $$ v_\ell \leftarrow \mu v_\ell + (G_\ell + \tfrac{\sqrt\lambda}{\pi} I)^{-1}\, \nabla W_\ell\, (A_\ell + \pi
    \sqrt\lambda I)^{-1}, \qquad W_\ell \leftarrow W_\ell - \eta v_\ell $$

    with exponential running means of `layer_statistics` (the empirical Fisher matrix) and the damping of
    `kronecker_solve`. Layers are the `equinox.nn.Linear` and `equinox.nn.LSTMCell` in the parameters, weights and bias
    together, in feed-forward and recurrent models alike; all other parameters get their gradient with momentum.

    Arguments:
        learning_rate: $\eta$, in (0, inf).
        damping: $\lambda$, in (0, inf).
        decay: Of the running means, in [0, 1).
        momentum: $\mu$, in [0, 1).

    Raises:
        ValueError: for a hyper-parameter out of range.
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    damping: Scalar = hyper(1e-2, low=0.0, open_low=True)
    decay: Scalar = hyper(0.95, low=0.0, high=1.0, open_high=True)
    momentum: Scalar = hyper(0.9, low=0.0, high=1.0, open_high=True)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> KfacState:
        empty = jax.eval_shape(lambda: layer_statistics(lambda x: problem.loss(x, problem.sample(key)), x, 1)[2])
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), empty)
        return KfacState(jnp.zeros((), jnp.int32), zeros, optax.trace(self.momentum).init(x))

    def step(self, problem: Minimization, x: PyTree, state: KfacState, key: PRNGKeyArray) -> tuple[PyTree, KfacState]:
        batch = problem.sample(key)
        _, gradient, fresh = layer_statistics(lambda x: problem.loss(x, batch), x, _examples(batch))
        steps = state.steps + 1
        factors = jax.tree.map(lambda old, new: self.decay * old + (1 - self.decay) * new, state.factors, fresh)

        def solve(matrix: Array, pair: tuple[Array, Array]) -> Array:
            a, g = (factor / (1 - jnp.asarray(self.decay, factor.dtype) ** steps) for factor in pair)
            return kronecker_solve(matrix, a, g, self.damping)

        direction, base = optax.trace(self.momentum).update(map_layers(solve, gradient, factors), state.base)
        new = optax.apply_updates(x, jax.tree.map(lambda d: -self.learning_rate * d, direction))
        return new, KfacState(steps, factors, base)


class MkorState(NamedTuple):
    """State of `Mkor`."""

    steps: Int[Array, ""]
    inverses: list[tuple[Array, Array]]  # of A and G, per layer
    losses: tuple[Float[Array, ""], Float[Array, ""]]  # running means, fast and slow
    second_order: Float[Array, ""]  # 1, and 0 from the step at which it falls back
    base: PyTree


@method("mkor", {"learning_rate": LogUniform(1e-3, 3.0)}, paper="mkor")
class Mkor(Method):
    r"""Kronecker-factored preconditioning whose inverse factors are kept current by rank-one updates.

    Per layer, with $\bar a$ and $\bar g$ the batch means of its inputs and output gradients, every ``every`` steps

    $$ R^{-1} \leftarrow (\gamma R + (1 - \gamma)\, \bar a \bar a^\top)^{-1}, \qquad
    L^{-1} \leftarrow (\gamma L + (1 - \gamma)\, \bar g \bar g^\top)^{-1} $$

    by `rank_one_inverse_update`, `stabilized` first; then the layer's gradient becomes

    $$ D = L^{-1}\, \nabla W\, R^{-1}, \qquad \nabla W \leftarrow \lVert \nabla W \rVert\, D / \lVert D \rVert $$

    and goes into heavy-ball momentum. The cost over plain momentum is of order n^2 per factor, without a decomposition.
    Layers are as in `Kfac`.

    With ``stall`` it may fall back to plain momentum for good (MKOR-H): at the first step, after 100, at which the
    loss, averaged over about 10 steps, is not below its average over about 100 by the fraction ``stall`` (the paper
    watches the rate of decrease too; the constants are ours).

    Arguments:
        learning_rate: In (0, inf).
        decay: $\gamma$, in (0, 1]; at 1 the factors stay the identity.
        momentum: In [0, 1).
        threshold: $\epsilon$, the largest entry an inverse may have before it is stabilized, in (0, inf); 2 as in
            the authors' program.
        blend: $\zeta$ of the stabilizer, in [0, 1].
        every: Steps between updates of the factors, at least 1.
        stall: Least relative progress, or `None` (never fall back).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: MKOR: Momentum-Enabled Kronecker-Factor-Based Optimizer Using Rank-1 Updates.
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    decay: Scalar = hyper(0.95, low=0.0, high=1.0, open_low=True)
    momentum: Scalar = hyper(0.9, low=0.0, high=1.0, open_high=True)
    threshold: Scalar = hyper(2.0, low=0.0, open_low=True)
    blend: Scalar = hyper(0.9, low=0.0, high=1.0)
    every: int = hyper(1, low=1)
    stall: Scalar | None = hyper(None)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> MkorState:
        def identities(layer: Layer) -> tuple[Array, Array]:
            matrix = layer_matrix(layer)
            wide, (n, m) = jnp.promote_types(matrix.dtype, jnp.float32), matrix.shape
            return jnp.eye(m, dtype=wide), jnp.eye(n, dtype=wide)

        fast, slow = (jnp.zeros((), wide_dtype(x)) for _ in range(2))
        inverses = [identities(layer) for layer in layers_of(x)]
        momentum = optax.trace(self.momentum).init(x)
        return MkorState(jnp.zeros((), jnp.int32), inverses, (fast, slow), jnp.ones((), fast.dtype), momentum)

    def step(self, problem: Minimization, x: PyTree, state: MkorState, key: PRNGKeyArray) -> tuple[PyTree, MkorState]:
        batch = problem.sample(key)
        value, gradient, means = layer_statistics(lambda x: problem.loss(x, batch), x, _examples(batch), first_moments)

        def renewed(inverse: Array, vector: Array) -> Array:
            return rank_one_inverse_update(stabilized(inverse, self.threshold, self.blend), vector, self.decay)

        inverses = when_due(
            state.steps % self.every == 0,
            lambda: jax.tree.map(renewed, state.inverses, means),
            lambda: state.inverses,
        )
        losses, second_order = self._watch(value, state)

        def precondition(matrix: Array, pair: tuple[Array, Array]) -> Array:
            direction = pair[1] @ matrix @ pair[0]
            length = jnp.linalg.norm(direction)
            rescaled = direction * (jnp.linalg.norm(matrix) / jnp.where(length > 0, length, 1))
            return jnp.where(second_order > 0, rescaled, matrix)

        direction, base = optax.trace(self.momentum).update(map_layers(precondition, gradient, inverses), state.base)
        new = optax.apply_updates(x, jax.tree.map(lambda d: -self.learning_rate * d, direction))
        return new, MkorState(state.steps + 1, inverses, losses, second_order, base)

    def _watch(self, value: Array, state: MkorState) -> tuple[tuple[Array, Array], Array]:
        if self.stall is None:
            return state.losses, state.second_order
        value = value.astype(state.losses[0].dtype)
        fast, slow = (
            jnp.where(state.steps == 0, value, decay * old + (1 - decay) * value)
            for decay, old in zip((0.9, 0.99), state.losses, strict=True)
        )
        stalled = (state.steps >= 100) & (fast > (1 - self.stall) * slow)
        return (fast, slow), jnp.where(stalled, 0, state.second_order)
