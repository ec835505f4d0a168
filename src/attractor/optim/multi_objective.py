"""Several losses at once: one direction out of their gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.method import Gradient, Method, hyper
from attractor.objectives import MultiObjective
from attractor.registry import LogUniform, method
from attractor.trees import as_vector

Rows = Float[Array, "m d"]
Vector = Float[Array, " d"]


def _unit(v: Float[Array, "*m d"]) -> Float[Array, "*m d"]:
    size = jnp.linalg.norm(v, axis=-1, keepdims=True)
    return v / jnp.where(size > 0, size, 1)


def conflict_free_direction(gradients: Rows, key: PRNGKeyArray | None = None) -> Vector:
    r"""The direction with the same positive cosine to every gradient, as long as all of them project onto it.

    With $U$ the matrix of the gradients' unit vectors,

    $$ u = \frac{U^+ \mathbf 1}{\lVert U^+ \mathbf 1 \rVert}, \qquad d = \Big(\sum_i \langle g_i, u \rangle\Big) u $$

    The pseudo-inverse is taken of the m x m matrix $U U^\top$, since m is small and d is not. Of gradients that
    oppose each other exactly there is no such direction; then d is 0.

    Arguments:
        gradients: One row per loss; rows of zeros are left out.
        key: Ignored.

    Paper: ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks.
    """
    units = _unit(gradients)
    present = jnp.any(units != 0, axis=1).astype(units.dtype)
    shared = _unit(units.T @ (jnp.linalg.pinv(units @ units.T, hermitian=True) @ present))
    return jnp.sum(gradients @ shared) * shared


def projected_sum(gradients: Rows, key: PRNGKeyArray) -> Vector:
    r"""PCGrad: the sum of the gradients, each first projected against those it conflicts with, in random order.

    $g_i \leftarrow g_i - \frac{\langle g_i, g_j \rangle}{\lVert g_j \rVert^2} g_j$ whenever the product is negative,
    over all other j in an order drawn for each i, with $g_j$ as it was given.

    Arguments:
        gradients: One row per loss.
        key: Of the orders.

    Paper: Gradient Surgery for Multi-Task Learning (arXiv 2001.06782).
    """

    def projected(i: Array, own: Vector, key: PRNGKeyArray) -> Vector:
        def project(g: Vector, j: Array) -> tuple[Vector, None]:
            other = gradients[j]
            square = other @ other
            # Once projected against others, a gradient may conflict with what it was itself: that is no conflict.
            overlap = jnp.where(j == i, 0, jnp.minimum(g @ other, 0))
            return g - overlap / jnp.where(square > 0, square, 1) * other, None

        return jax.lax.scan(project, own, jr.permutation(key, len(gradients)))[0]

    m = len(gradients)
    return jax.vmap(projected)(jnp.arange(m), gradients, jr.split(key, m)).sum(0)


def combine_gradients(
    rule: Callable[[Rows, PRNGKeyArray], Vector] = conflict_free_direction,
) -> optax.GradientTransformationExtraArgs:
    """Replace the update by one direction made of every loss's gradient; chain any optimizer behind it.

    Its ``update`` takes ``gradients``, a pytree with leaves ``(m, …)``, and ``key`` by keyword; `attractor.run` gives
    both on a `MultiObjective` (see `CombinedGradient`).

    Arguments:
        rule: ``rule(gradients (m, d), key) -> direction (d,)``.

    Raises:
        ValueError: for an update without ``gradients``.
    """

    def update(
        updates: PyTree, state: Any, params: PyTree = None, *, gradients: PyTree = None, key: Any = None, **_: Any
    ) -> tuple[PyTree, Any]:
        rows, unravel = _rows(gradients, updates)
        return unravel(rule(rows, key)), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)  # pyright: ignore[reportArgumentType]


def _rows(gradients: PyTree, like: PyTree) -> tuple[Rows, Callable[[Vector], PyTree]]:
    if gradients is None:
        raise ValueError("gradients: expected every loss's gradient (leaves (m, …)); call update(…, gradients=…)")
    return jax.vmap(lambda g: as_vector(g)[0])(gradients), as_vector(like)[1]


class CombinedGradient(Gradient):
    """A transformation that asks for ``gradients``, as a `Method` over a `MultiObjective`.

    Arguments:
        transformation: Such as ``optax.chain(combine_gradients(), optax.adam(1e-3))``.
    """

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, problem: MultiObjective, x: PyTree, state: PyTree, key: PRNGKeyArray
    ) -> tuple[PyTree, PyTree]:
        return super().step(problem, x, state, key)


@method("config", {"learning_rate": LogUniform(1e-4, 0.1)}, paper="config", bad={"learning_rate": -1.0, "b1": 1.5})
def config(learning_rate: optax.ScalarOrSchedule, b1: Scalar = 0.9, b2: Scalar = 0.999) -> CombinedGradient:
    """Adam on the conflict-free direction of several losses (`conflict_free_direction`).

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        b1: Decay of the mean, in [0, 1).
        b2: Decay of the mean square, in [0, 1).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks.
    """
    return CombinedGradient(optax.chain(combine_gradients(), _adam(learning_rate, b1, b2)))


@method("pcgrad", {"learning_rate": LogUniform(1e-4, 0.1)}, bad={"learning_rate": -1.0, "b2": 1.0})
def pcgrad(learning_rate: optax.ScalarOrSchedule, b1: Scalar = 0.9, b2: Scalar = 0.999) -> CombinedGradient:
    """Adam on the sum of mutually projected gradients (`projected_sum`); arguments and errors as `config`'s."""
    return CombinedGradient(optax.chain(combine_gradients(projected_sum), _adam(learning_rate, b1, b2)))


