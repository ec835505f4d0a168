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

from attractor.linalg.curvature import hvp
from attractor.papers.words import Evidence, cached, claim, key, paired_ratio, proportion, seed, sizes, tune
from attractor.problems import audio
from attractor.registry import LogUniform
from attractor.second_order.line_search import line_search_newton

# Method, what is searched, steps. So much damping leaves of the Newton step the gradient alone, with a line search.
METHODS = {"newton": (line_search_newton, {"damping": LogUniform(1e-4, 1.0)}, 50),
           "no curvature, retuned": (line_search_newton, {"damping": LogUniform(1e1, 1e4)}, 50),
           "adam": (optax.adam, {"learning_rate": LogUniform(1e-3, 1.0)}, 500),
           "gradient descent": (optax.sgd, {"learning_rate": LogUniform(1e-2, 10.0)}, 500)}  # fmt: skip
UNCURVED = {"no curvature, retuned": {"ours": "no curvature, retuned"}}


def _outer_product(loss, x):
    """What is left of a Hessian without second derivatives."""
    gradient = jax.grad(loss)(x)
    return jnp.outer(gradient, gradient) / (2 * loss(x))


@cached
def _hessians():
    """A loss, a place, and two other ways to its Hessian there; under double precision."""
    x = audio.settings_to_vector(jnp.asarray([-20.0, 3.0, 0.01, 0.1, 1.0]))
    loss = jax.tree_util.Partial(audio.compressor_matching(0.1, seed()).loss, batch=None)
    gradient = jax.jit(jax.grad(loss))
    differences = jnp.stack([(gradient(x + s) - gradient(x - s)) / 2e-6 for s in 1e-6 * jnp.eye(5)])
    return loss, x, {"reverse over reverse": jax.jit(jax.jacrev(jax.jacrev(loss)))(x), "differences": differences}


@claim("the loss's Hessian, forward over reverse, is that of reverse over reverse and of finite differences, to 1e-4",
       source="ours", broken={"first derivatives only": {"hessian": _outer_product}})  # fmt: skip
def hessians_agree(hessian=lambda loss, x: jax.vmap(hvp(loss, x))(jnp.eye(5))):
    with jax.enable_x64(True):
        loss, x, others = _hessians()
        found = jax.jit(lambda x: hessian(loss, x))(x)
        errors = {name: float(jnp.linalg.norm(found - h) / jnp.linalg.norm(h)) for name, h in others.items()}
    return Evidence.of_cases(errors, at_most=1e-4)


@claim("once attack and release are told apart, the parallel filter gives the compressor's recursive one to 1e-6",
       source="ours",
       broken={"no decay": {"parallel": lambda decay, drive: jax.lax.associative_scan(jnp.add, drive)}})  # fmt: skip
def parallel_filter_is_the_loop(parallel=audio.recursive_filter):
    with jax.enable_x64(True):
        gain, attack, release = jr.uniform(key(0), (500,)), jnp.asarray(0.05), jnp.asarray(0.005)
        loop = audio.ballistics(gain, attack, release)
        before = jnp.concatenate([jnp.ones(1), loop[:-1]])
        speed = jnp.where(gain < before, attack, release)
        drive = (speed * gain).at[0].add(1 - speed[0])  # the loop starts at 1
        return Evidence(float(jnp.abs(jax.jit(parallel)(1 - speed, drive) - loop).max()), at_most=1e-6)


_problem = cached(lambda scale: audio.compressor_matching(**sizes(scale, seconds=(0.25, 2.0)), seed=seed()))


def _tuned(name, scale):
    method, space, steps = METHODS[name]
    options = sizes(scale, seeds=(32, 100), budget=(16, 50), steps=steps, every=steps)
    return tune(_problem(scale), (method, space), **options)


@claim("from at least 80 % of random starts, 50 Newton steps find all five settings of a compressor to 1 %",
       source="ours", broken=UNCURVED)  # fmt: skip
def recovers_the_settings(ours="newton", *, scale):
    found = jax.vmap(audio.vector_to_settings)(jnp.asarray(_tuned(ours, scale).trace.final[0]))
    errors = np.abs(np.asarray(found) / np.asarray(audio.HIDDEN) - 1).max(1)
    share = proportion(int((errors <= 0.01).sum()), len(errors))
    return Evidence(share, at_least=0.8, note=f"largest errors {np.sort(errors)[-3:].round(4)}")


@claim("all tuned alike: the typical loss after 50 Newton steps is at most that after 500 of Adam or gradient descent",
       source="ours", broken=UNCURVED)  # fmt: skip
def beats_gradients(ours="newton", *, scale):
    finals = {name: _tuned(name, scale).final for name in ("adam", "gradient descent")}
    start = _tuned("adam", scale).trace["loss"].values[0, :, 0]
    given = {"both lower the loss on every start": all((final < start).all() for final in finals.values())}
    ratios = {name: paired_ratio(_tuned(ours, scale).final, final) for name, final in finals.items()}
    note = "medians: " + ", ".join(f"{name} {np.median(final):.2g}" for name, final in finals.items())
    return Evidence.of_cases(ratios, at_most=1.0, given=given, note=note)
