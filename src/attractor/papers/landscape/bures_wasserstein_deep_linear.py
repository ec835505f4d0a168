"""Deep linear generators under the Bures-Wasserstein loss: what is stationary, what is a minimum, and descent to it.

```python
import jax, jax.numpy as jnp
from attractor.landscape import generator_critical_points, generator_loss

target = jnp.diag(jnp.array([4.0, 3.0, 2.0, 1.0]))
factors, losses = generator_critical_points(target, 2)
print(losses, abs(jax.grad(lambda w: generator_loss([w], target))(factors[3])).max())
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape import decoupled_start, deep_linear_map, generator_critical_points, generator_loss
from attractor.papers.words import Evidence, cached, claim, first_step, key, log_slopes, mean, seeds

N, RANK, VALUES = 8, 3, np.arange(8, 0, -1) / 8  # eigenvalues of the target, in random directions


def _target(key):
    frame = jnp.linalg.qr(jr.normal(key, (N, N)))[0]
    return (frame * VALUES) @ frame.T


def _unrooted(target, rank):  # kept eigenvalues where their roots belong
    factors, losses = generator_critical_points(target, rank)
    return factors * jnp.linalg.norm(factors, axis=1, keepdims=True), losses


@claim("8 x 8 target, rank 3: at all 56 choices of eigenpairs the slope vanishes, the loss is the rest's sum, to 1e-6",
       source="paper", broken={"eigenvalues not rooted": {"critical": _unrooted}})  # fmt: skip
def every_choice_of_eigenpairs_is_stationary(critical=generator_critical_points):
    with jax.enable_x64(True):
        target = _target(key())
        factors, losses = critical(target, RANK)
        values, slopes = jax.jit(jax.vmap(jax.value_and_grad(lambda w: generator_loss([w], target))))(factors)
        cases = {"slope": jnp.abs(slopes).max(), "loss": jnp.abs(values - losses).max()}
        return Evidence.of_cases({name: float(off) for name, off in cases.items()}, at_most=1e-6)


@claim("8 x 8 target, rank 3: all 55 critical points but that of the largest eigenvalues have curvature below -0.1",
       source="ours", broken={"the first counted with them": {"since": 0}})  # fmt: skip
def only_the_top_one_is_a_minimum(since=1):
    with jax.enable_x64(True):
        target = _target(key())
        curvature = jax.hessian(lambda w: generator_loss([w.reshape(N, RANK)], target))
        factors = generator_critical_points(target, RANK)[0].reshape(-1, N * RANK)
        lowest = np.asarray(jax.jit(jax.vmap(lambda w: jnp.linalg.eigvalsh(curvature(w))[0]))(factors))
        return Evidence(float(lowest[since:].max()), at_most=-0.1, given={"the first has none": lowest[0] > -1e-6})


def _wrong_root(weights, target):
    return generator_loss(weights, target @ target) - jnp.trace(target @ target) + jnp.trace(target)


@partial(jax.jit, static_argnums=(1, 2))
def _descend(keys, depth, loss, slowing):
    def one(key):
        target = _target(key)
        start = decoupled_start(jr.normal(jr.fold_in(key, 1), (N, RANK)), depth, 1.0, jr.fold_in(key, 2), width=RANK)

        def step(i, weights):
            return jax.tree.map(lambda w, g: w - 0.05 / (1 + slowing * i) * g, weights, jax.grad(loss)(weights, target))

        def record(weights, i):
            weights = jax.lax.fori_loop(10 * i, 10 * i + 10, step, weights)
            return weights, generator_loss([deep_linear_map(weights)], target)

        return jax.lax.scan(record, start, jnp.arange(250))[1]

    return jax.vmap(one)(keys)


@cached
def _excess(depth, loss=generator_loss, slowing=0.0):
    """Of 2,500 steps from balanced starts, over the sum of the dropped eigenvalues, by seed and every ten steps."""
    with jax.enable_x64(True):
        keys = jnp.stack([jr.key(s) for s in seeds(10)])
        return np.asarray(_descend(keys, depth, loss, slowing)) - VALUES[RANK:].sum()


@claim("descent from balanced starts, depths 1 and 3, rank 3 of 8: all 10 runs end within 1e-3 of the dropped sum",
       source="scaled", broken={"the target in place of its root": {"loss": _wrong_root}})  # fmt: skip
def descent_finds_the_minimum(loss=generator_loss):
    ends = {f"{depth} layers": _excess(depth, loss)[:, -1] for depth in (1, 3)}
    return Evidence.of_cases({name: float(np.abs(end).max()) for name, end in ends.items()}, at_most=1e-3)


@claim("descent's tail is linear, depths 1 and 3: from excess 1e-6 to 1e-8 it takes as long as from 1e-4, to 25 %",
       source="scaled", broken={"steps that shrink as 1 / t": {"slowing": 0.002}})  # fmt: skip
def convergence_is_linear(slowing=0.0):
    cases = {}
    for depth in (1, 3):
        at = [np.minimum(first_step(_excess(depth, slowing=slowing), level), 1e6) for level in (1e-4, 1e-6, 1e-8)]
        cases[f"{depth} layers"] = mean((at[2] - at[1]) / np.maximum(at[1] - at[0], 1))
    return Evidence.of_cases(cases, within=(0.8, 1.25))


@claim("one layer: as its least singular value s goes from 1e-1 to 1e-3 the largest curvature grows as 1 / s",
       source="ours", broken={"smoothed by 0.1": {"smoothing": 0.1}})  # fmt: skip
def curvature_blows_up_at_lower_rank(smoothing=None):
    sizes = np.geomspace(1e-3, 1e-1, 5)
    with jax.enable_x64(True):
        target, (left, _, right) = _target(key()), jnp.linalg.svd(jr.normal(key(1), (N, RANK)), full_matrices=False)

        def largest(size):
            w = (left * jnp.array([1.0, 0.7, 0.0]).at[2].set(size)) @ right
            curvature = jax.hessian(lambda w: generator_loss([w.reshape(N, RANK)], target, smoothing))(w.ravel())
            return jnp.abs(jnp.linalg.eigvalsh(curvature)).max()

        return Evidence(float(log_slopes(sizes, jax.jit(jax.vmap(largest))(sizes))[0]), within=(-1.1, -0.9))
