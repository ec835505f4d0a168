"""Gradient starvation: cross-entropy learns the strong feature and starves the weak one; a penalty on logits does not.

```python
import jax, jax.numpy as jnp, jax.random as jr
from attractor.landscape import spectral_decoupling, two_moons

inputs, labels = two_moons(jr.key(0), 100, gap=0.1)
print(jax.grad(lambda w: spectral_decoupling(inputs @ w, 0.1))(jnp.ones(2)))
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.landscape import feature_learning as lib
from attractor.papers.words import Evidence, cached, claim, descend, paired_difference, seeds, sizes

STRENGTHS, OVERLAP = np.linspace(1.2, 8.0, 18), 0.3  # of the strong feature, where the weak one has 1
DECAY, LOGITS, NONE = (0.0, 1e-4, 1e-3, 1e-2, 3e-2), (3e-3, 1e-2, 3e-2, 0.1, 0.3), (0.0,) * 5  # to choose from


def _loss(logits, labels, square, decay, strength, spread):
    """With a spread of 0 only the mean logit is penalized, and not its spread over examples."""
    penalty = lib.spectral_decoupling(logits, strength) - strength * (1 - spread) / 2 * jnp.var(logits)
    return jax.nn.softplus(-labels * logits).mean() + penalty + decay / 2 * square


@cached
def _responses(decay, strength, overlap, spread=1.0):
    """Of the weak feature at the optimum of a linear model of two examples, one number per strength of the other."""
    labels, c = jnp.array([1.0, -1.0]), np.sqrt(1 - overlap**2)

    def optimum(first):
        features = labels[:, None] * jnp.array([[c, -overlap], [overlap, c]]) * jnp.array([first, 1.0])
        slope = jax.grad(lambda w: _loss(features @ w, labels, w @ w, decay, strength, spread))
        w = jax.lax.fori_loop(0, 30, lambda _, w: w - jnp.linalg.solve(jax.jacfwd(slope)(w), slope(w)), jnp.zeros(2))
        return lib.feature_responses(features @ features.T, labels, features @ w).responses[1], slope(w)

    with jax.enable_x64(True):
        found, slope = map(np.asarray, jax.jit(jax.vmap(optimum))(jnp.asarray(STRENGTHS)))
    return found, {"an optimum": not spread or np.abs(slope).max() < 1e-10}


@claim("two overlapping features, cross-entropy with decay: the weak one's response falls by half as s1 goes 1.2 to 8",
       source="scaled", deterministic=True,
       broken={"the overlap's sign": {"overlap": -OVERLAP}, "no overlap": {"overlap": 0.0}})  # fmt: skip
def strong_feature_starves_the_weak(overlap=OVERLAP):
    found, given = _responses(0.05, 0.0, overlap)  # of a mean over two examples: 0.1 of their sum
    return Evidence(found[-1] / found[0], at_most=0.5, given=given)


@claim("two overlapping features, spectral decoupling: the weak one's response is that of equal margins to 1e-6",
       source="paper", deterministic=True,
       broken={"only the mean logit": {"spread": 0.0}, "decay besides": {"decay": 1e-3}})  # fmt: skip
def decoupling_keeps_the_weak(spread=1.0, decay=0.0):
    found, given = _responses(decay, 0.1, OVERLAP, spread)
    off = found - lib.decoupled_margin(0.1) * (np.sqrt(1 - OVERLAP**2) - OVERLAP)
    return Evidence(float(np.abs(off).max()), at_most=1e-6, given=given)


def _data(key, kind, shift):
    """Interleaved moons and a linear coordinate, permuted by the shift (0), or moons apart that it interleaves (1)."""
    of_moons, of_easy, of_order = jr.split(key, 3)
    moons, labels = lib.two_moons(of_moons, 128, jnp.where(kind == 0, -0.5, 0.1 - 0.4 * shift), 0.05)
    easy = jnp.where(kind == 0, labels * jr.uniform(of_easy, labels.shape, minval=0.1), 0.0)
    inputs = jnp.concatenate([moons, easy[:, None]], 1)
    return jnp.where(shift * (kind == 0), lib.randomize_columns(inputs, (2,), of_order), inputs), labels


@eqx.filter_jit
@eqx.filter_vmap
def _trained(seed, kind, decay, strength, spread):
    """Accuracy on fresh data, and the same under the shift."""
    of_model, *of_data = jr.split(jr.key(seed), 4)
    params, static = eqx.partition(eqx.nn.MLP(3, "scalar", 64, 1, key=of_model), eqx.is_array)
    inputs, labels = _data(of_data[0], kind, 0.0)

    def loss(params):
        f = jax.vmap(eqx.combine(params, static))(inputs)
        return _loss(f, labels, sum(jnp.sum(p**2) for p in jax.tree.leaves(params)), decay, strength, spread)

    params = descend(optax.adam(0.01), lambda params, _: jax.grad(loss)(params), params, 1_000)
    trained, tests = eqx.combine(params, static), [_data(of_data[1 + i], kind, float(i)) for i in range(2)]
    return jnp.stack([jnp.mean(y * jax.vmap(trained)(x) > 0) for x, y in tests])  # pyright: ignore[reportArgumentType]


@cached
def _accuracies(kind, spread, decays, strengths, scale):
    """Of networks, each with the penalty that does best under the shift on all other seeds: ``(seeds, 2)``."""
    draws, penalties = np.array(seeds(sizes(scale, n=(32, 96))["n"])), np.array([decays, strengths], np.float32)
    each = np.broadcast_arrays(draws, kind, *penalties[..., None], np.float32(spread))
    found = np.asarray(_trained(*(a.ravel() for a in each))).reshape(*each[0].shape, 2)
    return found[(found[..., 1].sum(1, keepdims=True) - found[..., 1]).argmax(0), np.arange(len(draws))]


def _gain(kind, spread, at_least, scale):
    ours, plain = _accuracies(kind, spread, NONE, LOGITS, scale), _accuracies(kind, 1.0, DECAY, NONE, scale)
    given = {"both solve the task": min(ours[:, 0].mean(), plain[:, 0].mean()) >= 0.97}
    note = f"{ours[:, 1].mean():.3f} against {plain[:, 1].mean():.3f}"
    return Evidence(paired_difference(ours[:, 1], plain[:, 1]), at_least=at_least, given=given, note=note)


@claim("moons beside an easy coordinate, permuted in the test: tuned decoupling is 15 points above tuned weight decay",
       source="ours", broken={"only the mean logit, tuned": {"spread": 0.0}},
       reason="it is some 19 points above; seeds differ by 11, so that 32 of them leave it open")  # fmt: skip
def restores_the_hard_feature(spread=1.0, *, scale):
    return _gain(0, spread, 0.15, scale)


@claim("moons 0.1 apart, tested interleaved by 0.3: tuned decoupling is 5 points more accurate than tuned weight decay",
       source="ours", broken={"only the mean logit, tuned": {"spread": 0.0}})  # fmt: skip
def bends_the_boundary(spread=1.0, *, scale):
    return _gain(1, spread, 0.05, scale)
