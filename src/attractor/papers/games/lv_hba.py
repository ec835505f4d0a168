"""A proximal Lagrangian in place of the lower level: first derivatives for constraints that hold both levels together.

```python
import attractor
from attractor import games, problems

method = games.ProximalLagrangian(0.1, inner_rate=0.1, multiplier_rate=0.1, weight=10.0, sweeps=1)
print(attractor.run(problems.feature_bounds(), method, steps=3_000).summary("value"))
```

On the paper's own example a method that does not see the coupling in x tends to -2/7 in place of -3/10, 4.8 % away:
5 % could not tell the two apart.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.lax import stop_gradient

from attractor.games import ProximalLagrangian, proximal_value
from attractor.papers.words import Evidence, cached, claim, log_slopes, mean, ratio_of_means, seeds
from attractor.problems import best_of_pieces, coupled_quadratic, feature_bounds, shared_sum

BLIND = "the constraint is not seen to depend on x"


def _through(problem, seen):  # the problem, whose constraint takes x as ``seen`` gives it
    return eqx.tree_at(lambda p: p.constraint, problem, eqx.Partial(_seen, seen, problem.constraint))


def _seen(seen, constraint, x, y):
    return constraint(seen(x), y)


@eqx.filter_jit
def _ends(
    problem, steps, rates=(0.03, 0.1), weights=(1.0, 3.0, 10.0, 30.0), decay=0.49, multiplier_rate=0.1, sweeps=6,
    inner_rate=0.1,
):  # fmt: skip
    """Where (x, y) and z end, by rate and weight."""
    nothing, start = jr.key(0), problem.init(jr.key(0))  # no minibatches are drawn

    def one(rate, weight):
        method = ProximalLagrangian(rate, inner_rate, multiplier_rate, weight, decay, sweeps=sweeps)
        carry = start, method.init(problem, start, nothing)
        carry = jax.lax.fori_loop(0, steps, lambda _, c: method.step(problem, c[0], c[1], nothing), carry)
        return *carry[0], carry[1].multiplier

    rates, weights = jnp.meshgrid(jnp.array(rates), jnp.array(weights))
    return jax.vmap(one)(rates.ravel(), weights.ravel())


@eqx.filter_jit
def _ends_of_sums(couplings, steps, share):
    """Where x ends on the example, by coupling and setting, where a share of the constraint's slope in x is seen."""
    n = couplings.shape[1]
    inner = min(0.1, 1 / n)  # the saddle point is lost from about 1.3 / n on

    def one(coupling):
        seen = lambda x: stop_gradient(x) + share * (x - stop_gradient(x))  # noqa: E731
        problem = _through(shared_sum(n, coupling), seen)
        return _ends(problem, steps, (inner / 3, inner), sweeps=1, inner_rate=inner)[0]

    return jax.vmap(one)(couplings)


def _off(couplings, steps, share):
    """How far x ends from the solution, in its largest number, by coupling and setting."""
    shifted = np.asarray(couplings, float) + 2
    solutions = -shifted.shape[1] * shifted / (shifted.shape[1] + np.sum(shifted**2, 1, keepdims=True))
    ends = np.asarray(_ends_of_sums(jnp.asarray(couplings, float), jnp.asarray(steps), jnp.asarray(share)))
    return np.abs(ends - solutions[:, None]).max(-1) / np.abs(solutions).max(-1, keepdims=True)


@claim("the paper's example, many minimizers, n = 2, 20, 100: x within 3 % after 2,000 and 4,000 steps, of 8 tried",
       source="scaled", deterministic=True, broken={BLIND: {"share": 0.0}})  # fmt: skip
def solves_the_papers_example(share=1.0):
    cases = {}
    for n in (2, 20, 100):
        off = [_off(np.ones((1, n)), steps, share)[0] for steps in (2_000, 4_000)]
        cases[f"n = {n}"] = float(np.nanmin(np.max(off, 0)))
    return Evidence.of_cases(cases, at_most=0.03)


@claim("the example, coupled by 8 draws from [-3, 1], n = 20: x within 5 % in 8,000 steps, best of 8 settings",
       source="ours", broken={BLIND: {"share": 0.0}, "half of its slope in x": {"share": 0.5}})  # fmt: skip
