"""Distributed gradient descent with compressed messages, and memory of what compression has left out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.distributed.compressors import Compressor, top_k
from attractor.method import Method, hyper
from attractor.problem import Federated
from attractor.registry import LogUniform, method

STEP = LogUniform(1e-3, 1.0)
TENTH = top_k(0.1)


class Memory(NamedTuple):
    """What each client remembers; both are pytrees like x with the clients as leading axis, or `None` if not kept."""

    error: PyTree  # e: sum of what compression has left out so far
    shift: PyTree  # h: running estimate of the client's gradient, known to the server too


@method(
    "econtrol",
    {"learning_rate": STEP, "feedback": LogUniform(0.01, 1.0)},
    paper="econtrol",
    example={"learning_rate": 0.1},
)
class EControl(Method):
    r"""Error control: clients send compressed gradient differences, into which a share of their past error is mixed.

    With g the clients' gradients, e their errors and h their gradient estimates, client by client

    $$
    \Delta = C(\eta e + g - h), \qquad e \leftarrow e + g - h - \Delta, \qquad h \leftarrow h + \Delta, \qquad
    x \leftarrow x - \gamma\, \mathrm{mean}(h)
    $$

    with the new h in the last step. The point $x - \gamma\,\mathrm{mean}(e)$ does plain gradient steps, whatever
    C. We start from e = h = 0. Without the shift (h = 0, η = 1) this is `error_compensation`, without the error `ef21`.

    Arguments:
        learning_rate: Step size γ > 0.
        feedback: Strength of control η in (0, 1], of the order of the compressor's δ (0.1 for ``top_k(0.1)``).
            `None`: clients keep no error.
        compressor: ``(vector, key) -> vector``, applied to each client's whole message; any contraction.
        shifted: Whether clients keep the estimate h, and send differences to it.

    Raises:
        ValueError: for an argument out of its range.

    Paper: EControl: Fast Distributed Optimization with Compression and Error Control (Gao, Islamov and Stich, 2024)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    feedback: Scalar | None = hyper(0.1, low=0.0, high=1.0, open_low=True, optional=True)
    compressor: Compressor = hyper(TENTH)
    shifted: bool = True

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Memory:
        def zeros() -> PyTree:
            return jax.tree.map(lambda leaf: jnp.zeros((problem.n_clients, *leaf.shape), leaf.dtype), x)

        return Memory(None if self.feedback is None else zeros(), zeros() if self.shifted else None)

    def step(self, problem: Federated, x: PyTree, state: Memory, key: PRNGKeyArray) -> tuple[PyTree, Memory]:
        error, shift = state
        news = problem.client_gradients(x, problem.sample(key))  # g, and g - h below
        if shift is not None:
            news = jax.tree.map(jnp.subtract, news, shift)
        wanted = news
        if error is not None:
            wanted = jax.tree.map(lambda e, v: self.feedback * e + v, error, news)
        sent = jax.vmap(self.compress)(wanted, jr.split(jr.fold_in(key, 1), problem.n_clients))
        if error is not None:
            error = jax.tree.map(lambda e, v, d: e + v - d, error, news, sent)
        estimate = sent if shift is None else jax.tree.map(jnp.add, shift, sent)
        # The server adds up the messages to the same estimates, so that it can average them without further traffic.
        x = jax.tree.map(lambda p, h: p - self.learning_rate * h.mean(0), x, estimate)
        return x, Memory(error, None if shift is None else estimate)

    def compress(self, message: PyTree, key: PRNGKeyArray) -> PyTree:
        """One client's message, compressed as one vector."""
        vector, restore = ravel_pytree(message)
        return restore(self.compressor(vector, key))


@method(
    "error-compensation",
    {"learning_rate": STEP},
    example={"learning_rate": 0.1},
    bad={"learning_rate": -1.0},
)
def error_compensation(learning_rate: Scalar, compressor: Compressor = TENTH) -> EControl:
    r"""Classical error feedback (EF14): what compression leaves out is added to the next message.

    $$ \Delta = C(e + g), \qquad e \leftarrow e + g - \Delta, \qquad x \leftarrow x - \gamma\, \mathrm{mean}(\Delta) $$

    With a constant step it stalls at a distance that grows with how much the clients' gradients differ.

    Arguments:
        learning_rate: Step size γ > 0.
        compressor: ``(vector, key) -> vector``, applied to each client's whole message; any contraction.

    Raises:
        ValueError: if ``learning_rate`` is not positive.

    Paper: 1-bit stochastic gradient descent and its application to data-parallel distributed training of speech DNNs
    (Seide, Fu, Droppo, Li and Yu, 2014)
    """
    return EControl(learning_rate, 1.0, compressor, shifted=False)


@method("ef21", {"learning_rate": STEP}, example={"learning_rate": 0.1}, bad={"learning_rate": -1.0})
def ef21(learning_rate: Scalar, compressor: Compressor = TENTH) -> EControl:
    r"""EF21: clients send compressed differences to their gradient estimates, and forget what was left out.

    $$ h \leftarrow h + C(g - h), \qquad x \leftarrow x - \gamma\, \mathrm{mean}(h) $$

    Exact for full gradients; under gradient noise it does not profit from more clients. We start from h = 0.

    Arguments:
        learning_rate: Step size γ > 0.
        compressor: ``(vector, key) -> vector``, applied to each client's whole message; any contraction.

    Raises:
        ValueError: if ``learning_rate`` is not positive.

    Paper: EF21: A New, Simpler, Theoretically Better, and Practically Faster Error Feedback (Richtárik, Sokolov and
    Fatkhullin, 2021)
    """
    return EControl(learning_rate, None, compressor)
