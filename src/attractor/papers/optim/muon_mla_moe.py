"""Muon: momentum whose matrices are orthogonalized, for the training of small transformers.

```python
import optax
from attractor import run
from attractor.problems import char_transformer

trace = run(char_transformer(), optax.contrib.muon(0.02), steps=100)  # optax keeps the optimizer itself
print(trace["test_loss"].values[0, 0, [0, -1]])  # nats per character, before and after
```
"""

import functools

import equinox as eqx
import jax
import numpy as np
import optax

from attractor.comparison import compare
from attractor.papers import Evidence, claim
from attractor.problems.sequences import char_transformer
from attractor.registry import LogUniform
from attractor.stats import paired_ratio

SLUG = "muon-mla-moe"
STEPS, EVERY = 400, 20
SHAPES = ((32, 32), (64, 16), (16, 128), (100, 40))

_transformer = functools.cache(char_transformer)  # one object, so that its programs are compiled once


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


def _factors(orthogonalize, scale):
    """For Gaussian matrices: input singular values over the Frobenius norm, output ones, and the cosine with U V'."""
    rng, count = np.random.default_rng(0), 5 if scale == "quick" else 50
    for shape in SHAPES:
        matrices = rng.standard_normal((count, *shape)).astype(np.float32)
        for matrix, found in zip(matrices, np.asarray(jax.jit(jax.vmap(orthogonalize))(matrices)), strict=True):
            u, sigma, v = np.linalg.svd(matrix, full_matrices=False)
            gains = np.diag(u.T @ found @ v.T)  # found = U diag(gains) V', as the iteration is odd
            yield sigma / np.linalg.norm(sigma), gains, gains.sum() / np.linalg.norm(found) / len(gains) ** 0.5


@claim(
    SLUG,
    "five Newton-Schulz steps take singular values of at least 0.01 of the Frobenius norm into [0.5, 1.5]",
    broken=CLASSICAL,
)
def flattens_the_spectrum(orthogonalize=_orthogonalize, *, scale):
    gains = np.concatenate([g[s >= 0.01] for s, g, _ in _factors(orthogonalize, scale)])
    note = f"from {gains.min():.2f} to {gains.max():.2f}"
    return Evidence(float(np.abs(gains - 1).max()), at_most=0.5, note=note)


@claim(
    SLUG,
    "the direction has a cosine of at least 0.95 with that of steepest descent in the spectral norm, U V'",
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
    return optax.contrib.muon(
        learning_rate,
        ns_steps=ns_steps,
        muon_weight_dimension_numbers=_hidden,
    )


@functools.cache
def _tuned(method, scale):
    seeds, budget = (4, 6) if scale == "quick" else (16, 32)
    methods = {"it": (method, {"learning_rate": LogUniform(1e-3, 0.1)})}
    problem = _transformer()
    probes = {"test_loss": problem.probes["test_loss"]}
    return compare(problem, methods, probes=probes, steps=STEPS, every=EVERY, seeds=seeds, budget=budget)["it"]


@claim(
    SLUG,
    "character transformer, both tuned: reaches AdamW's final test loss in at most 0.75 of its steps",
    broken={"no orthogonalization": {"muon": functools.partial(_muon, ns_steps=0)}},
)
def reaches_the_loss_of_adamw_sooner(muon=_muon, *, scale):
    ours, baseline = _tuned(muon, scale), _tuned(optax.adamw, scale)
    curves, at = ours.trace["test_loss"].values[0], ours.trace.dataset["step"].values
    reached = curves <= baseline.final[:, None]
    steps = np.where(reached.any(1), at[reached.argmax(1)], np.inf)
    note = f"final test loss {ours.final.mean():.3f} against {baseline.final.mean():.3f}"
    return Evidence(paired_ratio(steps, np.full(len(steps), STEPS)), at_most=0.75, note=note)
