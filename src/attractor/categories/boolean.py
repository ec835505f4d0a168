r"""Boolean circuits over Z2 and their reverse derivative: learning with bits and nothing else.

A circuit is a JAX function of arrays whose entries are 0.0 and 1.0, made of the gates `xor`, `conjunction`, `negation`
and `parity`: addition and multiplication modulo 2. The rules of formal differentiation, $d(x + y) = dx + dy$ and
$d(xy) = y\,dx + x\,dy$, are then JAX's own, and the gates keep cotangents in {0, 1}, so that the result is exact
at any depth.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from attractor import registry
from attractor.method import Method
from attractor.problem import Minimization, Problem

Circuit = Callable[[PyTree, Array], Array]
Reverse = Callable[..., Callable[..., tuple]]


@jax.custom_vjp
def modulo2(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The whole numbers ``x`` modulo 2, as 0.0 and 1.0; cotangents are taken modulo 2 as well."""
    return jnp.mod(x, 2)


modulo2.defvjp(lambda x: (modulo2(x), None), lambda _, cotangent: (jnp.mod(cotangent, 2),))


def xor(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exclusive or: x + y modulo 2."""
    return modulo2(x + y)


def conjunction(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """And: x y modulo 2."""
    return modulo2(x * y)


def negation(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Not: 1 + x modulo 2."""
    return modulo2(1 + x)


def parity(x: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Exclusive or of all entries along an axis of less than 2²⁴ entries."""
    return modulo2(x.sum(axis))


def reverse_derivative(circuit: Callable[..., Array]) -> Callable[..., tuple]:
    r"""R of the reverse differential category of Z2 polynomials: $R[f](x, d) = J_f(x)^\top d$ modulo 2.

    J is the formal Jacobian of the circuit as it is written. Two circuits for one function may differ in it:
    ``conjunction(x, x)`` computes x, but its derivative is x + x = 0. In return the chain rule holds exactly,
    $R[g \circ f](x, d) = R[f](x, R[g](f(x), d))$.

    Arguments:
        circuit: Function of one or more arrays (or pytrees) of bits, built from this module's gates.

    Returns:
        A function ``(*inputs, d) -> changes``: a tuple with the same structure and shapes as the inputs, Boolean.
    """

    def reverse(*inputs_and_change: PyTree) -> tuple:
        *inputs, change = (_as_floats(a) for a in inputs_and_change)
        _, pull_back = jax.vjp(circuit, *inputs)
        return jax.tree.map(lambda bits: jnp.mod(bits, 2) > 0, pull_back(change))

    return reverse


def boolean_difference(function: Callable[..., Array]) -> Callable[..., tuple]:
    r"""R by brute force, from $D_j f(x) = f(x + e_j) + f(x)$: what flips when input bit j does.

    It takes any Boolean function, threshold gates included, at one evaluation per input bit, and depends on nothing
    but the function's values. It agrees with `reverse_derivative` on circuits that never multiply an input by itself;
    it does not obey the chain rule.

    Arguments:
        function: Function of one or more arrays (or pytrees) of 0.0 and 1.0.

    Returns:
        As `reverse_derivative` does.
    """

    def reverse(*inputs_and_change: PyTree) -> tuple:
        *inputs, change = (_as_floats(a) for a in inputs_and_change)
        flat, unravel = ravel_pytree(tuple(inputs))
        value = function(*inputs)

        def flipped(bit: Array) -> Array:
            return jnp.abs(function(*unravel(jnp.abs(flat - bit))) - value).ravel()

        jacobian = jax.vmap(flipped)(jnp.eye(flat.size, dtype=flat.dtype))
        back = jnp.mod(jacobian @ change.ravel(), 2)
        return jax.tree.map(lambda bits: bits > 0, unravel(back))

    return reverse


def rda_step(
    reverse: Reverse,
    circuit: Circuit,
    theta: PyTree,
    x: Bool[Array, " n"],
    y: Bool[Array, " m"],
) -> PyTree:
    r"""One step of reverse derivative ascent: $\theta + \pi_\theta R[f]((\theta, x), f(\theta, x) + y)$ over Z2.

    Arguments:
        reverse: `reverse_derivative`, or `boolean_difference` for a model that is no circuit.
        circuit: The model f, ``(theta, x) -> y``.
        theta: Parameters: a pytree of Boolean arrays.
        x: One example's input bits.
        y: Its wanted output bits.

    Returns:
        The new parameters.
    """
    wrong = _bits(circuit, theta, x) ^ y
    change, _ = reverse(circuit)(theta, x, wrong)
    return jax.tree.map(jnp.logical_xor, theta, change)


class CircuitLearning(Minimization):
    """Find the parameter bits with which a circuit maps given inputs to given outputs; the loss is its error rate.

    Arguments:
        circuit: The model, ``(theta, x (n,)) -> y (m,)``, of arrays of 0.0 and 1.0.
        init: Parameters to start with: a pytree of Boolean arrays, or a function ``key -> pytree``.
        data: ``(inputs (N, n), outputs (N, m))``, Boolean.
        **kwargs: As in `Minimization`.

    Raises:
        ValueError: as `Minimization` does, or if the data are not Boolean.
    """

    circuit: Circuit

    def __init__(self, circuit: Circuit, init: PyTree, data: tuple[Any, Any], **kwargs: Any):
        if any(np.asarray(part).dtype != bool for part in data):
            raise ValueError("data: expected Boolean arrays (inputs, outputs)")
        super().__init__(eqx.Partial(error_rate, circuit), init, data, **kwargs)
        self.circuit = circuit

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """A table of 8 rows; bits have no dtype to choose. See `Problem.example`."""
        return truth_table(n_in=3, batch_size=4)


def error_rate(
    circuit: Circuit, theta: PyTree, batch: tuple[Bool[Array, "b n"], Bool[Array, "b m"]]
) -> Float[Array, ""]:
    """Share of the examples with a wrong bit in the output."""
    inputs, outputs = batch
    predicted = jax.vmap(functools.partial(_bits, circuit, theta))(inputs)
    return jnp.mean(jnp.any(predicted ^ outputs, axis=-1))


class ReverseDerivativeAscent(Method):
    r"""Learns a circuit's parameters over Z2 from one example after the other, see `rda_step`.

    A step of the method goes through a batch in order: all the data once where the problem has no batch size.

    Arguments:
        reverse: The derivative: `reverse_derivative` (the default) or `boolean_difference`.

    Paper: Reverse Derivative Ascent: A Categorical Approach to Learning Boolean Circuits.
    """

    reverse: Reverse

    def step(self, problem: CircuitLearning, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        def one(theta: PyTree, example: tuple[Array, Array]) -> tuple[PyTree, None]:
            return rda_step(self.reverse, problem.circuit, theta, *example), None

        theta, _ = lax.scan(one, x, problem.sample(key))
        return theta, state


@registry.method("reverse-derivative-ascent", paper="reverse-derivative-ascent")
def reverse_derivative_ascent(reverse: Reverse = reverse_derivative) -> ReverseDerivativeAscent:
    """Learn a Boolean circuit by its reverse derivative; see `ReverseDerivativeAscent`."""
    return ReverseDerivativeAscent(reverse)


def lut_circuit(n_in: int, n_out: int) -> tuple[Circuit, Bool[Array, "entries n_out"]]:
    r"""A look-up table, and its parameters at zero: $f(\theta, x) = \theta_x$, a polynomial in both.

    The entry is selected by the minterms $\prod_i (x_i + k_i + 1)$, one for each address k, read with the first
    bit as the highest. Only the selected row appears in the derivative, so a wrong bit is flipped exactly.

    Arguments:
        n_in: Input bits, 0 … 16.
        n_out: Output bits, at least 1.

    Raises:
        ValueError: for a size out of range.
    """
    if not 0 <= n_in <= 16:
        raise ValueError(f"n_in: expected 0 … 16 bits (the table has 2^n_in rows), got {n_in}")
    if n_out < 1:
        raise ValueError(f"n_out: expected a whole number >= 1, got {n_out}")
    return _look_up, jnp.zeros((2**n_in, n_out), dtype=bool)


@registry.problem("truth-table", metric="loss", steps=100)
def truth_table(n_in: int = 8, n_out: int = 1, batch_size: int | None = 16, seed: int = 0) -> CircuitLearning:
    """Learn a random Boolean function with a look-up table; the data are all of its values.

    Arguments:
        n_in: Input bits, 0 … 16.
        n_out: Output bits, at least 1.
        batch_size: Examples per step, drawn with replacement; `None`: all, in order.
        seed: Of the function.
    """
    circuit, theta = lut_circuit(n_in, n_out)
    inputs = np.indices((2,) * n_in).reshape(n_in, -1).T.astype(bool)
    outputs = np.random.default_rng(seed).random((2**n_in, n_out)) < 0.5
    return CircuitLearning(circuit, theta, (inputs, outputs), batch_size=batch_size)


def _look_up(theta: Float[Array, "entries m"], x: Float[Array, " n"]) -> Float[Array, " m"]:
    selected = jnp.ones(1)
    for bit in x:
        selected = conjunction(selected[:, None], jnp.stack([negation(bit), bit])).ravel()
    return parity(conjunction(selected[:, None], theta), axis=0)


def _as_floats(bits: PyTree) -> PyTree:
    return jax.tree.map(lambda a: jnp.asarray(a, dtype=jnp.float32), bits)


def _bits(circuit: Circuit, theta: PyTree, x: Array) -> Bool[Array, "..."]:
    return circuit(_as_floats(theta), _as_floats(x)) > 0


def evaluate_gates(gates: Iterable[Array], x: Float[Array, " n"]) -> Float[Array, " n"]:
    """A circuit of layers of gates, each with two inputs from the layer before: what comes out of the last one.

    Arguments:
        gates: Per layer and gate its kind (0: exclusive or, 1: and, 2: not, of the first input) and the places of its
            inputs, whole numbers ``(layers, n)``.
        x: Bits as floating-point numbers.
    """

    def layer(x: Array, gates: tuple[Array, ...]) -> tuple[Array, None]:
        kind, left, right = gates
        a, b = x[left], x[right]
        gate = jnp.where(kind == 1, conjunction(a, b), negation(a))
        return jnp.where(kind == 0, xor(a, b), gate), None

    return lax.scan(layer, x, tuple(gates))[0]
