"""Lion-K: sign momentum with decay solves a box-constrained problem, and other functions give other constraints.

```python
import jax
import jax.numpy as jnp
import optax
from attractor.optim import lion_k, unit_vector

optimizer = lion_k(1e-2, unit_vector, weight_decay=1.0)  # stay in the unit ball
w = jnp.zeros(2)
state = optimizer.init(w)

@jax.jit
def step(w, state):
    updates, state = optimizer.update(jax.grad(lambda w: jnp.sum((w - 3.0) ** 2))(w), state, w)
    return optax.apply_updates(w, updates), state

for _ in range(1_000):
    w, state = step(w, state)
print(w)  # 0.71, 0.71: the point of the unit ball next to 3, 3
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import brentq, minimize

from attractor.optim.sign import lion_k, lion_lyapunov, unit_vector
from attractor.papers.words import Evidence, cached, claim, seed

RATE, STEPS = 1e-3, 20_000
TARGET = np.array([2.0, -1.5, 0.5, -0.25])


@cached
def _matrix():
    root = np.random.default_rng(seed()).standard_normal((4, 4))
    return np.eye(4) + 0.3 * root @ root.T


def _loss(x):
    return (x - TARGET) @ _matrix() @ (x - TARGET) / 2


def _gradient(x):
    return _matrix() @ (x - TARGET)


def _run(optimizer, start, steps=STEPS):
    """All iterates, in double precision."""
    with jax.enable_x64(True):
        x = jnp.asarray(start, jnp.float64)

        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(_gradient(x), state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), x

        return np.asarray(jax.jit(lambda c: jax.lax.scan(step, c, length=steps)[1])((x, optimizer.init(x))))


def _coupled(learning_rate, b1=0.9, b2=0.99, weight_decay=0.0):
    """The decay is a penalty, added to the gradient before the momentum."""
    return optax.chain(optax.add_decayed_weights(weight_decay), lion_k(learning_rate, b1=b1, b2=b2))


_ball = functools.partial(lion_k, subgradient=unit_vector)
OTHERS = {
    "no decay": {"lion": lambda rate, weight_decay: optax.lion(rate, weight_decay=0.0)},
    "AdamW": {"lion": optax.adamw},
    "decay in the gradient": {"lion": _coupled},
}


@claim(
    "quadratic, optimum outside the box, decay 1: Lion ends within 2e-3 of L-BFGS-B's solution in the unit box",
    source="ours",
    broken=OTHERS,
)
def solves_the_box(lion=optax.lion):
    box = minimize(_loss, np.zeros(4), jac=_gradient, method="L-BFGS-B", bounds=[(-1, 1)] * 4, tol=1e-14).x
    end = _run(lion(RATE, weight_decay=1.0), np.zeros(4))[-1]
    return Evidence(float(np.abs(end - box).max()), at_most=2e-3, note=f"loss gap {_loss(end) - _loss(box):.1e}")


@claim(
    "started outside the box: max|x| - 1 shrinks at least as fast as (1 - learning rate)^t (excess at most 1e-9)",
    source="paper",
    broken=OTHERS,
)
def enters_the_box(lion=optax.lion):
    path = _run(lion(RATE, weight_decay=1.0), np.array([5.0, -4.0, 3.0, 0.0]), 5_000)
    outside = np.maximum(np.abs(path).max(1) - 1, 0)
    bound = 4.0 * (1 - RATE) ** np.arange(1, len(path) + 1)
    return Evidence(float(np.max(outside - bound)), at_most=1e-9)


@claim(
    "quadratic, Euclidean norm for K, decay 1: ends within 2e-3 of the minimizer in the unit ball",
    source="ours",
    broken={
        "the sign, as in Lion": {"lion": lion_k},
        "no decay": {"lion": lambda rate, weight_decay: lion_k(rate, unit_vector)},
    },
)
def solves_the_ball(lion=_ball):
    def minimizer(multiplier):
        return np.linalg.solve(_matrix() + multiplier * np.eye(4), _matrix() @ TARGET)

    ball = minimizer(brentq(lambda m: np.linalg.norm(minimizer(m)) - 1, 0.0, 100.0, xtol=1e-14))
    end = _run(lion(RATE, weight_decay=1.0), np.zeros(4))[-1]
    return Evidence(float(np.linalg.norm(end - ball)), at_most=2e-3)


SMOOTHING = 0.1


def _smooth(z):
    """A smooth K: the sum of absolute values with rounded corners."""
    return jnp.sum(jnp.sqrt(z**2 + SMOOTHING**2))


def _smooth_conjugate(z):
    return -SMOOTHING * jnp.sum(jnp.sqrt(1 - z**2))


def _without_gap(value, x, m, convex, conjugate, *, alpha, gamma, epsilon, weight_decay):
    """The penalized loss alone, without the energy of the momentum."""
    return alpha * value + gamma / weight_decay * conjugate(weight_decay * x)


@claim(
    "smooth K, Euler steps of 1e-3: the Lyapunov function never rises by more than 1e-12",
    source="scaled",
    broken={"without the gap between K and its conjugate": {"lyapunov": _without_gap}},
)
def never_rises(lyapunov=lion_lyapunov):
    dt, rates = 1e-3, {"alpha": 1.0, "gamma": 1.0, "epsilon": 0.5, "weight_decay": 1.0}
    with jax.enable_x64(True):

        def step(carry, _):
            x, m = carry
            g = rates["alpha"] * _gradient(x) + rates["gamma"] * m
            h = lyapunov(_loss(x), x, m, _smooth, _smooth_conjugate, **rates)
            velocity = jax.grad(_smooth)(m - rates["epsilon"] * g) - rates["weight_decay"] * x
            return (x + dt * velocity, m - dt * g), h

        start = jnp.array([-0.5, 0.5, 0.5, -0.5]), jnp.array([-20.0, 20.0, 10.0, -10.0])  # uphill
        energy = np.asarray(jax.jit(lambda c: jax.lax.scan(step, c, length=STEPS)[1])(start))
    return Evidence(float(np.diff(energy).max()), at_most=1e-12, note=f"from {energy[0]:.3f} to {energy[-1]:.3f}")


@claim(
    "decay 0.2, the optimum inside the box: Lion ends within 1e-2 of the free optimum",
    source="ours",
    broken={"decay in the gradient": {"lion": _coupled}},
)
def leaves_an_inner_optimum_alone(lion=optax.lion):
    end = _run(lion(RATE, weight_decay=0.2), np.zeros(4))[-1]
    return Evidence(float(np.abs(end - TARGET).max()), at_most=1e-2)
