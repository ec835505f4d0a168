"""Saddle-free Newton: steps scaled by the Hessian's absolute value escape the saddles that attract Newton's method.

```python
import jax.numpy as jnp
from attractor import Minimization, run
from attractor.second_order import SaddleFreeNewton

def loss(x):  # a saddle at 0, so flat that gradients crawl away from it; minima at x[1] = 1 and -1
    return x[0] ** 2 + 1e-4 * (x[1] ** 4 / 4 - x[1] ** 2 / 2)

problem = Minimization(loss, init=jnp.array([0.5, 0.01]))
trace = run(problem, SaddleFreeNewton(damping=1e-7), steps=20)
print(trace.final)
```
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from scipy.stats import spearmanr

from attractor.papers.words import Evidence, bootstrap, cached, claim, first_step, key, run, seeds, sizes, tune
from attractor.problem import Minimization
from attractor.problems.digits import cross_entropy, digits
from attractor.registry import LogUniform
from attractor.second_order.saddle_free import SaddleFreeNewton


class Newton(SaddleFreeNewton):
    """With the Hessian as it is."""

    def _direction(self, gradient, curvature):
        hessian = jax.vmap(curvature)(jnp.eye(gradient.size, dtype=gradient.dtype))
        return jnp.linalg.solve(hessian + self.damping * jnp.eye(gradient.size, dtype=gradient.dtype), gradient)


GRADIENT_DESCENT = optax.sgd(1.0)
SADDLE_FREE, NEWTON = SaddleFreeNewton(1.0, 1e-6), Newton(1.0, 1e-9)


@cached
def _saddle():
    """Ten dimensions up, with curvatures to 1, and five down, with 1e-4; minima about 1 away from the saddle at 0."""
    curvature = jnp.concatenate([jnp.geomspace(1e-2, 1.0, 10), jnp.full(5, -1e-4)])

    def loss(x):
        return 0.5 * jnp.sum(curvature * x**2) + 0.25e-4 * jnp.sum(x**4)

    return Minimization(loss, lambda key: 1e-2 * jr.normal(key, (15,)))


@cached
def _distances(method, steps, scale):
    """To the saddle along runs, by seed, and the recorded steps."""
    probe = {"distance": lambda problem, x, key: jnp.linalg.norm(x)}
    starts = seeds(**sizes(scale, n=(20, 200)))
    trace = run(_saddle(), method, steps=steps, seeds=starts, every=steps // 100, probes=probe)
    return trace["distance"].values[0], trace.dataset["step"].values


def _escape(method, steps, scale):
    """Steps until the distance to the saddle exceeds 0.5, by seed; infinite if never."""
    distances, at = _distances(method, steps, scale)
    return first_step(distances, 0.5, at, rising=True)


@claim(
    "leaves a saddle with downward curvature 1e-4 within 20 steps from every start",
    source="ours",
    broken={"the sign of the curvature kept": {"method": NEWTON}, "gradient descent": {"method": GRADIENT_DESCENT}},
)
def escapes_the_saddle(method=SADDLE_FREE, *, scale):
    return Evidence(float(_escape(method, 100, scale).max()), at_most=20.0)


@claim(
    "at a saddle with downward curvature 1e-4 gradient descent with step 1/L stays for 1,000 steps: all of the starts",
    source="ours",
    broken={"a saddle-free step": {"method": SADDLE_FREE}},
)
def gradient_descent_stays(method=GRADIENT_DESCENT, *, scale):
    return Evidence(float(np.mean(_escape(method, 1_000, scale) > 1_000)), at_least=1.0)


@claim(
    "at a saddle with downward curvature 1e-4 Newton's method converges to it, to 1e-5 in 20 steps: all of the starts",
    source="ours",
    broken={"a saddle-free step": {"method": SADDLE_FREE}},
)
def newton_is_attracted(method=NEWTON, *, scale):
    return Evidence(float(np.mean(_distances(method, 100, scale)[0][:, 20] < 1e-5)), at_least=1.0)


@cached
def _network():
    """127 parameters on 250 digits of three classes, averaged to 4 x 4 pixels."""
    (images, labels), _ = digits()
    chosen = np.flatnonzero(labels < 3)[:250]
    small = images[chosen].reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16)
    build = functools.partial(eqx.nn.MLP, 16, 3, 6, 1, jnp.tanh)
    return Minimization.of_model(lambda key: build(key=key), cross_entropy, (small, labels[chosen]))


MOMENTUM = functools.partial(optax.sgd, momentum=0.9)
RATES = {"learning_rate": LogUniform(1e-2, 10.0)}
SPACE = {"learning_rate": LogUniform(0.1, 1.0), "damping": LogUniform(1e-3, 1.0)}


def _trained(method, scale):
    space = RATES if method is MOMENTUM else SPACE
    return tune(_network(), (method, space), steps=50, every=50, **sizes(scale, seeds=(16, 32), budget=(8, 32))).final


@claim(
    "a small network on digits, 50 steps: train loss at most half that of tuned SGD with momentum and of damped Newton",
    source="ours",
    broken={"the sign of the curvature kept": {"method": Newton}},
)
def trains_lower(method=SaddleFreeNewton, *, scale):
    ours, newton, sgd = (_trained(m, scale) for m in (method, Newton, MOMENTUM))

    def ratio(a, b, c):
        return np.median(a, -1) / np.minimum(np.median(b, -1), np.median(c, -1))

    note = f"medians {np.median(ours):.2g}, SGD {np.median(sgd):.2g}, Newton {np.median(newton):.2g}"
    given = {"SGD and Newton do better than chance": bool(max(np.median(sgd), np.median(newton)) < np.log(3))}
    return Evidence(bootstrap(ratio, ours, sgd, newton), at_most=0.5, given=given, note=note)


def _index(eigenvalues):
    return np.mean(eigenvalues < -1e-6)


@claim(
    "critical points of a small network: loss rises with the share of negative eigenvalues, rank correlation >= 0.7",
    source="ours",
    broken={"share of positive eigenvalues": {"index": lambda eigenvalues: np.mean(eigenvalues > 1e-6)}},
)
def loss_rises_with_the_index(index=_index, *, scale):
    found = _critical_points(scale)
    loss, shares = [f for f, _ in found], [index(e) for _, e in found]
    rank = np.asarray(spearmanr(shares, loss))[0]
    return Evidence(float(rank), at_least=0.7, note=f"{len(found)} critical points, index up to {max(shares):.2f}")


@cached
def _critical_points(scale):
    """(loss, Hessian eigenvalues) at critical points: Gauss-Newton on half the squared gradient norm, started from
    points along training runs of a network with 3 hidden units on 60 digits, in float64."""
    starts = 100 if scale == "quick" else 5_000
    with jax.enable_x64(True):
        images, labels = (jnp.asarray(np.asarray(a[:60])) for a in _network().full)
        images = images.astype(float)

        def loss(z):
            hidden = jnp.tanh(images @ z[:48].reshape(16, 3) + z[48:51])
            logits = hidden @ z[51:60].reshape(3, 3) + z[60:]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean() + 1e-3 * jnp.sum(z**2)

        def train(z, steps):
            def step(i, z):
                return z - jnp.where(i < steps, 0.5, 0.0) * jax.grad(loss)(z)

            return jax.lax.fori_loop(0, 200, step, z)

        def descend(z):
            def step(carry, _):
                z, damping = carry
                g, h = jax.grad(loss)(z), jax.hessian(loss)(z)
                new = z - jnp.linalg.solve(h @ h + damping * jnp.eye(z.size), h @ g)
                better = jnp.linalg.norm(jax.grad(loss)(new)) < jnp.linalg.norm(g)
                return (jnp.where(better, new, z), jnp.where(better, damping / 3, damping * 4)), None

            z = jax.lax.scan(step, (z, 1e-2), length=150)[0][0]
            return loss(z), jnp.linalg.norm(jax.grad(loss)(z)), jnp.linalg.eigvalsh(jax.hessian(loss)(z))

        begin = 0.5 * jr.normal(key(), (starts, 63))
        z = jax.vmap(train)(begin, jnp.arange(starts) * 200 // starts)
        losses, norms, eigenvalues = map(np.asarray, jax.jit(jax.vmap(descend))(z))
    return [(losses[i], eigenvalues[i]) for i in np.flatnonzero(norms < 1e-6)]
