import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from attractor.problems.tomography import (
    detector_bins,
    ellipse_phantoms,
    ellipse_scans,
    filtered_back_projection,
    moving_scan,
    radon_matrix,
)

ANGLES = np.linspace(0, np.pi, 13)


@pytest.mark.parametrize("n", [7, 8])
def test_every_angle_measures_the_total_mass(n):
    matrix = radon_matrix(n, ANGLES).reshape(len(ANGLES), detector_bins(n), n * n)
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-6)
    assert matrix.min() > -1e-6


def test_axis_aligned_projections_are_column_and_row_sums():
    image = np.random.default_rng(0).random((6, 6))
    at_0, at_90 = (radon_matrix(6, [0.0, np.pi / 2], bins=6) @ jnp.asarray(image.ravel())).reshape(2, 6)
    np.testing.assert_allclose(at_0, image.sum(0), atol=1e-5)
    np.testing.assert_allclose(at_90, image.sum(1)[::-1], atol=1e-5)


def test_a_gaussian_casts_a_gaussian_at_every_angle():
    n, width, center = 32, 3.0, np.array([2.3, -1.7])  # x to the right, y up
    pixels, bins = np.arange(n + 1) - n / 2, np.arange(detector_bins(n) + 1) - detector_bins(n) / 2
    along_x, along_y = (np.diff(norm.cdf(pixels, c, width)) for c in center)
    found = radon_matrix(n, ANGLES) @ jnp.asarray(np.outer(along_y[::-1], along_x).ravel())
    for angle, row in zip(ANGLES, found.reshape(len(ANGLES), -1), strict=True):
        middle = center @ [np.cos(angle), np.sin(angle)]
        np.testing.assert_allclose(row, np.diff(norm.cdf(bins, middle, width)), atol=2e-3)  # pixels widen it a little


def test_a_single_pixel_at_45_degrees_casts_a_triangle():
    row = radon_matrix(1, [np.pi / 4], bins=2)
    np.testing.assert_allclose(row.ravel(), [0.5, 0.5], atol=1e-6)
    narrow = radon_matrix(1, [np.pi / 4], bins=1)  # the square's corners, legs sqrt(1/2) - 1/2 on both sides, are cut
    np.testing.assert_allclose(narrow, [[1 - 2 * (np.sqrt(0.5) - 0.5) ** 2]], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, [0.0]), "n"), ((4, []), "angles"), ((4, [np.nan]), "angles"), ((4, [0.0], 0), "bins")],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}:"):
        radon_matrix(*arguments)


def test_ellipses_are_flat_and_ordered():
    images = ellipse_phantoms(40, 3, seed=1)
    for image in images:
        levels = np.unique(image)
        assert levels[0] == 0
        assert 2 <= len(levels) <= 7
        assert 0.2 <= levels[1] <= levels[-1] <= 1
    np.testing.assert_array_equal(images, ellipse_phantoms(40, 3, seed=1))
    assert (images != ellipse_phantoms(40, 3, seed=2)).any()


def test_filtered_back_projection_of_many_views_gives_a_disk_back():
    n, angles = 32, 90
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    disk = 0.7 * ((x - 3) ** 2 + (y + 2) ** 2 <= 49)
    matrix = radon_matrix(n, np.arange(angles) * np.pi / angles)
    found = np.asarray(filtered_back_projection(matrix, angles, matrix @ jnp.asarray(disk.ravel())))
    middle = (x - 3) ** 2 + (y + 2) ** 2 <= 25
    assert found[middle].mean() == pytest.approx(0.7, abs=0.03)
    assert abs(found[(x - 3) ** 2 + (y + 2) ** 2 >= 100].mean()) < 0.03
    with pytest.raises(ValueError, match="angles"):
        filtered_back_projection(matrix, 7, jnp.zeros(len(matrix)))


def test_scans_have_the_noise_asked_for():
    matrix, images, scans = ellipse_scans(12, 5, 4, noise=0.2, seed=3)
    clean = np.asarray(images).reshape(4, -1) @ np.asarray(radon_matrix(12, np.arange(5) * np.pi / 5)).T
    np.testing.assert_array_equal(images, np.asarray(ellipse_phantoms(12, 4, 3), np.float32))
    error = np.asarray(scans) - clean
    np.testing.assert_allclose(np.linalg.norm(error, axis=1) / np.linalg.norm(clean, axis=1), 0.2, rtol=1e-4)
    assert abs(np.corrcoef(error)[0, 1]) < 0.5
    assert matrix.shape == (clean.shape[1], 144)


def test_a_moving_scan_sees_each_frame_from_its_own_angle():
    movie, beams, data = moving_scan(3, side=8, frames=5, noise=0.0)
    turn = np.pi * (np.sqrt(5) - 1) / 2
    for t in range(5):
        np.testing.assert_allclose(beams[t], radon_matrix(8, [t * turn]), atol=1e-5)
        np.testing.assert_allclose(data[t], beams[t] @ movie[t], rtol=1e-4, atol=1e-5)
    noisy = np.asarray(
        moving_scan(3, side=8, frames=400, noise=0.05)[2] - moving_scan(3, side=8, frames=400, noise=0)[2]
    )
    assert noisy.std() == pytest.approx(0.05 * float(moving_scan(3, side=8, frames=400, noise=0)[2].max()), rel=0.05)
    assert np.abs(np.diff(movie, axis=0)).max() > 0.05
    with pytest.raises(ValueError, match="frames"):
        moving_scan(0, frames=0)
