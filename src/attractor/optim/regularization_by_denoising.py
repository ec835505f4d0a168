"""Regularization by denoising, alone and together with a low-rank model of space and time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float

from attractor.checks import Scalar, in_range
from attractor.optim.splitting import Admm, admm, fista

Frames = Float[Array, "frames pixels"]
Operators = Float[Array, "frames bins pixels"]
Data = Float[Array, "frames bins"]
Factors = tuple[Float[Array, "pixels rank"], Float[Array, "frames rank"]]
Denoiser = Callable[[Frames], Frames]


def red_penalty(f: Frames, denoiser: Denoiser) -> Float[Array, ""]:
    r"""Regularization by denoising, $\rho(f) = \frac12 \langle f, f - D(f) \rangle$.

    Its gradient is $f - D(f)$ for a denoiser that is symmetric and homogeneous of degree 1.

    Arguments:
        f: Images, a row each.
        denoiser: D, of all images at once.
    """
    return jnp.vdot(f, f - denoiser(f)) / 2


def red_prox(v: Frames, denoiser: Denoiser, ratio: Scalar, steps: int = 3) -> Frames:
    r"""Proximal map of $\kappa \rho$, with $\rho$ the `red_penalty`, by fixed-point steps from v:

    $$ f \leftarrow \frac{v + \kappa D(f)}{1 + \kappa} $$

    Arguments:
        v: Images, a row each.
        denoiser: D, of all images at once; not expansive.
        ratio: $\kappa$, at least 0.
        steps: At least 1.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("ratio", ratio, 0.0)
    in_range("steps", steps, 1)
    return jax.lax.fori_loop(0, steps, lambda _, f: (v + ratio * denoiser(f)) / (1 + ratio), v)


def principal_denoiser(images: Frames, noise: Scalar, rank: int | None = None) -> Denoiser:
    r"""The best linear denoiser of a set of images under white noise: it shrinks along their principal directions.

    $$ D(f) = \sum_{k \le r} \frac{s_k}{s_k + \sigma^2} \langle u_k, f \rangle\, u_k $$

    with $s_k$ and $u_k$ the eigenvalues and eigenvectors of the second moments of the images. It is symmetric, not
    expansive and homogeneous, so that its residual is the gradient of the `red_penalty`.

    Arguments:
        images: To learn from, a row each.
        noise: Standard deviation $\sigma$, in (0, inf).
        rank: r; default: all.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("noise", noise, 0.0, open_low=True)
    if rank is not None:
        in_range("rank", rank, 1, images.shape[1])
    moments, directions = jnp.linalg.eigh(images.T @ images / len(images))
    kept = directions[:, ::-1][:, :rank]
    share = moments[::-1][:rank] / (moments[::-1][:rank] + noise**2)
    return lambda f: ((f @ kept) * share) @ kept.T


def red_gradient_descent(
    data: Data, operators: Operators, denoiser: Denoiser, prior: Scalar = 0.1, steps: int = 100
) -> Frames:
    r"""Reconstruct every frame for itself, by gradient steps with momentum from zero:

    $$ \min_f \tfrac12 \sum_t \lVert R_t f_t - g_t \rVert^2 + \lambda \rho(f) $$

    Arguments:
        data: g, ``(frames, bins)``.
        operators: R, ``(frames, bins, pixels)``.
        denoiser: D, of all frames at once; not expansive.
        prior: $\lambda$, in [0, inf).
        steps: At least 1.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("prior", prior, 0.0)

    def gradient(f: Frames) -> Frames:
        misfit = jnp.einsum("tbx,tx->tb", operators, f) - data
        return jnp.einsum("tbx,tb->tx", operators, misfit) + prior * (f - denoiser(f))

    largest = jnp.max(jnp.linalg.norm(operators, 2, axis=(1, 2))) ** 2 + prior
    start = jnp.zeros((len(data), operators.shape[2]), operators.dtype)
    return fista(gradient, lambda v, step: v, start, 1 / largest, steps)[0]


