"""The ring of Gaussians: its measures at laws that are known, and the field against differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from attractor.problems import ring_gan
from attractor.problems.ring_gan import _on_circle


def perfect(problem, modes, spread=0.05):
    """Measures of a "generator" that has the given modes, by its own draws in place of the network's."""
    means = _on_circle(8)[jnp.asarray(modes)]

    def generate(latent):
        angle = jnp.floor((jnp.arctan2(latent[0], latent[1]) / (2 * jnp.pi) + 0.5) * len(means)).astype(int)
        return means[jnp.clip(angle, 0, len(means) - 1)] + spread * latent[2:4]

    return {
        name: float(probe.measure.func(None, *probe.measure.args[1:], problem, (generate, None), jr.key(1)))
        for name, probe in problem.probes.items()
        if name != "residual"
    }


def test_measures_know_laws(monkeypatch):
    monkeypatch.setattr(eqx, "combine", lambda players, static: players)
    problem = ring_gan()
    whole, half, blurred = (perfect(problem, *how) for how in ((range(8),), ((0, 1, 2, 3),), (range(8), 0.5)))
    assert abs(whole["energy_distance"]) < 0.02 < 0.1 < half["energy_distance"]
    assert (whole["covered"], half["covered"]) == (8, 4)
    assert whole["astray"] == pytest.approx(np.exp(-4.5), abs=0.015)  # of a plane Gaussian beyond three deviations
    assert blurred["astray"] > 0.5


def test_energy_distance_is_that_of_all_pairs():
    problem = ring_gan(3, hidden=4)
    players = problem.init(jr.key(2))
    generator = eqx.nn.MLP(4, 2, 4, 2, jnp.tanh, key=jr.split(jr.key(2))[0])
    for_mode, for_noise, for_latent = jr.split(jr.key(5), 3)
    true = np.asarray(_on_circle(3)[jr.randint(for_mode, (512,), 0, 3)] + 0.05 * jr.normal(for_noise, (512, 2)))
    made = np.asarray(jax.vmap(generator)(jr.normal(for_latent, (512, 4))))
    expected = 2 * cdist(made, true).mean() - sum(cdist(p, p).sum() / (512 * 511) for p in (made, true))
    assert float(problem.probes["energy_distance"](problem, players, jr.key(5))) == pytest.approx(expected, abs=1e-4)


def test_the_generator_descends_and_the_discriminator_climbs():
    problem = ring_gan(2, hidden=3, batch_size=5)
    players, (real, latent) = problem.init(jr.key(0)), problem.sample(jr.key(1))
    first, second = jr.split(jr.key(0))
    generator = eqx.nn.MLP(4, 2, 3, 2, jnp.tanh, key=first)
    discriminator = eqx.nn.MLP(2, "scalar", 3, 2, jnp.tanh, key=second)

    def payoff(generator, discriminator):
        real_score, fake_score = jax.vmap(discriminator)(real), jax.vmap(discriminator)(jax.vmap(generator)(latent))
        return jnp.mean(jnp.log(jax.nn.sigmoid(real_score))) + jnp.mean(jnp.log(1 - jax.nn.sigmoid(fake_score)))

    down, up = problem.field(players, (real, latent))
    expected = eqx.filter_grad(lambda both: payoff(*both))((generator, discriminator))
    for ours, theirs, sign in ((down, expected[0], 1), (up, expected[1], -1)):
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(eqx.filter(theirs, eqx.is_array)), strict=True):
            np.testing.assert_allclose(a, sign * b, atol=1e-5)


@pytest.mark.parametrize("name", ["modes", "hidden", "batch_size"])
def test_bad_sizes_are_named(name):
    with pytest.raises(ValueError, match=name):
        ring_gan(**{name: 0})
