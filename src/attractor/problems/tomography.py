"""Tomography: integrals of images along beams, images of ellipses, and filtered back-projection."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from attractor.checks import in_range

_NARROWEST = 1e-7  # of a pixel's shadow; a narrower one loses digits to cancellation and is a box to rounding anyway


def detector_bins(n: int) -> int:
    """How many bins of a pixel's width see all of an n by n image at any angle; as even or odd as n."""
    bins = int(np.ceil(n * np.sqrt(2)))
    return bins + (bins - n) % 2


def radon_matrix(n: int, angles: ArrayLike, bins: int | None = None) -> Float[Array, "rows pixels"]:
    r"""The Radon transform of n by n images in parallel beams, as a dense matrix.

    $$ A_{(\theta, b), (i, j)} = \operatorname{area}\bigl(\text{pixel } (i, j) \,\cap\,
       \{b \le x \cos\theta + y \sin\theta \le b + 1\}\bigr) $$

    Entries are exact areas (pixels are unit squares, beams strips of width 1), so that the bins of an angle
    together hold the image's total mass. The image's center is at the detector's; x grows with the column, y against
    the row, so that angle 0 gives the sums of the columns and angle pi/2 those of the rows, last row first.

    Arguments:
        n: Side of the image in pixels, at least 1.
        angles: In radians, at least one.
        bins: Of the detector, at least 1; default: enough for the diagonal, `detector_bins`. What misses the detector
            is not measured.

    Returns:
        ``(len(angles) * bins, n * n)``, all the bins of an angle together; images are flattened row by row.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("n", n, 1)
    in_range("angles", angles)
    theta = np.asarray(angles, dtype=float)
    if theta.ndim != 1 or not theta.size:
        raise ValueError(f"angles: expected a list of at least one angle, got shape {theta.shape}")
    bins = detector_bins(n) if bins is None else bins
    in_range("bins", bins, 1)
    place = np.arange(n) - (n - 1) / 2
    x, y = np.meshgrid(place, -place)
    edges = np.arange(bins + 1) - bins / 2
    # A pixel's shadow is the convolution of two boxes, and its distribution function a mixed difference of s²/2.
    long, short = (np.maximum(np.abs(f(theta)), _NARROWEST)[:, None, None] for f in (np.cos, np.sin))
    centers = np.cos(theta)[:, None] * x.ravel() + np.sin(theta)[:, None] * y.ravel()
    offset = edges[None, :, None] - centers[:, None, :]

    def bend(shift: np.ndarray) -> np.ndarray:
        return np.maximum(offset + shift, 0) ** 2 / 2

    outer, inner = (long + short) / 2, (long - short) / 2
    below = (bend(outer) - bend(inner) - bend(-inner) + bend(-outer)) / (long * short)
    return jnp.asarray(np.diff(below, axis=1).reshape(-1, n * n), dtype=float)


def ellipse_phantoms(n: int, count: int, seed: int = 0) -> Float[np.ndarray, "count n n"]:
    """Images of 3 to 6 ellipses of uniform gray between 0.2 and 1, the later ones over the earlier, on black.

    Arguments:
        n: Side in pixels, at least 2.
        count: Images, at least 1.
        seed: Of the draw.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("n", n, 2)
    in_range("count", count, 1)
    rng, images = np.random.default_rng(seed), np.zeros((count, n, n))
    y, x = np.mgrid[:n, :n] / (n - 1) * 2 - 1
    for image in images:
        for _ in range(rng.integers(3, 7)):
            (a, b), turn, (cx, cy) = rng.uniform(0.1, 0.45, 2), rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5, 2)
            u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
            v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
            image[(u / a) ** 2 + (v / b) ** 2 <= 1] = rng.uniform(0.2, 1)
    return images


