r"""Learned best responses: the weights that a lower level would choose for hyper-parameters near the current ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax import tree
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.bilevel import Bilevel
from attractor.checks import Scalar
from attractor.games.bilevel import RATE, against, levels
from attractor.method import Method, hyper
from attractor.registry import LogUniform, method


class Response(NamedTuple):
    """An affine best response, its rows gated.

    Attributes:
        plain: Like y: the weights without a gate.
        gated: Like y: what the gates switch on.
        gates: Per leaf of y, n numbers for each row (for each entry of a vector or scalar): leaves ``(rows, n)``.
    """

    plain: PyTree
    gated: PyTree
    gates: PyTree

    def at(self, x: Float[Array, " n"]) -> PyTree:
        """The weights for x, an array of n numbers."""

        def leaf(plain: Array, gated: Array, gates: Array) -> Array:
            gate = (gates @ x).reshape(plain.shape[:1] + (1,) * (plain.ndim - 1))
            return (plain + gate * gated).astype(plain.dtype)

        return tree.map(leaf, *self)


def gated_ridge(features: Float[Array, "n d"], targets: Float[Array, " n"]) -> Response:
    r"""The exact best response of linear regression to its penalty: a linear network of two layers, gated by a sigmoid.

    $$
    \arg\min_w \frac{\lVert A w - b \rVert^2}{2n} + \frac{e^\lambda}{2} \lVert w \rVert^2 =
    \bigl( \sigma(\lambda v + c) \odot Q \bigr)^\top s
    $$

    with the right singular vectors of A as rows of Q and v = -1. Given are s as ``plain``, Q as ``gated`` and (v, c),
    two columns, as ``gates``; the weights are ``gated.T @ (sigmoid(gates @ (λ, 1)) * plain)``.

    Arguments:
        features: A, of rank d ≤ n.
        targets: b.

    Raises:
        ValueError: if there are fewer rows than columns.

    Paper: Self-Tuning Networks: Bilevel Optimization of Hyperparameters using Structured Best-Response Functions
    (MacKay, Vicol, Lorraine, Duvenaud and Grosse, 2019)
    """
    if features.shape[0] < features.shape[1]:
        raise ValueError(
            f"features: expected at least as many rows as columns, got {features.shape}; drop some columns"
        )
    left, sizes, rows = jnp.linalg.svd(features, full_matrices=False)
    offsets = jnp.log(sizes**2 / features.shape[0])
    return Response(left.T @ targets / sizes, rows, jnp.stack([-jnp.ones_like(offsets), offsets], 1))


class SelfTuningState(NamedTuple):
    """The response, the logarithms of the perturbations' widths (n,), Adam's state of both, and the steps taken."""

    response: Response
    width: Float[Array, " n"]
    adam: PyTree
    taken: Int[Array, ""]


@method(
    "self-tuning",
    {"learning_rate": RATE, "inner_rate": RATE, "width": LogUniform(0.1, 2.0)},
    paper="self-tuning-networks",
    example={"learning_rate": 0.1, "inner_rate": 0.1, "width": 0.5},
)
class SelfTuning(Method):
    r"""Weights that depend on the hyper-parameters through gates, trained around them and then followed, in turn.

    $$
    \hat y(x) = y_0 + (V x) \odot y_1, \qquad
    \phi = (y_0, y_1, V) \leftarrow \phi - \gamma \nabla_\phi\, g(x + \varepsilon, \hat y(x + \varepsilon))
    \;\text{ N times}, \qquad \varepsilon \sim \mathcal N(0, s^2)
    $$

    Then Adam takes a step of x and log s against the slope of
    $F(x + \varepsilon, \hat y(x + \varepsilon)) - \tau \sum_i \log s_i$. The rows of a weight matrix
    share a gate, see `gated_ridge` for why. The lower loss is not differentiated in x, so that x may as well be rates
    of dropout. The iterate's y is $\hat y(x)$; $y_0$ starts at the problem's y.

    Arguments:
        learning_rate: η > 0, Adam's.
        inner_rate: γ > 0, of the response.
        width: s > 0 at the start, one for each number in x.
        entropy: τ ≥ 0: how much wide perturbations are favored. 0: s follows F alone. Where F does not depend on a
            number of x its width grows without bound, as Adam does not know how small τ is.
        inner_steps: N ≥ 1, each on a minibatch and a perturbation of its own.
        warmup: Steps before x moves, at least 0.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Self-Tuning Networks: Bilevel Optimization of Hyperparameters using Structured Best-Response Functions
    (MacKay, Vicol, Lorraine, Duvenaud and Grosse, 2019)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    inner_rate: Scalar = hyper(low=0.0, open_low=True)
    width: Scalar = hyper(0.5, low=0.0, open_low=True)
    entropy: Scalar = hyper(1e-3, low=0.0)
    inner_steps: int = hyper(2, low=1, static=True)
    warmup: int = hyper(0, low=0, static=True)

    def init(self, problem: Bilevel, x: PyTree, key: PRNGKeyArray) -> SelfTuningState:
        flat, _ = ravel_pytree(x[0])
        leaves, structure = tree.flatten(x[1])
        own = jr.split(key, len(leaves))
        drawn = [(0.1 * jr.normal(k, leaf.shape)).astype(leaf.dtype) for k, leaf in zip(own, leaves, strict=True)]
        gates = [jnp.zeros((leaf.shape or (1,))[:1] + flat.shape, leaf.dtype) for leaf in leaves]
        plain = tree.map(jnp.copy, x[1])
        response = Response(plain, tree.unflatten(structure, drawn), tree.unflatten(structure, gates))
        width = jnp.full(flat.shape, jnp.log(self.width), flat.dtype)
        return SelfTuningState(response, width, optax.adam(self.learning_rate).init((flat, width)), jnp.zeros((), int))

    def step(
        self, problem: Bilevel, x: PyTree, state: SelfTuningState, key: PRNGKeyArray
    ) -> tuple[PyTree, SelfTuningState]:
        (flat, unravel), response = ravel_pytree(x[0]), state.response
        for_fit, for_x = jr.split(jr.fold_in(key, 1))

        def near(flat: Float[Array, " n"], width: Float[Array, " n"], own: PRNGKeyArray) -> Float[Array, " n"]:
            return flat + jnp.exp(width) * jr.normal(own, flat.shape, flat.dtype)

        def fit(response: Response, own: PRNGKeyArray) -> tuple[Response, None]:
            for_batch, for_noise = jr.split(own)
            lower, at = levels(problem, for_batch)[1], near(flat, state.width, for_noise)
            slope = jax.grad(lambda r: lower(unravel(at), r.at(at)))(response)
            return against(response, slope, self.inner_rate), None

        response = jax.lax.scan(fit, response, jr.split(for_fit, self.inner_steps))[0]

        def chosen(place: tuple[Array, Array]) -> Array:
            at = near(*place, for_x)
            return levels(problem, key)[0](unravel(at), response.at(at)) - self.entropy * jnp.sum(place[1])

        place = flat, state.width
        updates, adam = optax.adam(self.learning_rate).update(jax.grad(chosen)(place), state.adam, place)
        stepped = optax.apply_updates(place, updates), adam
        due = state.taken >= self.warmup
        (flat, width), adam = tree.map(lambda new, old: jnp.where(due, new, old), stepped, (place, state.adam))
        new, _ = problem.project(unravel(flat), x[1])
        at, _ = ravel_pytree(new)
        return (new, response.at(at)), SelfTuningState(response, width, adam, state.taken + 1)
