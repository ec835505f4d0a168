"""The spectrum of a curvature operator: its ends, its density, and how much of the gradient lies at the top."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.linalg.curvature import MatVec
from attractor.linalg.lanczos import Eigenpairs, top_eigenpairs
from attractor.trees import as_vector


def top_hessian_eigs(
    loss: Callable[[PyTree], Float[Array, ""]],
    params: PyTree,
    k: int,
    *,
    key: PRNGKeyArray | None = None,
    iterations: int | None = None,
) -> Eigenpairs:
    r"""The k largest eigenvalues of a loss's Hessian and their eigenvectors, from Hessian-vector products.

    Each product is $v \mapsto \partial_\epsilon \nabla f(\theta + \epsilon v)$, about the cost
    of two gradients; the Hessian is never formed.

    Arguments:
        loss: Scalar function of the parameters (on all the data one cares about).
        params: A pytree of floating-point arrays with p numbers in all.
        k: How many, 1 … p.
        key: Draws the Lanczos starting vector; default: a fixed one.
        iterations: Hessian-vector products, k … p; default: ``min(p, 4 k + 40)``. More separate close eigenvalues.

    Returns:
        Eigenvalues, and eigenvectors ``(p, k)`` in the order of `jax.flatten_util.ravel_pytree`.

    Raises:
        ValueError: if ``k`` or ``iterations`` is out of range.

    Paper: Gradient Descent Happens in a Tiny Subspace.
    """
    flat, unravel = ravel_pytree(params)
    wide = jnp.promote_types(flat.dtype, jnp.float32)  # Lanczos in half precision finds nothing

    def matvec(v: Array) -> Array:
        tangent = unravel(v.astype(flat.dtype))
        return ravel_pytree(jax.jvp(jax.grad(loss), (params,), (tangent,))[1])[0].astype(wide)

    key = jr.key(0) if key is None else key
    return top_eigenpairs(matvec, flat.size, k, key, iterations=iterations, dtype=wide)


def hessian_spectrum(loss: Callable[[PyTree], Float[Array, ""]], params: PyTree) -> Float[Array, " p"]:
    """All eigenvalues of a loss's Hessian, largest first; it is formed, so for a few thousand parameters at most.

    Arguments:
        loss: Scalar function of the parameters.
        params: Pytree of floating-point arrays, p numbers in all.

    Paper: Empirical Analysis of the Hessian of Over-Parametrized Neural Networks.
    """
    flat, restore = as_vector(params)
    return jnp.linalg.eigvalsh(jax.hessian(lambda z: loss(restore(z)))(flat))[::-1]


def count_outliers(values: Float[Array, " p"], most: int = 20) -> Int[Array, ""]:
    r"""How many eigenvalues stand apart from the bulk: those before the widest relative gap near the top.

    It is the k <= ``most`` at which $\lambda_k / \lambda_{k+1}$ is largest, of the values in decreasing order. Where to
    draw the line is a choice; this one has no scale.

    Arguments:
        values: Eigenvalues in any order, more than ``most``, of which the ``most`` + 1 largest are positive, or else
            the gap is sought among the positive ones (at least two).
        most: The largest count, at least 1.

    Raises:
        ValueError: if ``most`` is out of range.

    Paper: Empirical Analysis of the Hessian of Over-Parametrized Neural Networks.
    """
    in_range("most", most, 1.0, len(values) - 1.0)
    top = jnp.sort(values)[::-1][: most + 1]
    low = top[1:]
    return 1 + jnp.argmax(jnp.where(low > 0, top[:-1] / jnp.where(low > 0, low, 1), 0))


def robust_condition_number(diagonal: Float[Array, " p"]) -> Float[Array, ""]:
    r"""How uneven the curvature of the coordinates is, $\max_i |h_i| / \operatorname{median}_i |h_i|$.

    Arguments:
        diagonal: $h$, of the Hessian, such as `hutchinson_diagonal` estimates.

    Paper: Linear attention is (maybe) all you need (to understand transformer optimization).
    """
    sizes = jnp.abs(diagonal)
    return sizes.max() / jnp.median(sizes)


def extreme_eigenvalues(
    matvec: MatVec, params: PyTree, *, key: PRNGKeyArray | None = None, iterations: int = 20
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""The smallest and the largest eigenvalue of a symmetric operator, by one run of Lanczos' method.

    For a Hessian, 20 products are about 40 gradients. Both are bounds from inside: the largest is never overestimated.

    Arguments:
        matvec: ``v -> A v`` on pytrees like ``params``, such as `hvp` or `ggn` gives.
        params: Pytree of floating-point arrays.
        key: Draws the start; default: a fixed one.
        iterations: Products with A, at least 1; no more than there are parameters are taken.

    Raises:
        ValueError: if ``iterations < 1``.
    """
    in_range("iterations", iterations, 1.0)
    values = jnp.linalg.eigvalsh(_tridiagonal(matvec, params, jr.key(0) if key is None else key, iterations))
    return values[0], values[-1]


