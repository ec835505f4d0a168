"""Block coordinate descent with proximal terms, and two tensor factorizations by it."""

import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from attractor.checks import Scalar, in_range
from attractor.optim.splitting import fista

Factor = Float[Array, "_ rank"]
Factors = tuple[Factor, ...]
Solve = Callable[[tuple[PyTree, ...], Int[Array, ""]], PyTree]
Descend = Callable[..., tuple[Any, Any]]
_BISECTIONS = 60


def block_proximal_descent(
    solvers: Sequence[Solve],
    blocks: tuple[PyTree, ...],
    sweeps: int,
    measure: Callable[[tuple[PyTree, ...]], PyTree] = lambda blocks: (),
) -> tuple[tuple[PyTree, ...], PyTree]:
    r"""Minimize over one block after another, each time with a proximal term.

    $$ x_i \leftarrow \arg\min_{x_i \in X_i} f(x_1, \dots, x_m)
       + \tfrac{\lambda}{2} \lVert x_i - x_i^{\text{old}} \rVert^2 $$

    The minimizations are given as functions, which hold $\lambda$. Solved up to errors with a finite sum over the
    sweeps, they still bring the best squared `feasible_descent` down like one over the number of sweeps, for any
    smooth f and convex sets.

    Arguments:
        solvers: One per block, ``(blocks, sweep) -> block``; ``sweep`` counts from 0.
        blocks: Start.
        sweeps: At least 1.
        measure: ``blocks -> pytree`` recorded after every sweep.

    Returns:
        The last blocks, and what was measured, leaves ``(sweeps, …)``.

    Raises:
        ValueError: for ``sweeps`` below 1, or if there are not as many solvers as blocks.

    Paper: Complexity of Block Coordinate Descent with Proximal Regularization and Applications to Wasserstein
    CP-dictionary Learning.
    """
    in_range("sweeps", sweeps, 1)
    if len(solvers) != len(blocks):
        raise ValueError(f"solvers: expected one per block, {len(blocks)}, got {len(solvers)}")

    def sweep(blocks: tuple[PyTree, ...], t: Array) -> tuple[tuple[PyTree, ...], PyTree]:
        for i, solve in enumerate(solvers):
            blocks = (*blocks[:i], solve(blocks, t), *blocks[i + 1 :])
        return blocks, measure(blocks)

    return jax.lax.scan(sweep, blocks, jnp.arange(sweeps))


def feasible_descent(gradient: PyTree, x: PyTree) -> Float[Array, ""]:
    r"""How far from stationary a non-negative point is: the steepest descent within reach.

    $$ \max \{ \langle -\nabla f(x), d \rangle : x + d \ge 0,\; \lVert d \rVert \le 1 \} $$

    Arguments:
        gradient: $\nabla f(x)$, like ``x``.
        x: Non-negative.
    """
    g, z = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (gradient, x))

    def direction(logarithm: Array) -> Array:  # the maximizer is a projected gradient step of some length
        return jnp.maximum(z - jnp.exp(logarithm) * g, 0) - z

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        inside = jnp.linalg.norm(direction(middle)) <= 1
        return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

    start = jnp.full((), -46.0, g.dtype), jnp.full((), 46.0, g.dtype)  # step lengths 1e-20 … 1e20
    return -g @ direction(jax.lax.fori_loop(0, _BISECTIONS, halve, start)[0])


def cp_tensor(factors: Factors) -> Float[Array, "..."]:
    r"""The tensor $\sum_r u^{(1)}_r \otimes \dots \otimes u^{(d)}_r$ of factors ``(n_i, rank)``."""
    axes = string.ascii_letters[: len(factors)]
    return jnp.einsum(",".join(a + "z" for a in axes) + "->" + axes, *factors)


