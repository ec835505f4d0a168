"""Gradients whitened on every side: a matrix for the rows and one for the columns of each leaf, and so for tensors.

Sides longer than ``max_size`` are left as they are or get a diagonal. What is stored and decomposed is in single
precision at least.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray, PyTree

from attractor.checks import Count, Scalar, in_range
from attractor.gradients import refuse_complex
from attractor.method import when_due
from attractor.optim.kept import DECAY, GRADIENTS
from attractor.registry import LEARNING_RATE, LogUniform, method

Mask = PyTree | Callable[[PyTree], PyTree] | None
Tensor = Inexact[Array, "..."]
Sides = dict[int, Array]  # of some axes of a tensor, a matrix (or a diagonal)


def _wide(x: Tensor) -> Tensor:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _along(x: Tensor, axis: int, matrix: Array) -> Tensor:
    """``matrix`` applied to an axis; a vector is a diagonal."""
    if matrix.ndim == 1:
        return x * matrix.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return jnp.moveaxis(jnp.tensordot(matrix, x, (1, axis)), 0, axis)


def _along_all(x: Tensor, matrices: Sides) -> Tensor:
    for axis, matrix in matrices.items():
        x = _along(x, axis, matrix)
    return x


def _gram(x: Tensor, axis: int, diagonal: bool = False) -> Array:
    """The second moments of an axis, summed over all others."""
    others = [i for i in range(x.ndim) if i != axis]
    return jnp.sum(x**2, others) if diagonal else jnp.tensordot(x, x, (others, others))


def _leafwise(init: Callable[..., Any], update: Callable[..., Any]) -> optax.GradientTransformationExtraArgs:
    """A transformation that treats each leaf by itself: ``init(x)``, ``update(g, state, steps, key) -> (u, state)``."""

    def start(params: PyTree) -> tuple[Array, list[Any]]:
        refuse_complex("whitening", params)
        return jnp.zeros((), jnp.int32), [init(x) for x in jax.tree.leaves(params)]

    def step(updates: PyTree, state: Any, params: PyTree = None, *, key: Any = None, **_: Any) -> tuple[PyTree, Any]:
        steps, states = state
        leaves, structure = jax.tree.flatten(updates)
        found = [
            update(g, s, steps, None if key is None else jr.fold_in(key, i))
            for i, (g, s) in enumerate(zip(leaves, states, strict=True))
        ]
        directions = [u.astype(g.dtype) for g, (u, _) in zip(leaves, found, strict=True)]
        return jax.tree.unflatten(structure, directions), (optax.safe_increment(steps), [s for _, s in found])

    return optax.GradientTransformationExtraArgs(start, step)


def _finished(
    direction: optax.GradientTransformation, learning_rate: optax.ScalarOrSchedule, weight_decay: Scalar, mask: Mask
) -> optax.GradientTransformationExtraArgs:
    in_range("learning_rate", learning_rate, 0.0)
    in_range("weight_decay", weight_decay, 0.0)
    decay = optax.add_decayed_weights(weight_decay, mask)
    return optax.chain(direction, decay, optax.scale_by_learning_rate(learning_rate))


class _Shampoo(NamedTuple):
    sums: Sides  # of second moments
    roots: Sides  # their inverse roots; none for diagonals, which cost nothing


def scale_by_shampoo(
    eps: Scalar = 1e-4, every: Count = 1, max_size: int = 1024
) -> optax.GradientTransformationExtraArgs:
    r"""Divide by roots of the second moments of rows and of columns: AdaGrad with a matrix for each side.

    $$ L \leftarrow L + G G^\top, \quad R \leftarrow R + G^\top G, \qquad U = L^{-1/4} G R^{-1/4} $$

    from $L = R = \epsilon I$. A tensor with k axes has as many sides, to the power $-1/2k$. Leaves with fewer than two
    axes are AdaGrad's; the paper, and `pytorch_optimizer.Shampoo`, divide a vector by the root of its whole second
    moment, whose inverse single precision does not carry.

    Arguments:
        eps: $\epsilon$, in (0, inf).
        every: Steps between two decompositions, at least 1; stale roots lengthen steps along directions that are new.
        max_size: Longest side that gets a matrix, at least 1; others have a diagonal.

    Raises:
        ValueError: for a hyper-parameter out of range.
        TypeError: for complex parameters.

    Paper: Shampoo: Preconditioned Stochastic Tensor Optimization (arXiv 1802.09568).
    """
    in_range("eps", eps, 0.0, open_low=True)
    in_range("every", every, 1)
    in_range("max_size", max_size, 1)

    def init(x: Tensor) -> _Shampoo:
        x = _wide(jnp.atleast_1d(x))
        matrix = {i: x.ndim > 1 and n <= max_size for i, n in enumerate(x.shape)}
        sums = {i: eps * (jnp.eye if matrix[i] else jnp.ones)(n, dtype=x.dtype) for i, n in enumerate(x.shape)}
        return _Shampoo(sums, {i: jnp.zeros_like(s) for i, s in sums.items() if s.ndim == 2})

    def update(g: Tensor, state: _Shampoo, steps: Array, _: Any) -> tuple[Tensor, _Shampoo]:
        x = _wide(jnp.atleast_1d(g))
        power = -1 / (2 * x.ndim)
        sums = {i: s + _gram(x, i, s.ndim == 1) for i, s in state.sums.items()}

        def root(s: Array) -> Array:
            values, vectors = jnp.linalg.eigh(s)
            return (vectors * jnp.maximum(values, eps) ** power) @ vectors.T

        roots = when_due(steps % every == 0, lambda: {i: root(sums[i]) for i in state.roots}, lambda: state.roots)
        sides = {i: roots[i] if i in roots else s**power for i, s in sums.items()}
        return _along_all(x, sides).reshape(g.shape), _Shampoo(sums, roots)

    return _leafwise(init, update)


@method(
    "shampoo",
    {"learning_rate": GRADIENTS, "weight_decay": DECAY},
    bad={"learning_rate": -1.0, "momentum": 1.0, "weight_decay": -1.0, "eps": 0.0, "every": 0, "max_size": 0},
)
def shampoo(
    learning_rate: optax.ScalarOrSchedule,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    eps: Scalar = 1e-4,
    every: Count = 1,
    max_size: int = 1024,
) -> optax.GradientTransformationExtraArgs:
    """Shampoo: a mean of whitened gradients (`scale_by_shampoo`), decoupled weight decay, a learning rate.

    As in its paper: sums that never forget, and no grafting of another method's step sizes, which
    ``distributed_shampoo`` adds.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        momentum: Decay of the mean of whitened gradients, which is corrected for its start at zero, in [0, 1).
        weight_decay: Times the learning rate and the weights, in [0, inf).
        mask: Which leaves are decayed: a pytree of bools, or a function of the parameters that gives one; `None`: all.
        eps: As in `scale_by_shampoo`, in (0, inf).
        every: As in `scale_by_shampoo`, at least 1.
        max_size: As in `scale_by_shampoo`, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Shampoo: Preconditioned Stochastic Tensor Optimization (arXiv 1802.09568).
    """
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    direction = optax.chain(scale_by_shampoo(eps, every, max_size), optax.ema(momentum))
    return _finished(direction, learning_rate, weight_decay, mask)


def _eigenvectors(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Of a semidefinite matrix; where it is singular not those that rounding chooses, but those of a fixed diagonal."""
    values, vectors = jnp.linalg.eigh(matrix)
    most = jnp.maximum(values[-1], jnp.finfo(values.dtype).tiny)
    null = jnp.where(values <= len(values) * 10 * jnp.finfo(values.dtype).eps * most, vectors, 0)
    ramp = null.T * jnp.linspace(1, 2, len(values), dtype=values.dtype) @ null
    return jnp.linalg.eigh(matrix / most - null @ ramp @ null.T)[1]


