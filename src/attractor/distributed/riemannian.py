"""Decentralized descent over orthonormal frames: neighbors average, and a projection brings them back."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.distributed.local import center, combine, gradients_at, shift, spread
from attractor.distributed.topologies import Mixing, check_mixing, mixing_for, ring_mixing
from attractor.linalg.stiefel import nearest_frame, tangent_part
from attractor.method import Method, hyper
from attractor.problem import Federated
from attractor.registry import LogUniform, method
from attractor.trees import norm


class Conjugates(NamedTuple):
    """Agents' points and search directions, with the agents as first axis, and what the next directions need."""

    models: PyTree
    directions: PyTree
    squares: Float[Array, " n"]  # |g_i|² of the Riemannian gradients
    mixing: PyTree  # (n, n), all rounds of a step at once
    taken: Int[Array, ""]


def frames(x: PyTree) -> PyTree:
    """The nearest point of the manifold: matrices become frames, leaves of fewer axes stay."""
    return jax.tree.map(lambda leaf: nearest_frame(leaf) if leaf.ndim > 1 else leaf, x)


def along(x: PyTree, direction: PyTree) -> PyTree:
    """The part of a direction along the manifold at x."""
    return jax.tree.map(lambda leaf, v: tangent_part(leaf, v) if leaf.ndim > 1 else v, x, direction)


@method("drcgd", {"learning_rate": LogUniform(1e-3, 1.0)}, paper="drcgd-stiefel", example={"rounds": 2})
class RiemannianGossip(Method):
    r"""Conjugate gradients of agents who share a frame, by projections alone; no retraction, no vector transport.

    Each of n agents keeps a frame $x_i$, $x_i^\top x_i = I$, and a direction $\eta_i$, at first $-g_i$. With W of the
    graph, $P$ the `nearest_frame`, $T_x$ the `tangent_part` at x, $g_i = T_{x_i}(\nabla f_i(x_i))$ and
    $\alpha_k = a\,(k + 1)^{-\tau}$,

    $$
    x_i \leftarrow P\Big(\sum_j (W^t)_{ij} x_j + \alpha_k \eta_i\Big), \qquad
    \eta_i \leftarrow -g_i + c\,\frac{|g_i|^2}{|g_i^{\text{old}}|^2}\, T_{x_i}\Big(\sum_j (W^t)_{ij} \eta_j\Big),
    $$

    all at once: Fletcher and Reeves' factor is each agent's own. A step sends 2t matrices over each link, frames and
    directions; t without directions, c = 0. Agents' own gradients do not vanish where they agree, so that a constant
    step leaves them apart, and the factors tend to 1. Leaves of two or more axes are frames, along the last two, the
    longer of which is d; vectors and scalars are free. The start is projected; the iterate is the mean, projected.

    The paper's steps satisfy Wolfe's conditions, too; there is no line search here.

    Arguments:
        learning_rate: a > 0.
        decay: τ in [0, 1].
        share: c ≥ 0 of the factor. 1 is the paper's; 0 is decentralized projected gradient descent, `dprgd`.
        rounds: t, at least 1.
        mixing: Doubly stochastic weights (n, n), or a function of n; a ring by default.

    Raises:
        ValueError: for an argument out of its range; when it starts, if the weights are not those of the agents.

    Paper: Decentralized Riemannian Conjugate Gradient Method on the Stiefel Manifold (Chen, Ye, Wang, Huang, Dai, Tsang
    and Liu, 2023)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    decay: Scalar = hyper(0.5, low=0.0, high=1.0)
    share: Scalar = hyper(1.0, low=0.0)
    rounds: int = hyper(1, low=1, static=True)
    mixing: Mixing | Callable[[int], Mixing] = hyper(ring_mixing)

    def __check_init__(self) -> None:
        if not callable(self.mixing):
            check_mixing(self.mixing)

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Conjugates:
        weights = jnp.asarray(mixing_for(self.mixing, problem.n_clients), float)
        models = jax.vmap(frames)(spread(x, problem.n_clients))
        slopes = jax.vmap(along)(models, gradients_at(problem, models, problem.sample(key)))
        downhill = jax.tree.map(jnp.negative, slopes)
        mixing = jnp.linalg.matrix_power(weights, self.rounds)
        return Conjugates(models, downhill, jax.vmap(norm)(slopes) ** 2, mixing, jnp.asarray(0))

    def step(self, problem: Federated, x: PyTree, state: Conjugates, key: PRNGKeyArray) -> tuple[PyTree, Conjugates]:
        alpha = self.learning_rate * (state.taken + 1.0) ** -self.decay
        models = jax.vmap(frames)(shift(combine(state.mixing, state.models), alpha, state.directions))
        slopes = jax.vmap(along)(models, gradients_at(problem, models, problem.sample(key)))
        squares = jax.vmap(norm)(slopes) ** 2
        factors = self.share * squares / jnp.where(state.squares > 0, state.squares, 1)
        carried = jax.vmap(along)(models, combine(state.mixing, state.directions))
        directions = jax.tree.map(
            lambda g, v: (jnp.expand_dims(factors, range(1, v.ndim)) * v - g).astype(v.dtype), slopes, carried
        )
        return frames(center(models)), Conjugates(models, directions, squares, state.mixing, state.taken + 1)


@method(
    "dprgd", {"learning_rate": LogUniform(1e-3, 1.0)}, example={"rounds": 2}, bad={"learning_rate": 0.0, "decay": 2.0}
)
def dprgd(
    learning_rate: Scalar,
    decay: Scalar = 0.5,
    rounds: int = 1,
    mixing: Mixing | Callable[[int], Mixing] = ring_mixing,
) -> RiemannianGossip:
    r"""Decentralized projected Riemannian gradient descent: $x_i \leftarrow P(\sum_j (W^t)_{ij} x_j - \alpha_k g_i)$.

    Arguments:
        learning_rate: a > 0, with $\alpha_k = a\,(k + 1)^{-\tau}$.
        decay: τ in [0, 1].
        rounds: t, at least 1.
        mixing: Doubly stochastic weights (n, n), or a function of n; a ring by default.

    Raises:
        ValueError: for an argument out of its range; when it starts, if the weights are not those of the agents.

    Paper: Decentralized Projected Riemannian Gradient Method for Smooth Optimization on Compact Submanifolds (Deng and
    Hu, 2023)
    """
    return RiemannianGossip(learning_rate, decay, 0.0, rounds, mixing)
