"""Principal components of data that are spread over agents: a frame to be found together."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.linalg.stiefel import tangent_part
from attractor.problem import Federated

Frame = Float[Array, "d r"]


def shared_components(rows: Float[np.ndarray, "n m d"], rank: int, seed: int = 0) -> Federated:
    r"""Maximize the variance of all rows along an orthonormal frame, $f_i(x) = -\mathrm{tr}(x^\top C_i x) / 2$.

    $C_i$ is the mean of agent i's $a a^\top$ over the largest eigenvalue of all agents' mean. Rows stay uncentered.
    Records the norm of the Riemannian gradient, ``gradient_norm``, and ``off``, the sines of the angles between the
    frame's span and the best. ``problem.full`` are every agent's C_i and the best frame, (n, 1, d, d) and (n, 1, d, r).

    Arguments:
        rows: Agents' samples, (n, m, d), finite.
        rank: Columns of the frame, r in 1 … d - 1.
        seed: Of the start, a random frame.

    Raises:
        ValueError: for rows that are not finite or not of three axes, or a rank out of its range.
    """
    data = np.asarray(rows, float)
    if data.ndim != 3 or not np.isfinite(data).all():
        raise ValueError(f"rows: expected finite samples (n_agents, m, d), got shape {data.shape}; stack the agents'")
    in_range("rank", rank, 1, data.shape[2] - 1)
    grams = np.einsum("nmd,nme->nde", data, data) / data.shape[1]
    sizes, vectors = np.linalg.eigh(grams.mean(0))
    best = np.repeat(vectors[None, None, :, -rank:], len(data), 0)
    start = np.linalg.qr(np.random.default_rng(seed).normal(size=best.shape[2:]))[0]
    spread = jnp.asarray(grams[:, None] / sizes[-1]), jnp.asarray(best)
    return Federated(_loss, jnp.asarray(start), spread, probes={"gradient_norm": _slope, "off": _off})


def off_span(x: Float[Array, "*batch d r"], best: Float[Array, "*batch d r"]) -> Float[Array, "*batch"]:
    """The root of the sum of the squared sines between the spans of two frames."""
    return jnp.linalg.norm(x - best @ (best.mT @ x), axis=(-2, -1))


def _loss(x: Frame, batch: tuple[Array, Array]) -> Float[Array, ""]:
    return -jnp.sum(x * (batch[0][0] @ x)) / 2


def _slope(problem: Federated, x: Frame, key: PRNGKeyArray) -> Float[Array, ""]:
    return jnp.linalg.norm(tangent_part(x, -problem.full[0].mean((0, 1)) @ x))


def _off(problem: Federated, x: Frame, key: PRNGKeyArray) -> Float[Array, ""]:
    return off_span(x, problem.full[1][0, 0])