class _Soap(NamedTuple):
    mu: Tensor  # mean gradient
    nu: Tensor  # mean square in the eigenbasis
    moments: Sides  # mean second moments of the sides
    basis: Sides  # their eigenvectors, nearly


def scale_by_soap(
    b1: Scalar = 0.95,
    b2: Scalar = 0.95,
    eps: Scalar = 1e-8,
    *,
    shampoo_beta: Scalar | None = None,
    every: Count = 10,
    max_size: int = 1024,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam in the eigenbasis of Shampoo's matrices.

    $$
    \begin{aligned}
    L &\leftarrow \beta L + (1 - \beta) G G^\top, \quad R \leftarrow \beta R + (1 - \beta) G^\top G,
    \qquad L \approx Q_L \Lambda_L Q_L^\top, \quad R \approx Q_R \Lambda_R Q_R^\top \\
    U &= Q_L \, \operatorname{Adam}\bigl(Q_L^\top G\, Q_R\bigr) \, Q_R^\top
    \end{aligned}
    $$

    The bases are eigenvectors of the first gradient's moments (those of the null space are anybody's: here no rounding
    chooses them); every few steps one round of orthogonal iteration brings them up to date. The first update is zero:
    it goes into the bases. As in the authors' program $\epsilon$ is added before the mean square is corrected for its
    start; unlike there, a turned entry that is no larger than rounding stays zero. Leaves with fewer than two axes, and
    sides that are too long, keep their own basis.

    Arguments:
        b1: Decay of the mean gradient, in [0, 1).
        b2: Decay of the mean square, in [0, 1).
        eps: Added to the denominator, in (0, inf).
        shampoo_beta: $\beta$, in [0, 1); `None`: ``b2``.
        every: Steps between two renewals of the bases, at least 1.
        max_size: Longest side that gets a basis, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.
        TypeError: for complex parameters.

    Paper: SOAP: Improving and Stabilizing Shampoo using Adam (arXiv 2409.11321).
    """
    beta = b2 if shampoo_beta is None else shampoo_beta
    for name, decay in {"b1": b1, "b2": b2, "shampoo_beta": beta}.items():
        in_range(name, decay, 0.0, 1.0, open_high=True)
    in_range("eps", eps, 0.0, open_low=True)
    in_range("every", every, 1)
    in_range("max_size", max_size, 1)

    def init(x: Tensor) -> _Soap:
        x = _wide(x)
        sides = {i: jnp.zeros((n, n), x.dtype) for i, n in enumerate(x.shape) if x.ndim > 1 and n <= max_size}
        return _Soap(jnp.zeros_like(x), jnp.zeros_like(x), sides, {i: jnp.zeros_like(s) for i, s in sides.items()})

    def update(g: Tensor, state: _Soap, steps: Array, _: Any) -> tuple[Tensor, _Soap]:
        x, first = _wide(g), steps == 0
        moments = {i: beta * s + (1 - beta) * _gram(x, i) for i, s in state.moments.items()}

        def turned(x: Tensor) -> Tensor:
            return _along_all(x, {i: q.T for i, q in state.basis.items()})

        mu = jnp.where(first, state.mu, b1 * state.mu + (1 - b1) * x)
        nu = jnp.where(first, state.nu, b2 * state.nu + (1 - b2) * turned(x) ** 2)
        at = jnp.maximum(steps, 1)
        scale = jnp.sqrt(1 - b2**at) / (1 - b1**at)
        root = jnp.sqrt(nu)
        # What is no larger than the rounding of a rotation is none: Adam would make it as large as the rest.
        some = root > 32 * jnp.finfo(x.dtype).eps * jnp.max(root, initial=0) * bool(state.basis)
        u = scale * _along_all(jnp.where(some, turned(mu) / (root + eps), 0), state.basis)

        def start() -> tuple[Tensor, Sides]:
            return nu, {i: _eigenvectors(s) for i, s in moments.items()}

        def renew() -> tuple[Tensor, Sides]:
            sorted_nu, basis = nu, {}
            for i, s in moments.items():
                product = s @ state.basis[i] + 10 * jnp.finfo(s.dtype).eps * jnp.trace(s) * state.basis[i]
                order = jnp.argsort(-jnp.sum(state.basis[i] * product, 0))
                sorted_nu = jnp.take(sorted_nu, order, i)
                basis[i] = jnp.linalg.qr(product[:, order])[0]
            return sorted_nu, basis

        def keep() -> tuple[Tensor, Sides]:
            return nu, state.basis

        nu, basis = when_due(first, start, lambda: when_due((steps % every == 0) & ~first, renew, keep))
        return jnp.where(first, 0, u), _Soap(mu, nu, moments, basis)

    return _leafwise(init, update)


@method(
    "soap",
    {"learning_rate": LEARNING_RATE, "weight_decay": DECAY},
    bad={"learning_rate": -1.0, "b1": 1.0, "b2": 1.0, "weight_decay": -1.0, "eps": 0.0, "every": 0, "max_size": 0},
)
def soap(
    learning_rate: optax.ScalarOrSchedule,
    b1: Scalar = 0.95,
    b2: Scalar = 0.95,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    eps: Scalar = 1e-8,
    shampoo_beta: Scalar | None = None,
    every: Count = 10,
    max_size: int = 1024,
) -> optax.GradientTransformationExtraArgs:
    """SOAP, Adam in Shampoo's eigenbasis, with decoupled weight decay: `scale_by_soap`, decay, learning rate.

    The decay takes the weights before the step, as optax's does; the authors' program and `pytorch_optimizer.SOAP`
    decay them after it.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        b1: As in `scale_by_soap`, in [0, 1).
        b2: As in `scale_by_soap`, in [0, 1).
        weight_decay: Times the learning rate and the weights, in [0, inf).
        mask: Which leaves are decayed: a pytree of bools, or a function of the parameters that gives one; `None`: all.
        eps: As in `scale_by_soap`, in (0, inf).
        shampoo_beta: As in `scale_by_soap`, in [0, 1).
        every: As in `scale_by_soap`, at least 1.
        max_size: As in `scale_by_soap`, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: SOAP: Improving and Stabilizing Shampoo using Adam (arXiv 2409.11321).
    """
    direction = scale_by_soap(b1, b2, eps, shampoo_beta=shampoo_beta, every=every, max_size=max_size)
    return _finished(direction, learning_rate, weight_decay, mask)


def fading_schedule(
    most: Scalar = 1.0, least: Scalar = 0.03, decay: Scalar = 1e-3, flat: Scalar = 500
) -> optax.Schedule:
    r"""How often `kron` fits its matrices: $\min(p_{\max}, \max(p_{\min}, p_{\max} e^{-\lambda (t - T)}))$.

    Arguments:
        most: $p_{\max}$, up to step T, in (0, 1].
        least: $p_{\min}$, in the end, in (0, 1].
        decay: $\lambda$, in [0, inf).
        flat: T, in [0, inf).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("most", most, 0.0, 1.0, open_low=True)
    in_range("least", least, 0.0, 1.0, open_low=True)
    in_range("decay", decay, 0.0)
    in_range("flat", flat, 0.0)
    return lambda count: jnp.clip(most * jnp.exp(-decay * (jnp.asarray(count, float) - flat)), least, most)


