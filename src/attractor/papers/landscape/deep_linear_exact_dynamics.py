"""Deep linear networks: each singular mode is learned along a curve in closed form, fast at any depth if orthogonal.

```python
import jax.numpy as jnp
from attractor.landscape import learning_time, mode_strength

strengths = jnp.array([4.0, 2.0, 1.0])
print(learning_time(strengths, 1e-3, strengths / 2))  # strong modes are learned first
for depth in (2, 3, 8):
    print(depth, mode_strength(jnp.linspace(0.0, 6.0, 7), 1.0, 0.05, depth))
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.nn.initializers import lecun_normal, orthogonal

from attractor.landscape.deep_linear import decoupled_start, deep_linear_loss, deep_linear_map, train_deep_linear
from attractor.landscape.deep_linear import learning_time as exact_time
from attractor.landscape.deep_linear import mode_strength as exact
from attractor.papers.words import Evidence, cached, claim, first_step, key, mean, median, seeds, sizes
from attractor.problems.digits import digits

S = np.array([1.5, 1.0, 0.7, 0.4, 0.25])  # strengths of the modes of a map from 7 inputs to 5 outputs
TARGET = np.eye(5, 7) * S[:, None]


@cached
def _modes(depth, size=0.01, rate=1e-3):
    with jax.enable_x64(True):
        start = decoupled_start(jnp.asarray(TARGET), depth, size, key(), width=8)
        return np.asarray(jax.jit(partial(train_deep_linear, rate=rate, steps=20_000, every=200))(start, TARGET))[
            ..., :5
        ]


@claim("decoupled start, 5 x 8 x … x 7 networks of 2, 3 and 5 matrices: all modes follow the exact solution to 1 %",
       source="scaled", broken={"half the rate": {"curve": partial(exact, tau=2.0)},
       "two matrices' exponent": {"curve": lambda t, s, u, depth: exact(t, s, u, 2, 2 / depth)}})  # fmt: skip
def follows_the_exact_solution(curve=exact):
    times, off = 0.2 * np.arange(1, 101)[:, None], {}
    for depth in (2, 3, 5):
        with jax.enable_x64(True):
            modes = np.asarray(curve(times, S, 0.01, depth))
        off[f"{depth} matrices"] = np.max(np.abs(_modes(depth) - modes[:, :, None] * np.eye(5)) / S[:, None])
    given = {"three modes of five matrices are learned": bool((_modes(5)[-1].diagonal() > S / 2)[:3].all())}
    return Evidence.of_cases({name: float(worst) for name, worst in off.items()}, at_most=0.01, given=given)


@cached
def _half_times(scale, hidden=8, size=0.005, rate=0.02):
    """Of two matrices with small Gaussian weights, by seed and mode: when half the strength is reached; the start."""

    def one(key):
        w = [size * jr.normal(k, shape) for k, shape in zip(jr.split(key), [(hidden, 7), (5, hidden)], strict=True)]
        # Of the weights into and out of the hidden layer the sum grows, the difference dies out.
        start = jnp.sum((w[0][:, :5] + w[1].T) ** 2, 0) / 4
        return jnp.diagonal(train_deep_linear(w, TARGET, rate, 3_000), 0, 1, 2).T, start

    draws = jnp.stack([jr.key(s) for s in seeds(sizes(scale, n=(8, 64))["n"])])
    paths, starts = (np.asarray(part, float) for part in jax.jit(jax.vmap(one))(draws))
    return rate * (1 + first_step(paths, np.broadcast_to(S / 2, starts.shape), rising=True)), starts


@claim("small Gaussian weights, two matrices, strengths 1.5 … 0.25: modes reach half when the solution says, to 10 %",
       source="scaled", broken={"half the rate": {"time": partial(exact_time, tau=2.0)},
       "all modes alike": {"time": lambda s, u, v: exact_time(0 * s + s.mean(), u, 0 * s + s.mean() / 2)}})  # fmt: skip
def predicts_when_random_starts_learn(time=exact_time, *, scale):
    measured, starts = _half_times(scale)
    ratios = measured / np.asarray(time(S + 0 * starts, starts, S / 2 + 0 * starts))
    cases = {f"s = {s}": mean(ratios[:, i]) for i, s in enumerate(S)}
    return Evidence.of_cases(cases, within=(0.9, 1.1), given={"all are learned": bool(np.isfinite(measured).all())})


@cached
def _steps(start, depth, scale, n=16):
    """Steps until the loss on digits (16 whitened principal components) is 1 % of the zero map's, by seed; horizon."""
    (images, labels), _ = digits()
    inputs = np.linalg.svd(images - images.mean(0), full_matrices=False)[0][:, :n]
    target = (np.eye(10)[labels] - 0.1).T @ inputs
    target = jnp.asarray(target / np.linalg.norm(target, 2), jnp.float32)
    rates, horizon = 0.1 * 2.0 ** np.arange(5) / depth, sizes(scale, steps=(500, 4_000))["steps"]

    def one(key, rate):
        def step(weights, _):
            ends = lambda w: deep_linear_loss([deep_linear_map(w), jnp.eye(10, n)], target)  # noqa: E731
            value, slope = jax.value_and_grad(ends)(weights)
            return weights - rate * slope, value

        return jax.lax.scan(step, jax.vmap(lambda k: start(k, (n, n)))(jr.split(key, depth)), length=horizon)[1]

    every = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))
    losses = every(jnp.stack([jr.key(s) for s in seeds(8)]), rates)
    reached = np.minimum(first_step(losses, 0.01 * np.sum(np.square(target)) / 2), horizon)
    return reached[np.median(reached, 1).argmin()], horizon


