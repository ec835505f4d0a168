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

from attractor.papers.words import Evidence, Interval, cached, claim, key, paired_ratio, probes, sizes, tune
from attractor.problems.digits import digits_mlp
from attractor.registry import Choice, LogUniform
from attractor.second_order.kronecker import Kfac, Mkor, rank_one_inverse_update

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
    source="ours", broken={"the formula as printed": {"update": _as_printed}},
)  # fmt: skip
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
    source="ours", broken={"inversion by products": {"update": _by_products}}, deterministic=True,
)  # fmt: skip
def cost_is_quadratic(update=rank_one_inverse_update, *, scale):
    widths = [256, 512, 1024, 2048] if scale == "quick" else [256, 512, 1024, 2048, 4096, 8192]

    def flops(width):
        shapes = jax.ShapeDtypeStruct((width, width), jnp.float32), jax.ShapeDtypeStruct((width,), jnp.float32)
        return (jax.jit(update, static_argnums=2).lower(*shapes, 0.95).compile().cost_analysis() or {})["flops"]

    slope = np.polyfit(np.log(widths), np.log([flops(width) for width in widths]), 1)[0]
    return Evidence(float(slope), at_most=2.4)


RATE = {"learning_rate": LogUniform(1e-3, 3.0)}
RIVALS = {  # momentum, LAMB and K-FAC, which the paper compares with
    "momentum": (functools.partial(optax.sgd, momentum=0.9), RATE),
    "LAMB": (optax.lamb, RATE),
    "K-FAC": (Kfac, RATE | {"damping": LogUniform(1e-4, 1.0)}),
}


def _mkor(**fixed):
    """With its defaults, or with others in their place: numbers, so that all run the same program."""
    fixed = {"decay": 0.95, "threshold": 2.0, "blend": 0.9} | fixed
    return Mkor, RATE | {name: Choice((value,)) for name, value in fixed.items()}


OURS = _mkor()
WITHOUT = {
    "factors stay the identity, retuned": {"ours": _mkor(decay=1.0)},
    "half the identity mixed in at every step, retuned": {"ours": _mkor(threshold=1e-9, blend=0.5)},
}


def _tuned(method, scale):
    """Steps to a training loss of 0.05."""
    options = sizes(scale, seeds=(16, 64), budget=(16, 32), steps=250, every=10, target=0.05)
    return tune(_network(), method, probes=probes(_network(), "loss"), **options)


def _against(name, scale, ours, cost=lambda entry: 1.0):
    """Steps to the loss, or what they cost, in those of a rival."""
    one, other = _tuned(ours, scale), _tuned(RIVALS[name], scale)
    return paired_ratio(one.steps_to_target * cost(one), other.steps_to_target * cost(other))


def _given(scale, *names):
    return {f"{name} reaches the loss": bool(_tuned(RIVALS[name], scale).reached.all()) for name in names}


@claim(
    "digits network: reaches a training loss of 0.05 in at most 0.7 times the steps of momentum SGD, both tuned",
    source="ours", broken=WITHOUT,
)  # fmt: skip
def saves_steps(ours=OURS, *, scale):
    return Evidence(_against("momentum", scale, ours), at_most=0.7, given=_given(scale, "momentum"))


@claim(
    "digits network, all tuned: a training loss of 0.05 in fewer steps (ratio below 1) than LAMB and than K-FAC",
    source="paper", broken=WITHOUT,
)  # fmt: skip
def outperforms_lamb_and_kfac(ours=OURS, *, scale):
    cases = {name: _against(name, scale, ours) for name in ("LAMB", "K-FAC")}
    return Evidence.of_cases(cases, at_most=1.0, given=_given(scale, "LAMB", "K-FAC"))


@claim(
    "digits network, all tuned: arithmetic to a loss of 0.05 at most 1/2.57 of LAMB's and 1/1.85 of K-FAC's",
    source="paper", broken=WITHOUT,
)  # fmt: skip
def saves_as_much_as_in_the_headline(ours=OURS, *, scale):
    """The ratio of operations, times the factor of the headline."""
    cases = {}
    for name, factor in {"LAMB": 2.57, "K-FAC": 1.85}.items():
        ratio = _against(name, scale, ours, cost=lambda entry: entry.flops_per_step)
        cases[name] = Interval(*(factor * v for v in (ratio.value, ratio.low, ratio.high)))
    return Evidence.of_cases(cases, at_most=1.0, given=_given(scale, "LAMB", "K-FAC"))