def nonnegative_cp(
    tensor: Float[Array, "..."],
    factors: Factors,
    sweeps: int,
    weight: Scalar = 1e-2,
    inner_steps: int | Callable[[Int[Array, ""]], Int[Array, ""]] = 50,
    descend: Descend = block_proximal_descent,
) -> tuple[Factors, dict[str, Float[Array, " sweeps"]]]:
    r"""Non-negative CP decomposition by `block_proximal_descent`: half the squared error, factor after factor.

    A factor's problem is a small quadratic program per row, solved by coordinate descent over its columns.

    Arguments:
        tensor: Of any order, ``(n_1, …, n_d)``.
        factors: Start, d non-negative arrays ``(n_i, rank)``.
        sweeps: At least 1.
        weight: $\lambda$, in (0, inf).
        inner_steps: Passes over the columns, at least 1, or a function of the sweep.
        descend: The loop over the blocks.

    Returns:
        The factors, and after each sweep ``loss`` and ``stationarity``, the `feasible_descent` of all factors together.

    Raises:
        ValueError: for a ``weight`` out of range.

    Paper: Complexity of Block Coordinate Descent with Proximal Regularization and Applications to Wasserstein
    CP-dictionary Learning.
    """
    in_range("weight", weight, 0.0, open_low=True)

    def solver(i: int) -> Solve:
        def solve(blocks: Factors, t: Array) -> Factor:
            rank, old = blocks[i].shape[1], blocks[i]
            # The block's loss is tr(U H U') / 2 - tr(B U'), with the proximal term in H and B.
            products = [u.T @ u for j, u in enumerate(blocks) if j != i]
            quadratic = jnp.prod(jnp.stack(products), 0) + weight * jnp.eye(rank)
            linear = jax.grad(lambda u: jnp.vdot(tensor, cp_tensor((*blocks[:i], u, *blocks[i + 1 :]))))(old)
            linear = linear + weight * old

            def column(n: Array, u: Array) -> Array:
                r = n % rank
                moved = u[:, r] + (linear[:, r] - u @ quadratic[:, r]) / quadratic[r, r]
                return u.at[:, r].set(jnp.maximum(moved, 0))

            passes = inner_steps(t) if callable(inner_steps) else inner_steps
            return jax.lax.fori_loop(0, passes * rank, column, old)

        return solve

    def loss(blocks: Factors) -> Array:
        return jnp.sum((tensor - cp_tensor(blocks)) ** 2) / 2

    def measure(blocks: Factors) -> dict[str, Array]:
        value, gradient = jax.value_and_grad(loss)(blocks)
        return {"loss": value, "stationarity": feasible_descent(gradient, blocks)}

    return descend([solver(i) for i in range(len(factors))], factors, sweeps, measure)


def divergence_cp(
    tensor: Float[Array, "..."], factors: Factors, sweeps: int, descend: Descend = block_proximal_descent
) -> tuple[Factors, Float[Array, " sweeps"]]:
    r"""Non-negative CP decomposition by the generalized Kullback-Leibler divergence, with multiplicative updates.

    $$ \min_{U \ge 0} \sum X \log \tfrac{X}{Y} - X + Y, \qquad Y = \sum_r u^{(1)}_r \otimes \dots \otimes u^{(d)}_r,
       \qquad U^{(i)} \leftarrow U^{(i)} \frac{\nabla_i \langle X / Y_{\text{old}}, Y \rangle}{\nabla_i \sum Y} $$

    Arguments:
        tensor: X, non-negative.
        factors: Start, d positive arrays ``(n_i, rank)``.
        sweeps: At least 1.
        descend: The loop over the blocks.

    Returns:
        The factors, and the divergence after each sweep.
    """

    def solver(i: int) -> Solve:
        def solve(blocks: Factors, t: Array) -> Factor:
            def model(u: Factor) -> Array:
                return cp_tensor((*blocks[:i], u, *blocks[i + 1 :]))

            product, pull = jax.vjp(model, blocks[i])
            ratio = tensor / jnp.where(product > 0, product, 1)
            return blocks[i] * pull(ratio)[0] / jnp.maximum(pull(jnp.ones_like(ratio))[0], 1e-30)

        return solve

    def measure(blocks: Factors) -> Array:
        product = cp_tensor(blocks)
        return jnp.sum(jax.scipy.special.kl_div(tensor, product))

    return descend([solver(i) for i in range(len(factors))], factors, sweeps, measure)


