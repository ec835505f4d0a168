"""AdamP and SGDP: momentum without the radial steps that inflate scale-invariant weights.

```python
import jax.numpy as jnp
from attractor import Minimization, run
from attractor.optim import adamp

target = jnp.array([[0.6, 0.8, 0.0]])
loss = lambda w: jnp.sum((w / jnp.linalg.norm(w) - target) ** 2)  # only the direction of w counts
problem = Minimization(loss, init=jnp.array([[1.0, 0.0, 1.0]]))
print(run(problem, adamp(0.1), steps=200, every=200).last("loss").values)  # near 0
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.optim.projected import adamp, sgdp
from attractor.papers import words
from attractor.papers.words import Evidence, cached, claim, graded, mean, paired_difference, paired_ratio
from attractor.problems.digits import classifier
from attractor.problems.rosenbrock import rosenbrock_on_sphere
from attractor.registry import LogUniform

DIM, STEPS = 20, 500
METHODS = {"SGDP": sgdp, "AdamP": adamp}
RATES = np.geomspace(0.002, 2.0, 7)  # searched by both sides; the third, 0.02, is that of "equal rates"
SPACES = {"SGDP": LogUniform(1e-2, 3.0), "AdamP": LogUniform(1e-3, 0.1)}  # on the digits
# Shares: of the method's projection, and of one that removes the part along the gradient by mistake. PLAIN is momentum
# SGD or Adam. They are numbers, so that one program serves all.
WHOLE, PLAIN = (1.0, 0.0), (0.0, 0.0)
HALF, FLIPPED = {"half of the radial part": {"share": (0.5, 0.0)}}, {"sign of the projection": {"share": (-1.0, 0.0)}}
ALONG = {"along the gradient": {"share": (0.0, 1.0)}}


def _method(name, share, learning_rate):
    whole, plain = METHODS[name](learning_rate), METHODS[name](learning_rate, delta=0.0)

    def update(updates, state, params=None):
        steps, _ = plain.update(updates, state, params)
        projected, state = whole.update(updates, state, params)

        def mix(u, p, g):
            return u + share[0] * (p - u) - share[1] * jnp.sum(u * g) / (jnp.sum(g * g) + 1e-12) * g

        return jax.tree.map(mix, steps, projected, updates), state

    return optax.GradientTransformation(whole.init, update)


@eqx.filter_jit
def _descend(name, share, rates, starts):
    def path(rate, w):
        optimizer = _method(name, share, rate)

        def step(carry, _):
            w, state = carry
            u, state = optimizer.update(jax.grad(rosenbrock_on_sphere)(w), state, w)
            growth = jnp.sum((w + u) ** 2) - jnp.sum(w**2) - jnp.sum(u**2)  # pyright: ignore[reportOperatorIssue]
            return (w + u, state), jnp.maximum(jnp.abs(jnp.sum(w * u)), jnp.abs(growth))

        (w, _), errors = jax.lax.scan(step, (w, optimizer.init(w)), length=STEPS)
        return rosenbrock_on_sphere(w), jnp.sum(w**2), errors.max()

    return jax.vmap(jax.vmap(path, (None, 0)), (0, None))(rates, starts)


@cached
def _ends(name, share, scale):
    """Loss, growth of the squared norm from 1, and its largest error in 500 steps, each ``(rates, seeds)``."""
    n = words.sizes(scale, n=(32, 1_000))["n"]
    with jax.enable_x64(True):
        drawn = jax.vmap(lambda k: jr.normal(k, (1, DIM), jnp.float64))(jr.split(words.key(), n))
        starts = drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)
        loss, size, error = _descend(name, jnp.asarray(share), jnp.asarray(RATES), starts)
        return np.asarray(loss), np.asarray(size) - 1, np.asarray(error)


@claim("scale-invariant loss: steps of SGDP and AdamP are orthogonal to w, and |w|^2 grows by theirs alone, to 1e-8",
       source="paper", broken=HALF)  # fmt: skip
def grows_by_the_steps_alone(share=WHOLE, *, scale):
    errors = {name: float(_ends(name, share, scale)[2][2].max()) for name in METHODS}
    return Evidence.of_cases(errors, at_most=1e-8)


@claim("Rosenbrock on the sphere, equal rates: SGDP and AdamP at least halve the growth of the squared norm",
       source="ours", broken=FLIPPED)  # fmt: skip
def keeps_norms_small(share=WHOLE, *, scale):
    ratios = {n: paired_ratio(_ends(n, PLAIN, scale)[1][2], _ends(n, share, scale)[1][2]) for n in METHODS}
    return Evidence.of_cases(ratios, at_least=2.0)


@claim("Rosenbrock on the sphere, equal rates: the loss after 500 steps is at most 0.7 of that without the projection",
       source="ours", broken=FLIPPED)  # fmt: skip
def gets_further(share=WHOLE, *, scale):
    ratios = {n: paired_ratio(_ends(n, share, scale)[0][2], _ends(n, PLAIN, scale)[0][2]) for n in METHODS}
    return Evidence.of_cases(ratios, at_most=0.7)


@claim("Rosenbrock on the sphere, both at the best of 7 rates: loss at most 0.7 of that without the projection",
       source="ours", broken=FLIPPED)  # fmt: skip
def gets_further_when_tuned(share=WHOLE, *, scale):
    def best(name, share):
        losses = _ends(name, share, scale)[0]
        return losses[np.log(losses).mean(1).argmin()]

    return Evidence.of_cases({n: paired_ratio(best(n, share), best(n, PLAIN)) for n in METHODS}, at_most=0.7)


def _normalized(key):  # a hidden layer whose weights count by their direction alone
    first, second = jr.split(key)
    hidden = eqx.nn.WeightNorm(eqx.nn.Linear(64, 32, key=first))
    return eqx.nn.Sequential([hidden, eqx.nn.Lambda(jax.nn.relu), eqx.nn.Linear(32, 10, key=second)])


_network = cached(lambda: classifier(_normalized, batch_size=32))


def _with_cosine(name, share, learning_rate):
    return _method(name, share, optax.cosine_decay_schedule(learning_rate, STEPS))


def _accuracy(name, share, scale):
    size = words.sizes(scale, seeds=(32, 256), budget=8, steps=STEPS, every=STEPS)
    made = eqx.Partial(_with_cosine, name, jnp.asarray(share)), {"learning_rate": SPACES[name]}
    return words.tune(_network(), made, **graded(_network(), "accuracy"), **size).final


def _against_plain(name, share, scale):
    ours, plain = _accuracy(name, share, scale), _accuracy(name, PLAIN, scale)
    note = f"{100 * mean(ours).value:.2f} % against {100 * mean(plain).value:.2f} %"
    return Evidence(paired_difference(ours, plain), at_least=-0.003, note=note)


@claim("digits, normalized weights, both tuned, cosine decay: test accuracy at most 0.3 points below momentum SGD's",
       source="ours", broken=ALONG)  # fmt: skip
def is_as_accurate_as_momentum(share=WHOLE, *, scale):
    return _against_plain("SGDP", share, scale)


@claim("digits, normalized weights, both tuned, cosine decay: AdamP's test accuracy is at most 0.3 points below Adam's",
       source="ours", broken=ALONG)  # fmt: skip
def is_as_accurate_as_adam(share=WHOLE, *, scale):
    return _against_plain("AdamP", share, scale)
