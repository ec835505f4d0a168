"""RISING: stop a total-variation solver early, and let a network go the rest of its way.

```python
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from attractor import Minimization, run
from attractor.nn import ResidualConvNet
from attractor.optim import tv_reconstruction
from attractor.problems import radon_matrix

n, matrix = 16, radon_matrix(16, jnp.arange(10) * jnp.pi / 10)
corners = jax.random.randint(jax.random.key(0), (20, 2, 1, 1), 2, 8)
inside = [(jnp.arange(n) >= c) & (jnp.arange(n) < c + 6) for c in (corners[:, 0], corners[:, 1])]
images = (inside[0].transpose(0, 2, 1) & inside[1]).astype(float)  # 20 squares
measured = images.reshape(20, -1) @ matrix.T

def reconstruct(steps):
    return jax.vmap(lambda data: tv_reconstruction(matrix, data, 0.03, jnp.zeros((n, n)), steps))(measured)

def misfit(network, pair):
    return jnp.mean((jax.vmap(network)(pair[0]) - pair[1]) ** 2)

data = reconstruct(10), reconstruct(800)  # from where the solver is stopped to where it would have ended
problem = Minimization.of_model(lambda key: ResidualConvNet(4, 3, key=key), misfit, data, batch_size=5)
print(run(problem, optax.adam(1e-2), steps=100).last("loss").values)
```
"""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array

from attractor.nn.residual.convolutional import ResidualConvNet
from attractor.optim.primal_dual import operator_norm, tv_objective, tv_reconstruction
from attractor.papers.words import (
    Evidence,
    cached,
    claim,
    key,
    paired_difference,
    ratio_of_means,
    run,
    seconds,
    seed,
    seeds,
    sizes,
)
from attractor.problem import Minimization
from attractor.problems.tomography import radon_matrix

ANGLES, BATCH, TRAIN, TEST = 15, 50, 200, 50
EARLY, LATE, STRENGTH = 10, 800, 0.03
SIDE, TRAINING = (24, 32), (400, 8_000)  # quick and full


def _phantoms(n, count, seed):
    """Images of 3 to 6 ellipses, the later ones over the earlier."""
    rng, images = np.random.default_rng(seed), np.zeros((count, n, n))
    y, x = np.mgrid[:n, :n] / (n - 1) * 2 - 1
    for image in images:
        for _ in range(rng.integers(3, 7)):
            (a, b), turn, (cx, cy) = rng.uniform(0.1, 0.45, 2), rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5, 2)
            u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
            v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
            image[(u / a) ** 2 + (v / b) ** 2 <= 1] = rng.uniform(0.2, 1)
    return images


def _back_projected(matrix, n, sinogram):
    """Filtered back-projection: each view through a ramp filter, then smeared back over the image."""
    views = sinogram.reshape(ANGLES, -1)
    size = 2 * views.shape[1]
    ramp = jnp.abs(jnp.fft.fftfreq(size))
    filtered = jnp.fft.ifft(jnp.fft.fft(views, size) * ramp).real[:, : views.shape[1]]
    return jnp.pi / ANGLES * (matrix.T @ filtered.ravel()).reshape(n, n)


class _Data(NamedTuple):
    matrix: Array
    truth: Array  # (TRAIN + TEST, n, n), and so are the next three
    early: Array
    late: Array
    back_projected: Array
    measured: Array


@cached
def _solver(n, steps):
    """Reconstruction of a batch of measurements by so many iterations, compiled."""
    matrix = radon_matrix(n, np.arange(ANGLES) * np.pi / ANGLES)
    size = operator_norm(lambda x: matrix @ x, jnp.ones(n * n))

    def solve(data):
        return tv_reconstruction(matrix, data, STRENGTH, jnp.zeros((n, n)), steps, size)

    return jax.jit(jax.vmap(solve))


def _in_batches(function, values):
    return jnp.concatenate([function(values[i : i + BATCH]) for i in range(0, len(values), BATCH)])


@cached
def _data(n):
    matrix = radon_matrix(n, np.arange(ANGLES) * np.pi / ANGLES)
    truth = jnp.asarray(_phantoms(n, TRAIN + TEST, seed(1)), float)
    clean = truth.reshape(len(truth), -1) @ matrix.T
    noise = jr.normal(key(0), clean.shape)
    share = jnp.linalg.norm(clean, axis=1, keepdims=True) / jnp.linalg.norm(noise, axis=1, keepdims=True)
    measured = clean + 0.01 * share * noise
    early, late = (_in_batches(_solver(n, steps), measured) for steps in (EARLY, LATE))
    back_projected = jax.vmap(lambda data: _back_projected(matrix, n, data))(measured)
    return _Data(matrix, truth, early, late, back_projected, measured)


