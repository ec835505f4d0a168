"""Networks with one hidden ReLU layer, trained as convex programs over activation patterns of the data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.optimize import nnls

from attractor.checks import Scalar, in_range
from attractor.linalg.proximal import group_soft_threshold, soft_threshold
from attractor.optim.splitting import Admm, admm, fista


class ReluNetwork(NamedTuple):
    r"""$x \mapsto \sum_j \alpha_j \max(0, \langle h_j, x \rangle)$; append a 1 to x for a bias."""

    hidden: Float[Array, "m d"]
    output: Float[Array, " m"]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        return jax.nn.relu(x @ self.hidden.T) @ self.output


def sample_relu_arrangements(
    key: PRNGKeyArray, x: Float[Array, "n d"], count: int, radius: float = 0.0
) -> Bool[Array, "p n"]:
    r"""Distinct activation patterns $\mathbb{1}[X u \ge 0]$ of Gaussian hyperplanes u, at most ``count``.

    Arguments:
        key: Of the sample.
        x: One example per row.
        count: Hyperplanes drawn, at least 1.
        radius: Half width of the box out of which each hyperplane sees every example, in [0, inf); robust training
            needs the patterns of perturbed data as well. The first pattern is of the data itself.

    Raises:
        ValueError: for an argument out of range.

    Paper: Practical Convex Formulation of Robust One-hidden-layer Neural Network Training.
    """
    in_range("count", count, 1.0)
    in_range("radius", radius, 0.0)
    planes = jr.normal(key, (count, x.shape[1]), x.dtype)
    patterns = planes @ x.T >= 0
    if radius > 0:
        shifts = radius * jr.uniform(jr.fold_in(key, 1), (count - 1, *x.shape), x.dtype, -1, 1)
        patterns = patterns.at[1:].set(jnp.einsum("pnd,pd->pn", x + shifts, planes[1:]) >= 0)
    _, first = np.unique(np.asarray(patterns), axis=0, return_index=True)
    return patterns[np.sort(first)]


def robust_arrangements(
    patterns: Bool[Array, "p n"], x: Float[Array, "n d"], radius: float | Float[Array, "..."]
) -> Bool[Array, " p"]:
    r"""Which activation patterns a neuron can have that keeps to one side of its kink throughout every example's box.

    Boxes that overlap have to be on one side together: a pattern that tells two such examples apart admits the weight
    zero only in `convex_adversarial_relu`, and may be left out of it.

    Arguments:
        patterns: Of `sample_relu_arrangements`.
        x: One example per row.
        radius: Half width of the box, in [0, inf): a number, or one per input.

    Raises:
        ValueError: for a ``radius`` out of range.
    """
    in_range("radius", radius, 0.0)
    r = jnp.broadcast_to(jnp.asarray(radius, x.dtype), x.shape[1:])
    apart = jnp.abs(x[:, None] - x)
    overlap = jnp.where(r > 0, apart < 2 * r, apart == 0).all(-1)
    on = patterns.astype(x.dtype)
    return jnp.einsum("pk,kl,pl->p", on, overlap.astype(x.dtype), 1 - on) == 0


def relu_training_loss(
    network: ReluNetwork, x: Float[Array, "n d"], y: Float[Array, " n"], beta: Scalar
) -> Float[Array, ""]:
    r"""Half the squared error, and weight decay over both layers: nonconvex in the weights.

    $$ \tfrac12 \lVert f(X) - y \rVert^2 + \tfrac\beta2 \sum_j (\lVert h_j \rVert^2 + \alpha_j^2) $$

    Arguments:
        network: The network f.
        x: One example per row.
        y: Targets.
        beta: Weight decay, in [0, inf).
    """
    return (jnp.sum((network(x) - y) ** 2) + beta * (jnp.sum(network.hidden**2) + jnp.sum(network.output**2))) / 2


def recover_relu_network(weights: Float[Array, "2 p d"]) -> ReluNetwork:
    r"""The network of a convex program's solution.

    Neurons $v / \sqrt{\lVert v \rVert}$ with output weight $\sqrt{\lVert v \rVert}$, and the same, negative, of w.

    Arguments:
        weights: $(v, w)$, the weights of neurons with positive and with negative output.
    """
    size = jnp.sqrt(jnp.linalg.norm(weights, axis=-1))
    hidden = weights / jnp.where(size > 0, size, 1)[..., None]
    return ReluNetwork(hidden.reshape(-1, weights.shape[-1]), (size * jnp.array([[1], [-1]])).ravel())


def relu_dual_bound(
    weights: Float[Array, "2 p d"], x: Float[Array, "n d"], y: Float[Array, " n"], patterns: Bool[Array, "p n"],
    beta: float,
) -> float:  # fmt: skip
    r"""A lower bound on `relu_training_loss` with these activation patterns: with all of them, for any network.

    $$ \max_z\; \langle z, y \rangle - \tfrac12 \lVert z \rVert^2 \quad\text{s.t.}\quad
       \max \{ z^\top D_i X u : \lVert u \rVert \le 1,\; (2 D_i - 1) X u \ge 0 \} \le \beta $$

    at z, the residual of ``weights`` scaled until the constraints hold, on one side and the other. For the optimal
    weights it is tight.

    Arguments:
        weights: Of the convex program, such as `convex_relu_admm` finds.
        x: One example per row.
        y: Targets.
        patterns: D, a row per neuron and side.
        beta: Weight decay, in (0, inf).

    Raises:
        ValueError: for an argument out of range.

    Paper: Practical Convex Formulation of Robust One-hidden-layer Neural Network Training.
    """
    in_range("beta", beta, 0.0, open_low=True)
    rows, targets, v = (np.asarray(a, float) for a in (x, y, weights))
    residual = targets - np.einsum("pn,nd,pd->n", patterns, rows, v[0] - v[1])
    # The maximum over unit vectors of a cone is the distance to its polar cone.
    largest = max(
        nnls(-((2 * d - 1)[:, None] * rows).T, sign * rows.T @ (d * residual))[1]
        for d in np.asarray(patterns, float) for sign in (1, -1)
    )  # fmt: skip
    z = min(1.0, beta / largest) * residual
    return float(z @ targets - z @ z / 2)


def convex_relu_admm(
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    patterns: Bool[Array, "p n"],
    beta: Scalar = 0.1,
    rho: Scalar = 0.1,
    steps: int = 1_000,
) -> Admm:
    r"""Train a network with one hidden ReLU layer to the global optimum over its activation patterns, by ADMM.

    $$
    \begin{aligned}
    \min_{v, w}\; & \tfrac12 \bigl\lVert \textstyle\sum_i D_i X (v_i - w_i) - y \bigr\rVert^2
        + \beta \sum_i (\lVert v_i \rVert + \lVert w_i \rVert), \\
    & (2 D_i - I) X v_i \ge 0, \quad (2 D_i - I) X w_i \ge 0
    \end{aligned}
    $$

    With all patterns of the data, its minimum is that of `relu_training_loss` for any wide enough network, and
    `recover_relu_network` gives that network. The split is between least squares, whose matrix is inverted once, and
    group soft threshold for copies of $(v, w)$ together with projection for copies of the constraints' slacks.

    Arguments:
        x: One example per row.
        y: Targets.
        patterns: The diagonals $D_i$, of `sample_relu_arrangements`.
        beta: Weight decay, in (0, inf).
        rho: Penalty of the splitting, in (0, inf).
        steps: At least 1.

    Returns:
        An `Admm`, whose ``z`` is the pair of weights ``(2, p, d)`` and slacks ``(2, p, n)``.

    Raises:
        ValueError: for an argument out of range.

    Paper: Efficient Global Optimization of Two-layer ReLU Networks: Quadratic-time Algorithms and Adversarial Training.
    """
    in_range("beta", beta, 0.0, open_low=True)
    in_range("rho", rho, 0.0, open_low=True)
    (p, n), d = patterns.shape, x.shape[1]
    active = patterns[:, :, None] * x  # D_i X, (p, n, d)
    cones = (2 * patterns - 1)[:, :, None] * x  # (2 D_i - I) X, (p, n, d)
    features = jnp.concatenate([active, -active]).transpose(1, 0, 2).reshape(n, 2 * p * d)
    blocks = rho * (jnp.eye(d) + jnp.einsum("pnd,pne->pde", cones, cones))
    diagonal = jnp.einsum("ij,jde->idje", jnp.eye(2 * p), jnp.concatenate([blocks, blocks]))
    gram = features.T @ features + diagonal.reshape(2 * p * d, 2 * p * d)
    inverse = jnp.linalg.inv(gram)
    linear = (features.T @ y).reshape(2, p, d)

    def solve(target: tuple[Array, Array], _: Array) -> Array:
        weights, slacks = target
        right = linear + rho * (weights + jnp.einsum("pnd,spn->spd", cones, slacks))
        return (inverse @ right.ravel()).reshape(2, p, d)

    def prox(image: tuple[Array, Array]) -> tuple[Array, Array]:
        return group_soft_threshold(image[0], beta / rho), jax.nn.relu(image[1])

    def forward(weights: Array) -> tuple[Array, Array]:
        return weights, jnp.einsum("pnd,spd->spn", cones, weights)

    start = jnp.zeros((2, p, d), x.dtype)
    return admm(solve, prox, start, forward(start), steps, forward)


def sampled_convex_program(
    key: PRNGKeyArray,
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    count: int,
    beta: Scalar = 0.1,
    steps: int = 1_000,
) -> ReluNetwork:
    r"""Train a network with one hidden ReLU layer near the global optimum by sampling the constraints of its dual.

    $$ \min_\alpha \tfrac12 \lVert \max(0, X U^\top) \alpha - y \rVert^2 + \beta \lVert \alpha \rVert_1 $$

    with rows of U uniform on the unit sphere: a lasso, here solved by FISTA. The result is balanced, so that its
    `relu_training_loss` is the value of the lasso.

    Arguments:
        key: Of the sample.
        x: One example per row.
        y: Targets.
        count: Sampled neurons, at least 1.
        beta: Weight decay, in (0, inf).
        steps: Of FISTA, at least 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: Efficient Global Optimization of Two-layer ReLU Networks: Quadratic-time Algorithms and Adversarial Training.
    """
    in_range("count", count, 1.0)
    in_range("beta", beta, 0.0, open_low=True)
    sphere = jr.normal(key, (count, x.shape[1]), x.dtype)
    sphere = sphere / jnp.linalg.norm(sphere, axis=1, keepdims=True)
    features = jax.nn.relu(x @ sphere.T)
    alpha, _ = fista(
        lambda a: features.T @ (features @ a - y),
        lambda a, step: soft_threshold(a, step * beta),
        jnp.zeros(count, x.dtype),
        1 / jnp.linalg.norm(features, 2) ** 2,
        steps,
    )
    scale = jnp.sqrt(jnp.abs(alpha))
    return ReluNetwork(scale[:, None] * sphere, jnp.sign(alpha) * scale)


def convex_adversarial_relu(
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    patterns: Bool[Array, "p n"],
    radius: float | Float[Array, "..."] = 0.1,
    beta: Scalar = 0.01,
    rho: Scalar = 1.0,
    steps: int = 2_000,
) -> tuple[Float[Array, "2 p d"], Float[Array, " n"]]:
    r"""Train a robust classifier with one hidden ReLU layer as a convex program, by ADMM.

    $$
    \begin{aligned}
    \min_{v, w}\; & \tfrac1n \sum_k \max\bigl(0,\; 1 - y_k \langle x_k, s_k \rangle + \langle r, |s_k| \rangle\bigr)
        + \beta \sum_i (\lVert v_i \rVert + \lVert w_i \rVert), \qquad s_k = \sum_i D_{ik} (v_i - w_i), \\
    & (2 D_i - I) X v_i \ge \langle r, |v_i| \rangle, \quad (2 D_i - I) X w_i \ge \langle r, |w_i| \rangle
    \end{aligned}
    $$

    The constraints keep every neuron on one side of its kink throughout the box of half width r around each example,
    where the network is then linear, and its worst hinge loss known. Bounds take the place of the absolute values,
    after which each term is a separable function of a linear image of the unknowns; the linear system of the
    splitting is dense, with about $4 p d + n d$ unknowns.

    Arguments:
        x: One example per row.
        y: Labels, +1 and -1.
        patterns: The diagonals $D_i$, of `sample_relu_arrangements`.
        radius: Half width r of the box, in [0, inf): a number, or one per input (0 for a constant input).
        beta: Weight decay, in (0, inf).
        rho: Penalty of the splitting, in (0, inf).
        steps: At least 1.

    Returns:
        The pair (v, w), for `recover_relu_network`, and the bound on the hinge loss of each example.

    Raises:
        ValueError: for an argument out of range.

    Paper: Practical Convex Formulation of Robust One-hidden-layer Neural Network Training.
    """
    in_range("radius", radius, 0.0)
    in_range("beta", beta, 0.0, open_low=True)
    in_range("rho", rho, 0.0, open_low=True)
    (p, n), d = patterns.shape, x.shape[1]
    r = jnp.broadcast_to(jnp.asarray(radius, x.dtype), (d,))
    active, sign = patterns.astype(x.dtype), (2 * patterns - 1).astype(x.dtype)

    def parts(flat: Array) -> tuple[Array, Array, Array]:
        weights, bounds, slopes = jnp.split(flat, [2 * p * d, 4 * p * d])
        return weights.reshape(2, p, d), bounds.reshape(2, p, d), slopes.reshape(n, d)

    def linear(flat: Array) -> tuple[Array, Array, Array]:
        """Weights; what must not be negative; 1 - the hinge's argument."""
        weights, bounds, slopes = parts(flat)
        local = active.T @ (weights[0] - weights[1])
        cones = sign * (weights @ x.T) - (bounds @ r)[..., None]
        within = bounds + weights, bounds - weights, slopes + local, slopes - local
        return (
            weights,
            jnp.concatenate([cones.ravel(), *map(jnp.ravel, within)]),
            y * jnp.sum(x * local, 1) - slopes @ r,
        )

    def prox(image: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        weights, slacks, margins = image
        moved = jnp.clip(1 - margins, 0, 1 / (n * rho))
        return group_soft_threshold(weights, beta / rho), jax.nn.relu(slacks), margins + moved

    zero = jnp.zeros(4 * p * d + n * d, x.dtype)
    pull = jax.linear_transpose(linear, zero)
    gram = jax.vmap(lambda e: pull(linear(e))[0])(jnp.eye(len(zero), dtype=x.dtype))
    inverse = jnp.linalg.inv(gram)
    result = admm(lambda target, _: inverse @ pull(target)[0], prox, zero, linear(zero), steps, linear)
    weights = result.z[0]
    local = active.T @ (weights[0] - weights[1])
    return weights, jax.nn.relu(1 - y * jnp.sum(x * local, 1) + jnp.abs(local) @ r)