def lanczos_coefficients(matvec: MatVec, start: PyTree, iterations: int) -> Float[Array, "m m"]:
    r"""The tridiagonal $T_m$ of Lanczos' process from its recurrence alone: three vectors are kept, no basis.

    Rounding lets the basis lose its orthogonality, which gives converged eigenvalues copies; the ends of the spectrum
    and quadratures are as good as with it (Paige 1980, Greenbaum 1989), at a fraction of the price for many parameters.

    Arguments:
        matvec: ``v -> A v`` with A symmetric, on pytrees like ``start``.
        start: Pytree of floating-point arrays, not zero; half precision is widened between products.
        iterations: m, at least 1. Where the Krylov space is exhausted earlier, $T_m$ falls apart: the rows that follow
            repeat its last diagonal entry and couple to nothing.
    """
    wide = jax.tree.map(lambda a: a.astype(jnp.promote_types(a.dtype, jnp.float32)), start)
    dtype = jnp.result_type(*jax.tree.leaves(wide))

    def dot(a: PyTree, b: PyTree) -> Array:
        return jnp.asarray(optax.tree.vdot(a, b), dtype)

    def product(v: PyTree) -> PyTree:
        image = matvec(jax.tree.map(lambda a, like: a.astype(like.dtype), v, start))
        return jax.tree.map(lambda a, like: a.astype(like.dtype), image, wide)

    def extend(carry: tuple[PyTree, PyTree, Array, Array], _: None) -> tuple[tuple, tuple[Array, Array]]:
        before, v, beta, last = carry
        image, ended = product(v), ~jnp.isnan(last)
        alpha = jnp.where(ended, last, dot(v, image))
        rest = jax.tree.map(lambda w, a, b: w - alpha.astype(w.dtype) * a - beta.astype(w.dtype) * b, image, v, before)
        length = jnp.sqrt(dot(rest, rest))
        ended |= length <= 100 * jnp.finfo(dtype).eps * jnp.sqrt(dot(image, image))
        scale = jnp.where(ended, 0, 1 / jnp.where(ended, 1, length))
        following = jax.tree.map(lambda r: r * scale.astype(r.dtype), rest)
        return (v, following, jnp.where(ended, 0, length), jnp.where(ended, alpha, jnp.nan)), (alpha, length * ~ended)

    unit = jax.tree.map(lambda a: a / jnp.sqrt(dot(wide, wide)).astype(a.dtype), wide)
    first = jax.tree.map(jnp.zeros_like, unit), unit, jnp.zeros((), dtype), jnp.full((), jnp.nan, dtype)
    _, (alpha, beta) = jax.lax.scan(extend, first, length=iterations)
    return jnp.diag(alpha) + jnp.diag(beta[:-1], 1) + jnp.diag(beta[:-1], -1)


def _tridiagonal(matvec: MatVec, params: PyTree, key: PRNGKeyArray, iterations: int) -> Array:
    # On trees: cutting one long vector into parameters and joining them costs more than the products.
    size = sum(a.size for a in jax.tree.leaves(params))
    return lanczos_coefficients(matvec, optax.tree.random_like(key, params), min(iterations, size))


