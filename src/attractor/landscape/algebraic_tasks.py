r"""Algebraic tasks: modular addition and parities, and what the weights of two-layer networks that solve them are.

The network of modular addition is $o(g, h)_c = \sum_j w_{cj} (w_{aj}[g] + w_{bj}[h])^2$ for g, h, c in $Z_d$. Weights
are arrays ``(nodes, d)``, one table per input and one for the outputs.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float
from numpy.typing import ArrayLike

from attractor.checks import in_range


class QuadraticNet(NamedTuple):
    """Weights of a two-layer quadratic network on pairs of elements of Z_d.

    Attributes:
        a: Of the first input, a row per hidden node.
        b: Of the second input.
        c: Of the outputs.
    """

    a: Float[Array, "nodes d"]
    b: Float[Array, "nodes d"]
    c: Float[Array, "nodes d"]

    def outputs(self) -> Float[Array, "d d d"]:
        """Outputs for all pairs, indices (first, second, output)."""
        hidden = (self.a[:, :, None] + self.b[:, None, :]) ** 2
        return jnp.einsum("jgh,jc->ghc", hidden, self.c)


def sums_modulo(d: int) -> np.ndarray:
    """The table g + h mod d."""
    return np.add.outer(np.arange(d), np.arange(d)) % d


def modular_addition_loss(net: QuadraticNet) -> Float[Array, ""]:
    r"""The centered squared loss of modular addition, $E_{g,h} \lVert P (o(g, h) / 2d - e_{g+h}) \rVert^2$.

    P removes the mean over outputs.

    Arguments:
        net: Weights.

    Paper: Composing Global Optimizers to Reasoning Tasks via Algebraic Objects in Neural Nets.
    """
    d = net.a.shape[1]
    apart = net.outputs() / (2 * d) - jnp.asarray(sums_modulo(d)[:, :, None] == np.arange(d), net.a.dtype)
    return jnp.mean(jnp.sum((apart - apart.mean(-1, keepdims=True)) ** 2, -1))


class FourierNodes(NamedTuple):
    r"""Fourier coefficients of hidden nodes, indices (frequency 0 … d - 1, node).

    $w_{aj}[g] = \sum_k z_{akj} e^{2\pi i k g/d}$, the same for b, and $w_{cj}[c] = \sum_k z_{ckj} e^{-2\pi i k c/d}$.
    They form a semiring: ``+`` puts the nodes of two networks side by side, ``*`` takes all pairs of nodes and
    multiplies coefficients. `monomial_potential` is a homomorphism of it, so that what solves a part of the loss can be
    composed to what solves all of it.

    Attributes:
        a: Of the first input.
        b: Of the second input.
        c: Of the outputs.

    Paper: Composing Global Optimizers to Reasoning Tasks via Algebraic Objects in Neural Nets.
    """

    a: Complex[np.ndarray, "d nodes"]
    b: Complex[np.ndarray, "d nodes"]
    c: Complex[np.ndarray, "d nodes"]

    def __add__(self, other: "FourierNodes") -> "FourierNodes":  # pyright: ignore[reportIncompatibleMethodOverride]
        return FourierNodes(*(np.concatenate(pair, 1) for pair in zip(self, other, strict=True)))

    def __mul__(self, other: "FourierNodes") -> "FourierNodes":  # pyright: ignore[reportIncompatibleMethodOverride]
        products = ((x[:, :, None] * y[:, None, :]).reshape(len(x), -1) for x, y in zip(self, other, strict=True))
        return FourierNodes(*products)

    def scaled(self, factor: complex) -> "FourierNodes":
        """All coefficients times a number."""
        return FourierNodes(*(z * factor for z in self))

    def weights(self) -> QuadraticNet:
        """The network, if coefficients of opposite frequencies are conjugate."""
        d = len(self.a)
        tables = [np.fft.ifft(self.a, axis=0) * d, np.fft.ifft(self.b, axis=0) * d, np.fft.fft(self.c, axis=0)]
        return QuadraticNet(*(jnp.asarray(t.real.T) for t in tables))


def fourier_nodes(net: QuadraticNet) -> FourierNodes:
    """The Fourier coefficients of a network's hidden nodes.

    Arguments:
        net: Weights.

    Paper: Composing Global Optimizers to Reasoning Tasks via Algebraic Objects in Neural Nets.
    """
    a, b, c = (np.asarray(table, float).T for table in net)
    return FourierNodes(np.fft.fft(a, axis=0) / len(a), np.fft.fft(b, axis=0) / len(b), np.fft.ifft(c, axis=0))


def monomial_potential(z: FourierNodes, a: Sequence[int] = (), b: Sequence[int] = (), c: Sequence[int] = ()) -> complex:
    r"""$r = \sum_j \prod_{k \in a} z_{akj} \prod_{k \in b} z_{bkj} \prod_{k \in c} z_{ckj}$.

    ``r(z + y) = r(z) + r(y)`` and ``r(z * y) = r(z) r(y)``.

    Arguments:
        z: Nodes.
        a: Frequencies, modulo d.
        b: Frequencies.
        c: Frequencies.

    Paper: Composing Global Optimizers to Reasoning Tasks via Algebraic Objects in Neural Nets.
    """
    d, product = len(z.a), np.ones(z.a.shape[1], complex)
    for coefficients, frequencies in zip(z, (a, b, c), strict=True):
        for k in frequencies:
            product = product * coefficients[k % d]
    return complex(product.sum())


def potential_loss(z: FourierNodes) -> float:
    r"""`modular_addition_loss` from monomial potentials alone; nodes are taken to have no constant part.

    With $r_{k_1 k_2 k}$ of one coefficient of a, b and c each, and $r_{p k_1 k_2 k}$ of two of p and one of c:

    $$
    \frac1d \sum_{k \ne 0} \Big[ \sum_{k_1, k_2} |r_{k_1 k_2 k} - 1_{k_1 = k_2 = k}|^2
    + \tfrac14 \sum_{p} \sum_{m \ne 0} \Big|\sum_{l} r_{p, l, m - l, k}\Big|^2
    + \tfrac14 \Big|\sum_{p, l} r_{p, l, -l, k}\Big|^2 \Big]
    $$

    Arguments:
        z: Nodes.

    Paper: Composing Global Optimizers to Reasoning Tasks via Algebraic Objects in Neural Nets.
    """
    d = len(z.a)
    mixed = np.einsum("xj,yj,kj->xyk", z.a, z.b, z.c)
    index = np.arange(1, d)
    mixed[index, index, index] -= 1
    total = np.sum(np.abs(mixed[1:, 1:, 1:]) ** 2)
    constant = 0
    for p in (z.a, z.b):
        pairs = np.einsum("xj,yj,kj->xyk", p, p, z.c)
        sums = np.stack([sum(pairs[x, (m - x) % d] for x in range(1, d) if (m - x) % d) for m in range(d)])
        total += np.sum(np.abs(sums[1:, 1:]) ** 2) / 4
        constant = constant + sums[0, 1:]
    return float(total + np.sum(np.abs(constant) ** 2) / 4) / d


# Phases of generators, rows a, b and c, a column per node.
ORDER_THREE = np.tile(2 * np.pi * np.arange(3) / 3, (3, 1))
ORDER_TWO = np.pi / 2 * np.array([[0, 1], [0, -1], [0, 0]])


def cyclic_nodes(d: int, k: int, phases: Float[np.ndarray, "3 n"]) -> FourierNodes:
    r"""Nodes of one frequency, all coefficients of absolute value 1: real cosines over the group.

    Arguments:
        d: Order of the group.
        k: Frequency.
        phases: Of a, b and c, a column per node, in radians.
    """
    z = np.zeros((3, d, phases.shape[1]), complex)
    z[:, k % d], z[:, -k % d] = np.exp(1j * phases), np.exp(-1j * phases)
    return FourierNodes(*z)


def order_six_nodes(d: int, k: int) -> FourierNodes:
    r"""Six nodes of frequency k that solve its part of modular addition: a generator of order 3 times one of order 2.

    That of order 3, phases $2 \pi j / 3$ in a, b and c, makes all potentials of mixed signs zero; that of order 2,
    $(1, 1, 1)$ and $(i, -i, 1)$, those of one input alone; both keep $r_{kkk}$, which is scaled to 1.

    Arguments:
        d: Odd, at least 3.
        k: 1 … d - 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: Composing Global Optimizers to Reasoning Tasks via Algebraic Objects in Neural Nets.
    """
    in_range("d", d, 3)
    in_range("k", k, 1, d - 1)
    if d % 2 == 0:
        raise ValueError(f"d: expected an odd number, got {d}")
    return (cyclic_nodes(d, k, ORDER_THREE) * cyclic_nodes(d, k, ORDER_TWO)).scaled(6 ** (-1 / 3))


def composed_modular_addition(d: int) -> FourierNodes:
    """A network of 3 (d - 1) nodes that solves modular addition: the sum of `order_six_nodes` over frequencies.

    Arguments:
        d: Odd, at least 3.

    Raises:
        ValueError: for an even or smaller d.

    Paper: Composing Global Optimizers to Reasoning Tasks via Algebraic Objects in Neural Nets.
    """
    net = order_six_nodes(d, 1)
    for k in range(2, (d + 1) // 2):
        net = net + order_six_nodes(d, k)
    return net


def grid_error(z: Complex[np.ndarray, "p n"], rows: int) -> float:
    r"""How far n nodes are from a product of ``rows`` and n / rows nodes: 0 if $z_{p,(i,j)} = x_{pi} y_{pj}$.

    Over all arrangements into a grid, the least share of the squared norm that the best grids of rank one (for each p)
    leave, as a root.

    Arguments:
        z: Coefficients of one frequency, p kinds (a, b, c) of n nodes, n at most 8.
        rows: A divisor of n.

    Raises:
        ValueError: if ``rows`` does not divide n, or n is above 8.

    Paper: Composing Global Optimizers to Reasoning Tasks via Algebraic Objects in Neural Nets.
    """
    n = z.shape[1]
    if n > 8 or rows < 1 or n % rows:
        raise ValueError(f"rows: expected a divisor of n <= 8 nodes, got {rows} for n = {n}")
    # The first node stays in the corner: rows and columns can be permuted.
    orders = np.array([(0, *rest) for rest in itertools.permutations(range(1, n))])
    grids = z[:, orders].reshape(len(z), len(orders), rows, n // rows).swapaxes(0, 1)
    singular = np.linalg.svd(grids, compute_uv=False)
    left = np.sum(singular[..., 1:] ** 2, (1, 2)) / np.sum(np.abs(z) ** 2)
    return float(np.sqrt(left.min()))


def frequency_share(weights: ArrayLike) -> tuple[Float[np.ndarray, " nodes"], np.ndarray]:
    """Per node, the largest share of its power in one frequency (and its opposite), and which, 1 … d // 2.

    The constant part does not count. A node without any power has share 0.

    Arguments:
        weights: ``(nodes, d)``.

    Paper: Feature emergence via margin maximization: case studies in algebraic tasks.
    """
    table = np.asarray(weights, float)
    power = np.abs(np.fft.rfft(table, axis=1)[:, 1:]) ** 2
    if table.shape[1] % 2 == 0:
        power[:, -1] /= 2  # its own opposite
    total = power.sum(1)
    real = total > np.finfo(float).eps ** 2 * table.shape[1] * np.sum(table**2, 1)  # above rounding
    return np.where(real, power.max(1) / np.where(real, total, 1), 0.0), power.argmax(1) + 1


def group_norm(rows: Float[Array, "nodes n"], power: float) -> Float[Array, ""]:
    r"""The norm $\lVert\theta\rVert_{2,q} = (\sum_j \lVert\theta_j\rVert_2^q)^{1/q}$ over nodes.

    Arguments:
        rows: All weights of a node in a row.
        power: q, at least 1.

    Raises:
        ValueError: if ``power < 1``.

    Paper: Feature emergence via margin maximization: case studies in algebraic tasks.
    """
    in_range("power", power, 1.0)
    return jnp.sum(jnp.sum(rows**2, 1) ** (power / 2)) ** (1 / power)


def normalized_margin(net: QuadraticNet) -> Float[Array, ""]:
    r"""The least margin of modular addition over all pairs and wrong sums, over $\lVert\theta\rVert_{2,3}^3$.

    The network is homogeneous of degree 3, so that it does not depend on scale.

    Arguments:
        net: Weights.

    Paper: Feature emergence via margin maximization: case studies in algebraic tasks.
    """
    d = net.a.shape[1]
    outputs, right = net.outputs(), jnp.asarray(sums_modulo(d)[:, :, None] == np.arange(d))
    chosen = jnp.sum(outputs, -1, where=right)
    margin = jnp.min(chosen - jnp.max(jnp.where(right, -jnp.inf, outputs), -1))
    return margin / group_norm(jnp.concatenate(net, 1), 3.0) ** 3


def largest_modular_margin(d: int) -> float:
    r"""The largest `normalized_margin` there is, $\sqrt{2/27} / (\sqrt d (d - 1))$, for odd d.

    Arguments:
        d: Odd, at least 3.

    Raises:
        ValueError: if ``d < 3``.

    Paper: Feature emergence via margin maximization: case studies in algebraic tasks.
    """
    in_range("d", d, 3)
    return math.sqrt(2 / 27) / (math.sqrt(d) * (d - 1))


def max_margin_modular_addition(d: int) -> QuadraticNet:
    r"""A network with the largest margin: cosines of all frequencies, with phases $\theta_a + \theta_b = \theta_c$.

    Six nodes a frequency make what is not wanted of $(\cos + \cos)^2$ cancel, as in `order_six_nodes`; all have one
    norm.

    Arguments:
        d: Odd, at least 3.

    Raises:
        ValueError: for an even or smaller d.

    Paper: Feature emergence via margin maximization: case studies in algebraic tasks.
    """
    return composed_modular_addition(d).weights()


def parity_margin(first: Float[np.ndarray, "m n"], second: Float[np.ndarray, "m 2"], subset: Sequence[int]) -> float:
    r"""The normalized margin of $f(x) = \sum_j (w_j \cdot x)^k u_j$ on the parity of k bits, k the size of the subset.

    The least of $f(x)_y - f(x)_{1-y}$ over all x in $\{\pm 1\}^n$, over $\lVert\theta\rVert_{2,k+1}^{k+1}$; y = 0 where
    the product of the subset's bits is 1.

    Arguments:
        first: w.
        second: u.
        subset: Different indices.

    Paper: Feature emergence via margin maximization: case studies in algebraic tasks.
    """
    k = len(subset)
    x = np.array(list(itertools.product([1.0, -1.0], repeat=first.shape[1])))
    outputs = (x @ first.T) ** k @ second
    margin = np.min(np.prod(x[:, list(subset)], 1) * (outputs[:, 0] - outputs[:, 1]))
    norms = np.sum(first**2, 1) + np.sum(second**2, 1)
    return float(margin / np.sum(norms ** ((k + 1) / 2)))


def max_margin_parity(
    n: int, subset: Sequence[int]
) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "m 2"], float]:
    r"""A network with the largest `parity_margin`, and that margin, $k! \sqrt{2 (k+1)^{-(k+1)}}$.

    $2^{k-1}$ nodes, one for each choice of signs on the subset up to a global one; the output's sign is the product
    of the signs. Other bits have no weight.

    Arguments:
        n: Bits.
        subset: Different indices below n.

    Raises:
        ValueError: for an empty subset, or one that does not fit.

    Paper: Feature emergence via margin maximization: case studies in algebraic tasks.
    """
    k = len(subset)
    if not 0 < k == len(set(subset)) or not all(0 <= i < n for i in subset):
        raise ValueError(f"subset: expected different indices in [0, {n}), got {subset!r}")
    signs = np.array([(1, *rest) for rest in itertools.product([1, -1], repeat=k - 1)], float)
    first = np.zeros((len(signs), n))
    first[:, list(subset)] = signs * (k + 1) ** -0.5
    second = np.prod(signs, 1)[:, None] * np.array([1.0, -1.0]) * (2 * (k + 1)) ** -0.5
    return first, second, math.factorial(k) * math.sqrt(2 * (k + 1.0) ** -(k + 1))
