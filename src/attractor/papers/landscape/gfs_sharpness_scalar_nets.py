"""Gradient flow's own sharpness: what would be reached by infinitely small steps from here falls at every large one.

```python
import jax, jax.numpy as jnp
from attractor.landscape import scalar_network_flow_sharpness, scalar_network_loss

w = jnp.array([3.3, 0.8, 0.35])
for _ in range(5):  # rate 0.2: the edge is at 10; the loss goes up and down, the sharpness only down
    print(scalar_network_loss(w), scalar_network_flow_sharpness(w))
    w -= 0.2 * jax.grad(scalar_network_loss)(w)
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape import scalar_network_flow_sharpness, scalar_network_loss, squared_regression_flow_sharpness
from attractor.papers.words import Evidence, cached, claim, median, seeds, sizes


def _on_the_ray(weights):  # the sharpness of the solution there, instead of at the end of the flow
    return jnp.sum((weights / jnp.abs(jnp.prod(weights)) ** (1 / weights.size)) ** -2.0)


def _descent(loss, sharpness, other, start, excess, steps):
    """Losses and two kinds of sharpness times rate / 2, which is ``excess`` at first: the edge is at 1."""
    rate = 2 * excess / sharpness(start)

    def step(w, _):
        return w - rate * jax.grad(loss)(w), (loss(w), rate / 2 * sharpness(w), rate / 2 * other(w))

    return jax.lax.scan(step, start, length=steps)[1]


@partial(jax.jit, static_argnames=("depth", "steps"))
def _scalar_runs(draws, low, high, depth, steps):
    def one(draw):
        keys = jr.split(jr.key(draw), 3)
        solution = jnp.exp(0.5 * jr.normal(keys[0], (depth,)))
        start = solution / jnp.prod(solution) ** (1 / depth) * (1 + 0.05 * jr.normal(keys[1], (depth,)))
        excess = jr.uniform(keys[2], minval=low, maxval=high)
        return _descent(scalar_network_loss, scalar_network_flow_sharpness, _on_the_ray, start, excess, steps)

    return jax.vmap(one)(draws)


@cached
def _scalar(low, high, scale):
    """By depth, of runs from near a random solution: losses, the flow's sharpness, that on the ray; ``(run, step)``."""
    size = sizes(scale, runs=(100, 1_000), steps=(3_000, 20_000))
    with jax.enable_x64(True):
        draws = jnp.asarray(seeds(size["runs"]))
        found = {depth: _scalar_runs(draws, low, high, depth, size["steps"]) for depth in (2, 3, 4, 5)}
    return {f"depth {depth}": [np.asarray(part) for part in parts] for depth, parts in found.items()}


def _rise(sharpness):  # the largest relative one in a step
    return float(np.nanmax(sharpness[:, 1:] / sharpness[:, :-1] - 1))


def _rises_nowhere(low, high, which, scale):
    measured, given = _scalar(low, high, scale), {}
    for name, (losses, sharpness, _) in measured.items():
        given[f"{name}: 95 % stay finite"] = np.isfinite(sharpness).all(1).mean() >= 0.95
        given[f"{name}: the loss rises in 95 %"] = np.mean((np.diff(losses) > 1e-9).any(1)) >= 0.95
        given[f"{name}: the flow's sharpness falls"] = np.nanmedian(sharpness[:, -1] / sharpness[:, 0]) < 0.99
    return Evidence.of_cases({n: _rise(parts[which]) for n, parts in measured.items()}, at_most=1e-9, given=given)


@claim("scalar nets, 2 to 5 layers, starts up to 1.15 times the edge: flow's sharpness rises nowhere, up to 1e-9",
       source="paper", broken={"the solution on the ray": {"which": 2}})  # fmt: skip
def flow_sharpness_never_rises(which=1, *, scale):
    return _rises_nowhere(1.0, 1.15, which, scale)


@claim("scalar nets, 2 to 5 layers, starts 1.15 to 1.4 times the edge: flow's sharpness rises nowhere, up to 1e-9",
       source="paper", broken={"the solution on the ray": {"which": 2}})  # fmt: skip
def nor_farther_above_the_edge(which=1, *, scale):
    return _rises_nowhere(1.15, 1.4, which, scale)


@claim("scalar nets, 2 to 5 layers, starts up to 1.15 times the edge: the last sharpness is 0.95 to 1.02 times it",
       source="scaled", broken={"starts below the edge": {"low": 0.5, "high": 0.7}})  # fmt: skip
def descent_ends_at_the_edge(low=1.0, high=1.15, *, scale):
    cases = {name: median(parts[1][:, -1]) for name, parts in _scalar(low, high, scale).items()}
    return Evidence.of_cases(cases, within=(0.95, 1.02))


@cached
def _squared(scale, n=5, d=20):  # losses, the flow's sharpness, that at the point; (run, step)
    size = sizes(scale, runs=(20, 200), steps=(500, 5_000))

    def one(draw):
        keys = jr.split(jr.key(draw), 4)
        inputs, start = jr.normal(keys[0], (n, d)), jnp.exp(0.5 * jr.normal(keys[1], (2, d)))
        labels = inputs @ (start[0] ** 2 - start[1] ** 2) + 0.3 * jr.normal(keys[2], (n,))
        excess = jr.uniform(keys[3], minval=1.0, maxval=1.15)
        return _descent(lambda w: jnp.sum((inputs @ (w[0] ** 2 - w[1] ** 2) - labels) ** 2) / (2 * n),
                        lambda w: squared_regression_flow_sharpness(w[0], w[1], inputs, labels),
                        lambda w: jnp.linalg.eigvalsh(4 / n * (inputs * (w[0] ** 2 + w[1] ** 2)) @ inputs.T)[-1], start,
                        excess, size["steps"])  # fmt: skip

    with jax.enable_x64(True):
        return [np.asarray(a) for a in jax.jit(jax.vmap(one))(jnp.asarray(seeds(size["runs"])))]


@claim("squared regression, 5 inputs, 20 dimensions, up to 1.15 times the edge: flow's sharpness never rises (1e-6)",
       source="paper", broken={"the sharpness at the point": {"which": 2}})  # fmt: skip
def nor_in_squared_regression(which=1, *, scale):
    parts = _squared(scale)
    given = {"the loss rises in 9 of 10": np.mean((np.diff(parts[0]) > 1e-9).any(1)) >= 0.9,
             "all converge": bool((parts[0][:, -1] < 1e-3 * parts[0][:, 0]).all())}  # fmt: skip
    return Evidence(_rise(parts[which]), at_most=1e-6, given=given)
