"""SurCo: learn linear costs, so that an ordinary combinatorial solver answers a nonlinear question.

```python
import jax.numpy as jnp
import optax
from attractor import run
from attractor.blackbox import grid_paths, surrogate_costs

paths = jnp.asarray(grid_paths(5))  # or any solver: attractor.blackbox.solver_of(lambda costs: scipy…)
problem = surrogate_costs(lambda x: (x @ jnp.arange(40.0) - 150) ** 2, lambda c: paths[(paths @ c).argmin()],
                          jnp.ones(40))
print(run(problem, optax.adam(0.1), steps=50)["loss"].values.min())
```
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.blackbox.combinatorial import grid_paths, surrogate_costs, surrogate_network
from attractor.papers import words
from attractor.papers.words import Evidence, cached, claim, mean, paired_difference

PATHS = grid_paths(6)  # 252 ways over 60 edges: the optimum is known by looking at all
CALLS = 50
RATES, STRENGTHS = (0.03, 0.1, 0.3), (1.0, 10.0, 100.0)  # for costs of mean 1; each method at its best pair
UPHILL = {"the solver's slope with the other sign": {"sign": -1.0}}


def _solver(costs):
    return jnp.asarray(PATHS)[(jnp.asarray(PATHS) @ costs).argmin()]


def _late(x, instance):
    """The chance of missing the deadline, where each edge takes a normal time of its own."""
    means, variances, deadline = instance
    return jax.scipy.stats.norm.cdf((x @ means - deadline) / jnp.sqrt(x @ variances))


@cached
def _instances(n, stream):
    """Edges that are quick on average vary more; the deadline is what the quickest way takes on average."""
    for_means, for_spread = jr.split(words.key(stream))
    means = jr.uniform(for_means, (n, 60), minval=0.5, maxval=1.5)
    variances = (1.6 - means) ** 2 * jr.uniform(for_spread, (n, 60), minval=0.1, maxval=1.0)
    return means, variances, 1.1 * (means @ PATHS.T).min(1)


def _gap(losses, instances):
    """Above the best way, in chance."""
    every = jax.vmap(lambda y: jax.vmap(lambda x: _late(x, y))(jnp.asarray(PATHS)))(instances)
    return np.asarray(losses) - np.asarray(every.min(1))


@functools.partial(jax.jit, static_argnums=0)
def _zero(signed, starts, instances, rate, strength):
    """The best loss among ``CALLS`` answers, two a step, per instance."""

    def one(start, instance):
        problem = surrogate_costs(lambda x: signed * _late(x, instance), _solver, start, strength)
        optimizer = optax.adam(rate)

        def step(carry, _):
            costs, state = carry
            updates, state = optimizer.update(jax.grad(problem.loss)(costs, None), state)
            return (costs + updates, state), _late(_solver(costs), instance)

        return jax.lax.scan(step, (start, optimizer.init(start)), length=CALLS // 2)[1].min()

    return jax.vmap(one)(starts, instances)


def _tuned_zero(sign, starts, instances, tuning):
    """Rate and strength are chosen on other instances."""
    pairs = [(r, s) for r in RATES for s in STRENGTHS]
    best = min(pairs, key=lambda p: float(_zero(sign, tuning[0], tuning, *p).mean()))
    return _gap(_zero(sign, starts, instances, *best), instances)


def _random(instances):
    """The best of as many answers to random changes of the mean costs."""
    noise = jr.normal(words.key(7), (CALLS, 60))
    changed = jax.jit(jax.vmap(lambda s, y: jax.vmap(lambda e: _late(_solver(y[0] * jnp.exp(s * e)), y))(noise).min(),
                               (None, 0)))  # fmt: skip
    return min((_gap(changed(spread, instances), instances) for spread in (0.1, 0.3, 1.0)), key=np.mean)


def _unseen(scale):
    return _instances(64 if scale == "quick" else 512, 0)


def _gap_of(costs, scale):
    """Of one answer to given costs."""
    return _gap(jax.vmap(lambda c, y: _late(_solver(c), y))(costs, _unseen(scale)), _unseen(scale))


@claim("50 answers an instance: SurCo-zero's mean gap to the best way is at most 0.05, in chance of being late",
       source="ours", broken=UPHILL)  # fmt: skip
def zero_comes_near_the_optimum(sign=1.0, *, scale):
    gaps = _tuned_zero(sign, _unseen(scale)[0], _unseen(scale), _instances(64, 1))
    linear = float(_gap_of(_unseen(scale)[0], scale).mean())
    return Evidence(mean(gaps), at_most=0.05, given={"the mean costs do not suffice": linear > 0.05})


@claim("50 answers an instance: SurCo-zero's mean gap is below that of random changes of the mean costs, at their best",
       source="paper", broken=UPHILL)  # fmt: skip
def zero_beats_random_search(sign=1.0, *, scale):
    gaps = _tuned_zero(sign, _unseen(scale)[0], _unseen(scale), _instances(64, 1))
    random = _random(_unseen(scale))
    return Evidence(paired_difference(gaps, random), at_most=0.0, note=f"{gaps.mean():.4f} against {random.mean():.4f}")


class _Edges(eqx.Module):
    """Costs of each edge from its own mean and variance, and from the deadline's slack."""

    network: eqx.nn.MLP

    def __call__(self, instance):
        means, variances, deadline = instance
        features = jnp.stack([means, variances, jnp.full(60, deadline / 10)], 1)
        return means + jax.vmap(self.network)(features)[:, 0]


@cached
def _prior(sign, scale):
    """Costs that a network, trained on other instances, gives the unseen ones."""
    problem = surrogate_network(lambda x, y: sign * _late(x, y), _solver, _edges, _instances(256, 2), 10.0, 32)
    keys = jr.split(words.key(3), 300 if scale == "quick" else 3_000)
    train = functools.partial(
        words.descend, optax.adam(3e-3), lambda w, k: jax.grad(problem.loss)(w, problem.sample(k))
    )
    weights = jax.jit(train)(problem.init(words.key(4)), keys)
    return jax.vmap(problem.model(weights))(_unseen(scale))


def _edges(key):
    return _Edges(eqx.nn.MLP(3, 1, 32, 2, key=key))


@claim("unseen instances, one answer each: SurCo-prior's mean chance of being late is below the mean costs'",
       source="paper", broken=UPHILL)  # fmt: skip
def prior_beats_the_mean_costs(sign=1.0, *, scale):
    prior, linear = _gap_of(_prior(sign, scale), scale), _gap_of(_unseen(scale)[0], scale)
    return Evidence(
        paired_difference(prior, linear), at_most=0.0, note=f"{prior.mean():.4f} against {linear.mean():.4f}"
    )


@claim("unseen instances, 50 answers each: started from the prior's costs, the mean gap is at most that from mean costs",
       source="paper", broken=UPHILL)  # fmt: skip
def hybrid_is_as_good_as_zero(sign=1.0, *, scale):
    starts, tuning = _prior(sign, scale), _instances(64, 1)
    hybrid = _tuned_zero(sign, starts, _unseen(scale), tuning)
    zero = _tuned_zero(1.0, _unseen(scale)[0], _unseen(scale), tuning)
    return Evidence(paired_difference(hybrid, zero), at_most=0.0, note=f"{hybrid.mean():.4f} against {zero.mean():.4f}")
