"""Flow matching on digits: the lines, fresh ones at every step, and what is learned."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.problems import digits, digits_diffusion
from attractor.problems.diffusion import FlowNetwork, lines_to


def test_lines_lead_from_noise_to_the_images():
    images, times = jnp.full((3, 64), 0.25), jnp.array([0.0, 0.5, 1.0])
    (points, same), velocities = lines_to(images, jr.key(0), times)
    noise = jr.normal(jr.key(0), (3, 64))
    np.testing.assert_array_equal(same, times)
    np.testing.assert_allclose(points, [noise[0], (noise[1] + 0.25) / 2, images[2]], rtol=1e-6)
    np.testing.assert_allclose(velocities, 0.25 - noise, rtol=1e-6)


def test_every_step_has_images_of_the_training_part_at_fresh_noise_and_times():
    problem = digits_diffusion(batch_size=400)
    train = 2 * digits()[0][0] - 1
    batches = [problem.sample(jr.key(i)) for i in range(2)]
    for (points, times), velocities in batches:
        images = points + (1 - times)[:, None] * velocities
        nearest = np.abs(np.asarray(images)[:, None] - train[None]).max(-1).min(1)
        assert nearest.max() < 1e-5
        noise = np.asarray(images - velocities)
        assert noise.mean() == pytest.approx(0, abs=0.03)
        assert noise.std() == pytest.approx(1, abs=0.02)
        assert np.corrcoef(noise[:, :10].T).ravel()[1:10].max() < 0.2
        np.testing.assert_allclose(np.quantile(times, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.08)
        assert np.std([np.corrcoef(times, column)[0, 1] for column in noise.T]) < 0.1
    assert not np.isin(np.asarray(batches[0][0][1]), np.asarray(batches[1][0][1])).any()
    assert not np.isin(np.asarray(batches[0][0][1]), np.asarray(problem.full[0][1])).any()


def test_the_loss_is_the_mean_square_over_pixels():
    problem = digits_diffusion(width=8, depth=1)
    x, (inputs, velocities) = problem.init(jr.key(0)), problem.full
    np.testing.assert_allclose(
        problem.loss(x, problem.full), np.mean((problem.inner(x, problem.full) - velocities) ** 2), rtol=1e-5
    )
    assert inputs[0].shape == (1_437, 64)


def gaussian_velocity(mean, covariance, points, times):
    """The best velocity for Gaussian images."""
    values, axes = np.linalg.eigh(covariance)
    share = times[:, None]
    # Of x - ε given a point, along each axis.
    gain = (share * values - (1 - share)) / (share**2 * values + (1 - share) ** 2)
    return mean + ((points - share * mean) @ axes * gain) @ axes.T


def test_learns_more_than_the_pixels_one_by_one():
    problem, adam = digits_diffusion(), optax.adam(optax.cosine_decay_schedule(5e-3, 500))
    points, times, velocities = map(np.asarray, jax.tree.leaves(problem.probes["test_loss"].measure.args[1]))
    train = 2 * digits()[0][0] - 1

    def loss(covariance):
        best = gaussian_velocity(train.mean(0), covariance, points, times)
        return np.mean((best - velocities) ** 2)

    assert points.shape == (2 * 180, 64)
    covariance = np.cov(train.T)
    pixels, images = loss(np.diag(np.diag(covariance))), loss(covariance)
    assert pixels == pytest.approx(0.72, abs=0.005)
    assert images == pytest.approx(0.60, abs=0.005)
    x = problem.init(jr.key(0))
    state = adam.init(x)

    @jax.jit
    def step(x, state, key):
        updates, state = adam.update(jax.grad(problem.loss)(x, problem.sample(key)), state)
        return optax.apply_updates(x, updates), state

    for key in jr.split(jr.key(1), 500):
        x, state = step(x, state, key)
    assert float(problem.probes["test_loss"](problem, x, jr.key(0))) < pixels


def test_without_layers_it_is_the_best_for_equal_unrelated_pixels():
    model = FlowNetwork(8, 1, key=jr.key(0))
    silent = eqx.tree_at(lambda m: (m.velocity.weight, m.velocity.bias), model, (jnp.zeros((64, 8)), jnp.zeros(64)))
    points, times = np.array(jr.normal(jr.key(1), (5, 64))), np.linspace(0, 1, 5)
    expected = gaussian_velocity(np.zeros(64), 0.5 * np.eye(64), points, times)
    np.testing.assert_allclose(jax.vmap(silent)((points, times)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["width", "depth"])
def test_bad_arguments_are_named(name):
    with pytest.raises(ValueError, match=name):
        digits_diffusion(**{name: 0})
