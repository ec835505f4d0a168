"""Lifted matrix sensing: in tensor powers of odd, high enough order a spurious minimum has a way down.

```python
import jax.numpy as jnp
from attractor.landscape import kronecker_power, perturbed_completion, weighted_factor_hessian

weights, target = perturbed_completion(5, 0.3)
x = jnp.array([-0.937, 0.0, -0.937, 0.0, 0.793])  # a spurious minimum
for order in (1, 2, 3):
    lifted = [kronecker_power(part, order) for part in (x, weights, target)]
    print(order, jnp.linalg.eigvalsh(weighted_factor_hessian(*lifted))[0])
```
"""

import jax
import jax.numpy as jnp
import numpy as np

from attractor.landscape import extreme_eigenvalues
from attractor.landscape import matrix_sensing as lib
from attractor.landscape.matrix_sensing import kronecker_power, weighted_factor_hessian, weighted_factor_loss
from attractor.papers.words import Evidence, cached, claim, mean, seeds

SLOPE = jax.jit(jax.grad(weighted_factor_loss))
LOWEST = jax.jit(lambda x, w, m: jnp.linalg.eigvalsh(weighted_factor_hessian(x, w, m))[0])


@cached
def _spurious(n, eps):
    """The minimum with the largest loss that descent finds from the corners of the cube; weights and target."""
    with jax.enable_x64(True):
        return lib.spurious_completion(n, eps)


def _lifted(parts, order):
    return [kronecker_power(part, order) for part in parts]


def _bad_minima(sizes):  # that these are spurious minima of the problem as it was posed
    return {f"n = {n}: a minimum of loss above 0.3": float(weighted_factor_loss(*_spurious(n, 0.3))) > 0.3
            and float(LOWEST(*_spurious(n, 0.3))) > 0.5 for n in sizes}  # fmt: skip


def _unweighted(parts, order):
    return _lifted((parts[0], jnp.ones_like(parts[1]), parts[2]), order)


def _halved(parts, order):
    return _lifted((*parts[:2], parts[2] / 2), order)


@claim("completion with eps = 0.3, n = 5: the spurious minimum's lifts of order 1, 2 and 3 have slopes below 1e-8",
       source="paper", deterministic=True,
       broken={"weights not lifted": {"lift": _unweighted}, "half the target": {"lift": _halved}})  # fmt: skip
def lifts_stay_stationary(lift=_lifted):
    with jax.enable_x64(True):
        slopes = {str(order): float(jnp.linalg.norm(SLOPE(*lift(_spurious(5, 0.3), order)))) for order in (1, 2, 3)}
        return Evidence.of_cases(slopes, at_most=1e-8, given=_bad_minima([5]))


@claim("completion with eps = 0.3, n = 5 and 7: lifted to order 3, the spurious minimum has curvature below -0.1",
       source="ours", deterministic=True, broken={"order 2": {"order": 2}, "eps = 0.01": {"eps": 0.01}})  # fmt: skip
def order_three_makes_it_a_strict_saddle(order=3, eps=0.3):
    with jax.enable_x64(True):
        lowest = {f"n = {n}": float(LOWEST(*_lifted(_spurious(n, eps), order))) for n in (5, 7)}
        return Evidence.of_cases(lowest, at_most=-0.1, given=_bad_minima([5, 7]))


@claim("completion with eps = 0.3, n = 5: of orders 1 to 5, the odd ones from 3 on have curvature below -0.1, 2 none",
       source="scaled", deterministic=True, broken={"eps = 0.01": {"eps": 0.01}})  # fmt: skip
def curvature_by_order(eps=0.3):
    with jax.enable_x64(True):
        parts = _spurious(5, eps)
        lowest = {order: float(LOWEST(*_lifted(parts, order))) for order in (1, 2, 3)}
        x, weights, target = _lifted(parts, 5)
        hessian = weighted_factor_hessian(x, weights, target)
        lowest[5] = float(extreme_eigenvalues(lambda v: hessian @ v, x, iterations=60)[0])
        cases = {str(order): value if order > 2 else -value for order, value in lowest.items()}
        return Evidence.of_cases(cases, at_most=-0.1, given=_bad_minima([5]), note="signs of 1 and 2 turned")


@claim("completion with eps = 0.3, n = 5: lifted to order 3, the truth stays a minimum (curvature above -1e-8)",
       source="paper", deterministic=True, broken={"the spurious minimum": {"at": "spurious"}})  # fmt: skip
def the_truth_stays_a_minimum(at="truth"):
    with jax.enable_x64(True):
        x, weights, target = _spurious(5, 0.3)
        truth = jnp.diagonal(target) if at == "truth" else x
        exact = {"its loss is 0": at != "truth" or float(weighted_factor_loss(truth, weights, target)) < 1e-20}
        return Evidence(float(LOWEST(*_lifted((truth, weights, target), 3))), at_least=-1e-8, given=exact)


@claim("descent from 1e-3 beside the spurious minimum, eps = 0.3, n = 5: at order 3 the loss falls to 9 tenths or less",
       source="scaled", broken={"order 1": {"order": 1}, "order 2": {"order": 2}})  # fmt: skip
def descent_escapes_when_lifted(order=3, rate=0.02, steps=3_000):
    with jax.enable_x64(True):
        x, weights, target = _lifted(_spurious(5, 0.3), order)

        def descend(start):
            return jax.lax.fori_loop(0, steps, lambda _, w: w - rate * SLOPE(w, weights, target), start)

        moved = 1e-3 * np.stack([np.random.default_rng(s).standard_normal(x.size) for s in seeds(8)])
        losses = jax.vmap(lambda w: weighted_factor_loss(w, weights, target))(jax.jit(jax.vmap(descend))(x + moved))
        return Evidence(mean(losses / weighted_factor_loss(x, weights, target)), at_most=0.9, given=_bad_minima([5]))