def _adam(learning_rate: optax.ScalarOrSchedule, b1: Scalar, b2: Scalar) -> optax.GradientTransformation:
    if not callable(learning_rate):
        in_range("learning_rate", learning_rate, 0.0)
    in_range("b1", b1, 0.0, 1.0, open_high=True)
    in_range("b2", b2, 0.0, 1.0, open_high=True)
    return optax.adam(learning_rate, b1, b2)


class MomentumConfigState(NamedTuple):
    """State of `MomentumConfig`; d is the number of parameters."""

    steps: Int[Array, ""]
    means: Rows
    pseudo: Vector
    square: Vector


@method("m-config", {"learning_rate": LogUniform(1e-4, 0.1)}, paper="config")
class MomentumConfig(Method):
    r"""M-ConFIG: the conflict-free direction of the gradients' moving averages, one gradient a step.

    Step t differentiates the loss $i = t \bmod m$ alone, and $m_i \leftarrow \beta_1 m_i + (1 - \beta_1) g_i$. With d
    the `conflict_free_direction` of the bias-corrected $m_i$, and k counting the moves, the gradient that would have
    led to d as momentum gives the second moment:

    $$
    p_k = (1 - \beta_1^k) d_k, \quad \tilde g = \frac{p_k - \beta_1 p_{k-1}}{1 - \beta_1}, \quad
    v \leftarrow \beta_2 v + (1 - \beta_2) \tilde g^2, \quad
    x \leftarrow x - \eta\, d_k / (\sqrt{v / (1 - \beta_2^k)} + \epsilon)
    $$

    Until every loss has been seen once x stays. These details are those of the authors' program. The saving of one
    gradient instead of m is real where steps are not batched over configurations or seeds: a batched branch computes
    all sides.

    Arguments:
        learning_rate: $\eta$, in [0, inf), or a schedule.
        b1: $\beta_1$, in [0, 1).
        b2: $\beta_2$, in [0, 1).
        eps: $\epsilon$, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks.
    """

    learning_rate: optax.ScalarOrSchedule = hyper(low=0.0)
    b1: Scalar = hyper(0.9, low=0.0, high=1.0, open_high=True)
    b2: Scalar = hyper(0.999, low=0.0, high=1.0, open_high=True)
    eps: Scalar = hyper(1e-8, low=0.0, open_low=True)

    def init(self, problem: MultiObjective, x: PyTree, key: PRNGKeyArray) -> MomentumConfigState:
        pseudo, square = (jnp.zeros_like(as_vector(x)[0]) for _ in range(2))
        means = jnp.zeros((len(problem.names), pseudo.size))
        return MomentumConfigState(jnp.zeros((), jnp.int32), means, pseudo, square)

    def step(
        self, problem: MultiObjective, x: PyTree, state: MomentumConfigState, key: PRNGKeyArray
    ) -> tuple[PyTree, MomentumConfigState]:
        batch, m = problem.sample(key), len(problem.names)
        flat, unravel = as_vector(x)
        turn = state.steps % m
        of_one = [jax.grad(lambda z, i=i: problem.terms(unravel(z), batch)[i].astype(z.dtype)) for i in range(m)]
        g = jax.lax.switch(turn, of_one, flat)
        means = state.means.at[turn].set(self.b1 * state.means[turn] + (1 - self.b1) * g)
        seen = (state.steps + m - jnp.arange(m)) // m  # how often each loss was differentiated
        corrected = means / (1 - self.b1 ** jnp.maximum(seen, 1))[:, None]

        moving, k = seen[-1] > 0, jnp.maximum(state.steps - m + 2, 1)
        d = conflict_free_direction(corrected)
        pseudo = (1 - self.b1**k) * d
        square = self.b2 * state.square + (1 - self.b2) * ((pseudo - self.b1 * state.pseudo) / (1 - self.b1)) ** 2
        rate: Any = self.learning_rate(state.steps) if callable(self.learning_rate) else self.learning_rate
        new = flat - rate * d / (jnp.sqrt(square / (1 - self.b2**k)) + self.eps)
        new, pseudo, square = (
            jnp.where(moving, a, b) for a, b in ((new, flat), (pseudo, state.pseudo), (square, state.square))
        )
        return unravel(new), MomentumConfigState(state.steps + 1, means, pseudo, square)


