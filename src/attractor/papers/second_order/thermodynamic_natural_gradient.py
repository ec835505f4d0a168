"""Thermodynamic natural gradient descent: a relaxing noisy system takes the place of the linear solve.

```python
from attractor import problems, run
from attractor.second_order import ThermodynamicNaturalGradient

problem = problems.logistic_regression()
for time in (0.1, 10.0, 1e4):  # from gradient descent to natural gradient descent
    trace = run(problem, ThermodynamicNaturalGradient(0.5, time, damping=1e-3), steps=50)
    print(time, trace.last("loss").item() - problem.optimum)
```
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.objectives import Composite
from attractor.papers.words import Evidence, cached, claim, key, log_slope, paired_ratio, seeds, sizes, tune
from attractor.problems.digits import cross_entropy_of, digits
from attractor.registry import LogUniform
from attractor.second_order.regularized_newton import gauss_newton_hessian
from attractor.second_order.thermodynamic import ThermodynamicNaturalGradient, ornstein_uhlenbeck
from attractor.trees import as_vector

DAMPING = 0.1


@cached
def _network():
    """A third of the digits 0 to 3, in 4 x 4 blocks, and a network of 88 weights; all of it at each step."""
    (images, labels), _ = digits()
    images, labels = images[labels < 4][::3], labels[labels < 4][::3]
    blocks = np.reshape(images, (-1, 4, 2, 4, 2)).mean((2, 4)).reshape(-1, 16)
    build = functools.partial(eqx.nn.MLP, 16, 4, 4, 1, jax.nn.tanh)
    return Composite.of_model(lambda key: build(key=key), cross_entropy_of, (blocks, labels))


@cached
def _system():
    """The network's Fisher matrix with damping, and its gradient, at a random start."""
    problem = _network()
    x = problem.init(key())
    matrix = gauss_newton_hessian(problem, x, problem.full)
    gradient = as_vector(jax.grad(problem.loss)(x, problem.full))[0]
    return matrix.astype(float) + DAMPING * jnp.eye(len(matrix)), gradient.astype(float)


def _unforced(matrix, forcing, start, time, temperature, key):
    """The gradient only sets the start."""
    return ornstein_uhlenbeck(matrix, jnp.zeros_like(forcing), forcing, time, temperature, key)


def _undecayed(matrix, forcing, start, time, temperature, key):
    """No matrix: the state grows with the gradient."""
    return start + time * forcing


@claim(
    "digits network, no noise: the direction's error decays at the smallest eigenvalue, within 10 %, to at most 1e-3",
    source="scaled",
    broken={"gradient as the start only": {"relax": _unforced}},
)
def relaxes_to_the_natural_gradient(relax=ornstein_uhlenbeck):
    with jax.enable_x64(True):
        matrix, gradient = _system()
        exact, times = jnp.linalg.solve(matrix, gradient), jnp.linspace(0, 12, 25) / DAMPING
        states = jax.vmap(lambda t: relax(matrix, gradient, jnp.zeros_like(gradient), t, 0.0, key()))(times)
        errors = np.asarray(jnp.linalg.norm(states - exact, axis=1) / jnp.linalg.norm(exact))
        smallest = float(jnp.linalg.eigvalsh(matrix)[0])
    rate = -np.polyfit(times[5:], np.log(errors[5:]), 1)[0]
    note = f"rate {rate:.4f}, smallest eigenvalue {smallest:.4f}, last error {errors[-1]:.1e}"
    cases = {"rate, in 10 %": abs(float(rate) / smallest - 1) / 0.1, "last error, in 1e-3": float(errors[-1]) / 1e-3}
    return Evidence.of_cases(cases, at_most=1.0, note=note)


@claim(
    "after a time of 0.001 the state is parallel to the gradient: cosine at least 0.99",
    source="scaled",
    broken={"relaxed": {"time": 1e3}},
)
def a_short_time_gives_the_gradient(time=1e-3):
    with jax.enable_x64(True):
        matrix, gradient = _system()
        v = ornstein_uhlenbeck(matrix, gradient, jnp.zeros_like(gradient), time, 0.0, key())
        cosine = gradient @ v / (jnp.linalg.norm(gradient) * jnp.linalg.norm(v))
    return Evidence(float(cosine), at_least=0.99)


@claim(
    "with noise the error of the time average falls as the root of the time: exponent -0.5 within 0.1",
    source="scaled",
    broken={"no matrix": {"relax": _undecayed}},
)
def time_averages_beat_the_noise(relax=ornstein_uhlenbeck, *, scale):
    runs, samples, gap = seeds(**sizes(scale, n=(32, 256))), 2_048, 1.0 / DAMPING
    with jax.enable_x64(True):
        matrix, gradient = _system()
        matrix, gradient = matrix[:20, :20], gradient[:20]  # a part of the system, which is a system too
        exact = jnp.linalg.solve(matrix, gradient)

        def errors(key):
            def move(v, key):
                v = relax(matrix, gradient, v, gap, 1e-3, key)
                return v, v

            path = jax.lax.scan(move, exact, jr.split(key, samples))[1]
            return jnp.linalg.norm(jnp.cumsum(path, 0) / jnp.arange(1, samples + 1)[:, None] - exact, axis=1)

        found = np.asarray(jax.jit(jax.vmap(errors))(jr.split(key(), len(runs))))
    at = 2 ** np.arange(5, 12)
    return Evidence(log_slope(at, found[:, at - 1]), within=(-0.6, -0.4))


SPACE = {"learning_rate": LogUniform(0.03, 3.0), "damping": LogUniform(1e-3, 1.0)}
RELAXED = (functools.partial(ThermodynamicNaturalGradient, time=10.0), SPACE)
EXACT = (functools.partial(ThermodynamicNaturalGradient, time=1e6), SPACE)
DESCENT = (optax.sgd, {"learning_rate": LogUniform(1e-2, 10.0)})  # the limit of a time of 0
ADAM = (optax.adam, {"learning_rate": LogUniform(1e-3, 1.0)})


def _losses(method, scale):
    return tune(_network(), method, steps=100, every=100, **sizes(scale, seeds=(8, 32), budget=(8, 32))).final


@claim(
    "digits network, 100 iterations, time 10, both tuned: at most 0.7 times Adam's training loss",
    source="ours",
    broken={"no time to relax": {"ours": DESCENT}},
)
def trains_better_than_adam(ours=RELAXED, *, scale):
    adam = _losses(ADAM, scale)
    given = {"Adam does better than chance": bool(np.median(adam) < np.log(4))}
    return Evidence(paired_ratio(_losses(ours, scale), adam), at_most=0.7, given=given)


@claim(
    "digits network, 100 iterations, time 10: at most 1.1 times the training loss of the exact natural gradient, tuned",
    source="ours",
    broken={"no time to relax": {"ours": DESCENT}},
)
def trains_as_the_exact_natural_gradient(ours=RELAXED, *, scale):
    exact = _losses(EXACT, scale)
    given = {"the exact natural gradient does better than chance": bool(np.median(exact) < np.log(4))}
    return Evidence(paired_ratio(_losses(ours, scale), exact), at_most=1.1, given=given)