def follows_any_coupling(share=1.0, n=20):
    draws = np.stack([np.random.default_rng(seed).uniform(-3, 1, n) for seed in seeds(8)])
    return Evidence(mean(np.nanmin(_off(draws, 8_000, share), 1)), at_most=0.05)


@claim("the example, coupled by 8 draws from [-3, 1], n = 100: x within 5 % in 8,000 steps, best of 8 settings",
       source="ours", broken={BLIND: {"share": 0.0}},
       reason="stable steps are a fifth as long as at n = 20: 0.106 after 40,000, 0.057 after 160,000")  # fmt: skip
def follows_a_coupling_of_100_numbers(share=1.0):
    return follows_any_coupling(share, n=100)


def _stacked(problems):
    """Problems that differ in their numbers, as one with an axis more."""
    numbers, rest = zip(*(eqx.partition(problem, eqx.is_array) for problem in problems), strict=True)
    return eqx.combine(jax.tree.map(lambda *leaves: jnp.stack(leaves), *numbers), rest[0])


@cached
def _solution(number):
    return best_of_pieces(coupled_quadratic(seed=number))[0]


@claim("20 quadratics, 3 coupled constraints: 80 % of the way to the exact solution in 10,000 steps, of 8 settings",
       source="ours", broken={"z stays at 0, tuned anew": {"multiplier_rate": 0.0}})  # fmt: skip
def approaches_the_exact_solution(multiplier_rate=0.1):
    numbers = seeds(20)
    with jax.enable_x64(True):
        each = [coupled_quadratic(seed=number) for number in numbers]
        solutions = np.stack([_solution(number) for number in numbers])
        together = eqx.filter_vmap(lambda problem: _ends(problem, 10_000, multiplier_rate=multiplier_rate)[0])
        ends = np.asarray(together(_stacked(each)))
        starts = np.stack([problem.init(jr.key(0))[0] for problem in each])
    left = np.linalg.norm(ends - solutions[:, None], axis=2) / np.linalg.norm(starts - solutions, axis=1)[:, None]
    return Evidence(mean(np.nanmin(left, 1)), at_most=0.2)


@eqx.filter_jit
def _gap(problem, ends):  # g - v at the last of some ends
    x, y, z = (part[-1] for part in ends)
    return problem.lower(x, y) - proximal_value(problem.lower, problem.constraint, x, y, z, step_size=0.1, steps=3_000)


@claim("10 quadratics: as the weight grows like k^p, the lower level's gap falls as fast at least, p = 0.2 and 0.4",
       source="paper", broken={"the weight stays": {"decays": (0.0, 0.0)}})  # fmt: skip
def gap_falls_with_the_weight(decays=(0.2, 0.4)):
    marks, cases, least = 2 ** jnp.arange(10, 14), {}, np.inf
    for power, decay in zip((0.2, 0.4), decays, strict=True):
        with jax.enable_x64(True):
            problems = [coupled_quadratic(seed=s) for s in seeds(10)]
            gaps = np.array(
                [[_gap(p, _ends(p, k, (0.1,), (10.0,), decay, sweeps=20)) for k in marks] for p in problems]
            )
        least = min(least, gaps.min())
        cases[f"p = {power}"] = mean(log_slopes(marks, gaps) / power)
    return Evidence.of_cases(cases, at_most=-1.0, given={"gaps are above rounding": least > 1e-9})


@claim("diabetes, 20 noise features, 5 splits: 30 bounds end a tenth below the best of 100 single ones, of 8 settings",
       source="ours", broken={"z stays at 0, tuned anew": {"multiplier_rate": 0.0},
               "the constraint is not seen to depend on x": {"seen": stop_gradient}},
       reason="0.875 on average, and the interval over five splits is wider than what is left to 0.9")  # fmt: skip
def bounds_every_weight(multiplier_rate=0.1, seen=lambda x: x):
    values, found, single = eqx.filter_jit(lambda p, x: jnp.nanmin(jax.vmap(p.value)(x))), [], []
    for problem in (feature_bounds(noise=20, seed=split) for split in seeds(5)):
        ends = _ends(_through(problem, seen), 3_000, decay=0.3, multiplier_rate=multiplier_rate, sweeps=1)[0]
        found.append(float(values(problem, ends)))
        single.append(float(values(problem, jnp.outer(jnp.linspace(0, 1, 100), jnp.ones(30)))))
    return Evidence(ratio_of_means(found, single), at_most=0.9)