class SpectralDensity(NamedTuple):
    r"""A quadrature of an operator's eigenvalue distribution, $\frac1p \sum_i \delta_{\lambda_i}$.

    Attributes:
        nodes: Where, ``(probes, m)``.
        weights: How much, ``(probes, m)``; each row sums to 1.
    """

    nodes: Float[Array, "probes m"]
    weights: Float[Array, "probes m"]

    def mean(self, function: Callable[[Array], Array] = lambda value: value) -> Float[Array, ""]:
        """The mean of ``function(eigenvalue)`` over the spectrum; times p it is a trace."""
        return jnp.mean(jnp.sum(self.weights * function(self.nodes), -1))

    def density(self, at: Float[Array, " n"], width: float | None = None) -> Float[Array, " n"]:
        """The density on a grid, every node a Gaussian of standard deviation ``width``.

        Arguments:
            at: The grid.
            width: Default: a hundredth of the range of the nodes.
        """
        spread = jnp.ptp(self.nodes) / 100 if width is None else jnp.asarray(width)
        spread = jnp.maximum(spread, jnp.finfo(self.nodes.dtype).tiny)
        z = (at[:, None, None] - self.nodes) / spread
        bumps = jnp.exp(-(z**2) / 2) / (spread * jnp.sqrt(2 * jnp.pi))
        return jnp.sum(self.weights * bumps, -1).mean(-1)


def spectral_density(
    matvec: MatVec, params: PyTree, *, key: PRNGKeyArray | None = None, probes: int = 4, iterations: int = 40
) -> SpectralDensity:
    r"""The eigenvalue density of a symmetric operator by stochastic Lanczos quadrature.

    From a random unit vector v, m steps give a tridiagonal $T = U \Theta U^\top$; the nodes are its eigenvalues, the
    weights $U_{1k}^2$: then $\sum_k U_{1k}^2 f(\theta_k) = v^\top f(A) v$ for every polynomial f of degree below 2m,
    and the mean over v is $\operatorname{tr} f(A) / p$ (Ghorbani, Krishnan, Xiao 2019, 1901.10159).

    Arguments:
        matvec: ``v -> A v`` on pytrees like ``params``.
        params: Pytree of floating-point arrays with p numbers in all.
        key: Draws the probes; default: a fixed one.
        probes: How many vectors, one after the other, at least 1.
        iterations: m, the products with A for each; three vectors of length p are kept.

    Raises:
        ValueError: if ``probes`` or ``iterations`` is below 1.
    """
    in_range("probes", probes, 1.0)
    in_range("iterations", iterations, 1.0)

    def quadrature(key: PRNGKeyArray) -> tuple[Array, Array]:
        values, vectors = jnp.linalg.eigh(_tridiagonal(matvec, params, key, iterations))
        return values, vectors[0] ** 2

    return SpectralDensity(*jax.lax.map(quadrature, jr.split(jr.key(0) if key is None else key, probes)))


def gradient_subspace_fraction(gradient: PyTree, vectors: Float[Array, "p k"]) -> Float[Array, ""]:
    r"""The share of a gradient's squared norm inside a subspace, $\|V^\top g\|^2 / \|g\|^2$, in [0, 1].

    A random k-dimensional subspace of p dimensions holds k/p on average. The zero gradient gives 0.

    Arguments:
        gradient: A pytree with p numbers in all.
        vectors: Orthonormal columns, as from `top_hessian_eigs`.
    """
    g = ravel_pytree(gradient)[0].astype(vectors.dtype)
    total = g @ g
    inside = vectors.T @ g
    return jnp.where(total > 0, inside @ inside / jnp.where(total > 0, total, 1), 0)


def subspace_overlap(a: Float[Array, "p k"], b: Float[Array, "p k"]) -> Float[Array, ""]:
    r"""How much two k-dimensional subspaces share, $\mathrm{tr}(P_a P_b)/k = \|A^\top B\|_F^2 / k$, in [0, 1].

    1 for equal spans, 0 for orthogonal ones, k/p on average for random ones.

    Arguments:
        a: Orthonormal columns.
        b: Orthonormal columns.
    """
    return jnp.sum((a.T @ b) ** 2) / a.shape[1]
