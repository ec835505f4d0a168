"""Singular roots: Newton's method for a root together with its multiplicity structure, and a test that certifies it."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import qr

from attractor.checks import in_range

System = Callable[[Float[Array, " n"]], Float[Array, " k"]]
Monomial = tuple[int, ...]

ALPHA = (13 - 3 * 17**0.5) / 4  # below it the alpha test certifies: 0.1577


@eqx.filter_jit
def _derivatives(f: System, x: Float[Array, " n"], order: int) -> list[Float[Array, "..."]]:
    """The tensors of f(x), Df(x), …: the k-th has shape (equations, n, …, n)."""
    tensors, function = [f(x)], f
    for _ in range(order):
        function = jax.jacfwd(function)
        tensors.append(function(x))
    return tensors


def _monomials(n: int, order: int) -> list[Monomial]:
    """All of degree up to ``order``, by degree."""
    every = itertools.product(range(order + 1), repeat=n)
    return sorted((m for m in every if sum(m) <= order), key=lambda m: (sum(m), [-e for e in m]))


def inverse_system(f: System, x: Float[Array, " n"], order: int, tol: float) -> tuple[np.ndarray, list[Monomial]]:
    r"""The differential operators at a point that vanish on the ideal of f: its multiplicity structure.

    They are the null space of Macaulay's matrix, with a row of Taylor coefficients for each $(X - x)^a f_k$ below the
    order, and a column for each functional $\partial^\alpha / \alpha!$.

    Arguments:
        f: ``f(x) -> (k,)``, of ``(n,)``.
        x: The root, or a point near it.
        order: Highest order of the operators, at least 1; enough once a higher one gives as many.
        tol: Singular values count as zero up to this share of the largest, in (0, 1).

    Returns:
        The operators' coefficients ``(multiplicity, monomials)``, and the monomials' exponents by degree.

    Raises:
        ValueError: for an order or tolerance out of range.

    Paper: Punctual Hilbert Schemes and Certified Approximate Singularities.
    """
    in_range("order", order, 1)
    in_range("tol", tol, 0.0, 1.0, open_low=True, open_high=True)
    monomials = _monomials(len(x), order)
    tensors = [np.asarray(t) for t in _derivatives(f, x, order)]
    taylor = {}
    for m in monomials:
        index = [i for i, e in enumerate(m) for _ in range(e)]
        taylor[m] = tensors[sum(m)][(slice(None), *index)] / math.prod(math.factorial(e) for e in m)
    place = {m: i for i, m in enumerate(monomials)}
    rows = []
    for shift in _monomials(len(x), order - 1):
        row = np.zeros((len(tensors[0]), len(monomials)))
        for m in monomials:
            product = tuple(i + j for i, j in zip(shift, m, strict=True))
            if product in place:
                row[:, place[product]] = taylor[m]
        rows.append(row)
    matrix = np.concatenate(rows)
    _, values, basis = np.linalg.svd(matrix)
    return basis[np.sum(values > tol * values.max(initial=0.0)) :], monomials


class DeflatedSystem(eqx.Module):
    r"""Equations of which a multiple root of f, taken together with its multiplicity structure, is a simple root.

    Let $M_j$ be the matrix of multiplication by $x_j - z_j$ in the local ring at the root z, in a basis of monomials
    that starts with 1: products in the basis are known, and the others are unknowns $\mu$. Then f vanishes at z with
    this multiplicity structure if and only if

    $$ M_i M_j = M_j M_i, \qquad f(z + M)\, e_1 = \sum_k \tfrac{1}{k!} D^k f(z)[M, \dots, M]\, e_1 = 0, $$

    a sum that ends, as the matrices are nilpotent. These are more equations than unknowns $(z, \mu)$. As many as needed
    for an invertible Jacobian are kept (those of the commutators first, then by pivoting, which is our choice), and the
    others say by how much f has to be changed, so that Newton's method converges quadratically to a multiple root of
    a system near f even if f itself has none.

    Arguments:
        f: ``f(x) -> (k,)``, of ``(n,)``.
        x: A point near the root.
        order: As in `inverse_system`.
        tol: As in `inverse_system`; it decides which multiplicity is seen.

    Attributes:
        basis: The monomials' exponents; as many as the multiplicity.
        start: ``(z, mu)`` to start with.

    Raises:
        ValueError: if no multiplicity structure is found there (a wrong ``order`` or ``tol``).

    Paper: Punctual Hilbert Schemes and Certified Approximate Singularities.
    """

    f: System
    start: Float[Array, " v"]
    basis: tuple[Monomial, ...] = eqx.field(static=True)
    n: int = eqx.field(static=True)
    # The entries (j, row, column) of the matrices M_j that are 1, and those that are unknown.
    ones: tuple[tuple[int, int, int], ...] = eqx.field(static=True)
    unknowns: tuple[tuple[int, int, int], ...] = eqx.field(static=True)
    rows: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, f: System, x: Float[Array, " n"], order: int = 2, tol: float = 0.1):
        operators, monomials = inverse_system(f, x, order, tol)
        kept = _standard(operators, monomials, tol)
        basis = [monomials[i] for i in kept]
        if not basis or len(kept) < len(operators) or not _closed(basis):
            raise ValueError(f"order, tol: no multiplicity structure of order {order} to within {tol:g} found at x")
        operators = np.linalg.solve(operators[:, kept], operators)
        place = {m: i for i, m in enumerate(monomials)}
        ones, unknowns, values = [], [], []
        for j, (column, b) in itertools.product(range(len(x)), enumerate(basis)):
            product = tuple(e + (i == j) for i, e in enumerate(b))
            if product in basis:
                ones.append((j, basis.index(product), column))
                continue
            for row, target in enumerate(basis):
                if sum(target) >= sum(product):  # products gain degree, by the choice of the basis
                    unknowns.append((j, row, column))
                    values.append(operators[row, place[product]] if product in place else 0.0)
        self.f, self.n, self.basis, self.ones, self.unknowns = f, len(x), tuple(basis), tuple(ones), tuple(unknowns)
        self.start = jnp.concatenate([x, jnp.asarray(values, x.dtype)])
        self.rows = ()
        self.rows = _invertible(*map(np.asarray, _jacobians(self)))

    def matrices(self, v: Float[Array, " v"]) -> Float[Array, "n m m"]:
        """The multiplication matrices at ``(z, mu)``."""
        m = jnp.zeros((self.n, len(self.basis), len(self.basis)), v.dtype)
        m = m.at[tuple(np.array(self.ones, int).reshape(-1, 3).T)].set(1.0)
        return m.at[tuple(np.array(self.unknowns, int).reshape(-1, 3).T)].set(v[self.n :])

    @eqx.filter_jit
    def deformation(self, v: Float[Array, " v"]) -> Float[Array, "k m"]:
        r"""The coefficients c for which $f_k(x) - \sum_i c_{ki} (x - z)^{b_i}$ has the multiplicity structure $\mu$ at
        z, with b the `basis`."""
        matrices, total = self.matrices(v), 0.0
        products, factorial = jnp.eye(len(self.basis), dtype=v.dtype)[0], 1.0
        for k, tensor in enumerate(_derivatives(self.f, v[: self.n], len(self.basis) - 1)):
            if k:  # (n, …, n, multiplicity): the matrices' products, applied to the first basis vector
                products = jnp.einsum("iab,...b->...ia", matrices, products)
                factorial *= k
            total += tensor.reshape(len(tensor), -1) @ products.reshape(-1, len(self.basis)) / factorial
        return jnp.asarray(total)

    def deformed(self, v: Float[Array, " v"]) -> System:
        """The system near f that has a multiple root at z, as a function of a point."""
        return eqx.Partial(_without, self.f, self.deformation(v), v[: self.n], self.basis)

    def commutators(self, v: Float[Array, " v"]) -> Float[Array, " c"]:
        """The entries of $M_i M_j - M_j M_i$ for all pairs."""
        m = self.matrices(v)
        pairs = [(m[i] @ m[j] - m[j] @ m[i]).ravel() for i, j in itertools.combinations(range(self.n), 2)]
        return jnp.concatenate([jnp.zeros(0, v.dtype), *pairs])

    def equations(self, v: Float[Array, " v"]) -> Float[Array, " v"]:
        """As many equations as unknowns ``(z, mu)``."""
        return jnp.concatenate([self.commutators(v), self.deformation(v).ravel()])[np.array(self.rows)]


def _without(
    f: System, coefficients: Float[Array, "k m"], z: Float[Array, " n"], basis: tuple[Monomial, ...], x: Array
) -> Array:
    """f less a combination of the monomials around z."""
    powers = [math.prod((x - z)[i] ** e for i, e in enumerate(b)) for b in basis]
    return f(x) - coefficients @ jnp.stack([jnp.asarray(p, x.dtype) for p in powers])


@eqx.filter_jit
def _jacobians(system: DeflatedSystem) -> tuple[Array, Array]:
    both = jax.jacfwd(lambda v: (system.commutators(v), system.deformation(v).ravel()))
    return both(system.start)


def _invertible(exact: np.ndarray, inexact: np.ndarray) -> tuple[int, ...]:
    """Rows of an invertible Jacobian: those of exact equations first."""
    first = _pivots(exact)
    rest = inexact - inexact @ np.linalg.pinv(exact[first]) @ exact[first]
    size = exact.shape[1]
    rows = [*first, *(len(exact) + i for i in _pivots(rest)[: size - len(first)])]
    if len(rows) < size:
        raise ValueError("order, tol: the deflated system is singular too; change the order or the tolerance")
    return tuple(sorted(rows))


def _standard(operators: np.ndarray, monomials: list[Monomial], tol: float) -> list[int]:
    """Indices of monomials in which the operators are independent: of the highest degrees, then the largest."""
    kept, rest = [], operators.copy()
    for degree in reversed(range(sum(monomials[-1]) + 1)):
        sizes = np.array([sum(m) == degree for m in monomials]) * np.linalg.norm(rest, axis=0)
        while len(kept) < len(operators) and sizes.max() > tol:
            kept.append(int(sizes.argmax()))
            direction = rest[:, kept[-1]] / sizes.max()
            rest -= np.outer(direction, direction @ rest)
            sizes = (sizes > 0) * np.linalg.norm(rest, axis=0)
    return sorted(kept)


def _pivots(rows: np.ndarray, tol: float = 1e-3) -> list[int]:
    """Indices of independent rows, the largest first."""
    if not rows.size:
        return []
    r, order = qr(rows.T, mode="r", pivoting=True)  # pyright: ignore[reportAssignmentType]
    size = np.abs(np.diag(r))
    return order[: len(size)][size > tol].tolist()


def _closed(basis: list[Monomial]) -> bool:
    """Whether every monomial's divisors are there too."""
    divisors = (tuple(e - (i == j) for j, e in enumerate(b)) for b in basis for i in range(len(b)) if b[i])
    return set(divisors) <= set(basis)