def _against_four(start, depths, scale, **threshold):
    four, horizon = _steps(start, 4, scale)
    cases = {f"{depth} against 4": median(_steps(start, depth, scale)[0] / four) for depth in depths}
    return Evidence.of_cases(cases, given={"4 matrices learn it": bool(four.max() < horizon)}, **threshold)


@claim("orthogonal starts, digits, tuned per depth: 16 and 64 matrices take 1/2 to 2 times the steps of 4",
       source="scaled",
       broken={"Gaussian": {"start": lecun_normal()}, "gain 0.9": {"start": orthogonal(0.9)}})  # fmt: skip
def learning_time_does_not_depend_on_depth(start=orthogonal(), *, scale):  # noqa: B008
    return _against_four(start, (16, 64), scale, within=(0.5, 2.0))


@claim("scaled Gaussian starts, digits, tuned per depth: 64 matrices need at least 3 times the steps of 4",
       source="scaled", broken={"orthogonal start": {"start": orthogonal()}})  # fmt: skip
def gaussian_starts_slow_down_with_depth(start=lecun_normal(), *, scale):  # noqa: B008
    return _against_four(start, (64,), scale, at_least=3.0)


@claim("tanh, 25 to 100 layers of 64, gain 1.05, orthogonal: 80 % of the Jacobian's singular values are in 0.1 … 10",
       source="scaled", broken={"Gaussian": {"start": lecun_normal()}, "gain 0.9": {"gain": 0.9}})  # fmt: skip
def gradients_survive_in_deep_tanh_networks(start=orthogonal(), gain=1.05, n=64):  # noqa: B008
    shares = {25: [], 50: [], 100: []}
    for seed in seeds(8):
        weights = gain * np.asarray(jax.vmap(lambda k: start(k, (n, n)))(jr.split(jr.key(seed), 100)), float)
        x, jacobian = np.random.default_rng(seed).standard_normal(n), np.eye(n)
        for layer, w in enumerate(weights, 1):
            x = np.tanh(w @ x)
            jacobian = (1 - x[:, None] ** 2) * (w @ jacobian)
            if layer in shares:
                values = np.linalg.svd(jacobian, compute_uv=False)
                shares[layer].append(np.mean((values > 0.1) & (values < 10)))
    return Evidence.of_cases({f"{layers} layers": mean(share) for layers, share in shares.items()}, at_least=0.8)
