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

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax import lax

from attractor.linalg.curvature import hvp
from attractor.papers.words import Evidence, cached, claim, key, paired_ratio, run, seed, seeds, sizes, tune
from attractor.problems.audio import (
    HIDDEN,
    ballistics,
    compressor_matching,
    recursive_filter,
    settings_to_vector,
    vector_to_settings,
)
from attractor.registry import LogUniform
from attractor.second_order.line_search import line_search_newton

RIVALS = {"adam": (optax.adam, LogUniform(1e-3, 1.0)), "gradient descent": (optax.sgd, LogUniform(1e-2, 10.0))}
# So much damping leaves of the Newton step the gradient alone.
UNCURVED = {"no curvature": {"damping": 1e4}}


def _forward_over_reverse(loss, x):
    return jax.vmap(hvp(loss, x))(jnp.eye(5))


def _outer_product(loss, x):
    """What is left of a Hessian without second derivatives."""
    gradient = jax.grad(loss)(x)
    return jnp.outer(gradient, gradient) / (2 * loss(x))


@cached
def _hessians():
    """A loss, a place, and two other ways to its Hessian there; under double precision."""
    problem, x = compressor_matching(0.1, seed()), settings_to_vector(jnp.asarray([-20.0, 3.0, 0.01, 0.1, 1.0]))

    def loss(x):
        return problem.loss(x, None)

    gradient = jax.jit(jax.grad(loss))
    differences = jnp.stack([(gradient(x + s) - gradient(x - s)) / 2e-6 for s in 1e-6 * jnp.eye(5)])
    return loss, x, {"reverse over reverse": jax.jit(jax.jacrev(jax.jacrev(loss)))(x), "differences": differences}


@claim(
    "the loss's Hessian, forward over reverse, is that of reverse over reverse and of finite differences, to 1e-4",
    source="ours",
    broken={"first derivatives only": {"hessian": _outer_product}},
)
def hessians_agree(hessian=_forward_over_reverse):
    with jax.enable_x64(True):
        loss, x, others = _hessians()
        found = jax.jit(lambda x: hessian(loss, x))(x)
        errors = {name: float(jnp.linalg.norm(found - h) / jnp.linalg.norm(h)) for name, h in others.items()}
    return Evidence.of_cases(errors, at_most=1e-4)


def _undecayed(decay, drive):
    """Two stretches joined without the decay of the first over the second."""
    return lax.associative_scan(lambda first, second: first + second, drive)


@claim(
    "once attack and release are told apart, the parallel filter gives the compressor's recursive one to 1e-6",
    source="ours",
    broken={"no decay": {"parallel": _undecayed}},
)
def parallel_filter_is_the_loop(parallel=recursive_filter):
    with jax.enable_x64(True):
        gain, attack, release = jr.uniform(key(0), (500,)), jnp.asarray(0.05), jnp.asarray(0.005)
        loop = ballistics(gain, attack, release)
        before = jnp.concatenate([jnp.ones(1), loop[:-1]])
        speed = jnp.where(gain < before, attack, release)
        drive = (speed * gain).at[0].add(1 - speed[0])  # the loop starts at 1
        return Evidence(float(jnp.abs(jax.jit(parallel)(1 - speed, drive) - loop).max()), at_most=1e-6)


@cached
def _problem(scale):
    return compressor_matching(**sizes(scale, seconds=(0.25, 2.0)), seed=seed())


@cached
def _matched(damping, scale):
    return run(_problem(scale), line_search_newton, sweep={"damping": [damping]}, steps=50, seeds=seeds(10), every=50)


@claim(
    "from at least 8 of 10 random starts, 50 Newton steps find all five settings of a compressor to 1 %",
    source="ours",
    broken=UNCURVED,
)
def recovers_the_settings(damping=1e-4, *, scale):
    found = jax.vmap(vector_to_settings)(jnp.asarray(_matched(damping, scale).final[0]))
    errors = np.abs(np.asarray(found) / np.asarray(HIDDEN) - 1).max(1)
    return Evidence(
        10 * float((errors <= 0.01).mean()), at_least=8, note=f"largest errors {np.sort(errors)[-3:].round(4)}"
    )


def _rival(name, scale):
    factory, rates = RIVALS[name]
    options = sizes(scale, steps=500, every=500, seeds=10, budget=(5, 16))
    return tune(_problem(scale), (factory, {"learning_rate": rates}), **options).final


@claim(
    "the typical loss after 50 Newton steps is at most that after 500 steps of Adam or gradient descent, both tuned",
    source="ours",
    broken=UNCURVED,
)
def beats_gradients(damping=1e-4, *, scale):
    ours = _matched(damping, scale).last("loss").values[0]
    ratios = {name: paired_ratio(ours, _rival(name, scale)) for name in RIVALS}
    note = "medians: " + ", ".join(f"{name} {np.median(_rival(name, scale)):.2g}" for name in RIVALS)
    return Evidence.of_cases(ratios, at_most=1.0, note=note)
