"""Minimizing the maximal loss: Gibbs samples of single losses by amplitude amplification, in small balls.

```python
from attractor import run
from attractor.optim import BallDescent, amplified_categorical
from attractor.problems import affine_maximum

method = BallDescent(smoothing=0.02, radius=0.02, sampler=amplified_categorical)
print(run(affine_maximum(64, 3), method, steps=100)["gap"])  # of the largest of 64 losses
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.engine import run
from attractor.linalg.amplification import amplified_sampling
from attractor.optim.maximal_loss import BallAcceleration, BallDescent, amplified_categorical, soft_maximum
from attractor.papers.words import Evidence, bootstrap, claim, first_step, key, log_slopes, mean, seed, seeds, sizes
from attractor.problems.affine_maximum import affine_maximum, least_maximum

SIZES, EPSILON = 4 ** np.arange(2, 7), 1e-2
# With logits reduced to a share, which is a number so that one program serves all.
_sampled = lambda share, key, logits, draws: amplified_categorical(key, share * logits, draws)  # noqa: E731


def _weights(n, stream):
    """Gibbs weights of n standard normal losses, largest 1, as the method meets them."""
    values = np.random.default_rng(stream).standard_normal(n)
    return np.exp((values - values.max()) * 2 * np.log(n) / EPSILON)


def _rejection(amplitudes):
    return amplified_sampling(amplitudes, 0)._replace(iterations=1 / jnp.mean(amplitudes**2))  # again and again


@claim("amplified samples of 2^4 to 2^12 losses have the Gibbs distribution, to 1e-6 in total variation",
       source="ours", broken={
           "weights as amplitudes": {"sampling": lambda a: amplified_sampling(a**2)},
           "stopped halfway": {"sampling": lambda a: amplified_sampling(a, amplified_sampling(a).iterations // 2)},
       })  # fmt: skip
def samples_the_softmax(sampling=amplified_sampling):
    distances, compiled = {}, jax.jit(sampling)
    with jax.enable_x64(True):
        for n in SIZES:
            logits = np.random.default_rng(seed(int(n))).standard_normal(n)
            for temperature in (1.0, 0.1, EPSILON):
                weights = np.exp((logits - logits.max()) / temperature)
                found = compiled(np.sqrt(weights))
                missed = np.abs(np.asarray(found.probabilities) - weights / weights.sum()).sum()
                distances[f"{n} losses at {temperature}"] = float(missed + found.failure) / 2
    return Evidence.of_cases(distances, at_most=1e-6)


@claim("sharp weights, 2^4 to 2^12 losses: the oracle calls of a sample grow as n to the power 1/2, within 0.05",
       source="scaled", broken={"rejection": {"sampling": _rejection}})  # fmt: skip
def needs_the_square_root(sampling=amplified_sampling):
    with jax.enable_x64(True):
        weights = [np.stack([_weights(n, stream) for stream in seeds(20)]) for n in SIZES]
        calls = [jax.jit(jax.vmap(sampling))(np.sqrt(w)).iterations for w in weights]
    slope = bootstrap(lambda *c: log_slopes(SIZES, np.stack([of_n.mean(-1) for of_n in c], -1)), *calls)
    return Evidence(slope, within=(0.45, 0.55))


@claim("at 1,000 points the smoothed maximum of 256 losses is above the largest by 0 to 1 times mu log n",
       source="paper", broken={"mean of exponentials": {
           "soft_maximum": lambda v, mu: soft_maximum(v, mu) - mu * np.log(v.shape[-1])}})  # fmt: skip
def smooths_from_above(soft_maximum=soft_maximum):
    values = jr.normal(key(), (1_000, 256))
    ratios = (soft_maximum(values, 0.3) - values.max(1)) / (0.3 * np.log(256))
    return Evidence.of_cases({"least": float(ratios.min()), "most": float(ratios.max())}, within=(0.0, 1.0))


@claim(
    "256 losses of 10 unknowns: such samples in balls of radius mu reach the linear program's minimum to within 0.01",
    source="ours", broken={"uniform samples": {"share": 0.0}})  # fmt: skip
def reaches_the_optimum(share=1.0, *, scale):
    size = sizes(scale, losses=(256, 4_096), dim=(10, 100))
    smoothing = EPSILON / (2 * np.log(size["losses"]))
    sampler = eqx.Partial(_sampled, jnp.asarray(share))
    method = BallDescent(smoothing, smoothing, sampler=sampler)
    how = sizes(scale, steps=(2_000, 5_000), every=(2_000, 5_000), seeds=(seeds(8), seeds(50)))
    trace = run(affine_maximum(**size, seed=seed()), method, **how)
    return Evidence(mean(trace.last("gap").values[0]), at_most=EPSILON)


class Following(BallAcceleration):
    """Each ball's minimizer is the next one's center."""

    def step(self, problem, x, state, key):
        return super().step(problem, x, self.init(problem, x, key), key)[0], state


@claim(
    "the largest of 256 losses, balls of 1/16 to 1/128 of the way: their number grows as that to the power 2/3 + 0.05",
    source="scaled", broken={"balls that follow one another": {"method": Following}})  # fmt: skip
def needs_the_power_two_thirds_of_the_balls(method=BallAcceleration, *, scale):
    ways, size = 2.0 ** np.arange(4, 8), sizes(scale, losses=(256, 4_096), dim=(10, 50))
    with jax.enable_x64(True):
        problem = affine_maximum(**size, seed=seed())
        minimizer = jnp.asarray(least_maximum(*map(np.asarray, problem.full))[0])
        start = lambda key: minimizer + jr.orthogonal(key, minimizer.size)[0]  # noqa: E731  (at a distance of 1)
        how = {"probes": {"loss": lambda p, x, key: soft_maximum(p.full[0] @ x + p.full[1], 1 / 16)}, "every": 1}
        how |= {"sweep": [{"smoothing": 1 / 16, "radius": 1 / way} for way in ways], "steps": 200}
        problem = eqx.tree_at(lambda p: p.init, problem, start)
        values = run(problem, method, seeds=seeds(sizes(scale, n=(8, 32))["n"]), **how)["loss"].values
    balls = first_step(values, values.min() + 0.01 * (values[0, :, 0] - values.min()))  # (radii, starts)
    given = {"every run arrives": np.isfinite(balls).all()}
    return Evidence(mean(log_slopes(ways, balls.T)), at_most=2 / 3 + 0.05, given=given, note=f"{balls.mean(1)} balls")
