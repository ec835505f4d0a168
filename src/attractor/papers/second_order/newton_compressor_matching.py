"""Sound matching: Newton's method finds the few settings of a dynamic range compressor.

```python
import jax.numpy as jnp
from attractor import run
from attractor.problems.audio import compressor_matching, vector_to_settings
from attractor.second_order import line_search_newton

trace = run(compressor_matching(), line_search_newton(), steps=30)
print(vector_to_settings(jnp.asarray(trace.final[0, 0])))  # -24 dB, 4, 5 ms, 60 ms, 3 dB
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax import lax

from attractor.comparison import compare
from attractor.engine import run
from attractor.papers import Evidence, claim
from attractor.problems.audio import (
    HIDDEN,
    ballistics,
    compressor_matching,
    recursive_filter,
    settings_to_vector,
    vector_to_settings,
)
from attractor.registry import LogUniform
from attractor.second_order.curvature import hvp
from attractor.second_order.line_search import line_search_newton
from attractor.stats import paired_ratio

SLUG = "newton-compressor-matching"
RIVALS = {"adam": (optax.adam, LogUniform(1e-3, 1.0)), "gradient descent": (optax.sgd, LogUniform(1e-2, 10.0))}
# So much damping leaves of the Newton step the gradient alone.
UNCURVED = {"no curvature": {"damping": 1e4}}


def _forward_over_reverse(loss, x):
    return jax.vmap(hvp(loss, x))(jnp.eye(5))


def _outer_product(loss, x):
    """What is left of a Hessian without second derivatives."""
    gradient = jax.grad(loss)(x)
    return jnp.outer(gradient, gradient) / (2 * loss(x))


@claim(
    SLUG,
    "the loss's Hessian, forward over reverse, is that of reverse over reverse and of finite differences, to 1e-4",
    broken={"first derivatives only": {"hessian": _outer_product}},
)
def hessians_agree(hessian=_forward_over_reverse, *, scale):
    with jax.enable_x64(True):
        problem, x = compressor_matching(0.1), settings_to_vector(jnp.asarray([-20.0, 3.0, 0.01, 0.1, 1.0]))

        def loss(x):
            return problem.loss(x, None)

        gradient = jax.jit(jax.grad(loss))
        found, reverse = jax.jit(lambda x: hessian(loss, x))(x), jax.jit(jax.jacrev(jax.jacrev(loss)))(x)
        differences = jnp.stack([(gradient(x + s) - gradient(x - s)) / 2e-6 for s in 1e-6 * jnp.eye(5)])
        errors = [float(jnp.linalg.norm(found - other) / jnp.linalg.norm(other)) for other in (reverse, differences)]
    return Evidence(max(errors), at_most=1e-4, note=f"reverse {errors[0]:.1e}, differences {errors[1]:.1e}")


def _undecayed(decay, drive):
    """Two stretches joined without the decay of the first over the second."""
    return lax.associative_scan(lambda first, second: first + second, drive)


@claim(
    SLUG,
    "once attack and release are told apart, the parallel filter gives the compressor's recursive one to 1e-6",
    broken={"no decay": {"parallel": _undecayed}},
)
def parallel_filter_is_the_loop(parallel=recursive_filter, *, scale):
    with jax.enable_x64(True):
        gain, attack, release = jr.uniform(jr.key(0), (500,)), jnp.asarray(0.05), jnp.asarray(0.005)
        loop = ballistics(gain, attack, release)
        before = jnp.concatenate([jnp.ones(1), loop[:-1]])
        speed = jnp.where(gain < before, attack, release)
        drive = (speed * gain).at[0].add(1 - speed[0])  # the loop starts at 1
        return Evidence(float(jnp.abs(jax.jit(parallel)(1 - speed, drive) - loop).max()), at_most=1e-6)


@functools.cache
def _problem(scale):
    return compressor_matching(0.25 if scale == "quick" else 2.0)


@functools.cache
def _matched(damping, scale):
    return run(_problem(scale), line_search_newton, sweep={"damping": [damping]}, steps=50, seeds=10, every=50)


@claim(SLUG, "from at least 8 of 10 random starts, 50 Newton steps find all five settings to 1 %", broken=UNCURVED)
def recovers_the_settings(damping=1e-4, *, scale):
    found = jax.vmap(vector_to_settings)(jnp.asarray(_matched(damping, scale).final[0]))
    errors = np.abs(np.asarray(found) / np.asarray(HIDDEN) - 1).max(1)
    return Evidence(float((errors <= 0.01).sum()), at_least=8, note=f"largest errors {np.sort(errors)[-3:].round(4)}")


@functools.cache
def _rival(name, scale):
    factory, rates = RIVALS[name]
    return compare(
        _problem(scale), {"it": (factory, {"learning_rate": rates})}, steps=500, every=500, seeds=10,
        budget=5 if scale == "quick" else 16,
    )["it"].final  # fmt: skip


@claim(
    SLUG,
    "the median loss after 50 Newton steps is at most that after 500 steps of Adam or gradient descent, both tuned",
    broken=UNCURVED,
)
def beats_gradients(damping=1e-4, *, scale):
    ours = _matched(damping, scale).last("loss").values[0]
    ratios = {name: paired_ratio(ours, _rival(name, scale)) for name in RIVALS}
    note = ", ".join(f"of {name}'s {np.median(_rival(name, scale)):.2g}: {ratio}" for name, ratio in ratios.items())
    return Evidence(max(ratios.values(), key=lambda r: r.high), at_most=1.0, note=note)
