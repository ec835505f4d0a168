"""Optimizers whose rule is learned: networks that see each coordinate's slope, and their training on random tasks."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range

Memory = tuple[tuple[Float[Array, "n width"], Float[Array, "n width"]], ...]
CoordinateProx = Callable[[Float[Array, " n"], Float[Array, " n"]], Float[Array, " n"]]


class CoordinateNetwork(eqx.Module):
    """A recurrent network that is applied to every coordinate alike: layers of LSTM, one of ReLU, and a linear one.

    Arguments:
        outputs: How many numbers it gives for a coordinate.
        width: Of each layer.
        layers: Of LSTM.
        key: For its weights.

    Raises:
        ValueError: for a size below 1.
    """

    cells: tuple[eqx.nn.LSTMCell, ...]
    hidden: eqx.nn.Linear
    last: eqx.nn.Linear

    def __init__(self, outputs: int = 2, width: int = 20, layers: int = 2, *, key: PRNGKeyArray):
        for name, size in (("outputs", outputs), ("width", width), ("layers", layers)):
            in_range(name, size, 1)
        *for_cells, for_hidden, for_last = jr.split(key, layers + 2)
        sizes = [2] + [width] * layers
        self.cells = tuple(eqx.nn.LSTMCell(n, width, key=k) for n, k in zip(sizes[:-1], for_cells, strict=True))
        self.hidden = eqx.nn.Linear(width, width, key=for_hidden)
        self.last = eqx.nn.Linear(width, outputs, key=for_last)

    def start(self, n: int) -> Memory:
        """No memory yet, of n coordinates."""
        return tuple((jnp.zeros((n, c.hidden_size)), jnp.zeros((n, c.hidden_size))) for c in self.cells)

    def __call__(
        self, slopes: Float[Array, " n"], points: Float[Array, " n"], memory: Memory
    ) -> tuple[Float[Array, "n outputs"], Memory]:
        """What it gives for each coordinate, and what it remembers."""
        # How a network comes to its inputs is not followed when it is trained.
        seen, kept = jax.lax.stop_gradient(jnp.stack([slopes, points], 1)), []
        for cell, state in zip(self.cells, memory, strict=True):
            kept.append(jax.vmap(cell)(seen, state))
            seen = kept[-1][0]
        return jax.vmap(lambda h: self.last(jax.nn.relu(self.hidden(h))))(seen), tuple(kept)


class LearnedState(NamedTuple):
    """Of a learned optimizer."""

    point: Float[Array, " n"]  # where the last proximal step ended
    memory: Memory


def _of_network(
    network: CoordinateNetwork, move: Callable[[Array, Array, Array, Array], tuple[Array, Array]]
) -> optax.GradientTransformation:
    """From ``move(outputs, slopes, params, last point) -> (params, point)``, all as vectors."""

    def init(params: PyTree) -> LearnedState:
        flat = ravel_pytree(params)[0]
        return LearnedState(flat + 0, network.start(flat.size))

    def update(grads: PyTree, state: LearnedState, params: PyTree = None) -> tuple[PyTree, LearnedState]:
        if params is None:
            raise ValueError("params: a learned rule needs the parameters; call update(grads, state, params)")
        (at, whole), slopes = ravel_pytree(params), ravel_pytree(grads)[0]
        outputs, memory = network(slopes, at, state.memory)
        moved, point = move(outputs, slopes, at, state.point)
        return whole((moved - at).astype(at.dtype)), LearnedState(point.astype(at.dtype), memory)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _no_prox(x: Array, step: Array) -> Array:
    return x


def learned_proximal(
    network: CoordinateNetwork,
    step_size: Scalar,
    prox: CoordinateProx = _no_prox,
    extrapolation: Scalar = 1.0,
) -> optax.GradientTransformation:
    r"""Proximal gradient steps whose preconditioner and extrapolation a network gives, coordinate by coordinate.

    $$ x_{k+1} = \operatorname{prox}_{r,p_k}(y_k - p_k \nabla f(y_k)), \qquad
       y_{k+1} = x_{k+1} + a_k (x_{k+1} - x_k) $$

    with $p_k = 2\eta\,\sigma(\cdot)$ and $a_k = 2\,\sigma(\cdot)$ of the network's two outputs for
    $(\nabla f(y_k), y_k)$. Whatever the network says, a minimizer of f + r is left alone. The parameters are y; the
    state's ``point`` is x, which is sparse where r makes it so.

    Arguments:
        network: A `CoordinateNetwork` with two outputs, as from `meta_train`.
        step_size: $\eta$ in (0, inf), as a rule 1 / L for slopes with Lipschitz constant L.
        prox: ``prox(x, p)`` of r, coordinate by coordinate, with a step for each; by default r = 0.
        extrapolation: Factor of $a_k$, in [0, inf); 0 leaves the preconditioner alone.

    Raises:
        ValueError: for an argument out of range, or an update without ``params``.

    Paper: Towards Constituting Mathematical Structures for Learning to Optimize (Liu et al., 2023): L2O-PA. Its
    networks start from a random memory, ours from none.
    """
    in_range("step_size", step_size, 0.0, open_low=True)
    in_range("extrapolation", extrapolation, 0.0)

    def move(outputs: Array, slopes: Array, at: Array, last: Array) -> tuple[Array, Array]:
        steps, ahead = 2 * jax.nn.sigmoid(outputs[:, 0]), 2 * jax.nn.sigmoid(outputs[:, 1])
        point = prox(at - step_size * steps * slopes, step_size * steps)
        return point + extrapolation * ahead * (point - last), point

    return _of_network(network, move)


def learned_descent(network: CoordinateNetwork, scale: Scalar = 0.1) -> optax.GradientTransformation:
    r"""Steps that are whatever a network says: $x_{k+1} = x_k + s \operatorname{elu}(\cdot)$ of its output.

    Arguments:
        network: A `CoordinateNetwork`; its first output counts.
        scale: s, in (0, inf).

    Raises:
        ValueError: for a ``scale`` out of range, or an update without ``params``.

    Paper: Learning to learn by gradient descent by gradient descent (Andrychowicz et al., 2016), as Liu et al. compare
    with it.
    """
    in_range("scale", scale, 0.0, open_low=True)

    def move(outputs: Array, slopes: Array, at: Array, last: Array) -> tuple[Array, Array]:
        return (moved := at + scale * jax.nn.elu(outputs[:, 0])), moved

    return _of_network(network, move)


class Tasks(NamedTuple):
    """What a learned optimizer is to solve: tasks that are drawn, and what it sees of one.

    Arguments:
        draw: ``key -> task``, a pytree of arrays.
        start: ``task -> x``.
        slope: ``slope(x, task)``, what the optimizer is given: of the smooth part for `learned_proximal`.
        value: ``value(x, task)``, what is to be small.
    """

    draw: Callable[[PRNGKeyArray], PyTree]
    start: Callable[[PyTree], PyTree]
    slope: Callable[[PyTree, PyTree], PyTree]
    value: Callable[[PyTree, PyTree], Float[Array, ""]]


Maker = Callable[[Any, PyTree], optax.GradientTransformation]


def unrolled(
    optimizer: optax.GradientTransformation, tasks: Tasks, task: PyTree, x: PyTree, state: PyTree, steps: int
) -> tuple[tuple[PyTree, PyTree], Float[Array, " steps"]]:
    """Some steps on one task: where they end, with the state, and the value after each of them.

    Arguments:
        optimizer: Any optax transformation.
        tasks: See `Tasks`.
        task: One of them.
        x: Where to begin.
        state: Of the optimizer there.
        steps: How many.
    """

    def step(carry: tuple, _: None) -> tuple:
        x, state = carry
        updates, state = optimizer.update(tasks.slope(x, task), state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), tasks.value(x, task)

    return jax.lax.scan(step, (x, state), None, steps)


def meta_train(
    network: PyTree,
    make: Maker,
    tasks: Tasks,
    key: PRNGKeyArray,
    *,
    rounds: int = 500,
    batch: int = 64,
    segments: int = 5,
    unroll: int = 20,
    learning_rate: Scalar = 1e-2,
) -> tuple[PyTree, Float[Array, " rounds"]]:
    r"""Train a learned optimizer on tasks: Adam on the mean value along its own steps, a segment at a time.

    $$ \min_\theta\ E_{task} \frac1K \sum_{k=1}^{K} F(x_k(\theta)) $$

    Every round draws a batch of tasks and goes through all segments; slopes do not reach back beyond a segment.

    Arguments:
        network: What is trained, an `equinox.Module`.
        make: ``make(network, task) -> transformation``, such as `learned_proximal` at the task's step size.
        tasks: See `Tasks`.
        key: Which tasks are drawn.
        rounds: At least 1.
        batch: Tasks a round, at least 1.
        segments: Of each run, at least 1.
        unroll: Steps of a segment, at least 1.
        learning_rate: Of Adam, in (0, inf).

    Returns:
        The trained network, and the mean value along the last segment of each round.

    Raises:
        ValueError: for an argument out of range.
    """
    for name, count in (("rounds", rounds), ("batch", batch), ("segments", segments), ("unroll", unroll)):
        in_range(name, count, 1)
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    weights, rest = eqx.partition(network, eqx.is_inexact_array)
    adam = optax.adam(learning_rate)

    def cost(weights: PyTree, drawn: PyTree, at: PyTree) -> tuple[Array, PyTree]:
        def one(task: PyTree, x: PyTree, state: PyTree) -> tuple:
            return unrolled(make(eqx.combine(weights, rest), task), tasks, task, x, state, unroll)

        ends, values = jax.vmap(one)(drawn, *at)
        return values.mean(), ends

    def segment(carry: tuple, _: None, drawn: PyTree) -> tuple:
        weights, state, at = carry
        (value, at), slope = jax.value_and_grad(cost, has_aux=True)(weights, drawn, at)
        updates, state = adam.update(slope, state)
        return (optax.apply_updates(weights, updates), state, at), value

    def one_round(carry: tuple, key: PRNGKeyArray) -> tuple:
        drawn = jax.vmap(tasks.draw)(jr.split(key, batch))
        x = jax.vmap(tasks.start)(drawn)
        state = jax.vmap(lambda t, x: make(eqx.combine(carry[0], rest), t).init(x))(drawn, x)
        (weights, adams, _), values = jax.lax.scan(partial(segment, drawn=drawn), (*carry, (x, state)), None, segments)
        return (weights, adams), values[-1]

    (weights, _), values = jax.lax.scan(one_round, (weights, adam.init(weights)), jr.split(key, rounds))
    return eqx.combine(weights, rest), values
