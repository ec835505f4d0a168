"""A generator and a discriminator on a ring of Gaussians: the game on which modes are lost."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.probe import Probe
from attractor.problem import Game
from attractor.registry import problem

LATENT, DEVIATION, NEAR = 4, 0.05, 3.0
Points = Float[Array, "_ 2"]


@problem("ring-gan", metric="energy_distance", steps=2_000)
def ring_gan(modes: int = 8, *, hidden: int = 32, batch_size: int = 64) -> Game:
    r"""A generator G and a discriminator D, small networks, on Gaussians around a circle.

    $$ \min_G \max_D\; -\mathbb E\, \log(1 + e^{-D(u)}) - \mathbb E\, \log(1 + e^{D(G(z))}) $$

    The means lie on the circle of radius 1, the deviation is 0.05. Recorded on 512 points of either kind:
    ``energy_distance``, $2 \mathbb E \lVert g - u \rVert - \mathbb E \lVert g - g' \rVert - \mathbb E \lVert u - u'
    \rVert$ of generated g and true u, 0 just where their laws agree; ``covered``, the modes that have at least a
    quarter of their share within three deviations; ``astray``, the share of points within none of them. Drawing is
    all that is random: the same points for every method under a seed.

    Arguments:
        modes: How many, at least 1.
        hidden: Units in each of the two hidden layers of both networks, at least 1.
        batch_size: Points, and latent vectors of 4 numbers, a step, at least 1.

    Raises:
        ValueError: for an argument out of its range.
    """
    for name, value in (("modes", modes), ("hidden", hidden), ("batch_size", batch_size)):
        in_range(name, value, 1)
    means = _on_circle(modes)
    shapes = eqx.filter_eval_shape(_networks, hidden, jr.key(0))
    static = eqx.filter(shapes, lambda leaf: not isinstance(leaf, jax.ShapeDtypeStruct))
    probes = {
        "energy_distance": Probe(eqx.Partial(_energy, static, means)),
        "covered": Probe(eqx.Partial(_covered, static, means), "max"),
        "astray": Probe(eqx.Partial(_astray, static, means)),
    }
    return Game(
        eqx.Partial(_field, static), eqx.Partial(_start, hidden),
        noise=eqx.Partial(_draw, means, batch_size), probes=probes,
    )  # fmt: skip


def _on_circle(modes: int) -> Points:
    angles = 2 * jnp.pi * jnp.arange(modes) / modes
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1)


def _networks(hidden: int, key: PRNGKeyArray) -> tuple[eqx.nn.MLP, eqx.nn.MLP]:
    for_generator, for_discriminator = jr.split(key)
    return (
        eqx.nn.MLP(LATENT, 2, hidden, 2, jnp.tanh, key=for_generator),
        eqx.nn.MLP(2, "scalar", hidden, 2, jnp.tanh, key=for_discriminator),
    )


def _start(hidden: int, key: PRNGKeyArray) -> PyTree:
    return eqx.filter(_networks(hidden, key), eqx.is_inexact_array)


def _draw(means: Points, n: int, key: PRNGKeyArray) -> tuple[Points, Float[Array, "_ 4"]]:
    for_mode, for_noise, for_latent = jr.split(key, 3)
    modes = means[jr.randint(for_mode, (n,), 0, len(means))]
    return modes + DEVIATION * jr.normal(for_noise, (n, 2)), jr.normal(for_latent, (n, LATENT))


def _payoff(static: PyTree, players: PyTree, batch: PyTree) -> Float[Array, ""]:
    generator, discriminator = eqx.combine(players, static)
    real, fake = (jax.vmap(discriminator)(p) for p in (batch[0], jax.vmap(generator)(batch[1])))
    return -jnp.mean(jax.nn.softplus(-real)) - jnp.mean(jax.nn.softplus(fake))


def _field(static: PyTree, players: PyTree, batch: PyTree) -> PyTree:
    down, up = jax.grad(_payoff, 1)(static, players, batch)
    return down, jax.tree.map(jnp.negative, up)


def _sides(static: PyTree, means: Points, players: PyTree, key: PRNGKeyArray) -> tuple[Points, Points]:
    """512 points generated, and as many true ones."""
    true, latent = _draw(means, 512, key)
    return jax.vmap(eqx.combine(players, static)[0])(latent), true


def _apart(a: Points, b: Points) -> Float[Array, "_ _"]:
    return jnp.sqrt(jnp.maximum(jnp.sum((a[:, None] - b) ** 2, -1), 0.0))


def _energy(static: PyTree, means: Points, problem: Game, players: PyTree, key: PRNGKeyArray) -> Float[Array, ""]:
    made, true = _sides(static, means, players, key)
    pairs = len(made) * (len(made) - 1)
    return 2 * _apart(made, true).mean() - sum(_apart(p, p).sum() / pairs for p in (made, true))


def _covered(static: PyTree, means: Points, problem: Game, players: PyTree, key: PRNGKeyArray) -> Float[Array, ""]:
    made, _ = _sides(static, means, players, key)
    shares = jnp.mean(_apart(made, means) <= NEAR * DEVIATION, 0)
    return jnp.sum(shares >= 0.25 / len(means)).astype(float)


def _astray(static: PyTree, means: Points, problem: Game, players: PyTree, key: PRNGKeyArray) -> Float[Array, ""]:
    made, _ = _sides(static, means, players, key)
    return jnp.mean(_apart(made, means).min(1) > NEAR * DEVIATION)
