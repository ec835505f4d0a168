"""Preconditioners on matrix Lie groups, fitted online to Hessian-vector pairs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.linalg.curvature import MatVec
from attractor.registry import LogUniform, method
from attractor.trees import as_vector


def _safe(length: Array) -> Array:
    return jnp.where(length > 0, length, 1)


class Triangular(NamedTuple):
    r"""$Q$ upper triangular; memory and time of order n^2."""

    q: Float[Array, "n n"]

    @classmethod
    def identity(cls, like: Float[Array, " n"], key: PRNGKeyArray) -> "Triangular":
        """The identity of the group, for vectors of that size and dtype."""
        return cls(jnp.eye(like.size, dtype=like.dtype))

    def scaled(self, scale: Scalar) -> "Triangular":
        """Q times a number."""
        return Triangular(self.q * scale)

    def precondition(self, g: Float[Array, " n"]) -> Float[Array, " n"]:
        r"""$Q^\top Q g$."""
        return self.q.T @ (self.q @ g)

    def fitted(self, v: Float[Array, " n"], h: Float[Array, " n"], step: Scalar, key: PRNGKeyArray) -> "Triangular":
        r"""$Q \leftarrow Q - \mu\, E Q / \lVert E \rVert_F$, with E the upper triangle of $a a^\top - b b^\top$."""
        a = self.q @ h
        b = jax.scipy.linalg.solve_triangular(self.q.T, v, lower=True)
        slope = jnp.triu(jnp.outer(a, a) - jnp.outer(b, b))
        return Triangular(self.q - step * slope @ self.q / _safe(jnp.linalg.norm(slope)))


class CrossShaped(NamedTuple):
    r"""$Q = \operatorname{diag}(p) + \operatorname{adiag}(q)$, the X-shaped matrices; memory and time of order n."""

    p: Float[Array, " n"]  # diagonal
    q: Float[Array, " n"]  # antidiagonal, row by row

    @classmethod
    def identity(cls, like: Float[Array, " n"], key: PRNGKeyArray) -> "CrossShaped":
        """The identity of the group, for vectors of that size and dtype."""
        return cls(jnp.ones_like(like), jnp.zeros_like(like))

    def scaled(self, scale: Scalar) -> "CrossShaped":
        """Q times a number."""
        return CrossShaped(self.p * scale, self.q * scale)

    def precondition(self, g: Float[Array, " n"]) -> Float[Array, " n"]:
        r"""$Q^\top Q g$."""
        image = self.p * g + self.q * g[::-1]
        return self.p * image + (self.q * image)[::-1]

    def fitted(self, v: Float[Array, " n"], h: Float[Array, " n"], step: Scalar, key: PRNGKeyArray) -> "CrossShaped":
        r"""$Q \leftarrow Q - \mu\, E Q / \lVert E \rVert_\infty$, with E the cross of $a a^\top - b b^\top$."""
        p, q = self
        a = p * h + q * h[::-1]
        b = (p[::-1] * v - q[::-1] * v[::-1]) / (p * p[::-1] - q * q[::-1])
        on, off = a * a - b * b, a * a[::-1] - b * b[::-1]
        off = jnp.where(jnp.arange(v.size) == v.size - 1 - jnp.arange(v.size), 0, off)  # the middle is on the diagonal
        rate = step / _safe(jnp.max(jnp.abs(on) + jnp.abs(off), initial=0))
        return CrossShaped(p - rate * (on * p + off * q[::-1]), q - rate * (on * q + off * p[::-1]))


class LowRank(NamedTuple):
    r"""$Q = (I + U V^\top) \operatorname{diag}(d)$ with U and V of rank r; memory of order rn, time r^2 n."""

    u: Float[Array, "n r"]
    v: Float[Array, "n r"]
    d: Float[Array, " n"]

    @classmethod
    def identity(cls, like: Float[Array, " n"], key: PRNGKeyArray, rank: int = 10) -> "LowRank":
        """U and V small and random (zero would stay zero), d one."""
        u, v = jr.normal(key, (2, like.size, rank), like.dtype) / (10 * (like.size * rank) ** 0.5)
        return cls(u, v, jnp.ones_like(like))

    def scaled(self, scale: Scalar) -> "LowRank":
        """Q times a number."""
        return LowRank(self.u, self.v, self.d * scale)

    def precondition(self, g: Float[Array, " n"]) -> Float[Array, " n"]:
        r"""$Q^\top Q g$."""
        image = self.d * g
        return self._transposed(image + self.u @ (self.v.T @ image))

    def _transposed(self, a: Array) -> Array:
        return self.d * (a + self.v @ (self.u.T @ a))

    def fitted(self, v: Float[Array, " n"], h: Float[Array, " n"], step: Scalar, key: PRNGKeyArray) -> "LowRank":
        r"""A step along d, and one along U or along V, whichever a coin says: each alone moves within a group.

        $$ d \leftarrow d - \mu\, d \odot s / \lVert s \rVert_\infty, \quad s = h \odot P h - v \odot P^{-1} v; \qquad
        U \leftarrow U - \tfrac\mu c (a a^\top - b b^\top) V (I + V^\top U), \quad
        V \leftarrow V - \tfrac\mu c (I + V U^\top) (a a^\top - b b^\top) U $$

        with c at least the norm of the change of Q relative to Q.
        """
        left, right, d = self
        small = jnp.eye(left.shape[1], dtype=d.dtype) + right.T @ left
        a = d * h
        a = a + left @ (right.T @ a)
        b = v / d
        b = b - right @ jnp.linalg.solve(small.T, left.T @ b)
        solved = (b - left @ jnp.linalg.solve(small, right.T @ b)) / d
        slope = h * self._transposed(a) - v * solved

        def along(other: Array) -> tuple[Array, Array]:
            pa, pb = other.T @ a, other.T @ b
            bound = jnp.linalg.norm(a) * jnp.linalg.norm(other @ pa) + jnp.linalg.norm(b) * jnp.linalg.norm(other @ pb)
            return jnp.outer(a, pa) - jnp.outer(b, pb), _safe(bound)

        def move_left() -> tuple[Array, Array]:
            change, bound = along(right)
            return left - step / bound * change @ small, right

        def move_right() -> tuple[Array, Array]:
            change, bound = along(left)
            return left, right - step / bound * (change + right @ (left.T @ change))

        left, right = lax.cond(jr.bernoulli(key), move_left, move_right)
        return LowRank(left, right, d - step / _safe(jnp.max(jnp.abs(slope), initial=0)) * d * slope)


GROUPS = {"triangular": Triangular, "cross": CrossShaped, "low-rank": LowRank}


class ScaleByPsgdState(NamedTuple):
    """State of `scale_by_psgd`."""

    steps: Int[Array, ""]
    preconditioner: Any


def scale_by_psgd(
    group: str = "low-rank", fit_rate: Scalar = 0.1, fit_probability: Scalar = 0.1
) -> optax.GradientTransformationExtraArgs:
    r"""Precondition with $P = Q^\top Q$, where Q follows a Lie group to whiten Hessian-vector pairs.

    With $v \sim N(0, I)$ and $h = \nabla^2 f(x)\, v$, P descends

    $$ \operatorname{E}\bigl[ h^\top P h + v^\top P^{-1} v \bigr], \qquad \text{least at } P = (\operatorname{E} h
    h^\top)^{-1/2} = |\nabla^2 f|^{-1} $$

    by steps $Q \leftarrow (I - \mu E) Q$ with E the gradient along the group, $a a^\top - b b^\top$ for $a = Qh$ and
    $b = Q^{-\top} v$, scaled to at most unit norm: Q never becomes singular, so there is nothing to damp. The first
    pair sets the scale, $Q = \sqrt{\lVert v \rVert / \lVert h \rVert}\, I$. All parameters are one vector, no smaller
    than float32.

    ``update`` takes two extra arguments, which `attractor.run` passes: ``hvp``, the function ``v -> Hv``, and ``key``.

    Arguments:
        group: ``"triangular"``, ``"cross"`` or ``"low-rank"`` (of rank 10); see the classes.
        fit_rate: $\mu$, in (0, 1).
        fit_probability: Chance of a fit at each step after the first, in [0, 1].

    Raises:
        ValueError: for an unknown group, a hyper-parameter out of range, or an update without ``hvp`` and ``key``.

    Paper: Curvature-Informed SGD via General Purpose Lie-Group Preconditioners.
    """
    if group not in GROUPS:
        raise ValueError(f"group: expected one of {', '.join(GROUPS)}, got {group!r}")
    in_range("fit_rate", fit_rate, 0.0, 1.0, open_low=True, open_high=True)
    in_range("fit_probability", fit_probability, 0.0, 1.0)

    def init(params: PyTree) -> ScaleByPsgdState:
        return ScaleByPsgdState(jnp.zeros((), jnp.int32), GROUPS[group].identity(as_vector(params)[0], jr.key(0)))

    def update(
        updates: PyTree,
        state: Any,
        params: PyTree = None,
        *,
        hvp: MatVec | None = None,
        key: PRNGKeyArray | None = None,
        **_: Any,
    ) -> tuple[PyTree, ScaleByPsgdState]:
        if hvp is None or key is None:
            raise ValueError("hvp, key: expected both, as in update(grads, state, params, hvp=hvp(loss, x), key=key)")
        g, unravel = as_vector(updates)
        probe_key, coin, choice = jr.split(key, 3)

        def fit() -> Any:
            v = jr.normal(probe_key, g.shape, g.dtype)
            h = as_vector(hvp(unravel(v)))[0]
            ratio = jnp.linalg.norm(v) / _safe(jnp.linalg.norm(h))
            scale = jnp.where(state.steps == 0, jnp.sqrt(ratio), 1)
            return state.preconditioner.scaled(scale).fitted(v, h, jnp.asarray(fit_rate, g.dtype), choice)

        due = (state.steps == 0) | jr.bernoulli(coin, fit_probability)
        preconditioner = lax.cond(due, fit, lambda: state.preconditioner)
        return unravel(preconditioner.precondition(g)), ScaleByPsgdState(state.steps + 1, preconditioner)

    return optax.GradientTransformationExtraArgs(init, update)


@method(
    "psgd",
    {"learning_rate": LogUniform(1e-3, 1.0)},
    paper="psgd-lie-group",
    bad={"learning_rate": -1.0, "group": "circle", "momentum": 1.0, "fit_rate": 1.0, "fit_probability": 1.5},
)
def psgd(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    group: str = "low-rank",
    momentum: Scalar = 0.9,
    fit_rate: Scalar = 0.1,
    fit_probability: Scalar = 0.1,
) -> optax.GradientTransformationExtraArgs:
    r"""Stochastic gradient descent preconditioned on a Lie group: no damping, no line search.

    $$ m \leftarrow \beta m + (1 - \beta) g, \qquad x \leftarrow x - \eta\, P m $$

    with P as in `scale_by_psgd`, and m corrected for its start at zero.

    Arguments:
        learning_rate: $\eta$, a number in (0, inf) or a schedule; 1 is a Newton step, were P exact and H positive.
        group: ``"triangular"``, ``"cross"`` or ``"low-rank"``.
        momentum: $\beta$, in [0, 1).
        fit_rate: $\mu$, in (0, 1).
        fit_probability: Chance of a fit at each step, in [0, 1].

    Raises:
        ValueError: for an unknown group, a hyper-parameter out of range, or an update without ``hvp`` and ``key``.

    Paper: Curvature-Informed SGD via General Purpose Lie-Group Preconditioners.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    return optax.chain(
        optax.ema(momentum),
        scale_by_psgd(group, fit_rate, fit_probability),
        optax.scale_by_learning_rate(learning_rate),
    )
