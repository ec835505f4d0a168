"""Linear stochastic approximation with a fixed step has power-law tails, whose power the step sets.

```python
import numpy as np
from attractor.optim import kesten_tail_index

draws = 1 + 1.5 * np.random.default_rng(0).standard_normal(100_000)  # the random matrix, here a number
for step_size in (0.2, 0.4, 0.6):
    print(step_size, kesten_tail_index(1 - step_size * draws))  # moments of this order and above are infinite
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.optim import stochastic_approximation as lib
from attractor.optim.stochastic_approximation import hill_estimator, kesten_tail_index, linear_stochastic_approximation
from attractor.papers.words import Evidence, Interval, cached, claim, key, mean, sizes

STEP_SIZES = (0.3, 0.4, 0.6)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(150)


@functools.partial(jax.jit, static_argnums=3)
def _stationary(spread, step_size, draw, chains):
    """50 successive iterates of each chain, after 100 steps in which it forgets its start; A = 1 + spread N(0, 1)."""

    def sample(draw):
        for_matrix, for_vector = jr.split(draw)
        return 1 + spread * jr.normal(for_matrix, (1, 1)), jr.normal(for_vector, (1,))

    def advance(theta, draw, steps=1):
        theta, _ = linear_stochastic_approximation(sample, theta, step_size, steps, draw)
        return theta, theta[0]

    def chain(draw):
        burn_in, onward = jr.split(draw)
        theta, _ = advance(jnp.zeros(1), burn_in, 100)
        return jax.lax.scan(advance, theta, jr.split(onward, 50))[1]

    return jax.vmap(chain)(jr.split(draw, chains))


@claim("tail index of 2e6 stationary draws over the root p of E|1 - step·A|^p = 1: 0.8 to 1.2, for steps .3, .4, .6",
       source="ours", broken={"bounded noise": {"spread": 0.0}, "half the spread": {"spread": 0.75}})  # fmt: skip
def tails_have_the_predicted_power(spread=1.5, *, scale):
    """In eight groups of chains, so that there is an interval; now and then a step expands."""
    chains = 40_000 if scale == "quick" else 2_000_000
    ratios, note = {}, []
    for step_size in STEP_SIZES:
        predicted = kesten_tail_index(1 - step_size * (1 + 1.5 * NODES), WEIGHTS / WEIGHTS.sum())
        groups = np.asarray(_stationary(spread, step_size, key(), chains)).reshape(8, -1)
        measured = mean([hill_estimator(group, k=chains // 160) for group in groups])
        ratios[f"step {step_size}"] = Interval(*(v / predicted for v in (measured.value, measured.low, measured.high)))
        note.append(f"step {step_size}: {measured.value:.2f}, predicted {predicted:.2f}")
    return Evidence.of_cases(ratios, within=(0.8, 1.2), note="; ".join(note))


MATRIX = np.array([[1.0, 0.4, 0.0], [-0.4, 1.5, 0.2], [0.0, 0.3, 0.8]])
SOLUTION = np.array([1.0, -1.0, 0.5])
SPREAD, NOISE = 0.3, 1.0
# Of (A_n - A) θ* - (b_n - b), where both have independent entries.
SIGMA, OF_VECTORS_ALONE = np.eye(3) * (SPREAD**2 * SOLUTION @ SOLUTION + NOISE**2), np.eye(3) * NOISE**2
SIZES = {"steps": (6_000, 20_000), "chains": (2_500, 100_000)}


def _sample(draw):
    for_matrix, for_vector = jr.split(draw)
    matrix = jnp.asarray(MATRIX) + SPREAD * jr.normal(for_matrix, (3, 3))
    return matrix, jnp.asarray(MATRIX @ SOLUTION) + NOISE * jr.normal(for_vector, (3,))


@cached
def _chains(steps, chains):
    """Errors of the last iterate and of the average, per chain; all start at the solution, with step 0.01."""

    def chain(draw):
        return linear_stochastic_approximation(_sample, jnp.asarray(SOLUTION), 0.01, steps, draw)

    last, average = jax.jit(jax.vmap(chain))(jr.split(key(1), chains))
    return np.asarray(last) - SOLUTION, np.asarray(average) - SOLUTION


@claim("step 0.01, three dimensions: the stationary covariance is within 10 % of the step times the Lyapunov solution",
       source="scaled", broken={"noise of the matrices forgotten": {"sigma": OF_VECTORS_ALONE}})  # fmt: skip
def small_steps_are_gaussian(sigma=SIGMA, *, scale):
    last, _ = _chains(**sizes(scale, **SIZES))
    predicted = lib.stationary_covariance(MATRIX, sigma, 0.01)
    return Evidence(float(np.linalg.norm(np.cov(last.T) - predicted) / np.linalg.norm(predicted)), at_most=0.1)


@claim(
    "step 0.01: the averaged iterate's mean squared error times n is within 15 % of the central limit theorem's trace",
    source="scaled", broken={"noise of the vectors forgotten": {"sigma": SIGMA - OF_VECTORS_ALONE}})  # fmt: skip
def the_average_follows_the_limit_theorem(sigma=SIGMA, *, scale):
    """Of 6,000 steps: an average forgets its start, the solution, with an error of 1 / (step · eigenvalue · n)."""
    size = sizes(scale, **SIZES)
    expected = np.trace(lib.averaged_covariance(MATRIX, sigma, size["steps"]))
    return Evidence(mean((_chains(**size)[1] ** 2).sum(1) / expected), within=(0.85, 1.15))