def project_auxiliary(strength: Scalar = 1.0, rho: Scalar = 0.01) -> optax.GradientTransformationExtraArgs:
    r"""Bloop: descend the first loss, and the others only across the first one's averaged gradient.

    $$
    m \leftarrow (1 - \rho) m + \rho\, g_1, \qquad
    d = g_1 + \lambda \Big(g_a - \frac{\langle g_a, m \rangle}{\lVert m \rVert^2} m\Big), \qquad g_a = \sum_{i>1} g_i
    $$

    The product is taken over all parameters together. With $\rho = 1$ this is the projection against the minibatch's
    own gradient, which noise makes nearly orthogonal to everything. Its ``update`` takes ``gradients`` by keyword, a
    pytree with leaves ``(m, …)``.

    Arguments:
        strength: $\lambda$, of the auxiliary losses, in [0, inf).
        rho: $\rho$, in (0, 1].

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``gradients``.

    Paper: Careful with that Scalpel: Improving Gradient Surgery with an EMA.
    """
    in_range("strength", strength, 0.0)
    in_range("rho", rho, 0.0, 1.0, open_low=True)

    def init(params: PyTree) -> Vector:
        return jnp.zeros_like(as_vector(params)[0])

    def update(
        updates: PyTree, state: Vector, params: PyTree = None, *, gradients: PyTree = None, **_: Any
    ) -> tuple[PyTree, Vector]:
        rows, unravel = _rows(gradients, updates)
        main, auxiliary = rows[0], rows[1:].sum(0)
        mean = (1 - rho) * state + rho * main
        direction = _unit(mean)
        return unravel(main + strength * (auxiliary - (auxiliary @ direction) * direction)), mean

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


@method(
    "bloop",
    {"learning_rate": LogUniform(1e-4, 1.0), "strength": LogUniform(0.01, 10.0)},
    paper="bloop-gradient-surgery",
    bad={"learning_rate": -1.0, "strength": -1.0, "rho": 0.0},
)
def bloop(learning_rate: optax.ScalarOrSchedule, strength: Scalar = 1.0, rho: Scalar = 0.01) -> CombinedGradient:
    """Gradient descent on the first of several losses, and on the others where that does not cost it anything.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        strength: Of the other losses, in [0, inf).
        rho: Weight of a new gradient in the average, in (0, 1].

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Careful with that Scalpel: Improving Gradient Surgery with an EMA (`project_auxiliary`).
    """
    if not callable(learning_rate):
        in_range("learning_rate", learning_rate, 0.0)
    return CombinedGradient(optax.chain(project_auxiliary(strength, rho), optax.sgd(learning_rate)))