def entropic_conjugate(
    potential: Float[Array, "n m"], source: Float[Array, "n m"], cost: Float[Array, "m m"], epsilon: Scalar
) -> Float[Array, ""]:
    r"""Sum of the convex conjugates of the entropic transport costs from each source, up to a constant:

    $$ W_\varepsilon^*(g) = \sup_{b} \langle g, b \rangle - W_\varepsilon(a, b)
       = \varepsilon \sum_i a_i \log \sum_j e^{(g_j - C_{ij}) / \varepsilon} + \text{const.} $$

    Its gradient is the distribution b to which the mass of a goes.

    Arguments:
        potential: g, a row per source.
        source: a, a distribution per row.
        cost: C.
        epsilon: $\varepsilon$, in (0, inf).
    """
    top = jax.lax.stop_gradient(potential.max(1, keepdims=True))
    mass = jnp.exp((potential - top) / epsilon) @ jnp.exp(-cost / epsilon).T
    return jnp.sum(source * (epsilon * jnp.log(mass) + top))


def entropic_cost(
    source: Float[Array, "n m"], target: Float[Array, "n m"], cost: Float[Array, "m m"], epsilon: Scalar,
    steps: int = 500,
) -> Float[Array, " n"]:  # fmt: skip
    r"""Entropic transport cost from source to target, row by row, by matrix scaling:
    $\min_P \langle C, P \rangle + \varepsilon \sum P \log P$ over the plans P between them.

    Arguments:
        source: A distribution per row.
        target: A distribution per row.
        cost: C.
        epsilon: $\varepsilon$, in (0, inf).
        steps: Scalings of both sides, at least 1.
    """
    kernel = jnp.exp(-cost / epsilon)

    def scale(_: Any, v: Array) -> Array:
        return target / (source / (v @ kernel.T) @ kernel)

    v = jax.lax.fori_loop(0, steps, scale, jnp.ones_like(target))
    u = source / (v @ kernel.T)
    logarithm = jax.scipy.special.xlogy
    return epsilon * jnp.sum(logarithm(source, u) + logarithm(target, jnp.where(target > 0, v, 1)), 1)


def sinkhorn_divergence(
    source: Float[Array, "n m"], target: Float[Array, "n m"], cost: Float[Array, "m m"], epsilon: Scalar,
    steps: int = 500,
) -> Float[Array, " n"]:  # fmt: skip
    r"""Entropic transport cost, less what its entropy adds even between equals, row by row:
    $W_\varepsilon(a, b) - W_\varepsilon(a, a) / 2 - W_\varepsilon(b, b) / 2$.

    At least 0, and 0 for equal distributions, if the kernel $e^{-C / \varepsilon}$ is positive definite.

    Arguments:
        source: A distribution per row.
        target: A distribution per row.
        cost: C.
        epsilon: $\varepsilon$, in (0, inf).
        steps: As in `entropic_cost`.
    """
    pairs = ((source, target), (source, source), (target, target))
    both, *alone = (entropic_cost(*pair, cost, epsilon, steps) for pair in pairs)
    return both - sum(alone) / 2


def dictionary_start(shape: Sequence[int], rank: int, seed: int = 0) -> Factors:
    """A random start of `wasserstein_cp_dictionary`: weights and marginals in their simplices, and nowhere near 0.

    Arguments:
        shape: Of the tensor, ``(n, n_1, …, n_d)``.
        rank: How many products of marginals are mixed, at least 1.
        seed: Of the draw.

    Raises:
        ValueError: for ``rank`` below 1.
    """
    in_range("rank", rank, 1)
    rng = np.random.default_rng(seed)
    weights, *marginals = (rng.random((size, rank)) + 0.1 for size in shape)
    start = weights / weights.sum(1, keepdims=True), *(u / u.sum(0) for u in marginals)
    return tuple(map(jnp.asarray, start))