def spectral_norm_bound(matrix: Float[Array, "n m"]) -> Float[Array, ""]:
    """A cheap lower bound of the largest singular value of a matrix, within a few percent as a rule.

    One step of the power method from the longest row or column.
    """
    size = jnp.max(jnp.abs(matrix))
    a = matrix / jnp.where(size > 0, size, 1)
    columns, rows = jnp.sum(a**2, 0), jnp.sum(a**2, 1)

    def through(b: Array, longest: Array) -> Array:
        x = longest @ b
        return jnp.linalg.norm(b @ (x / jnp.maximum(jnp.linalg.norm(x), jnp.finfo(b.dtype).tiny)))

    # From the longest column where it is longer than the longest row.
    from_column, from_row = through(a, a[:, jnp.argmax(columns)]), through(a.T, a[jnp.argmax(rows)])
    return size * jnp.where(jnp.max(columns) > jnp.max(rows), from_column, from_row)


class _Kron(NamedTuple):
    mu: Tensor  # mean gradient
    factors: Sides  # triangular, or diagonals
    waited: Int[Array, ""]  # steps since the last fit


def scale_by_kron(
    momentum: Scalar = 0.9,
    fit_rate: Scalar = 0.1,
    fit_probability: optax.ScalarOrSchedule | None = None,
    *,
    max_size: int = 1024,
) -> optax.GradientTransformationExtraArgs:
    r"""PSGD's Kronecker-factored whitening: triangular factors $Q_i$, fitted so that $Q_1 M Q_2^\top$ is white.

    $$ U = Q_1^\top Q_1\, M\, Q_2^\top Q_2, \qquad
    Q_1 \leftarrow Q_1 - \mu \frac{\operatorname{triu}(A A^\top - B B^\top)}{\lVert A A^\top + B B^\top \rVert} Q_1,
    \quad A = Q_1 M Q_2^\top, \; B = Q_1^{-\top} V Q_2^{-1} $$

    and likewise $Q_2$, with M the mean gradient corrected for its start, V standard normal and the norm as in
    `spectral_norm_bound`. No matrix is inverted or decomposed. The update's root mean square is cut off at 1.1. Leaves
    with fewer than two axes, and sides that are too long, have diagonals. The sizes of factors are balanced at every
    fit, which leaves their product as it is; `pytorch_optimizer.Kron` does it once in a hundred fits.

    ``update`` takes the extra argument ``key``, as `attractor.run` gives it.

    Arguments:
        momentum: Decay of the mean gradient, in [0, 1).
        fit_rate: $\mu$, in (0, 1).
        fit_probability: The share of steps that fit, in (0, 1], or a schedule; `None`: `fading_schedule`.
        max_size: Longest side that gets a triangle, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``key``.
        TypeError: for complex parameters.

    Paper: Curvature-Informed SGD via General Purpose Lie-Group Preconditioners (arXiv 2402.04553).
    """
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    in_range("fit_rate", fit_rate, 0.0, 1.0, open_low=True, open_high=True)
    in_range("max_size", max_size, 1)
    if fit_probability is not None:
        in_range("fit_probability", fit_probability, 0.0, 1.0, open_low=True)
    share = fading_schedule() if fit_probability is None else fit_probability

    def init(x: Tensor) -> _Kron:
        x = _wide(x)
        shape = jnp.atleast_1d(x).shape
        triangles = {i: len(shape) > 1 and 1 < n <= max_size for i, n in enumerate(shape)}
        factors = {i: (jnp.eye if triangles[i] else jnp.ones)(n, dtype=x.dtype) for i, n in enumerate(shape)}
        return _Kron(jnp.zeros_like(x), factors, jnp.zeros((), jnp.int32))

    def update(g: Tensor, state: _Kron, steps: Array, key: PRNGKeyArray | None) -> tuple[Tensor, _Kron]:
        if key is None:
            raise ValueError("key: expected a PRNG key, as in update(grads, state, params, key=key)")
        mu = momentum * state.mu + (1 - momentum) * _wide(g)
        mean = jnp.atleast_1d(mu / (1 - momentum ** (steps + 1)))
        noise = jr.normal(key, mean.shape, mean.dtype)
        waited = state.waited + 1
        due = waited * (share(steps) if callable(share) else share) >= 1
        factors = when_due(due, lambda: _fit(state.factors, mean, noise, fit_rate), lambda: state.factors)
        u = _along_all(_along_all(mean, factors), {i: q.T for i, q in factors.items()})
        u *= jnp.minimum(1.1 / (jnp.sqrt(jnp.mean(u**2)) + 1e-6), 1)
        return u.reshape(g.shape), _Kron(mu, factors, jnp.where(due, 0, waited))

    return _leafwise(init, update)


