"""Lion-K: sign momentum with decay solves a box-constrained problem, and other functions give other constraints.

```python
import jax.numpy as jnp
from attractor import Minimization, run
from attractor.optim import lion_k, unit_vector

problem = Minimization(lambda w: jnp.sum((w - 3.0) ** 2), init=jnp.zeros(2))
trace = run(problem, lion_k(1e-2, unit_vector, weight_decay=1.0), steps=1_000, every=1_000)
print(trace.last("loss").values)  # 10.5, at 0.71, 0.71: the point of the unit ball next to 3, 3
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize

from attractor.optim import sign as lib
from attractor.optim.sign import lion_k, lion_lyapunov, unit_vector
from attractor.papers.words import Evidence, cached, claim, seed, sizes
from attractor.problems.quadratics import minimizer_in_ball

RATE, STEPS = 1e-3, 20_000
TARGET = np.array([2.0, -1.5, 0.5, -0.25])


@cached
def _matrices(scale):  # of 8 quadratics (64 in full), whose optimum is TARGET
    roots = np.random.default_rng(seed()).standard_normal((*sizes(scale, n=(8, 64)).values(), 4, 4))
    return np.eye(4) + 0.3 * roots @ roots.transpose(0, 2, 1)


def _loss_and_slope(matrix, x):
    return (x - TARGET) @ matrix @ (x - TARGET) / 2, matrix @ (x - TARGET)


def _run(optimizer, start, scale, steps=STEPS):
    """All iterates on the quadratics, ``(n, steps, 4)``, in double precision."""

    def descend(matrix, x):
        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(_loss_and_slope(matrix, x)[1], state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), x

        return jax.lax.scan(step, (x, optimizer.init(x)), length=steps)[1]

    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.vmap(descend, (0, None)))(_matrices(scale), jnp.asarray(start, jnp.float64)))


def _distance(method, solutions, scale, weight_decay=1.0):
    """The largest distance in a coordinate from the solutions at the end, over all quadratics."""
    end = _run(method(RATE, weight_decay=weight_decay), np.zeros(4), scale)[:, -1]
    return float(np.abs(end - solutions).max())


COUPLED = {"decay in the gradient": {  # a penalty, added to it before the momentum
    "lion": lambda rate, weight_decay: optax.chain(optax.add_decayed_weights(weight_decay), lion_k(rate))}}  # fmt: skip
OTHERS = {"no decay": {"lion": lambda rate, weight_decay: optax.lion(rate, weight_decay=0.0)}} | COUPLED


@claim("8 quadratics, optimum outside the box, decay 1: Lion ends within 2e-3 of L-BFGS-B's solutions in the unit box",
       source="ours", broken=OTHERS | {"AdamW": {"lion": optax.adamw}})  # fmt: skip
def solves_the_box(lion=optax.lion, *, scale):
    how = {"jac": True, "method": "L-BFGS-B", "bounds": [(-1, 1)] * 4, "tol": 1e-14}
    boxes = np.array([minimize(partial(_loss_and_slope, m), np.zeros(4), **how).x for m in _matrices(scale)])
    given = {"the box binds, and not in all coordinates": bool((np.abs(boxes) < 0.99).any(1).all())}
    return Evidence(_distance(lion, boxes, scale), at_most=2e-3, given=given)


@claim("started outside the box: max|x| - 1 shrinks at least as fast as (1 - learning rate)^t (excess at most 1e-9)",
       source="paper", broken=OTHERS | {"AdamW": {"lion": optax.adamw}})  # fmt: skip
def enters_the_box(lion=optax.lion, *, scale):
    path = _run(lion(RATE, weight_decay=1.0), np.array([5.0, -4.0, 3.0, 0.0]), scale, 5_000)
    outside = np.maximum(np.abs(path).max(2) - 1, 0)
    return Evidence(float(np.max(outside - 4.0 * (1 - RATE) ** np.arange(1, path.shape[1] + 1))), at_most=1e-9)


@claim("8 quadratics, Euclidean norm for K, decay 1: ends within 2e-3 of the minimizers in the unit ball",
       source="ours", broken={"the sign, as in Lion": {"subgradient": jnp.sign}, "not divided by the length":
                              {"subgradient": lambda z: z}})  # fmt: skip
def solves_the_ball(subgradient=unit_vector, *, scale):
    solutions = np.array([minimizer_in_ball(matrix, TARGET) for matrix in _matrices(scale)])
    return Evidence(_distance(partial(lion_k, subgradient=subgradient), solutions, scale), at_most=2e-3)


def _without_gap(value, x, m, convex, conjugate, *, alpha, gamma, epsilon, weight_decay):
    """The penalized loss alone, without the energy of the momentum."""
    return alpha * value + gamma / weight_decay * conjugate(weight_decay * x)


@claim("smooth K, Euler steps of 1e-3: the Lyapunov function never rises by more than 1e-12", source="scaled",
       broken={"without the gap between K and its conjugate": {"lyapunov": _without_gap}})  # fmt: skip
def never_rises(lyapunov=lion_lyapunov, *, scale):
    dt, rates = 1e-3, {"alpha": 1.0, "gamma": 1.0, "epsilon": 0.5, "weight_decay": 1.0}

    def descend(matrix):
        def step(carry, _):
            x, m = carry
            loss, slope = _loss_and_slope(matrix, x)
            g = rates["alpha"] * slope + rates["gamma"] * m
            h = lyapunov(loss, x, m, lib.smoothed_absolute_sum, lib.smoothed_absolute_conjugate, **rates)
            velocity = jax.grad(lib.smoothed_absolute_sum)(m - rates["epsilon"] * g) - rates["weight_decay"] * x
            return (x + dt * velocity, m - dt * g), h

        start = jnp.array([-0.5, 0.5, 0.5, -0.5]), jnp.array([-20.0, 20.0, 10.0, -10.0])  # uphill
        return jax.lax.scan(step, start, length=STEPS)[1]

    with jax.enable_x64(True):
        energy = np.asarray(jax.jit(jax.vmap(descend))(_matrices(scale)))
    return Evidence(float(np.diff(energy).max()), at_most=1e-12, note=f"from {energy[0, 0]:.3f} to {energy[0, -1]:.3f}")


@claim("8 quadratics, decay 0.2, the optimum inside the box: Lion ends within 1e-2 of the free optimum",
       source="ours", broken=COUPLED)  # fmt: skip
def leaves_an_inner_optimum_alone(lion=optax.lion, *, scale):
    return Evidence(_distance(lion, TARGET, scale, weight_decay=0.2), at_most=1e-2)
