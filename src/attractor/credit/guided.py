"""Guided forward gradients: directional derivatives along guesses, such as the gradients of layers' local losses."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.credit.layered import Layered, LayeredLoss, dense_params, local_gradient, plain
from attractor.method import Method
from attractor.registry import LogUniform, method

GUESSES, TARGETS, SPACES = ("local", "untrained", "random"), ("global", "local"), ("activations", "weights")
Heads = list[tuple[Array, Array]]


def first_heads(key: PRNGKeyArray, loss: LayeredLoss, params: PyTree) -> Heads:
    r"""A linear head per layer of units, from its outputs to the network's: `dense_params`, one layer each.

    Arguments:
        key: Draws the weights, $\mathcal N(0, 1/\text{units})$; biases are zero.
        loss: Shows its units.
        params: The network's.
    """
    units = [int(np.prod(shape)) for shape in loss.units(params)]
    output = jax.eval_shape(lambda p, x: loss.network(p, x[0], plain), params, loss.batch[0])
    drawn = [dense_params(k, (n, output.size))[0] for k, n in zip(jr.split(key, len(units)), units, strict=True)]
    return jax.tree.map(lambda a: a.astype(output.dtype), drawn)


class Guided(NamedTuple):
    """What `guided_gradient` finds.

    Attributes:
        value: The mean loss.
        gradient: The estimate, like the parameters.
        heads: The gradient of the heads, each of its own local loss.
    """

    value: Float[Array, ""]
    gradient: PyTree
    heads: Heads


def guided_gradient(
    loss: LayeredLoss,
    params: PyTree,
    heads: Heads,
    key: PRNGKeyArray,
    *,
    guess: str = "local",
    target: str = "global",
    space: str = "activations",
) -> Guided:
    r"""The loss's gradient as far as it goes along a guess, in every layer; no derivative is sent back through layers.

    $$ g_i = \frac{\langle \nabla_i L, u_i \rangle}{\lVert u_i \rVert^2}\, u_i $$

    The derivative of the target L along the guess u of layer i is a Jacobian-vector product. A guess of activations is
    one of each example's outputs of the layer's units, and a layer's own derivatives bring what comes out to its
    weights. Random guesses are not divided by their length: $E\langle \nabla L, u\rangle u = \nabla L$. What follows
    the last units gets its true gradient. Local guesses with local targets are those guesses: local learning.

    Arguments:
        loss: On n examples.
        params: One entry a layer of units at its top level, in the order in which they run, and one for what follows.
        heads: A linear map ``(weight, bias)`` a layer of units, from `first_heads`. A layer's local loss is the
            criterion of its head's output; nothing of it reaches the layers before.
        key: Draws random guesses and untrained heads.
        guess: ``"local"``, the gradient of the local losses; ``"untrained"``, the same with heads drawn anew at every
            call; ``"random"``, normal numbers.
        target: ``"global"``, the network's loss, or ``"local"``, the layers' own.
        space: ``"activations"``, or ``"weights"``, where a layer has one guess for all examples.

    Raises:
        ValueError: for an unknown choice, or if the numbers of layers, units and heads do not fit.

    Paper: Can Forward Gradient Match Backpropagation? Its program takes guesses of weights for each example apart.
    """
    for name, value, known in (("guess", guess, GUESSES), ("target", target, TARGETS), ("space", space, SPACES)):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    shapes = loss.units(params)
    layers, tree = jax.tree.flatten(params, is_leaf=lambda t: t is not params)
    hidden, last = layers[: len(shapes)], layers[len(shapes) :]
    if not len(layers) - 1 == len(shapes) == len(heads):
        raise ValueError(
            f"params, heads: expected {len(shapes) + 1} layers and {len(shapes)} heads for a network with "
            f"{len(shapes)} layers of units, got {len(layers)} and {len(heads)}"
        )
    (inputs, targets), on_weights = loss.batch, space == "weights"
    output = jax.eval_shape(lambda p, x: loss.network(p, x[0], plain), params, inputs)
    still = [jnp.zeros((len(targets), *shape), output.dtype) for shape in shapes]
    at = hidden if on_weights else still  # where a guess is a direction, one entry a layer of units

    def losses(heads: Heads, at: list, local: bool) -> Float[Array, " n"]:
        """Each example's loss: the network's, or the sum of its layers' own."""
        weights, shifts = (at, still) if on_weights else (hidden, at)

        def one(shifts: list[Array], x: Array, y: Array) -> Array:
            own: list[Array] = []

            def unit(activation: Any, a: Array) -> Array:
                h, (weight, bias) = activation(a) + shifts[len(own)], heads[len(own)]
                own.append(loss.criterion((weight @ h.ravel() + bias).reshape(output.shape), y))
                return jax.lax.stop_gradient(h) if local else h

            total = loss.criterion(loss.network(tree.unflatten([*weights, *last]), x, unit), y)
            return jnp.stack(own).sum() if local else total

        return jax.vmap(one)(shifts, inputs, targets)

    of_heads, of_guess = jr.split(key)
    direction: Any
    if guess == "random":
        direction = optax.tree.random_like(of_guess, at, jr.normal)
    else:
        guessing = first_heads(of_heads, loss, params) if guess == "untrained" else heads
        direction = jax.grad(lambda at: losses(guessing, at, True).sum())(at)

    def slope(i: Array) -> Float[Array, " n"]:
        """The derivative of each example's target along the guess of layer i alone."""
        alone = [jax.tree.map(lambda u, j=j: jnp.where(i == j, u, 0), u) for j, u in enumerate(direction)]
        return jax.jvp(lambda at: losses(heads, at, target == "local"), (at,), (alone,))[1]

    slopes, estimates = jax.vmap(slope)(jnp.arange(len(shapes))), []
    for u, along in zip(direction, slopes.mean(1, keepdims=True) if on_weights else slopes, strict=True):
        parts = [a.reshape(len(along), -1) for a in jax.tree.leaves(u)]  # of one guess for all, or one an example
        square = sum((a * a).sum(1) for a in parts)
        share = along if guess == "random" else along / jnp.where(square > 0, square, 1.0)
        estimates.append(jax.tree.map(lambda a, c=share: (c[:, None] * a.reshape(len(c), -1)).reshape(a.shape), u))

    value, found = local_gradient(
        loss, params, lambda _, __, outputs: list(map(jnp.zeros_like, outputs)) if on_weights else estimates, after=True
    )
    if on_weights:
        found = tree.unflatten([*estimates, *jax.tree.leaves(found, is_leaf=lambda t: t is not found)[len(shapes) :]])
    return Guided(value, found, jax.grad(lambda h: losses(h, at, True).mean())(heads))


