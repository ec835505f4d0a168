"""Bilevel problems by first derivatives alone: a little of the upper objective is added to the lower one.

```python
import attractor
from attractor import games, problems

problem = problems.two_level_quadratic(rank=4)  # many minimizers below
trace = attractor.run(problem, games.BilevelPenalty(0.1, inner_rate=0.3, sigma=0.01), steps=2_000)
print(trace.summary("hypergradient"))
```
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.games import BilevelPenalty, HypergradientDescent, SingleLoopPenalty
from attractor.games.value_function import descend, penalty_hypergradient, penalty_slopes
from attractor.papers.words import Evidence, claim, first_step, key, log_slopes, mean, ratio_of_means, seed, seeds
from attractor.problems import feature_penalties, two_level_quadratic
from attractor.trees import norm

SIGMAS = np.geomspace(1e-3, 1e-1, 5)


def _unweighted(upper, lower, x, y, *, sigma, step_size, steps):
    """The upper objective counts in full below."""
    both, z = descend(upper, lower, x, y, y, 1.0, step_size, steps)
    return penalty_slopes(upper, lower, x, both, z, sigma).x, z


@eqx.filter_jit
def _errors(problem, x, hypergradient):  # of the penalty's gradient and value, per sigma
    levels = partial(problem.upper, batch=problem.full[0]), partial(problem.lower, batch=problem.full[1])
    y, how = problem.solve(x), {"step_size": 0.3, "steps": 60_000}

    def one(sigma):
        both = descend(*levels, x, y, y, sigma, *how.values())[0]
        value = levels[0](x, both) + (levels[1](x, both) - levels[1](x, y)) / sigma
        slope = hypergradient(*levels, x, y, sigma=sigma, **how)[0]
        return jnp.stack([norm(slope - jax.grad(problem.value)(x)), jnp.abs(value - problem.value(x))])

    return jax.vmap(one)(jnp.asarray(SIGMAS))


@claim("one minimizer below, many, and 10 penalties: gradient and value of the penalty are off by order sigma: slope 1",
       source="paper", broken={"the upper objective in full below": {"hypergradient": _unweighted}})  # fmt: skip
def penalty_is_sigma_close(hypergradient=penalty_hypergradient):
    cases = {}
    with jax.enable_x64(True):
        made = {"one": two_level_quadratic(seed=seed()), "many": two_level_quadratic(5, 9, rank=5, seed=seed(1)),
                "penalties": feature_penalties(seed=seed(2))}  # fmt: skip
        for name, problem in made.items():
            x = jr.normal(key(), problem.init(key())[0].shape) / 2 - 1
            slopes = log_slopes(SIGMAS, np.asarray(_errors(problem, x, hypergradient)).T)
            cases |= {f"{name}, gradient": float(slopes[0]), f"{name}, value": float(slopes[1])}
    return Evidence.of_cases(cases, within=(0.9, 1.1))


EPSILONS = np.array([0.1, 0.05, 0.02, 0.01])


@eqx.filter_jit
def _slopes(problem, sigmas, rates):
    """Norms of the true gradient every ten of 12,000 steps, by sigma and rate."""

    def one(sigma, rate):
        method, start = BilevelPenalty(rate, 0.3, sigma=sigma), problem.init(key())

        def ten(carry, _):
            carry = jax.lax.fori_loop(0, 10, lambda _, c: method.step(problem, c[0], c[1], key()), carry)
            return carry, norm(jax.grad(problem.value)(carry[0][0]))

        return jax.lax.scan(ten, (start, method.init(problem, start, key())), length=1_200)[1]

    return jax.vmap(lambda sigma: jax.vmap(partial(one, sigma))(rates))(sigmas)


@claim("many minimizers below, sigma = eps / 10, best of 5 rates: steps to a gradient of eps grow by eps^-3 at most",
       source="paper", broken={"sigma 0.1 throughout": {"sigmas": np.full(4, 0.1)}})  # fmt: skip
def takes_a_cubic_number_of_steps(sigmas=EPSILONS / 10):
    taken, rates = [], jnp.geomspace(0.003, 0.3, 5)
    with jax.enable_x64(True):
        for own in seeds(5):
            curves = _slopes(two_level_quadratic(rank=4, seed=own), jnp.asarray(sigmas), rates)
            taken.append(10 * (1 + first_step(curves, EPSILONS[:, None])).min(1))
    slopes = -log_slopes(EPSILONS, np.array(taken))
    given = {"the largest takes some": np.min(taken) > 10}
    return Evidence(mean(slopes), at_most=3.0, given=given, note=f"steps {np.median(taken, 0).tolist()}")


@eqx.filter_jit
def _ends(problem, method, rates):  # the smallest value over rates, after 1,500 steps below

    def one(rate):
        own, start = method(rate), problem.init(key())
        count, carry = 1_500 // getattr(own, "inner_steps", 1), (start, own.init(problem, start, key()))
        carry = jax.lax.fori_loop(0, count, lambda _, c: own.step(problem, c[0], c[1], key()), carry)
        return problem.value(carry[0][0])

    return jnp.nanmin(jax.vmap(one)(rates))


@claim("diabetes, 20 noise features, 5 splits: both loops end within 1 % of implicit gradients, the best of 5 rates",
       source="ours", broken={"sigma 1": {"sigma": 1.0}})  # fmt: skip
def ends_where_second_derivatives_do(sigma=0.01):
    splits, rates = [feature_penalties(noise=20, seed=own) for own in seeds(5)], jnp.geomspace(0.3, 30, 5)
    exact = partial(HypergradientDescent, inner_rate=0.1, inner_steps=10, depth=10, estimate="implicit")
    double, single = (partial(make, inner_rate=0.1, sigma=sigma) for make in (BilevelPenalty, SingleLoopPenalty))
    runs = {"exact": (exact, rates), "double": (double, rates), "single": (single, rates / 10)}
    ends = {name: np.array([float(_ends(split, *how)) for split in splits]) for name, how in runs.items()}
    before = np.mean([float(split.value(split.init(key())[0])) for split in splits])
    there = ends.pop("exact")
    given = {"implicit gradients improve the start by a tenth": there.mean() < 0.9 * before}
    cases = {name: ratio_of_means(end, there) for name, end in ends.items()}
    return Evidence.of_cases(cases, within=(0.99, 1.01), given=given)
