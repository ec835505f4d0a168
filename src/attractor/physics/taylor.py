"""Differential operators by Taylor-mode differentiation of a network along few, random tangents.

A curve x(t) is pushed through f as a truncated Taylor series, a *jet*. By Faà di Bruno's formula its coefficients
contract derivative tensors of f with the tangents of the curve, so a contraction costs one forward pass, whatever the
dimension; a sum over coordinates is estimated from tangents v with E[v vᵀ] = I.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.experimental.jet import jet
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range

Function = Callable[[Float[Array, " d"]], Array]
Tangents = Float[Array, "n d"]


def sparse_tangents(key: PRNGKeyArray, dim: int, n: int | None = None) -> Tangents:
    r"""Coordinate tangents $\sqrt d\,e_j$ for n different random j; with all of them, operators are exact.

    Arguments:
        key: For the choice of j, uniform without replacement.
        dim: Dimension d.
        n: How many, 1 … d; `None`: all.

    Raises:
        ValueError: if ``n`` is out of its range.
    """
    n = dim if n is None else n
    in_range("n", n, 1, dim)
    # The places of the n largest of d random numbers: without replacement, and cheaper than a permutation.
    _, chosen = jax.lax.top_k(jr.uniform(key, (dim,)), n)
    return math.sqrt(dim) * jax.nn.one_hot(chosen, dim)


def dense_tangents(
    key: PRNGKeyArray, dim: int, n: int, law: Literal["rademacher", "normal"] = "rademacher"
) -> Tangents:
    """Tangents with independent entries of mean 0 and variance 1: random signs, or normal ones for `biharmonic`.

    Arguments:
        key: For the entries.
        dim: Dimension d.
        n: How many, at least 1.
        law: Of the entries.

    Raises:
        ValueError: if ``n`` or ``law`` is out of its range.
    """
    in_range("n", n, 1)
    if law not in ("rademacher", "normal"):
        raise ValueError(f"law: expected 'rademacher' or 'normal', got {law!r}")
    return (jr.rademacher if law == "rademacher" else jr.normal)(key, (n, dim), dtype=jnp.zeros(()).dtype)


def contract(
    f: Function, x: Float[Array, " d"], tangents: Sequence[Float[Array, " d"]], powers: Sequence[int]
) -> Array:
    r"""A derivative tensor contracted with tangents, $D^k f(x)[v_1^{p_1}, v_2^{p_2}, …]$, by one jet.

    The tangents enter the curve $x(t) = x + \sum_i v_i t^{o_i} / o_i!$ at orders $o_i$ chosen so that a
    single term of Faà di Bruno's formula reaches the output order $m = \sum_i p_i o_i$; its integer coefficient
    is divided out. One tangent: order 1, m = p. Two with powers (2, 1): orders 2 and 3, m = 7; (2, 2): 3 and 4, m = 14.

    Arguments:
        f: ``f(x (d,)) -> array``, of operations that `jax.experimental.jet` knows.
        x: Where, ``(d,)``.
        tangents: Vectors ``(d,)``.
        powers: How often each enters, at least 1.

    Raises:
        ValueError: if there is not one power of at least 1 for each tangent.

    Paper: "Stochastic Taylor Derivative Estimator: Efficient amortization for arbitrary differential operators".
    """
    if len(tangents) != len(powers) or not tangents or min(powers) < 1:
        raise ValueError(f"powers: expected a whole number >= 1 for each of {len(tangents)} tangents, got {powers!r}")
    orders, count = isolating_orders(tuple(powers))
    series = [jnp.zeros_like(x)] * sum(o * p for o, p in zip(orders, powers, strict=True))
    for order, tangent in zip(orders, tangents, strict=True):
        series[order - 1] = tangent.astype(x.dtype)
    _, coefficients = jet(f, (x,), (series,))
    return coefficients[-1] / count


@functools.cache
def isolating_orders(powers: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    r"""Orders at which tangents must enter a curve so that one contraction stands alone, and its coefficient.

    The contraction with powers q reaches order $\sum_i q_i o_i$ with the number of ways to partition m objects
    into $q_i$ sets of size $o_i$, $m! / \prod_i o_i!^{p_i} p_i!$. The orders searched are the
    distinct ones with the smallest m that no other q reaches.
    """
    found = None
    for orders in itertools.permutations(range(1, 2 * len(powers) + 2), len(powers)):
        total = sum(o * p for o, p in zip(orders, powers, strict=True))
        ways = itertools.product(*(range(total // o + 1) for o in orders))
        alone = sum(sum(o * q for o, q in zip(orders, way, strict=True)) == total for way in ways) == 1
        if alone and (found is None or total < found[0]):
            found = total, orders
    if found is None:
        raise ValueError(f"powers: no orders isolate the contraction with powers {powers}; use fewer tangents")
    total, orders = found
    sizes = math.prod(math.factorial(o) ** p * math.factorial(p) for o, p in zip(orders, powers, strict=True))
    return orders, math.factorial(total) // sizes


def laplacian(f: Function, x: Float[Array, " d"], tangents: Tangents) -> Array:
    r"""Unbiased estimate of $\Delta f = \sum_i \partial_{ii} f$: the mean of $D^2 f[v, v]$.

    Arguments:
        f: ``f(x (d,)) -> array``.
        x: Where, ``(d,)``.
        tangents: From `sparse_tangents` (exact with all of them) or `dense_tangents`.

    Paper: "Stochastic Taylor Derivative Estimator: Efficient amortization for arbitrary differential operators".
    """
    return jax.vmap(lambda v: contract(f, x, [v], [2]))(tangents).mean(0)


def nested_laplacian(
    f: Function, x: Float[Array, " d"], key: PRNGKeyArray, n: int, *, batch_size: int | None = None
) -> Array:
    r"""The estimate $\frac dn \sum_{j \in J} \partial_{jj} f$ by reverse mode over reverse mode: the baseline.

    It costs a forward and a backward pass through a gradient per coordinate, in memory of order d each.

    Arguments:
        f: ``f(x (d,)) -> scalar``.
        x: Where, ``(d,)``.
        key: For the choice of J, uniform without replacement.
        n: How many coordinates, 1 … d.
        batch_size: Coordinates at a time, 1 to go through them one by one; default: all at once.

    Raises:
        ValueError: if ``n`` is out of its range.

    Paper: "Stochastic Taylor Derivative Estimator: Efficient amortization for arbitrary differential operators".
    """
    in_range("n", n, 1, x.size)
    _, chosen = jax.lax.top_k(jr.uniform(key, (x.size,)), n)

    def second(j: Array) -> Array:
        return jax.grad(lambda y: jax.grad(f)(y)[j])(x)[j]

    return x.size * jax.lax.map(second, chosen, batch_size=batch_size or n).mean()


def laplacian_slope(f: Function, x: Float[Array, " d"], direction: Float[Array, " d"], tangents: Tangents) -> Array:
    r"""Unbiased estimate of the mixed third-order $a \cdot \nabla \Delta f$: the mean of $D^3 f[v, v, a]$.

    With $a = e_1$ it is the dispersion of the Zakharov-Kuznetsov equation.

    Arguments:
        f: ``f(x (d,)) -> array``.
        x: Where, ``(d,)``.
        direction: a, ``(d,)``.
        tangents: As in `laplacian`.

    Paper: "Stochastic Taylor Derivative Estimator: Efficient amortization for arbitrary differential operators".
    """
    return jax.vmap(lambda v: contract(f, x, [v, direction], [2, 1]))(tangents).mean(0)


def biharmonic(f: Function, x: Float[Array, " d"], tangents: Tangents, others: Tangents | None = None) -> Array:
    r"""Unbiased estimate of $\Delta^2 f = \sum_{ij} \partial_{iijj} f$.

    With one set of *normal* tangents it is a third of the mean of $D^4 f[v, v, v, v]$, because
    $E[v_i v_j v_k v_l] = \delta_{ij}\delta_{kl} + \delta_{ik}\delta_{jl} + \delta_{il}\delta_{jk}$. With two
    independent sets it is the mean of $D^4 f[v, v, w, w]$ over all pairs, exact when both are all coordinates.
    One jet would need order 14 for that; we chose four jets of order 4, by polarization:
    $12\,D^4[v,v,w,w] = D^4[(v+w)^4] + D^4[(v-w)^4] - 2 D^4[v^4] - 2 D^4[w^4]$.

    Arguments:
        f: ``f(x (d,)) -> array``.
        x: Where, ``(d,)``.
        tangents: As in `laplacian`; without ``others`` they must be ``dense_tangents(…, law="normal")``.
        others: A second, independent set.

    Paper: "Stochastic Taylor Derivative Estimator: Efficient amortization for arbitrary differential operators".
    """

    def fourth(vs: Tangents) -> Array:
        return jax.vmap(lambda v: contract(f, x, [v], [4]))(vs).mean(0)

    if others is None:
        return fourth(tangents) / 3
    v, w = tangents[:, None], others[None]
    pairs = jnp.concatenate([v + w, v - w]).reshape(-1, x.size)
    return (fourth(pairs) - fourth(tangents) - fourth(others)) / 6