def _fit(factors: Sides, mean: Tensor, noise: Tensor, rate: Scalar) -> Sides:
    """One step of the factors towards whitening ``mean``, and their sizes made equal."""
    a, b = _along_all(mean, factors), noise
    for i, q in factors.items():
        if q.ndim == 1:
            b = _along(b, i, 1 / q)
        else:
            side = jnp.moveaxis(b, i, 0)
            solved = jax.scipy.linalg.solve_triangular(q, side.reshape(len(q), -1), trans="T")
            b = jnp.moveaxis(solved.reshape(side.shape), 0, i)
    tiny = float(jnp.finfo(jnp.bfloat16).tiny)
    new = {}
    for i, q in factors.items():
        left, right = _gram(a, i, q.ndim == 1), _gram(b, i, q.ndim == 1)
        if q.ndim == 1:
            new[i] = q - rate * (left - right) / (jnp.max(left + right) + tiny) * q
        else:
            new[i] = q - rate * jnp.triu(left - right) / (spectral_norm_bound(left + right) + tiny) @ q
    sizes = {i: jnp.max(jnp.abs(q)) for i, q in new.items()}
    equal = math.prod(s ** (1 / len(sizes)) for s in sizes.values())
    return {i: q * (equal / sizes[i]) for i, q in new.items()}


