r"""Resonator networks: factoring a product of high-dimensional vectors, one from each of several codebooks.

In a vector-symbolic architecture a record is the entrywise product $s = x_1 \odot \dots \odot x_F$ of random
bipolar vectors. Finding the factors means searching $M^F$ combinations; a resonator network keeps an estimate of
each factor, unbinds the others' estimates from s, and cleans the result up with the factor's codebook.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from attractor import registry
from attractor.checks import Scalar, in_range
from attractor.method import Method
from attractor.probe import Probe
from attractor.problem import Problem

SETTLED = 1e-2  # relative change of the estimates in a sweep; a single flipped sign in 3 x 512 is 0.05


class Estimate(NamedTuple):
    """Where a network is: its estimates, and how many sweeps moved them (both per product)."""

    vectors: Float[Array, "*t f n"]
    sweeps: Int[Array, "*t"]


class Factorization(Problem):
    r"""Find which codewords were multiplied to give each of some products.

    The iterate is an `Estimate`, which starts from the superposition of all codewords. It records ``solved``, the
    share of the products that the decoded codewords give back.

    Arguments:
        codebooks: Bipolar codewords as columns, one book per factor, shape (F, N, M).
        products: What is to be factored, shape (T, N).

    Raises:
        ValueError: if the shapes do not fit.
    """

    codebooks: Float[Array, "f n m"]
    products: Float[Array, "t n"]
    init: Callable[[PRNGKeyArray], Estimate]
    probes: dict[str, Probe]

    def __init__(self, codebooks: Float[ArrayLike, "f n m"], products: Float[ArrayLike, "t length"]):
        self.codebooks, self.products = jnp.asarray(codebooks), jnp.asarray(products)
        if self.codebooks.shape[1:2] != self.products.shape[1:2]:
            raise ValueError(
                "codebooks, products: expected shapes (F, N, M) and (T, N), "
                f"got {self.codebooks.shape} and {self.products.shape}"
            )
        self.init = eqx.Partial(_superposition, self.codebooks, len(self.products))
        self.probes = {"solved": Probe(_solved, goal="max")}

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """Three products out of 3 books of 5 codewords; see `Problem.example`."""
        problem = bound_products(codewords=5, trials=3, size=31)
        return Factorization(problem.codebooks.astype(dtype), problem.products.astype(dtype))

    def decode(self, x: Estimate, up_to_sign: bool = True) -> Int[Array, "t f"]:
        """Each factor's most similar codeword.

        Arguments:
            x: The iterate.
            up_to_sign: Whether the opposite of a codeword counts as that codeword. Signs may cancel in pairs of
                factors, and the standard network's often do.
        """
        similarity = jnp.einsum("fnm,tfn->tfm", self.codebooks, x.vectors)
        return (jnp.abs(similarity) if up_to_sign else similarity).argmax(-1)

    def solved(self, x: Estimate, up_to_sign: bool = True) -> Bool[Array, " t"]:
        """Whether the decoded codewords' product is the one given."""
        columns = self.decode(x, up_to_sign)
        codewords = jax.vmap(lambda book, index: book[:, index].T, (0, 1), 1)(self.codebooks, columns)
        return jnp.all(vsa_bind(codewords) == self.products, axis=-1)


def vsa_bind(x: Float[Array, "*t f n"]) -> Float[Array, "*t n"]:
    """Bind F vectors: their entrywise product; a bipolar vector is its own inverse."""
    return jnp.prod(x, axis=-2)


class Resonator(Method):
    r"""Sweeps through the factors, one after another: $x_f \leftarrow g(C_f, s \odot \prod_{k \ne f} x_k)$.

    Products are factored side by side, and one whose estimates no longer change (by 1 % in norm) stays as it is.

    Arguments:
        cleanup: ``g(codebook (N, M), query (N,)) -> estimate (N,)``.
    """

    cleanup: Callable[[Array, Array], Array]

    def step(self, problem: Factorization, x: Estimate, state: None, key: PRNGKeyArray) -> tuple[Estimate, None]:
        moved = jax.vmap(self._sweep, in_axes=(None, 0, 0))(problem.codebooks, problem.products, x.vectors)
        change, size = (jnp.sum(a**2, axis=(-2, -1)) for a in (moved - x.vectors, x.vectors))
        moves = change > SETTLED**2 * size
        vectors = jnp.where(moves[:, None, None], moved, x.vectors)
        return Estimate(vectors, x.sweeps + moves), state

    def _sweep(
        self, codebooks: Float[Array, "f n m"], product: Float[Array, " n"], x: Float[Array, "f n"]
    ) -> Float[Array, "f n"]:
        for f, codebook in enumerate(codebooks):
            others = vsa_bind(jnp.delete(x, f, axis=0))
            x = x.at[f].set(self.cleanup(codebook, product * others))
        return x


