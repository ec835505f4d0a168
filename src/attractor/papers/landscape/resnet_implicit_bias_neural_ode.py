"""Deep residual networks that begin as the discretization of a neural ODE remain one while they are trained.

```python
import jax, jax.numpy as jnp
from attractor.landscape import layer_differences, refine_layers, scaled_resnet

inner = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (8, 3)), (10, 8, 3))  # ten equal layers
outer = jnp.linspace(0.0, 1.0, 10)[:, None, None] * jnp.ones((10, 3, 8))
x = jnp.eye(3)
print(layer_differences((inner, outer)).max())
print(scaled_resnet(inner, outer, x) - scaled_resnet(*refine_layers((inner, outer), 8), x))
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape.deep_limits import layer_differences, refine_layers, scaled_resnet
from attractor.papers.words import Evidence, cached, claim, log_slope, mean, seeds, sizes

DEPTHS = (8, 16, 32, 64)
DIM, UNITS, EXAMPLES = 4, 16, 16  # as many units as examples
RATE = 0.15  # times the depth: as good as gradient flow
FINE = 8


@partial(jax.jit, static_argnums=3)
def _train(keys, starts, depths, records):
    """For (run, depth) the loss, the largest difference of neighboring layers (at records), and at the end the outputs
    at fresh inputs, of the network and of one ``FINE`` times as deep along the same weights. Layers beyond the depth
    stay zero. Starts: equal layers (0), drawn independently (1); the rate not times depth (2)."""
    top = DEPTHS[-1]

    def one(key, depth, start):
        keys = jr.split(key, 5)
        inputs, fresh = jr.normal(keys[0], (EXAMPLES, DIM)), jr.normal(keys[1], (64, DIM))
        targets = inputs + jnp.sin(inputs @ jr.normal(keys[2], (DIM, DIM)) / DIM**0.5)
        tied, free = jr.normal(keys[3], (1, UNITS, DIM)), jr.normal(keys[4], (top, UNITS, DIM))
        used = (jnp.arange(top) < depth)[:, None, None]
        rate = RATE * jnp.where(start == 2, 8.0, depth)
        first = jnp.where(start == 1, free, tied), jnp.zeros((top, DIM, UNITS))

        def loss(weights):
            return jnp.mean(jnp.sum((scaled_resnet(weights[0], weights[1], inputs, 1 / depth) - targets) ** 2, 1)) / 2

        def step(weights, _):
            return jax.tree.map(lambda w, g: w - rate * used * g, weights, jax.grad(loss)(weights)), None

        def record(weights, _):
            after = jax.lax.scan(step, weights, length=records[1])[0]
            gaps = jnp.where(jnp.arange(top - 1) < depth - 1, layer_differences(after), 0.0)
            return after, jnp.stack([loss(after), gaps.max()])

        end, curve = jax.lax.scan(record, first, length=records[0])
        # The last layer is held beyond the depth, so that nothing is interpolated towards the unused zeros.
        held = jax.tree.map(lambda w: jnp.where(used, w, w[depth - 1]), end)
        inner, outer = refine_layers(held, FINE)
        outer = outer * jnp.repeat(used, FINE, 0)
        deep = scaled_resnet(inner, outer, fresh, 1 / (FINE * depth))
        return loss(first), curve, scaled_resnet(end[0], end[1], fresh, 1 / depth), deep

    return jax.vmap(jax.vmap(one, (None, 0, None)), (0, None, 0))(keys, depths, starts)


@cached
def _all(scale):
    """Starts, on half as many seeds where the variant is broken, and what `_train` finds."""
    size = sizes(scale, n=(10, 20), records=((5, 120), (20, 500)))
    draws = seeds(size["n"])
    starts, chosen = np.array([(k, s) for k in range(3) for s in draws[: len(draws) // (2 if k else 1)]]).T
    found = _train(jax.vmap(jr.key)(chosen), jnp.asarray(starts), jnp.array(DEPTHS), size["records"])
    return starts, *(np.asarray(part, float) for part in found)


def _trained(start, scale):
    """Relative losses and the differences (seed, depth, record); outputs and finer ones (…, example, output)."""
    starts, *parts = _all(scale)
    before, curve, outputs, fine = (part[starts == start] for part in parts)
    return curve[..., 0] / before[..., None], curve[..., 1], outputs, fine


def _fitted(scale):
    return {"the loss fell tenfold": _trained(0, scale)[0][:, :, -1].max() < 0.1}


@claim("equal layers at first: the largest difference of neighbors falls with depth, slope <= -0.9, 120 to 600 steps",
       source="scaled", broken={"layers drawn independently": {"start": 1}})  # fmt: skip
def neighbors_stay_close(start=0, *, scale):
    differences = _trained(start, scale)[1]
    cases = {f"record {r + 1}": log_slope(DEPTHS, differences[:, :, r]) for r in range(differences.shape[-1])}
    return Evidence.of_cases(cases, at_most=-0.9, given=_fitted(scale), note=str(differences.mean(0)[:, -1].round(3)))


@claim("networks of depth L and 2L, trained alike, differ as 1/L at fresh inputs: slope at most -0.8, L = 8 to 32",
       source="scaled", broken={"layers drawn independently": {"start": 1}})  # fmt: skip
def training_has_a_limit(start=0, *, scale):
    outputs = _trained(start, scale)[2]
    gaps = np.sqrt(np.mean(np.diff(outputs, axis=1) ** 2, (2, 3)))
    return Evidence(log_slope(DEPTHS[:-1], gaps), at_most=-0.8, given=_fitted(scale), note=str(gaps.mean(0).round(4)))


@claim("a trained network and the ODE along its weights (8 times the steps) differ as 1/L: slope <= -0.8, L = 8 to 64",
       source="scaled", broken={"layers drawn independently": {"start": 1}})  # fmt: skip
def network_is_its_ode(start=0, *, scale):
    outputs, fine = _trained(start, scale)[2:]
    gaps = np.sqrt(np.mean((outputs - fine) ** 2, (2, 3)))
    return Evidence(log_slope(DEPTHS, gaps), at_most=-0.8, given=_fitted(scale), note=str(gaps.mean(0).round(4)))


@claim("as many units as examples: training brings the loss below 1 % of its start at every depth, at a rate times L",
       source="scaled", broken={"the rate not times L": {"start": 2}})  # fmt: skip
def loss_vanishes_at_every_depth(start=0, *, scale):
    losses = _trained(start, scale)[0][:, :, -1]
    return Evidence.of_cases({f"L = {d}": mean(l) for d, l in zip(DEPTHS, losses.T, strict=True)}, at_most=0.01)
