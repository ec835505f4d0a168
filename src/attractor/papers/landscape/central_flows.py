"""Central flows: an equation for the average of the iterates, while they oscillate at the edge of stability.

```python
import jax, jax.numpy as jnp
from attractor.landscape import CentralFlow

loss = lambda w: (1 + w[1] ** 2) * w[0] ** 2 / 2 + (w[1] - 3.0) ** 2 / 20  # its walls close in on the way down
flow = CentralFlow(loss, learning_rate=0.4)  # the edge is at 5, where w[1] is 2
step = lambda state, _: (flow.step(state, 0.25), (state.params[1], state.covariance[0, 0]))
print(*(a[::50] for a in jax.lax.scan(step, flow.init(jnp.array([0.0, 0.5])), length=400)[1]))
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape.edge_of_stability import CentralFlow
from attractor.papers.words import Evidence, cached, claim, mean, ratio_of_means, seeds, sizes

SUB = 4  # steps of the flow for each of the optimizer
INPUTS = jnp.linspace(-1, 1, 20)
TARGETS = jnp.cos(5 * jnp.arccos(INPUTS))  # Chebyshev's polynomial of degree five


def _loss(w):  # of a tanh network with one hidden layer
    into, bias, out = w[:-1].reshape(3, -1)
    return jnp.mean((jnp.tanh(jnp.outer(INPUTS, into) + bias) @ out + w[-1] - TARGETS) ** 2) / 2


def _start(draw, width):
    return jnp.append((jr.normal(jr.key(draw), (3, width)) * jnp.array([[1], [1], [width**-0.5]])).ravel(), 0.0)


@partial(jax.jit, static_argnames=("decay", "width", "steps"))
def _descent(draws, rate, decay, width, steps):
    """Parameters and losses of gradient descent, or of RMSProp with the decay."""

    def step(state, _):
        w, moment = state
        gradient = jax.grad(_loss)(w)
        moment = moment if decay is None else decay * moment + (1 - decay) * gradient**2
        return (w - rate * gradient / (1 if decay is None else jnp.sqrt(moment)), moment), (w, _loss(w))

    def one(draw):
        w = _start(draw, width)
        return jax.lax.scan(step, (w, jax.grad(_loss)(w) ** 2 + 1e-6), length=steps)[1]

    return jax.vmap(one)(draws)


@partial(jax.jit, static_argnames=("decay", "width", "steps"))
def _flow(draws, rate, decay, width, steps, edge, felt, active):
    """Parameters, losses at them, what oscillations add, and the top two eigenvalues, once per step."""
    flow = CentralFlow(_loss, rate / edge, decay, 1 if decay is None else 2, 1, felt=felt, active=active)

    def step(state, _):
        state = jax.lax.fori_loop(0, SUB, lambda _, s: flow.step(s, edge / SUB), state)
        return state, (state.params, _loss(state.params), state.excess, state.values)

    def one(draw):
        w = _start(draw, width)
        return jax.lax.scan(step, flow.init(w, jax.grad(_loss)(w) ** 2 + 1e-6), length=steps)[1]

    return jax.vmap(one)(draws)


@cached
def _both(scale, decay=None, edge=1.0, felt=1.0, active=1.0):
    """Of the optimizer and of the flow, each ``(seed, step, …)``."""
    size = sizes(scale, seeds=(12, 24), width=(16, 64), steps=((3_000 if decay is None else 1_500), 3_000))
    rate, draws = (0.22 if decay is None else 0.003), jnp.asarray(seeds(size["seeds"]))
    arguments = draws, rate, decay, size["width"], size["steps"]
    run, flow = _descent(*arguments), _flow(*arguments, edge, felt, active)
    return [np.asarray(a) for a in run], [np.asarray(a) for a in flow]


def _tracks(scale, decay, windows, **damage):
    """Distance from the optimizer's average to that of the central flow, over that to gradient flow's."""
    (points, _), (central, _, _, values) = _both(scale, decay, **damage)
    plain = _both(scale, decay, active=0.0)[1]
    cases, steps = {}, points.shape[1]
    beyond = (plain[3][:, int(windows[0][0] * steps) :, 0] > 2).all(1)  # elsewhere nothing oscillates
    for low, high in windows:
        window = slice(int(low * steps), int(high * steps))
        average, ours, flow = (p[beyond, window].mean(1) for p in (points, central, plain[0]))
        near, far = (np.linalg.norm(average - p, axis=1) for p in (ours, flow))
        cases[f"{low:.2f} to {high:.2f} of the run"] = ratio_of_means(near, far)
    given = {"3/4 of the runs are at the edge by then": beyond.mean() >= 0.75,
             "the flow ends at it": bool(damage) or np.allclose(values[beyond, -1, 0], 2, rtol=0.03)}  # fmt: skip
    return Evidence.of_cases(cases, at_most=0.3, given=given)


@claim("gradient descent on a tanh net, 3000 steps: its average is 3 times nearer to the central than to gradient flow",
       source="scaled", broken={"the edge at 1 / rate": {"edge": 0.5}})  # fmt: skip
def follows_gradient_descent(edge=1.0, *, scale):
    return _tracks(scale, None, [(2 / 3, 5 / 6), (5 / 6, 1)], **({"edge": edge} if edge < 1 else {}))


@claim("gradient descent on a tanh net: over the last 2000 of 3000 steps the mean loss is as predicted, up to a tenth",
       source="scaled", broken={"the loss at the center": {"part": 0.0}})  # fmt: skip
def predicts_the_mean_loss(part=1.0, *, scale):
    (_, losses), (_, center, excess, _) = _both(scale)
    late = slice(losses.shape[1] // 3, None)
    return Evidence(mean(losses[:, late].mean(1) / (center + part * excess)[:, late].mean(1)), within=(0.9, 1.1))


@claim("RMSProp on a tanh net, 1500 steps: its average is 3 times nearer to the central flow than to the plain one",
       source="scaled", broken={"the moment does not feel oscillations": {"felt": 0.0}})  # fmt: skip
def follows_rmsprop(felt=1.0, *, scale):
    return _tracks(scale, 0.99, [(2 / 3, 5 / 6), (5 / 6, 1)], **({"felt": felt} if felt < 1 else {}))
