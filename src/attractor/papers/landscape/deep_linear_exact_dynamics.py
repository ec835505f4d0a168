"""Deep linear networks: each singular mode is learned along a curve in closed form, fast at any depth if orthogonal.

```python
import jax.numpy as jnp
from attractor.landscape import learning_time, mode_strength

print(learning_time(jnp.array([4.0, 2.0, 1.0]), 1e-3, 0.5))  # the strong are learned first
print(mode_strength(jnp.linspace(0.0, 6.0, 7), 1.0, 0.05, depth=3))
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.nn.initializers import lecun_normal, orthogonal

from attractor.landscape import decoupled_start, learning_time, mode_strength, train_deep_linear
from attractor.papers.words import Evidence, cached, claim, first_step, key, mean, ratio_of_means, seeds, sizes
from attractor.problems.digits import digits

S = np.array([1.5, 1.0, 0.7, 0.4, 0.25])  # strengths of the modes of a map from 7 inputs to 5 outputs
TARGET = np.eye(5, 7) * S[:, None]
RUNS = jax.jit(jax.vmap(jax.vmap(train_deep_linear, (0, None, None, None)), (None, None, 0, None)), static_argnums=3)


@cached
def _modes(depth, size=0.01):
    with jax.enable_x64(True):
        start = decoupled_start(jnp.asarray(TARGET), depth, size, key(), width=8)
        return np.asarray(jax.jit(partial(train_deep_linear, rate=2e-3, steps=10_000, every=100))(start, TARGET))[
            ..., :5
        ]


@claim("decoupled start, 5 x 8 x … x 7 networks of 2 and 5 matrices: all modes follow the exact solution to 1 %",
       source="scaled", broken={"half the rate": {"curve": partial(mode_strength, tau=2.0)},
       "two matrices' exponent": {"curve": lambda t, s, u, depth: mode_strength(t, s, u, 2, 2 / depth)}})  # fmt: skip
def follows_the_exact_solution(curve=mode_strength):
    times, off = 0.2 * np.arange(1, 101)[:, None], {}
    for depth in (2, 5):
        with jax.enable_x64(True):
            modes = np.asarray(curve(times, S, 0.01, depth))
        off[f"{depth} matrices"] = np.max(np.abs(_modes(depth) - modes[:, :, None] * np.eye(5)) / S[:, None])
    given = {"three modes of five matrices are learned": bool((_modes(5)[-1].diagonal() > S / 2)[:3].all())}
    return Evidence.of_cases({name: float(worst) for name, worst in off.items()}, at_most=0.01, given=given)


@cached
def _half_times(hidden=32, size=0.0025, rate=0.02):
    def one(key):
        w = [size * jr.normal(k, shape) for k, shape in zip(jr.split(key), [(hidden, 7), (5, hidden)], strict=True)]
        # Of the weights into and out of the hidden layer the sum grows, the difference dies out.
        start = jnp.sum((w[0][:, :5] + w[1].T) ** 2, 0) / 4
        return jnp.diagonal(train_deep_linear(w, jnp.asarray(TARGET), rate, 3_000), 0, 1, 2).T, start

    paths, starts = map(np.asarray, jax.jit(jax.vmap(one))(jnp.stack([jr.key(s) for s in seeds(8)])))
    return rate * (1 + first_step(paths, np.broadcast_to(S / 2, starts.shape), rising=True)), starts


@claim("small Gaussian weights, 32 hidden units, strengths 1.5 … 0.25: modes are half learned when it says, to 10 %",
       source="scaled", broken={"half the rate": {"time": partial(learning_time, tau=2.0)},
       "all modes alike": {"time": lambda s, u, v: learning_time(0 * s + S.mean(), u, 0 * s + S.mean() / 2)}},
)  # fmt: skip
def predicts_when_random_starts_learn(time=learning_time):
    measured, starts = _half_times()
    ratios = measured / np.asarray(time(S + 0 * starts, starts, S / 2 + 0 * starts))
    cases = {f"s = {s}": mean(ratios[:, i]) for i, s in enumerate(S)}
    return Evidence.of_cases(cases, within=(0.9, 1.1), given={"all are learned": bool(np.isfinite(measured).all())})


@cached
def _steps(start, depth, scale, n=16):
    """Steps until the loss on digits 0 … 4 (16 whitened components) is 1 % of the zero map's, by seed; the horizon."""
    (images, labels), _ = digits()
    images, labels = (part[labels < 5] for part in (images, labels))
    target = (np.eye(5)[labels] - 0.2).T @ np.linalg.svd(images - images.mean(0), full_matrices=False)[0][:, :n]
    target, horizon = np.float32(target / np.linalg.norm(target, 2)), sizes(scale, steps=(150, 4_000))["steps"]
    layers = jnp.stack([jr.split(jr.key(s), depth) for s in seeds(8)])
    hidden = jax.vmap(jax.vmap(lambda k: start(k, (n, n))))(layers)
    weights = [hidden[:, 1:], hidden[:, 0, :5]]
    misses = np.asarray(RUNS(weights, target, 0.1 * 1.6 ** np.arange(5) / depth, horizon)) - target
    reached = np.minimum(first_step(np.sum(misses**2, (-2, -1)), 0.01 * np.sum(target**2)), horizon)
    return reached[reached.mean(1).argmin()], horizon


def _against_four(start, depths, scale, **threshold):
    four, horizon = _steps(start, 4, scale)
    cases = {f"{depth} against 4": ratio_of_means(_steps(start, depth, scale)[0], four) for depth in depths}
    return Evidence.of_cases(cases, given={"4 matrices learn it": bool(four.max() < horizon)}, **threshold)


@claim("orthogonal starts, digits, tuned per depth: 12 and 36 matrices take 1/2 to 2 times the steps of 4",
       source="scaled", broken={"Gaussian, tuned": {"start": lecun_normal()}})  # fmt: skip
def learning_time_does_not_depend_on_depth(start=orthogonal(), *, scale):  # noqa: B008
    return _against_four(start, (12, 36), scale, within=(0.5, 2.0))


@claim("scaled Gaussian starts, digits, tuned per depth: 36 matrices need at least 3 times the steps of 4",
       source="scaled", broken={"orthogonal start": {"start": orthogonal()}})  # fmt: skip
def gaussian_starts_slow_down_with_depth(start=lecun_normal(), *, scale):  # noqa: B008
    return _against_four(start, (36,), scale, at_least=3.0)


@claim("tanh, 25 to 100 layers of 64, gain 1.05, orthogonal: 80 % of the Jacobian's singular values are in 0.1 … 10",
       source="scaled", broken={"Gaussian": {"start": lecun_normal()}, "gain 0.9": {"gain": 0.9}},
       reason="66, 62 and 57 % at 25, 50 and 100 layers; with Gaussian weights it is 3 % at 100")  # fmt: skip
def gradients_survive_in_deep_tanh_networks(start=orthogonal(), gain=1.05, n=64):  # noqa: B008
    def share(seed, layers):
        x, jacobian = np.random.default_rng(seed).standard_normal(n), np.eye(n)
        for w in gain * np.asarray(jax.vmap(lambda k: start(k, (n, n)))(jr.split(jr.key(seed), 100)))[:layers]:
            x = np.tanh(w @ x)
            jacobian = (1 - x[:, None] ** 2) * (w @ jacobian)
        return np.mean(np.abs(np.log10(np.linalg.svd(jacobian, compute_uv=False))) < 1)

    cases = {f"{layers} layers": mean([share(s, layers) for s in seeds(8)]) for layers in (25, 50, 100)}
    return Evidence.of_cases(cases, at_least=0.8)