def fit_separable(
    data: Data,
    operators: Operators,
    factors: Factors,
    ridge: Scalar,
    target: Frames | None = None,
    penalty: Scalar = 0.0,
    cg_steps: int = 10,
) -> Factors:
    r"""One round of alternating least squares for a partially separable model, first in space and then in time.

    $$ \min_{L, P} \tfrac12 \sum_t \lVert R_t L p_t - g_t \rVert^2 + \tfrac{\beta}{2} \lVert P L^\top - T \rVert^2
       + \tfrac{\xi}{2} (\lVert L \rVert^2 + \lVert P \rVert^2) $$

    The frames share the images in L's columns; row t of P says how much of each is in frame t. The system for L is
    solved by conjugate gradients from the last L, the small one for each row of P exactly.

    Arguments:
        data: g, ``(frames, bins)``.
        operators: R, ``(frames, bins, pixels)``.
        factors: L ``(pixels, rank)`` and P ``(frames, rank)``.
        ridge: $\xi$, in (0, inf).
        target: T, ``(frames, pixels)``, or `None` for zero.
        penalty: $\beta$, in [0, inf).
        cg_steps: At least 1.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("ridge", ridge, 0.0, open_low=True)
    in_range("penalty", penalty, 0.0)
    space, time = factors
    pull = jnp.einsum("tbx,tb->tx", operators, data) + (0.0 if target is None else penalty * target)

    def normal(space: Array) -> Array:
        frames = time @ space.T
        again = jnp.einsum("tbx,tb->tx", operators, jnp.einsum("tbx,tx->tb", operators, frames))
        return (again + penalty * frames).T @ time + ridge * space

    space, _ = cg(normal, pull.T @ time, x0=space, maxiter=cg_steps, tol=1e-8)
    seen = operators @ space
    gram = jnp.einsum("tbr,tbs->trs", seen, seen) + penalty * space.T @ space + ridge * jnp.eye(space.shape[1])
    return space, jnp.linalg.solve(gram, (pull @ space)[..., None])[..., 0]


def separable_red(
    data: Data,
    operators: Operators,
    denoiser: Denoiser,
    factors: Factors,
    steps: int,
    prior: Scalar = 0.1,
    penalty: Scalar = 0.1,
    ridge: Scalar = 1e-3,
    split: Callable[..., Admm] = admm,
) -> Admm:
    r"""Reconstruct a moving object from a few projections per frame: a low-rank model whose frames look denoised.

    $$ \min_{L, P, f} \tfrac12 \sum_t \lVert R_t L p_t - g_t \rVert^2
       + \tfrac{\xi}{2} (\lVert L \rVert^2 + \lVert P \rVert^2) + \lambda \rho(f)
       \qquad \text{subject to } f = P L^\top $$

    by `admm`: a round of `fit_separable` for the factors, `red_prox` for f. That the data see the factors, and not f,
    was chosen here.

    Arguments:
        data: g, ``(frames, bins)``.
        operators: R, ``(frames, bins, pixels)``.
        denoiser: D, ``(frames, pixels) -> (frames, pixels)``.
        factors: Start: L ``(pixels, rank)`` and P ``(frames, rank)``, such as zeros and slow cosines.
        steps: At least 1.
        prior: $\lambda$, in [0, inf).
        penalty: $\beta$ of the constraint, in (0, inf).
        ridge: $\xi$, in (0, inf).
        split: The splitting method.

    Returns:
        x is (L, P), z is f, and ``measured`` the augmented Lagrangian after each step.

    Raises:
        ValueError: for an argument out of range.

    Paper: RED-PSM: Regularization by Denoising of Partially Separable Models for Dynamic Imaging.
    """
    in_range("prior", prior, 0.0)
    in_range("penalty", penalty, 0.0, open_low=True)

    def frames(factors: Factors) -> Frames:
        return factors[1] @ factors[0].T

    def lagrangian(factors: Factors, f: Frames, dual: Frames) -> Array:
        model = frames(factors)
        misfit = jnp.sum((jnp.einsum("tbx,tx->tb", operators, model) - data) ** 2)
        size = jnp.sum(factors[0] ** 2) + jnp.sum(factors[1] ** 2)
        coupling = jnp.sum((model - f + dual) ** 2) - jnp.sum(dual**2)
        return (misfit + ridge * size + penalty * coupling) / 2 + prior * red_penalty(f, denoiser)

    return split(
        lambda target, factors: fit_separable(data, operators, factors, ridge, target, penalty),
        lambda v: red_prox(v, denoiser, prior / penalty),
        factors,
        frames(factors),
        steps,
        forward=frames,
        measure=lagrangian,
    )