@method(
    "kron",
    {"learning_rate": LogUniform(1e-4, 1.0), "weight_decay": DECAY},
    bad={"learning_rate": -1.0, "momentum": 1.0, "weight_decay": -1.0, "fit_rate": 1.0, "max_size": 0},
)
def kron(
    learning_rate: optax.ScalarOrSchedule,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    fit_rate: Scalar = 0.1,
    fit_probability: optax.ScalarOrSchedule | None = None,
    max_size: int = 1024,
) -> optax.GradientTransformationExtraArgs:
    """PSGD Kron, with decoupled weight decay: `scale_by_kron`, decay, learning rate.

    Its relatives fit to the curvature: `attractor.second_order.psgd`.

    Arguments:
        learning_rate: In [0, inf), or a schedule; about a third of Adam's, say its authors.
        momentum: As in `scale_by_kron`, in [0, 1).
        weight_decay: Times the learning rate and the weights, in [0, inf).
        mask: Which leaves are decayed: a pytree of bools, or a function of the parameters that gives one; `None`: all,
            where other programs leave out those with fewer than two axes.
        fit_rate: As in `scale_by_kron`, in (0, 1).
        fit_probability: As in `scale_by_kron`.
        max_size: As in `scale_by_kron`, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``key``.

    Paper: Curvature-Informed SGD via General Purpose Lie-Group Preconditioners (arXiv 2402.04553).
    """
    direction = scale_by_kron(momentum, fit_rate, fit_probability, max_size=max_size)
    return _finished(direction, learning_rate, weight_decay, mask)