def ellipse_scans(
    n: int, angles: int, count: int, noise: float = 0.01, seed: int = 0
) -> tuple[Float[Array, "rows pixels"], Float[Array, "count n n"], Float[Array, "count rows"]]:
    """A scanner's `radon_matrix` for evenly spaced views, `ellipse_phantoms`, and noisy scans of them.

    Arguments:
        n: Side of the images in pixels, at least 2.
        angles: Views over half a turn, at least 1.
        count: Images, at least 1.
        noise: Norm of the noise in each scan, as a share of the scan's, in [0, inf).
        seed: Of images and noise.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("angles", angles, 1)
    in_range("noise", noise, 0.0)
    matrix = radon_matrix(n, np.arange(angles) * np.pi / angles)
    images = ellipse_phantoms(n, count, seed)
    clean = images.reshape(count, -1) @ np.asarray(matrix).T
    drawn = np.random.default_rng((seed, 1)).standard_normal(clean.shape)
    share = np.linalg.norm(clean, axis=1, keepdims=True) / np.linalg.norm(drawn, axis=1, keepdims=True)
    return matrix, jnp.asarray(images, float), jnp.asarray(clean + noise * share * drawn, float)


def filtered_back_projection(
    matrix: Float[Array, "rows pixels"], angles: int, sinogram: Float[Array, " rows"]
) -> Float[Array, "n n"]:
    """Each view through a ramp filter, then smeared back over the image.

    Arguments:
        matrix: From `radon_matrix`, of a square image.
        angles: How many views there are, evenly spaced over half a turn.
        sinogram: What was measured.

    Raises:
        ValueError: if the rows are not as many for every angle, or the image is no square.
    """
    rows, pixels = matrix.shape
    n = round(pixels**0.5)
    if n * n != pixels or rows % angles:
        raise ValueError(f"matrix, angles: expected n * n columns and rows for {angles} views, got {matrix.shape}")
    views = sinogram.reshape(angles, -1)
    size = 2 * views.shape[1]  # twice the detector: views are not periodic
    filtered = jnp.fft.ifft(jnp.fft.fft(views, size) * jnp.abs(jnp.fft.fftfreq(size))).real[:, : views.shape[1]]
    return jnp.pi / angles * (matrix.T @ filtered.ravel()).reshape(n, n)


def moving_scan(
    seed: int, side: int = 24, frames: int = 32, noise: float = 0.01
) -> tuple[Float[Array, "frames pixels"], Float[Array, "frames bins pixels"], Float[Array, "frames bins"]]:
    """A movie of a soft disk at rest and two Gaussian blobs that circle within it, and a projection of each frame.

    Angles follow one another at the golden angle. The blobs turn by 1 to 2 radians a movie.

    Arguments:
        seed: Of the blobs' places, radii of turn and speeds, and of the noise.
        side: Of a frame in pixels, at least 2.
        frames: At least 1.
        noise: Standard deviation, in units of the largest measurement, in [0, inf).

    Returns:
        The movie, the rows of the `radon_matrix` that belong to each frame, and the noisy data.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("side", side, 2)
    in_range("frames", frames, 1)
    in_range("noise", noise, 0.0)
    rng, t = np.random.default_rng(seed), np.arange(frames) / frames
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(1, -1, side))
    images = np.tile(0.5 / (1 + np.exp(20 * (np.hypot(x, y) - 0.75))), (frames, 1, 1))
    for _ in range(2):
        phase, radius, turn = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.4), rng.uniform(1.0, 2.0)
        across, up = (radius * f(phase + turn * t)[:, None, None] for f in (np.cos, np.sin))
        images += np.exp(-((x - across) ** 2 + (y - up) ** 2) / (2 * 0.15**2))
    movie = jnp.asarray(images.reshape(frames, -1), dtype=float)
    beams = radon_matrix(side, np.arange(frames) * np.pi * (np.sqrt(5) - 1) / 2).reshape(frames, -1, side**2)
    data = jnp.einsum("tbx,tx->tb", beams, movie)
    return movie, beams, data + noise * jnp.abs(data).max() * jnp.asarray(rng.standard_normal(data.shape), dtype=float)
