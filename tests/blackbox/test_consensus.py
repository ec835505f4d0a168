"""Consensus-based optimization against NumPy loops fed with the same random numbers."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.blackbox import ConsensusBasedOptimization, ConsensusHopping, consensus_point
from attractor.engine import run
from attractor.problem import Minimization
from attractor.problems import rastrigin


def numpy_consensus(positions, values, alpha):
    weights = np.exp(-alpha * (values - values.min()))
    return weights @ positions / weights.sum()


def test_consensus_point_is_the_boltzmann_average():
    rng = np.random.default_rng(0)
    positions, values = rng.normal(size=(7, 3)), rng.normal(size=7)
    with jax.enable_x64(True):
        ours = consensus_point(jnp.asarray(positions), jnp.asarray(values), 2.5)
        best = consensus_point(jnp.asarray(positions), jnp.asarray(values), 1e6)
    np.testing.assert_allclose(ours, numpy_consensus(positions, values, 2.5), rtol=1e-12)
    np.testing.assert_allclose(best, positions[values.argmin()], rtol=1e-12)


def test_particles_without_a_value_have_no_weight():
    positions = jnp.asarray([[0.0], [1.0], [2.0], [3.0]])
    values = jnp.asarray([jnp.nan, 1.0, 1.0, jnp.inf])
    np.testing.assert_allclose(consensus_point(positions, values, 3.0), [1.5], rtol=1e-6)


@pytest.mark.parametrize("diffusion", ["componentwise", "isotropic"])
def test_ten_steps_match_a_numpy_loop(diffusion):
    with jax.enable_x64(True):
        problem = rastrigin(dim=3)
        method = ConsensusBasedOptimization(
            2.0, noise=0.7, spread=1.5, particles=5, drift=0.8, time_step=0.05, diffusion=diffusion
        )
        x = problem.init(jr.key(0))
        state = method.init(problem, x, jr.key(1))
        particles = np.asarray(state)
        step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
        for key in jr.split(jr.key(2), 10):
            xi = np.asarray(optax.tree.random_like(jr.fold_in(key, 1), state))
            x, state = step(x, state, key)
            values = np.sum(particles**2 + 10 * (1 - np.cos(2 * np.pi * particles)), axis=1)
            agreed = numpy_consensus(particles, values, 2.0)
            for i, particle in enumerate(particles):
                away = particle - agreed
                size = np.abs(away) if diffusion == "componentwise" else np.linalg.norm(away)
                particles = particles.copy()
                particles[i] = particle - 0.8 * 0.05 * away + 0.7 * np.sqrt(0.05) * size * xi[i]
            np.testing.assert_allclose(x, agreed, rtol=1e-9)
    np.testing.assert_allclose(state, particles, rtol=1e-9)


def test_hopping_is_the_consensus_of_a_cloud():
    with jax.enable_x64(True):
        problem, x, key = rastrigin(dim=2), jnp.asarray([0.3, -1.0]), jr.key(4)
        method = ConsensusHopping(0.5, spread=0.2, particles=50)
        hop, state = method.step(problem, x, None, key)
        copies = jnp.zeros((50, 2))
        cloud = np.asarray(x + 0.2 * optax.tree.random_like(jr.fold_in(key, 1), copies))
    values = np.sum(cloud**2 + 10 * (1 - np.cos(2 * np.pi * cloud)), axis=1)
    assert state is None
    np.testing.assert_allclose(hop, numpy_consensus(cloud, values, 0.5), rtol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("make", [ConsensusBasedOptimization, ConsensusHopping])
def test_any_pytree_keeps_its_shapes_and_types(make, dtype):
    def loss(x):
        return x["a"].astype(jnp.float32) ** 2 + jnp.sum(x["b"].astype(jnp.float32) ** 2)

    problem = Minimization(loss, {"a": jnp.ones((), dtype), "b": jnp.ones((2, 3), dtype)})
    x = problem.init(jr.key(0))
    for diffusion in ("componentwise", "isotropic") if make is ConsensusBasedOptimization else (None,):
        method = make(particles=4) if diffusion is None else make(particles=4, diffusion=diffusion)
        state = method.init(problem, x, jr.key(1))
        after = jax.eval_shape(lambda s, m=method: m.step(problem, x, s, jr.key(2)), state)
        kinds = [jax.tree.map(lambda p: (p.shape, p.dtype), t) for t in ((x, state), after)]
        assert kinds[0] == kinds[1]


def test_never_asks_for_a_gradient():
    problem = Minimization(lambda x: jnp.sum(jnp.floor(jnp.abs(x) * 10)), jnp.full(2, 3.0))
    trace = run(problem, ConsensusBasedOptimization(spread=1.0), steps=200)
    assert trace.last("loss").item() < 2


@pytest.mark.parametrize(
    "bad",
    [
        {"particles": 0}, {"alpha": 0.0}, {"drift": 0.0}, {"noise": -1.0}, {"time_step": 0.0}, {"spread": 0.0},
        {"diffusion": "none"},
    ],
)  # fmt: skip
def test_bad_arguments_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ConsensusBasedOptimization(**bad)


def test_bad_problem_arguments_are_named():
    with pytest.raises(ValueError, match="dim"):
        rastrigin(dim=0)
    with pytest.raises(ValueError, match="radius"):
        rastrigin(radius=0.0)
