"""Saddle-free Newton: steps scaled by the Hessian's absolute value escape the saddles that attract Newton's method.

```python
import jax.numpy as jnp
from attractor import Minimization, run
from attractor.second_order import SaddleFreeNewton

# A saddle at 0, so flat that gradients crawl away from it; minima at x[1] = 1 and -1.
loss = lambda x: x[0] ** 2 + 1e-4 * (x[1] ** 4 / 4 - x[1] ** 2 / 2)
problem = Minimization(loss, init=jnp.array([0.5, 0.01]))
print(run(problem, SaddleFreeNewton(damping=1e-7), steps=20).final)
```
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.optim.stationarity import critical_points
from attractor.papers.words import Evidence, bootstrap, cached, claim, first_step, key, run, seeds, sizes, tune
from attractor.problems.digits import small_digits, small_digits_mlp
from attractor.problems.multimodal import quartic_saddle
from attractor.registry import LogUniform
from attractor.second_order.saddle_free import SaddleFreeNewton
from attractor.stats import rank_correlation


class Kind(SaddleFreeNewton):
    """Along the saddle-free direction, Newton's (with the Hessian as it is), or the gradient; one program for all."""

    kind: Any = 0

    def _direction(self, gradient, curvature):
        def newton():
            eye = jnp.eye(gradient.size, dtype=gradient.dtype)
            return jnp.linalg.solve(jax.vmap(curvature)(eye) + self.damping * eye, gradient)

        saddle_free = functools.partial(super()._direction, gradient, curvature)
        return jax.lax.switch(self.kind, (saddle_free, newton, lambda: gradient))


SADDLE_FREE, NEWTON, DESCENT = range(3)
ESCAPING = {"a saddle-free step": {"kind": SADDLE_FREE}}
_saddle = cached(quartic_saddle)  # one object, so that all kinds run one program


@cached
def _distances(kind, scale):
    """To the saddle at each of 1,000 steps of size 1, which is 1/L: (seeds, steps)."""
    method, damping = eqx.Partial(Kind, kind=jnp.asarray(kind)), 1e-9 if kind == NEWTON else 1e-6
    how = {"sweep": {"damping": [damping]}, "seeds": seeds(**sizes(scale, n=(20, 200)))}
    return run(_saddle(), method, steps=1_000, every=1, **how)["distance"].values[0]


@claim("leaves a saddle with downward curvature 1e-4 within 20 steps from every start", source="ours",
       broken={"the sign of the curvature kept": {"kind": NEWTON}, "gradient descent": {"kind": DESCENT}})  # fmt: skip
def escapes_the_saddle(kind=SADDLE_FREE, *, scale):
    return Evidence(float(first_step(_distances(kind, scale), 0.5, rising=True).max()), at_most=20.0)


@claim("at a saddle with downward curvature 1e-4 gradient descent with step 1/L stays for 1,000 steps: all starts",
       source="ours", broken=ESCAPING)  # fmt: skip
def gradient_descent_stays(kind=DESCENT, *, scale):
    left = first_step(_distances(kind, scale), 0.5, rising=True)
    return Evidence(float(np.mean(left > 1_000)), at_least=1.0)


@claim("at a saddle with downward curvature 1e-4 Newton's method converges to it, to 1e-5 in 20 steps: all starts",
       source="ours", broken=ESCAPING | {"the Hessian left out": {"kind": DESCENT}})  # fmt: skip
def newton_is_attracted(kind=NEWTON, *, scale):
    return Evidence(float(np.mean(_distances(kind, scale)[:, 20] < 1e-5)), at_least=1.0)


_network = cached(functools.partial(small_digits_mlp, 3, 6, count=250))  # 127 weights
MOMENTUM = functools.partial(optax.sgd, momentum=0.9), {"learning_rate": LogUniform(1e-2, 10.0)}
SPACE = {"learning_rate": LogUniform(0.1, 1.0), "damping": LogUniform(1e-3, 1.0)}


@claim("a small digits network, 50 steps: train loss at most half that of tuned SGD with momentum and of damped Newton",
       source="ours", broken={"the sign of the curvature kept": {"kind": NEWTON}})  # fmt: skip
def trains_lower(kind=SADDLE_FREE, *, scale):
    how = sizes(scale, seeds=(16, 32), budget=(8, 32), steps=50, every=50)
    methods = [MOMENTUM if k == DESCENT else (eqx.Partial(Kind, kind=jnp.asarray(k)), SPACE) for k in (kind, NEWTON)]
    ours, newton, sgd = (tune(_network(), method, **how).final for method in (*methods, MOMENTUM))
    ratio = lambda a, b, c: np.median(a, -1) / np.minimum(np.median(b, -1), np.median(c, -1))  # noqa: E731
    note = f"medians {np.median(ours):.2g}, SGD {np.median(sgd):.2g}, Newton {np.median(newton):.2g}"
    given = {"SGD and Newton do better than chance": bool(max(np.median(sgd), np.median(newton)) < np.log(3))}
    return Evidence(bootstrap(ratio, ours, sgd, newton), at_most=0.5, given=given, note=note)


@cached
def _critical_points(scale):
    """Near points along training runs of a network with 3 hidden units on 60 digits, in float64."""
    with jax.enable_x64(True):
        starts, (images, labels) = sizes(scale, n=(80, 5_000))["n"], (jnp.asarray(a[:60]) for a in small_digits(3))

        def loss(z):
            hidden = jnp.tanh(images.astype(float) @ z[:48].reshape(16, 3) + z[48:51])
            logits = hidden @ z[51:60].reshape(3, 3) + z[60:]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean() + 1e-3 * jnp.sum(z**2)

        def train(i, z):
            return jax.lax.fori_loop(0, i * 200 // starts, lambda _, z: z - 0.5 * jax.grad(loss)(z), z)

        return critical_points(loss, jax.vmap(train)(jnp.arange(starts), 0.5 * jr.normal(key(), (starts, 63))))


@claim("critical points of a small network: loss rises with the share of negative eigenvalues, rank correlation >= 0.7",
       source="ours", broken={"share of positive eigenvalues": {"sign": -1.0}})  # fmt: skip
def loss_rises_with_the_index(sign=1.0, *, scale):
    losses, eigenvalues = _critical_points(scale)
    shares = (sign * eigenvalues < -1e-6).mean(-1)
    given = {"20 critical points of 4 indices": len(losses) >= 20 and len(np.unique(shares)) >= 4}
    note = f"{len(losses)} critical points, index up to {shares.max():.2f}"
    return Evidence(rank_correlation(shares, losses), at_least=0.7, given=given, note=note)
