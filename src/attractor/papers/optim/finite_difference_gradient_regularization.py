"""A penalty on the gradient's norm by finite differences: cheaper than exact, and with a better bias.

```python
import optax
from attractor import run
from attractor.optim import penalize_gradient_norm
from attractor.problems import digits_mlp

method = optax.chain(penalize_gradient_norm(gamma=0.05, eps=0.05), optax.adam(3e-3))
print(run(digits_mlp(width=32), method, steps=300, seeds=2).last("test_accuracy").values)
```
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.method import Gradient
from attractor.optim import gradient_penalty as lib
from attractor.optim.gradient_penalty import flooding, gradient_penalty_sgd, penalize_gradient_norm
from attractor.papers import words
from attractor.papers.words import Evidence, cached, claim, graded, key, paired_difference, paired_ratio, sizes
from attractor.problems.diagonal_network import diagonal_network
from attractor.problems.digits import digits_mlp
from attractor.registry import LogUniform


def _valley(x):
    return jnp.sum((x[1:] - x[:-1] ** 2) ** 2 + 0.1 * (1 - x[:-1]) ** 2) + jnp.sum(jnp.cos(x))


def _penalized(x, eps, scheme) -> jax.Array:  # what is added to the gradient, over gamma
    piece, g = penalize_gradient_norm(2.0, eps, scheme), jax.grad(_valley)(x)
    hvp = jax.linearize(jax.grad(_valley), x)[1]
    return (jnp.asarray(piece.update(g, piece.init(x), x, obj_fn=_valley, hvp=hvp)[0]) - g) / 2


@claim(
    "forward difference: its error against the Hessian times the gradient falls as eps to a power within 0.05 of 1",
    source="ours", broken={"gradient not subtracted": {"penalized": lambda x, eps, scheme: jax.grad(_valley)(x) / eps}},
)  # fmt: skip
def converges_to_the_exact_penalty(penalized=_penalized):
    with jax.enable_x64(True):
        x, eps = jr.normal(key(), (10,), jnp.float64), np.geomspace(1e-5, 1e-2, 7)
        exact = _penalized(x, 1.0, "exact")
        errors = [float(jnp.linalg.norm(penalized(x, e, "forward") - exact)) for e in eps]
    return Evidence(float(abs(np.polyfit(np.log(eps), np.log(errors), 1)[0] - 1)), at_most=0.05)


@claim("flooding: a step down and one up are one along the backward difference of eps = learning rate, to 1e-10",
       source="ours", broken={"forward difference": {"scheme": "forward"}})  # fmt: skip
def flooding_is_a_penalty(scheme="backward"):
    with jax.enable_x64(True):
        x, rate = jr.normal(key(1), (10,), jnp.float64), 1e-3
        start = x
        for level in (-1e9, 1e9):  # far below the loss, then far above
            piece = flooding(level)
            x = x - rate * jnp.asarray(piece.update(jax.grad(_valley)(x), piece.init(x), x, value=_valley(x))[0])
        expected = -(rate**2) * _penalized(start, rate, scheme)
        return Evidence(float(jnp.linalg.norm(x - start - expected) / jnp.linalg.norm(expected)), at_most=1e-10)


@partial(jax.jit, static_argnums=0)
def _fitted(scheme, gamma, eps, center, keys):
    """Test error and loss of diagonal networks, by penalized descent."""

    def one(key):
        problem, error = diagonal_network(key, center)
        method, x = Gradient(gradient_penalty_sgd(2e-3, gamma, eps, scheme)), problem.init(key)
        carry = (x, method.init(problem, x, key))
        (x, _), _ = jax.lax.scan(lambda c, _: (method.step(problem, *c, key), None), carry, length=20_000)
        return error(x), problem.loss(x, None)

    return jax.vmap(one)(keys)


@cached
def _sparse(scheme, gamma, center, draws):
    return np.asarray(_fitted(scheme, gamma, 0.1, center, jr.split(key(), draws)))


def _order(scheme, center, scale):
    draws = len(words.seeds(**sizes(scale, n=(10, 100))))
    methods = {"ours": (scheme, 0.02), "exact": ("exact", 0.02), "plain": ("exact", 0.0)}
    errors, losses = zip(*(_sparse(*how, center, draws) for how in methods.values()), strict=True)  # pyright: ignore[reportCallIssue]
    note = ", ".join(f"{name} {np.median(e):.3g}" for name, e in zip(methods, errors, strict=True))
    cases = {"step 0.1 over exact": paired_ratio(*errors[:2]), "exact over plain": paired_ratio(*errors[1:])}
    return Evidence.of_cases(cases, at_most=1.0, given={"all fit the data": np.max(losses) < 0.01}, note=note)


FAVORS = "diagonal network, sparse target, {}: error over that of exact, and exact over plain, at most 1"
BACKWARD = {"backward difference": {"scheme": "backward"}}


@claim(FAVORS.format("features of mean 1"), source="scaled", broken=BACKWARD)
def favors_the_sparse(scheme="forward", *, scale):
    return _order(scheme, 1.0, scale)


@claim(FAVORS.format("centered features"), source="scaled", broken=BACKWARD,
       reason="without a common mean the penalty raises the error by 3 %, and the finite step adds to it")  # fmt: skip
def favors_the_sparse_from_centered_features(scheme="forward", *, scale):
    return _order(scheme, 0.0, scale)


def _adam(scheme, stays, learning_rate, gamma):
    """Adam with the penalty; if it stays, it steps from where the difference was taken."""
    inner = optax.chain(penalize_gradient_norm(gamma, 0.1, scheme), optax.adam(learning_rate))

    def update(updates, state, params=None, *, obj_fn=None, hvp=None, **_):
        steps, state = inner.update(updates, state, params, obj_fn=obj_fn, hvp=hvp)
        return jax.tree.map(lambda u, g: u + stays * 0.1 * g, steps, updates), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


@cached
def _accuracy(scheme, stays, scale):
    """Of a small digits network, by split of the data: rate and penalty tuned on each, then 6 more runs."""
    space = {"learning_rate": LogUniform(1e-3, 0.03), "gamma": LogUniform(0.01, 1.0)}
    how = sizes(scale, n=(6, 24), budget=(8, 32), steps=400, every=400) | graded(digits_mlp(width=32), "accuracy")
    method = eqx.Partial(_adam, scheme, jnp.asarray(stays)), space
    return words.tune_splits(partial(digits_mlp, width=32), method, tuning=3, runs=6, **how)


@claim(
    "digits network, both tuned: the test accuracy with a difference of step 0.1 is at least that of the exact penalty",
    source="paper", broken={"never steps back, retuned": {"stays": 1.0}},
    reason="over 6 splits, each tuned anew, no difference: the gain seen before was one tuning's")  # fmt: skip
def generalizes_better_than_the_exact_penalty(stays=0.0, *, scale):
    ours, exact = _accuracy("forward", stays, scale), _accuracy("exact", 0.0, scale)
    return Evidence(paired_difference(ours, exact), at_least=0.0, note=f"{ours.mean():.4f} against {exact.mean():.4f}")


def _forward_difference(loss, x):
    piece, g = penalize_gradient_norm(0.1, 0.01), jax.grad(loss)(x)
    return piece.update(g, piece.init(x), x, obj_fn=loss)[0]


@cached
def _seconds():  # of a penalized gradient, in three ways and in turns; after 3 rounds to warm up
    problem = digits_mlp(width=512, depth=2, batch_size=None)
    x = problem.init(key())
    ways = _forward_difference, lib.differentiated_difference, lib.double_backpropagation
    programs = [jax.jit(partial(gradient, lambda x: problem.loss(x, problem.full))) for gradient in ways]
    return [taken[3:].min() for taken in words.seconds(*(partial(program, x) for program in programs), rounds=9)]


@claim("digits network, width 512, full batch: a penalized gradient takes at most 0.9 of double backpropagation's time",
       source="ours", broken={"differentiated through": {"way": 1}})  # fmt: skip
def is_cheaper(way=0):
    return Evidence(float(_seconds()[way] / _seconds()[-1]), at_most=0.9)
