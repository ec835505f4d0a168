"""Distributed gradient descent with compressed messages, and memory of what compression has left out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
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


@method("weighted-ef21", {"learning_rate": STEP}, paper="ef21-weighted", example={"learning_rate": 0.1})
class WeightedEF21(Method):
    r"""EF21-W: each client estimates its gradient in a unit of its own, its share of the curvature.

    With shares $w_i = L_i / \sum_j L_j$ of n clients, whose scaled gradients are all as smooth as the mean of L,

    $$
    g_i \leftarrow g_i + C\Bigl(\frac{\nabla f_i(x)}{n w_i} - g_i\Bigr), \qquad
    x \leftarrow x - \gamma \sum_i w_i g_i
    $$

    from g = 0, and γ of `ef21_stepsize`. Where C(cv) = c C(v), as for `top_k` and `rand_k`, and where all weights are
    equal, the points are those of `ef21`, for which the same γ serves.

    Arguments:
        learning_rate: Step size γ > 0.
        weights: Each > 0, (n,), such as the smoothness constants L_i; only their proportions count. `None`: equal ones.
        compressor: ``(vector, key) -> vector``, applied to each client's whole message; any contraction.

    Raises:
        ValueError: for an argument out of its range; when it starts, for weights that are not one a client.

    Paper: Error Feedback Reloaded: From Quadratic to Arithmetic Mean of Smoothness Constants (Richtárik, Gasanov and
    Burlachenko, 2024)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    weights: Float[Array, " n"] | None = hyper(None)
    compressor: Compressor = hyper(TENTH)

    def __check_init__(self) -> None:
        if self.weights is not None:
            in_range("weights", self.weights, 0.0, open_low=True)

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> PyTree:
        n = problem.n_clients
        if self.weights is not None and jnp.shape(self.weights) != (n,):
            shape = jnp.shape(self.weights)
            raise ValueError(f"weights: expected one number for each of {n} clients, got shape {shape}")
        return jax.tree.map(lambda leaf: jnp.zeros((n, *leaf.shape), leaf.dtype), x)

    def step(self, problem: Federated, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        estimates = jax.tree.map(jnp.add, state, self.messages(problem, x, state, key))
        scales = self._scales(problem)
        x = jax.tree.map(lambda p, g: p - self.learning_rate * _times(scales, g).mean(0), x, estimates)
        return x, estimates

    def messages(self, problem: Federated, x: PyTree, state: PyTree, key: PRNGKeyArray) -> PyTree:
        """What each client sends in the round that starts at x, the clients as leading axis."""

        def compress(message: PyTree, key: PRNGKeyArray) -> PyTree:
            vector, restore = ravel_pytree(message)
            return restore(self.compressor(vector, key))

        slopes, scales = problem.client_gradients(x, problem.sample(key)), self._scales(problem)
        news = jax.tree.map(lambda s, g: _times(1 / scales, s) - g, slopes, state)
        return jax.vmap(compress)(news, jr.split(jr.fold_in(key, 1), problem.n_clients))

    def _scales(self, problem: Federated) -> Float[Array, " n"]:
        """n w, of mean 1."""
        weights = jnp.ones(problem.n_clients) if self.weights is None else jnp.asarray(self.weights, float)
        return weights / weights.mean()


def ef21_stepsize(
    smoothness: Scalar,
    client_smoothness: Float[Array, " n"],
    contraction: Scalar,
    mean: str = "arithmetic",
) -> Float[Array, ""]:
    r"""The step size of EF21's theory.

    $$ \gamma = \frac{1}{L + \xi \bar L}, \qquad \xi = \frac{1 + \sqrt{1 - \alpha}}{\alpha} - 1 $$

    With the arithmetic mean of the clients' constants for $\bar L$ it serves `WeightedEF21` with these as weights, and
    `ef21` too. The quadratic mean, of which this was first shown, makes it up to √n times smaller.

    With the estimates $h_i = n w_i g_i$ and $w_i = L_i / \sum_j L_j$,

    $$
    f(x) + \frac{\gamma}{2 (1 - \sqrt{1 - \alpha})} \, \frac1n \sum_i \frac{\|h_i - \nabla f_i(x)\|^2}{n w_i}
    $$

    falls in each step by at least $\gamma \|\nabla f(x)\|^2 / 2$.

    Arguments:
        smoothness: L > 0, the Lipschitz constant of ∇f.
        client_smoothness: L_i, each > 0, (n,): those of ∇f_i.
        contraction: α in (0, 1] of the compressor, for which $\|C(v) - v\|^2 \le (1 - \alpha) \|v\|^2$: k/d of `top_k`.
        mean: ``"arithmetic"`` or ``"quadratic"``.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Error Feedback Reloaded: From Quadratic to Arithmetic Mean of Smoothness Constants (Richtárik, Gasanov and
    Burlachenko, 2024)
    """
    in_range("smoothness", smoothness, 0.0, open_low=True)
    in_range("client_smoothness", client_smoothness, 0.0, open_low=True)
    in_range("contraction", contraction, 0.0, 1.0, open_low=True)
    if mean not in ("arithmetic", "quadratic"):
        raise ValueError(f"mean: expected 'arithmetic' or 'quadratic', got {mean!r}")
    each = jnp.asarray(client_smoothness, float)
    of_clients = each.mean() if mean == "arithmetic" else jnp.sqrt((each**2).mean())
    kept = jnp.sqrt(1 - jnp.asarray(contraction, float))
    return 1 / (smoothness + kept * (1 + kept) / contraction * of_clients)  # ξ, written without a difference


def _times(scales: Float[Array, " n"], leaf: Array) -> Array:
    """Each client's part times its scale."""
    return leaf * jnp.expand_dims(scales, range(1, leaf.ndim)).astype(leaf.dtype)
