"""MKOR: Kronecker-factored preconditioning with inverse factors kept current by rank-one updates.

```python
import equinox as eqx
import jax.numpy as jnp
from attractor import Composite, run
from attractor.problems.digits import cross_entropy_of, digits
from attractor.second_order import Mkor

train, _ = digits()
problem = Composite.of_model(  # any model of eqx.nn.Linear layers
    lambda key: eqx.nn.MLP(64, 10, 64, 1, key=key), cross_entropy_of, train, batch_size=64
)
trace = run(problem, Mkor(learning_rate=0.1), steps=200)
print(trace["loss"])
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax import lax

from attractor.papers.words import Evidence, cached, claim, key, paired_ratio, probes, sizes, tune
from attractor.problems.digits import digits_mlp
from attractor.registry import LogUniform
from attractor.second_order.kronecker import Mkor, rank_one_inverse_update

_network = cached(digits_mlp)


def _as_printed(inverse, vector, decay):
    """The paper's formula to the letter: the term of rank one is added."""
    image = inverse @ vector
    return decay * inverse + (1 - decay) / (decay**2 * (1 + decay * (1 - decay) * vector @ image)) * jnp.outer(
        image, image
    )


def _by_products(inverse, vector, decay):
    """The running mean of the factor itself, inverted by one round of Newton and Schulz."""
    factor = decay * inverse + (1 - decay) * jnp.outer(vector, vector)
    return 2 * inverse - inverse @ factor @ inverse


@claim(
    "200 rank-one updates give the inverse of the running mean to a relative 1e-6 (float64)",
    source="ours",
    broken={"the formula as printed": {"update": _as_printed}},
)
def recursion_is_exact(update=rank_one_inverse_update):
    with jax.enable_x64(True):
        size, decay = 50, 0.95
        vectors = jr.normal(key(0), (200, size))
        inverse = lax.scan(lambda m, v: (update(m, v, decay), None), jnp.eye(size), vectors)[0]
        factor = lax.scan(lambda m, v: (decay * m + (1 - decay) * jnp.outer(v, v), None), jnp.eye(size), vectors)[0]
        exact = jnp.linalg.inv(factor)
        return Evidence(float(jnp.linalg.norm(inverse - exact) / jnp.linalg.norm(exact)), at_most=1e-6)


@claim(
    "widths 256 to 2,048: the arithmetic of an update grows with an exponent of at most 2.4",
    source="ours",
    broken={"inversion by products": {"update": _by_products}},
    deterministic=True,
)
def cost_is_quadratic(update=rank_one_inverse_update, *, scale):
    widths = [256, 512, 1024, 2048] if scale == "quick" else [256, 512, 1024, 2048, 4096, 8192]

    def flops(width):
        shapes = jax.ShapeDtypeStruct((width, width), jnp.float32), jax.ShapeDtypeStruct((width,), jnp.float32)
        return (jax.jit(update, static_argnums=2).lower(*shapes, 0.95).compile().cost_analysis() or {})["flops"]

    slope = np.polyfit(np.log(widths), np.log([flops(width) for width in widths]), 1)[0]
    return Evidence(float(slope), at_most=2.4)


def _momentum(learning_rate):
    return optax.sgd(learning_rate, 0.9)


def _tuned(method, scale):
    """Steps to a training loss of 0.05."""
    problem, space = _network(), {"learning_rate": LogUniform(1e-3, 3.0)}
    options = sizes(scale, seeds=(8, 16), budget=(8, 16), steps=250, every=10, target=0.05)
    return tune(problem, (method, space), probes=probes(problem, "loss"), **options)


@claim(
    "digits network: reaches a training loss of 0.05 in at most 0.7 times the steps of momentum SGD, both tuned",
    source="ours",
    broken={"factors stay the identity": {"method": functools.partial(Mkor, decay=1.0)}},
)
def saves_steps(method=Mkor, *, scale):
    ours, baseline = _tuned(method, scale), _tuned(_momentum, scale)
    note = f"medians {np.median(ours.steps_to_target):g} and {np.median(baseline.steps_to_target):g} steps"
    ratio = paired_ratio(ours.steps_to_target, baseline.steps_to_target)
    return Evidence(ratio, at_most=0.7, given={"momentum reaches the loss": bool(baseline.reached.all())}, note=note)
