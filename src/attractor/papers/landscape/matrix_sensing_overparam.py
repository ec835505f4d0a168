"""Surplus rank slows descent on a symmetric factor to 1 / T^2; two unequal factors bring linear convergence back.

```python
import jax, jax.numpy as jnp
from attractor.landscape import sensing_descent

target = jnp.zeros((8, 8)).at[0, 0].set(1.0)
f, g = 0.3 * jax.random.normal(jax.random.key(0), (2, 8, 3))
for factors in ((f,), (f, g)):  # one, two
    print(sensing_descent(factors, target, 0.25, 2_000, every=400)[1])
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape.matrix_sensing import normal_operator, sensing_descent, unbalanced_factors
from attractor.papers.words import Evidence, cached, claim, first_step, log_slope, mean, ratio_of_means, seeds, sizes

N, RANK, RATE = 10, 2, 0.25  # of the truth, whose singular values are 1 and 0.7
DESCEND = jax.jit(jax.vmap(lambda x, m, a, steps, every: sensing_descent(x, m, RATE, steps, every, a),
                           (0, 0, 0, None, None)), static_argnums=(3, 4))  # fmt: skip


def _truths(draws):
    frames = np.stack([np.linalg.qr(np.random.default_rng(s).standard_normal((N, RANK)))[0] for s in draws])
    return frames * [1.0, 0.7] @ frames.swapaxes(1, 2)


@cached
def _symmetric(k, sensors, scale, alpha=0.3):
    """Squared errors of one factor with k columns, by seed, every 100 steps; sensors: None is full observation."""
    draws, steps = seeds(8), sizes(scale, steps=(10_000, 200_000))["steps"]
    with jax.enable_x64(True):
        start = jnp.stack([alpha * jr.normal(jr.key(s), (N, k)) / N**0.5 for s in draws])
        if sensors is None:
            return np.asarray(DESCEND((start,), _truths(draws), None, steps, 100)[1])
        normal = jnp.stack([normal_operator(jr.normal(jr.fold_in(jr.key(s), 1), (sensors, N, N))) for s in draws])
        return np.asarray(DESCEND((start,), _truths(draws), normal, steps, 100)[1])


@claim("10 x 10 of rank 2, one factor, surplus rank 1 and 2, seen fully or by 800 sensors: squared error falls as T^-2",
       source="paper", broken={"no surplus": {"surplus": (0, 0)}})  # fmt: skip
def symmetric_is_as_slow_as_the_square(surplus=(1, 2), *, scale):
    cases, started = {}, []
    for extra, sensors in zip((surplus[0], surplus[1], surplus[1]), (None, None, 800), strict=True):
        errors = _symmetric(RANK + extra, sensors, scale)
        started.append(errors[:, 0].max() < 1.0)
        times = 100.0 * np.arange(1, errors.shape[1] + 1)
        cases[f"surplus {extra}, {sensors or 'all'}"] = log_slope(times, errors, since=times[-1] / 10)
    return Evidence.of_cases(cases, within=(-2.2, -1.8), given={"the truth is found": all(started)})


@claim("one factor, fully observed, surplus s = 1 and 2: T^2 times the squared error is s / (2 eta)^2 to 15 %",
       source="ours", broken={"a rate of eta": {"factor": 1.0}, "of 4 eta": {"factor": 4.0}})  # fmt: skip
def symmetric_follows_the_cubic_equation(factor=2.0, *, scale):
    # A surplus column obeys x' = -|x|^2 x, so that its square is 1 / (2 eta T) in the end.
    cases = {}
    for extra in (1, 2):
        errors = _symmetric(RANK + extra, None, scale)
        cases[f"surplus {extra}"] = mean(errors[:, -1] * (factor * RATE * 100 * errors.shape[1]) ** 2 / extra)
    return Evidence.of_cases(cases, within=(0.85, 1.15))


@claim("one factor without surplus rank, fully or by 800 sensors: after 2,000 steps the squared error is below 1e-14",
       source="paper", broken={"a surplus column": {"k": RANK + 1}})  # fmt: skip
def exact_rank_is_linear(k=RANK, *, scale):
    cases = {str(sensors or "all"): float(_symmetric(k, sensors, scale)[:, 19].max()) for sensors in (None, 800)}
    return Evidence.of_cases(cases, at_most=1e-14)


ALPHAS = (0.1, 0.2, 0.4)


@cached
def _rates(change, k=RANK + 2, before=100, window=(1e-8, 1e-16)):
    """By size of the start and seed, at which linear rate two factors' squared error falls through a window, or NaN;
    ``change`` is made to the factors after ``before`` steps, by when the truth has been found."""
    draws = seeds(16)
    with jax.enable_x64(True):
        start = jnp.stack([alpha * jr.normal(jr.key(s), (2, N, k)) / N**0.5 for alpha in ALPHAS for s in draws])
        truths = np.tile(_truths(draws), (len(ALPHAS), 1, 1))
        (f, g), _ = DESCEND((start[:, 0], start[:, 1]), truths, None, before, before)
        errors = np.asarray(DESCEND(jax.vmap(change)(f, g), truths, None, 60_000, 5)[1])
    first, last = (np.minimum(first_step(errors, level), errors.shape[1] - 1).astype(int) for level in window)
    row = np.arange(len(errors))
    fallen = np.log(errors[row, first] / errors[row, last])
    return np.where(errors[row, last] > window[1], np.nan, fallen / (5.0 * (last - first))).reshape(len(ALPHAS), -1)


def _doublings(change, within):
    rates = _rates(change)
    met = np.isfinite(rates).all(0)  # a start that is close to singular makes a run slow, at each of its sizes alike
    rates = rates[:, met]
    cases = {f"{2 * a:g} against {a:g}": ratio_of_means(rates[i + 1], rates[i]) for i, a in enumerate(ALPHAS[:-1])}
    return Evidence.of_cases(cases, within=within, given={"3/4 converge from every size": met.mean() >= 0.75})


AS_THEY_ARE, UNEQUAL = lambda f, g: (f, g), partial(unbalanced_factors, beta=0.7)


@claim("two factors, surplus 2, starts of size 0.1, 0.2, 0.4: the linear rate grows by 2.8 to 5.5 at each doubling",
       source="scaled", broken={"made unequal once": {"change": UNEQUAL}})  # fmt: skip
def asymmetric_rate_is_the_square_of_the_start(change=AS_THEY_ARE):
    return _doublings(change, (2.8, 5.5))


@claim("two factors made unequal once, starts of size 0.1, 0.2, 0.4: linear rates differ by at most 1.5 times",
       source="scaled", broken={"not made unequal": {"change": AS_THEY_ARE}})  # fmt: skip
def one_changed_step_makes_it_independent(change=UNEQUAL):
    return _doublings(change, (1 / 1.5, 1.5))
