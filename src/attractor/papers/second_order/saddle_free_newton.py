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

from attractor.comparison import compare
from attractor.engine import run
from attractor.papers import Evidence, claim
from attractor.problem import Minimization
from attractor.problems.digits import cross_entropy, digits
from attractor.registry import LogUniform
from attractor.second_order.saddle_free import SaddleFreeNewton
from attractor.stats import bootstrap

SLUG = "saddle-free-newton"


class Newton(SaddleFreeNewton):
    """With the Hessian as it is."""

    def _direction(self, gradient, curvature):
        hessian = jax.vmap(curvature)(jnp.eye(gradient.size, dtype=gradient.dtype))
        return jnp.linalg.solve(hessian + self.damping * jnp.eye(gradient.size, dtype=gradient.dtype), gradient)


@functools.cache
def _saddle():
    """Ten dimensions up, with curvatures to 1, and five down, with 1e-4; minima about 1 away from the saddle at 0."""
    curvature = jnp.concatenate([jnp.geomspace(1e-2, 1.0, 10), jnp.full(5, -1e-4)])

    def loss(x):
        return 0.5 * jnp.sum(curvature * x**2) + 0.25e-4 * jnp.sum(x**4)

    return Minimization(loss, lambda key: 1e-2 * jr.normal(key, (15,)))


def _distance(problem, x, key):
    return jnp.linalg.norm(x)


def _escape(method, steps, scale):
    """Steps until the distance to the saddle exceeds 0.5, by seed; infinite if never."""
    seeds = 20 if scale == "quick" else 200
    trace = run(_saddle(), method, steps=steps, seeds=seeds, every=max(steps // 100, 1), probes={"distance": _distance})
    far = trace["distance"].values[0] > 0.5
    return np.where(far.any(1), trace.dataset["step"].values[far.argmax(1)], np.inf), trace


@claim(
    SLUG,
    "leaves a saddle with downward curvature 1e-4 within 20 steps from every start",
    broken={"the sign of the curvature kept": {"method": Newton}, "gradient descent": {"method": None}},
)
def escapes_the_saddle(method=SaddleFreeNewton, *, scale):
    made = optax.sgd(1.0) if method is None else method(1.0, 1e-6)
    steps, _ = _escape(made, 100, scale)
    return Evidence(float(min(steps.max(), 1e9)), at_most=20.0)


GRADIENT_DESCENT = optax.sgd(1.0)


@claim(
    SLUG,
    "there, gradient descent with step 1/L is still at the saddle after 1,000 steps, from every start",
    broken={"a saddle-free step": {"method": SaddleFreeNewton(1.0, 1e-6)}},
)
def gradient_descent_stays(method=GRADIENT_DESCENT, *, scale):
    steps, _ = _escape(method, 1_000, scale)
    return Evidence(float(np.mean(steps > 1_000)), at_least=1.0)


@claim(
    SLUG,
    "and Newton's method converges to the saddle, to 1e-5, from every start",
    broken={"a saddle-free step": {"method": SaddleFreeNewton}},
)
def newton_is_attracted(method=Newton, *, scale):
    made = method(1.0, 1e-9)  # pyright: ignore[reportCallIssue]
    _, trace = _escape(made, 20, scale)
    return Evidence(float(np.mean(trace.last("distance").values < 1e-5)), at_least=1.0)


@functools.cache
def _network():
    """127 parameters on 250 digits of three classes, averaged to 4 x 4 pixels."""
    (images, labels), _ = digits()
    chosen = np.flatnonzero(labels < 3)[:250]
    small = images[chosen].reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16)
    build = functools.partial(eqx.nn.MLP, 16, 3, 6, 1, jnp.tanh)
    return Minimization.of_model(lambda key: build(key=key), cross_entropy, (small, labels[chosen]))


@functools.cache
def _trained(method, space, steps, scale):
    seeds, budget = (16, 8) if scale == "quick" else (32, 32)
    options = {"steps": steps, "every": steps, "seeds": seeds, "budget": budget}
    return compare(_network(), {"it": (method, dict(space))}, **options)["it"].final


SPACE = (("learning_rate", LogUniform(0.1, 1.0)), ("damping", LogUniform(1e-3, 1.0)))
RATES = (("learning_rate", LogUniform(1e-2, 10.0)),)


@claim(
    SLUG,
    "a small network on digits, 50 steps: train loss at most half that of tuned SGD with momentum and of damped Newton",
    broken={"the sign of the curvature kept": {"method": Newton}},
)
def trains_lower(method=SaddleFreeNewton, *, scale):
    ours, newton = _trained(method, SPACE, 50, scale), _trained(Newton, SPACE, 50, scale)
    sgd = _trained(functools.partial(optax.sgd, momentum=0.9), RATES, 50, scale)

    def ratio(a, b, c):
        return np.median(a, -1) / np.minimum(np.median(b, -1), np.median(c, -1))

    note = f"medians {np.median(ours):.2g}, SGD {np.median(sgd):.2g}, Newton {np.median(newton):.2g}"
    return Evidence(bootstrap(ratio, ours, sgd, newton), at_most=0.5, note=note)


def _index(eigenvalues):
    return np.mean(eigenvalues < -1e-6)


@claim(
    SLUG,
    "over the critical points that a small network's gradient norm leads to, loss rises with the share of negative "
    "eigenvalues: rank correlation above 0.7",
    broken={"share of positive eigenvalues": {"index": lambda eigenvalues: np.mean(eigenvalues > 1e-6)}},
)
def loss_rises_with_the_index(index=_index, *, scale):
    found = _critical_points(scale)
    loss, shares = [f for f, _ in found], [index(e) for _, e in found]
    rank = np.asarray(spearmanr(shares, loss))[0]
    return Evidence(float(rank), at_least=0.7, note=f"{len(found)} critical points, index up to {max(shares):.2f}")


@functools.cache
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

        begin = 0.5 * jr.normal(jr.key(0), (starts, 63))
        z = jax.vmap(train)(begin, jnp.arange(starts) * 200 // starts)
        losses, norms, eigenvalues = map(np.asarray, jax.jit(jax.vmap(descend))(z))
    return [(losses[i], eigenvalues[i]) for i in np.flatnonzero(norms < 1e-6)]