@registry.method("resonator", paper="attention-resonator")
def resonator() -> Resonator:
    r"""The standard resonator network: $g(C, q) = \mathrm{sign}(C C^\top q)$, an outer-product memory.

    Paper: Resonator Networks, 1: An Efficient Solution for Factoring High-Dimensional, Distributed Representations of
    Data Structures.
    """
    return Resonator(_outer_product)


@registry.method(
    "attention-resonator", {"beta": registry.LogUniform(1.0, 100.0)}, paper="attention-resonator", bad={"beta": 0.0}
)  # fmt: skip
def attention_resonator(beta: Scalar = 8.0) -> Resonator:
    r"""A resonator that attends to its codebook: $g(C, q) = C\,\mathrm{softmax}(\beta\, C^\top q / N)$.

    The result is rescaled to norm $\sqrt N$, that of a codeword. The paper leaves β to tuning; where codewords
    are long (N = 512, some 20 to each book) 6 … 10 is right.

    Arguments:
        beta: Inverse temperature, positive: near 0 all codewords count alike, for large values one takes all.

    Raises:
        ValueError: if ``beta`` is out of range.

    Paper: Self-Attention Based Semantic Decomposition in Vector Symbolic Architectures.
    """
    in_range("beta", beta, 0.0, open_low=True)
    return Resonator(eqx.Partial(_attention, beta))


@registry.problem("bound-products", metric="solved", steps=100)
def bound_products(
    codewords: int = 20, trials: int = 100, factors: int = 3, size: int = 512, seed: int = 0
) -> Factorization:
    """Random bipolar codebooks, and products of one randomly chosen codeword from each.

    Arguments:
        codewords: Per codebook (M).
        trials: Products (T).
        factors: Codebooks (F), at least 2.
        size: Length of the vectors (N).
        seed: Of the draw.

    Raises:
        ValueError: for a size out of range.
    """
    in_range("factors", factors, 2)
    for name, count in (("codewords", codewords), ("trials", trials), ("size", size)):
        in_range(name, count, 1)
    random = np.random.default_rng(seed)
    codebooks = random.choice(np.array([-1, 1], np.float32), (factors, size, codewords))
    chosen = random.integers(codewords, size=(factors, trials))
    return Factorization(codebooks, np.prod([c[:, i].T for c, i in zip(codebooks, chosen, strict=True)], axis=0))


def _outer_product(codebook: Array, query: Array) -> Array:
    # A tie counts as positive. Rescaled estimates leave rounding where a sum is zero; it must not decide.
    rounding = jnp.finfo(query.dtype).eps * jnp.sqrt(codebook.shape[1]) * jnp.abs(query).sum()
    return jnp.where(codebook @ (query @ codebook) < -rounding, -1.0, 1.0).astype(query.dtype)


def _attention(beta: Scalar, codebook: Array, query: Array) -> Array:
    weights = jax.nn.softmax(beta * (query @ codebook) / query.size)
    return _rescaled(codebook @ weights)


def _rescaled(x: Float[Array, "*f n"]) -> Float[Array, "*f n"]:
    """To norm sqrt(n); zero stays zero."""
    square = jnp.mean(x**2, axis=-1, keepdims=True)
    return x * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def _superposition(codebooks: Array, trials: int, key: PRNGKeyArray) -> Estimate:
    every = _rescaled(codebooks.sum(-1))
    return Estimate(jnp.broadcast_to(every, (trials, *every.shape)), jnp.zeros(trials, dtype=jnp.int32))


def _solved(problem: Factorization, x: Estimate, key: PRNGKeyArray) -> Array:
    return jnp.mean(problem.solved(x))