def wasserstein_cp_dictionary(
    tensor: Float[Array, "n ..."],
    cost: Float[Array, "m m"],
    factors: Factors,
    sweeps: int,
    epsilon: Scalar = 0.05,
    weight: Scalar = 0.1,
    inner_steps: int = 200,
    descend: Descend = block_proximal_descent,
) -> tuple[Factors, Float[Array, " sweeps"]]:
    r"""Distributions that, mixed, are near given ones in transport distance, each a product of its marginals.

    $$ \min_{U^{(0)}, \dots, U^{(d)}} \sum_j W_\varepsilon\Bigl(X_j, \sum_r U^{(0)}_{jr}\,
       u^{(1)}_r \otimes \dots \otimes u^{(d)}_r\Bigr), \qquad
       \text{rows of } U^{(0)} \text{ and columns of the others in the simplex} $$

    A factor's problem, with its proximal term, is solved in the dual, where it has no constraints (A is the linear map
    from the factor to the mixtures, $\Pi$ the projection onto the simplices):

    $$ \max_g \; -\sum_j W_\varepsilon^*(g_j) + \min_U \bigl\{ \langle g, A U \rangle
       + \tfrac\lambda2 \lVert U - U^{\text{old}} \rVert^2 \bigr\}, \qquad
       U = \Pi\bigl(U^{\text{old}} - A^\top g / \lambda\bigr) $$

    by gradient steps with momentum. That the proximal term alone makes the dual smooth, without an entropy of the
    factors, was chosen here.

    Arguments:
        tensor: X, a distribution of d variables per entry of the first axis, ``(n, n_1, …, n_d)``.
        cost: C, of moving mass between the m = n_1 ⋯ n_d cells, row by row.
        factors: Start: ``(n, rank)``, rows in the simplex, then d times ``(n_i, rank)``, columns in the simplex; see
            `dictionary_start`.
        sweeps: At least 1.
        epsilon: $\varepsilon$, in units of the cost, in (0, inf).
        weight: $\lambda$, in (0, inf).
        inner_steps: Of the dual ascent, at least 1.
        descend: The loop over the blocks.

    Returns:
        The factors, and the objective after each sweep.

    Raises:
        ValueError: for an argument out of range.

    Paper: Complexity of Block Coordinate Descent with Proximal Regularization and Applications to Wasserstein
    CP-dictionary Learning.
    """
    in_range("epsilon", epsilon, 0.0, open_low=True)
    in_range("weight", weight, 0.0, open_low=True)
    source = tensor.reshape(len(tensor), -1)

    def mixtures(blocks: Factors) -> Array:
        return cp_tensor(blocks).reshape(source.shape)

    def solver(i: int) -> Solve:
        axis = 0 if i == 0 else 1  # of the distributions
        project = jax.vmap(optax.projections.projection_simplex, in_axes=axis, out_axes=axis)

        def solve(blocks: Factors, t: Array) -> Factor:
            old = blocks[i]

            def forward(u: Array) -> Array:
                return mixtures((*blocks[:i], u, *blocks[i + 1 :]))

            pull = jax.vjp(forward, old)[1]  # forward is linear, so that its transpose is the same everywhere

            def primal(g: Array) -> Array:
                return project(old - pull(g)[0] / weight)

            def slope(g: Array) -> Array:
                return jax.grad(entropic_conjugate)(g, source, cost, epsilon) - forward(primal(g))

            others = [jnp.linalg.norm(u, 2) for j, u in enumerate(blocks) if j != i]
            smoothness = 1 / epsilon + jnp.prod(jnp.stack(others)) ** 2 / weight
            g, _ = fista(slope, lambda v, step: v, jnp.zeros_like(source), 1 / smoothness, inner_steps)
            return primal(g)

        return solve

    def measure(blocks: Factors) -> Array:
        return jnp.sum(entropic_cost(source, mixtures(blocks), cost, epsilon))

    return descend([solver(i) for i in range(len(factors))], factors, sweeps, measure)