def _misfit(network, pair):
    return jnp.mean((jax.vmap(network)(pair[0]) - pair[1]) ** 2)


def _network(start):
    return ResidualConvNet(12, 5, key=start)


@cached
def _trained(n, start, target, steps):
    """A network that maps one kind of images to another, learned on the training ones."""
    data, network = _data(n), _network(key(0))
    if not steps:
        return network
    pairs = getattr(data, start)[:TRAIN], getattr(data, target)[:TRAIN]
    problem = Minimization.of_model(_network, _misfit, pairs, batch_size=10)
    optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps))
    final = run(problem, optimizer, steps=steps, every=steps, seeds=seeds(1)[:1]).final
    weights = jax.tree.map(lambda a: jnp.asarray(a[0, 0]), final)
    return eqx.combine(weights, eqx.filter(network, eqx.is_inexact_array, inverse=True))


@eqx.filter_jit
def _applied(network, images):
    return jax.vmap(network)(images)


def _on_test_images(n, steps, start="early", target="late"):
    """The data, and what a trained network makes of the test images."""
    data = _data(n)
    return data, _applied(_trained(n, start, target, steps), getattr(data, start)[TRAIN:])


def _post_processed(scale):
    """The test images from back-projections by a network that was trained on the truth."""
    return _on_test_images(**sizes(scale, n=SIDE, steps=TRAINING), start="back_projected", target="truth")[1]


def _distance(images, others):
    images, others = (np.asarray(a).reshape(TEST, -1) for a in (images, others))
    return np.linalg.norm(images - others, axis=1) / np.linalg.norm(others, axis=1)


def _psnr(images, truth):
    return -10 * np.log10(np.mean((images - truth) ** 2, axis=(1, 2)))


UNTRAINED = {"network left untrained": {"training": 0}}


@claim(
    "15 views: from 10 iterations a network gets at least twice as close to the solution after 800 (mean distance)",
    source="ours",
    broken=UNTRAINED,
)
def halves_the_distance_to_the_solution(training=TRAINING, *, scale):
    data, images = _on_test_images(**sizes(scale, n=SIDE, steps=training))
    ours, before = (_distance(x, data.late[TRAIN:]) for x in (images, data.early[TRAIN:]))
    note = f"distances {before.mean():.3f} to {ours.mean():.3f}"
    return Evidence(ratio_of_means(ours, before), at_most=0.5, note=note)


@claim(
    "PSNR from 10 iterations at least that of the same network after filtered back-projection, trained on the truth",
    source="ours",
    broken=UNTRAINED,
    reason="400 short steps of training bring the network closer to the truth from the back-projection",
)
def beats_post_processing(training=TRAINING, *, scale):
    data, images = _on_test_images(**sizes(scale, n=SIDE, steps=training))
    shown = images, _post_processed(scale), data.late[TRAIN:]
    ours, theirs, limit = (_psnr(x, data.truth[TRAIN:]) for x in shown)
    note = f"{ours.mean():.1f} dB, {theirs.mean():.1f} dB after back-projection, {limit.mean():.1f} dB at the solution"
    return Evidence(paired_difference(ours, theirs), at_least=0.0, note=note)


@claim(
    "from 10 iterations the network's solver objective is at most that of the same network after back-projection",
    source="ours",
    broken=UNTRAINED,
    reason="what is left of its error costs more than the solver would still have gained",
)
def lowers_the_objective(training=TRAINING, *, scale):
    data, images = _on_test_images(**sizes(scale, n=SIDE, steps=training))

    def objective(images):
        one = functools.partial(tv_objective, data.matrix)
        return jax.vmap(lambda data, image: one(data, STRENGTH, image))(data.measured[TRAIN:], jnp.maximum(images, 0))

    ours, theirs, limit = map(objective, (images, _post_processed(scale), data.late[TRAIN:]))
    note = f"{ours.mean():.3g}, {theirs.mean():.3g} after back-projection, {limit.mean():.3g} at the solution"
    return Evidence(ratio_of_means(ours, theirs), at_most=1.0, note=note)


@claim(
    "10 iterations and the network take at most a fifth of the time of 800 iterations",
    source="ours",
    broken={"stopped after 400": {"early": 400}},
)
def takes_a_fifth_of_the_time(early=EARLY, *, scale):
    size = sizes(scale, n=SIDE, steps=TRAINING)
    measured, network = _data(size["n"]).measured[:BATCH], _trained(start="early", target="late", **size)

    def both():
        return _applied(network, _solver(size["n"], early)(measured))

    # The least of each: what a busy machine adds is no part of it.
    ours, solver = (s.min() for s in seconds(both, lambda: _solver(size["n"], LATE)(measured), rounds=3))
    return Evidence(float(ours / solver), at_most=0.2)