class GuidedState(NamedTuple):
    """State of `GuidedGradient`."""

    heads: Heads
    transformation: PyTree  # of the network's parameters and the heads


class GuidedGradient(Method):
    """Any optax transformation, fed by `guided_gradient`; it trains the heads beside the network.

    Arguments:
        transformation: What to do with the estimate, such as ``optax.adam(1e-3)``; it treats the heads alike.
        guess: As in `guided_gradient`.
        target: As in `guided_gradient`.
        space: As in `guided_gradient`.

    Paper: Can Forward Gradient Match Backpropagation?
    """

    transformation: optax.GradientTransformation
    guess: str = eqx.field(static=True, default="local")
    target: str = eqx.field(static=True, default="global")
    space: str = eqx.field(static=True, default="activations")

    def init(self, problem: Layered, x: PyTree, key: PRNGKeyArray) -> GuidedState:
        heads = first_heads(jr.fold_in(key, 1), problem.at(problem.sample(key)), x)
        return GuidedState(heads, self.transformation.init((x, heads)))

    def step(self, problem: Layered, x: PyTree, state: GuidedState, key: PRNGKeyArray) -> tuple[PyTree, GuidedState]:
        how = {"guess": self.guess, "target": self.target, "space": self.space}
        found = guided_gradient(problem.at(problem.sample(key)), x, state.heads, jr.fold_in(key, 1), **how)
        both = x, state.heads
        updates, inner = self.transformation.update((found.gradient, found.heads), state.transformation, both)
        moved: Any = optax.apply_updates(both, updates)
        x, heads = moved
        return x, GuidedState(heads, inner)


@method(
    "guided-forward-descent",
    {"learning_rate": LogUniform(1e-4, 0.1)},
    paper="forward-gradient-local-guess",
    bad={"learning_rate": -1.0},
)
def guided_forward_descent(
    learning_rate: optax.ScalarOrSchedule, guess: str = "local", target: str = "global", space: str = "activations"
) -> GuidedGradient:
    r"""Adam along guesses: $\theta_{t+1} = \theta_t - \text{Adam}(\hat g_t)$, $\hat g_t$ by `guided_gradient`.

    Arguments:
        learning_rate: At least 0, or an optax schedule; of the network and of the heads that guess.
        guess: As in `guided_gradient`.
        target: As in `guided_gradient`.
        space: As in `guided_gradient`.

    Raises:
        ValueError: if ``learning_rate`` is negative.

    Paper: Can Forward Gradient Match Backpropagation?
    """
    in_range("learning_rate", learning_rate, 0.0)
    return GuidedGradient(optax.adam(learning_rate), guess, target, space)