@eqx.filter_jit
def newton_iterates(f: System, x: Float[Array, " n"], steps: int) -> Float[Array, "points n"]:
    """The points that Newton's method visits on a square system: ``(steps + 1, n)``.

    Arguments:
        f: ``f(x) -> (n,)``, of ``(n,)``.
        x: Where to start.
        steps: At least 0.
    """

    def step(x: Array, _: None) -> tuple[Array, Array]:
        new = x - jnp.linalg.solve(jax.jacfwd(f)(x), f(x))
        return new, new

    return jnp.concatenate([x[None], jax.lax.scan(step, x, None, length=steps)[1]])


class AlphaTest(NamedTuple):
    """What `alpha_test` finds."""

    alpha: Float[Array, ""]
    beta: Float[Array, ""]  # length of Newton's step
    gamma: Float[Array, ""]  # bound of the higher derivatives, by the inverse of the first


@eqx.filter_jit
def alpha_test(f: System, x: Float[Array, " n"], degree: int) -> AlphaTest:
    r"""Smale's test, from the values at one point, that Newton's method converges quadratically from it.

    $$ \alpha = \beta \gamma, \qquad \beta = \lVert Df^{-1} f \rVert, \qquad \gamma = \max_{2 \le k \le \text{degree}}
    \left\lVert \tfrac{1}{k!} Df^{-1} D^k f \right\rVert^{1 / (k - 1)} $$

    Below $(13 - 3 \sqrt{17}) / 4 \approx 0.1577$ (`ALPHA`) there is a root within $2 \beta$ of x, and the k-th of
    Newton's steps is no longer than $2^{1 - 2^{k - 1}} \beta$. Frobenius norms bound the norms of the tensors from
    above. Rounding errors are not accounted for.

    Arguments:
        f: Polynomials, ``f(x) -> (n,)`` of ``(n,)``.
        x: Where.
        degree: Of the polynomials, at least 1; higher derivatives are taken as zero.

    Raises:
        ValueError: for a degree below 1.

    Paper: Punctual Hilbert Schemes and Certified Approximate Singularities.
    """
    in_range("degree", degree, 1)
    value, jacobian, *higher = _derivatives(f, x, degree)
    beta = jnp.linalg.norm(jnp.linalg.solve(jacobian, value))
    factorial, gammas = 1.0, [jnp.zeros(())]
    for k, tensor in enumerate(higher, start=2):
        factorial *= k
        size = jnp.linalg.norm(jnp.linalg.solve(jacobian, tensor.reshape(len(x), -1)))
        gammas.append((size / factorial) ** (1 / (k - 1)))
    gamma = jnp.stack(gammas).max()
    return AlphaTest(beta * gamma, beta, gamma)
