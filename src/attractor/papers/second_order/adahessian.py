"""AdaHessian: Adam whose denominator follows the Hessian diagonal, estimated by one random probe per step.

```python
import jax.numpy as jnp
from attractor import Minimization, run
from attractor.second_order import adahessian

problem = Minimization(lambda w: jnp.sum(jnp.array([1.0, 1e-3]) * (w - 3.0) ** 2), jnp.zeros(2))
print(run(problem, adahessian(learning_rate=0.3), steps=200).final)  # both near 3, one a thousand times flatter
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.engine import flops_per_step
from attractor.linalg.curvature import hvp
from attractor.linalg.hutchinson import hutchinson_diagonal, rademacher_like
from attractor.method import as_method
from attractor.papers import words
from attractor.papers.words import Evidence, cached, claim, graded, key, mean, paired_ratio, run, seeds, sizes, tune
from attractor.problems.digits import digits_mlp
from attractor.problems.quadratics import diagonal_quadratic, rotated_quadratic
from attractor.registry import Choice, LogUniform, Uniform, sample
from attractor.second_order.diagonal import adahessian

# The network has its own 64 units and 22 epochs, where neither method gains a point in the second half: nearer the long
# training of the paper than 32 units and 300 steps, tried to save time, where AdaHessian was 1.8 points below Adam.
STEPS = 500
SEARCHED = {"learning_rate": LogUniform(1e-4, 1.0), "b1": Uniform(0.0, 0.95)}  # the same for both methods
_network = cached(digits_mlp)


def _without_probe(matvec, x, drawn, probes=1):
    return jax.vmap(lambda k: matvec(rademacher_like(k, x)))(jr.split(drawn, probes)).mean(0)


def _gaussian(matvec, x, drawn, probes=1):
    z = jr.normal(drawn, (probes, *x.shape))
    return (z * jax.vmap(matvec)(z)).mean(0)


@eqx.filter_jit
def _relative_errors(estimate, problem, count, keys):
    def one(drawn):
        x = problem.init(drawn)
        truth = jnp.diag(jax.hessian(lambda x: problem.loss(x, None))(x))
        found = estimate(hvp(lambda x: problem.loss(x, None), x), x, drawn, count)
        return jnp.linalg.norm(found - truth) / jnp.linalg.norm(truth)

    return jax.lax.map(one, keys)


@claim("2,000 probes give the diagonal of a dense 50-dimensional Hessian to within 5 % (Euclidean norm)",
       source="ours", broken={"product not multiplied by the probe": {"estimate": _without_probe}})  # fmt: skip
def estimates_the_diagonal(estimate=hutchinson_diagonal, *, scale):
    problem = rotated_quadratic(50, condition=1e4, seed=seeds(1)[0])
    keys = jr.split(key(), **sizes(scale, num=(16, 256)))
    return Evidence(mean(_relative_errors(estimate, problem, 2_000, keys)), at_most=0.05)


@claim("one probe gives the diagonal of a diagonal Hessian exactly (relative error at most 1e-6)",
       source="paper", broken={"Gaussian probes": {"estimate": _gaussian}})  # fmt: skip
def reads_a_diagonal_hessian_exactly(estimate=hutchinson_diagonal):
    return Evidence(float(_relative_errors(estimate, diagonal_quadratic(50, 1e4), 1, key()[None])[0]), at_most=1e-6)


def _ours(problem, how, **fixed):
    """AdaHessian with its learning rate and b1 tuned; the other parameters are numbers, too: one program for all."""
    fixed = {"b2": 0.999, "hessian_power": 1.0} | fixed
    return tune(problem, (adahessian, SEARCHED | {name: Choice((value,)) for name, value in fixed.items()}), **how)


@claim(
    "diagonal quadratic, condition 1e4: AdaHessian needs at most half of Adam's steps to 1e-6 of the loss, both tuned",
    source="ours", broken={"no curvature, retuned": {"power": 0.0}, "the root taken twice, retuned": {"power": 0.5}},
    reason="0.62 [0.55, 0.69] of the steps, with b1 tuned for both")  # fmt: skip
def halves_the_steps(power=1.0, *, scale):
    how = sizes(scale, seeds=(16, 64), budget=(32, 64), steps=2_000, target=1e-6, every=5)
    problem = diagonal_quadratic(50, condition=1e4)
    ours, adam = _ours(problem, how, hessian_power=power), tune(problem, (optax.adam, SEARCHED), **how)
    reached = {"Adam reaches the target": bool(adam.reached.all())}
    return Evidence(paired_ratio(ours.steps_to_target, adam.steps_to_target), at_most=0.5, given=reached)


@cached
def _finals(make, smoothing, factors, scale):
    """Test accuracies (split of the data, factor of the tuned rate, half and end of training), mean of 4 runs: rate and
    b1 are tuned on each split, and its last runs take so many times that rate."""
    size, found = sizes(scale, n=(6, 24), budget=(16, 64), kept=(3, 8)), []
    splits = seeds(size["n"])[: None if smoothing else size["kept"]]  # few are enough for a damaged one
    fixed = {} if make is optax.adam else {"b2": smoothing, "hessian_power": 1.0}
    configs = [one | fixed for one in sample(SEARCHED, size["budget"])]
    for split, drawn in zip(splits, np.reshape(seeds(5 * size["n"], 1), (-1, 5)).tolist(), strict=False):
        network = digits_mlp(seed=split)
        how = {"steps": STEPS, "every": STEPS // 2, "lanes": 8, "probes": graded(network, "accuracy")["probes"]}
        tried = run(network, make, sweep=configs, seeds=drawn[:1], **how).last("validation_accuracy").values[:, 0]
        best = configs[np.nan_to_num(tried, nan=-1.0).argmax()]
        rates = [best | {"learning_rate": factor * best["learning_rate"]} for factor in factors]
        found.append(run(network, make, sweep=rates, seeds=drawn[1:], **how)["test_accuracy"].values[..., 1:].mean(1))
    return np.array(found)


FACTORS = (1.0, 1 / 4, 4.0)
UNSMOOTHED = {"no smoothing of the curvature, retuned": {"smoothing": 0.0}}


@claim(
    "digits network, rate and b1 of both tuned: AdaHessian's test accuracy is higher than Adam's (difference above 0)",
    source="paper", broken=UNSMOOTHED, reason="over 6 splits, each tuned anew, no difference: "
    "one tuning's gain of half a point was that tuning's")  # fmt: skip
def is_more_accurate_than_adam(smoothing=0.999, *, scale):
    """On several splits of the data, both tuned anew on each."""
    ours = _finals(adahessian, smoothing, FACTORS, scale)[:, 0]
    adam = _finals(optax.adam, 0.999, FACTORS[:1], scale)[: len(ours), 0]
    halves = zip(100 * ours.mean(0), 100 * adam.mean(0), strict=True)
    note = "after half of the steps and all: " + ", ".join(f"{a:.1f} % and {b:.1f} %" for a, b in halves)
    return Evidence(words.paired_difference(ours[:, -1], adam[:, -1]), at_least=0.0, note=note)


@claim("digits network: a rate 4 times too small or too large costs AdaHessian at most 2 points of test accuracy",
       source="ours", broken=UNSMOOTHED, reason="4 times the rate costs 0.28 on average, "
       "with a deviation of 0.33 between splits; a quarter costs 0.015")  # fmt: skip
def tolerates_the_learning_rate(smoothing=0.999, *, scale):
    tuned, *others = _finals(adahessian, smoothing, FACTORS, scale)[..., -1].T
    factors = zip(FACTORS[1:], others, strict=True)
    drops = {f"{factor:g} times": words.paired_difference(tuned, other) for factor, other in factors}
    return Evidence.of_cases(drops, at_most=0.02, given={"it learns, tuned (above 90 %)": tuned.mean() > 0.9})


def _two_products(learning_rate):  # the Hessian product is computed twice
    inner = adahessian(learning_rate)

    def update(updates, state, params=None, *, hvp, **extra):
        twice = lambda v: jax.tree.map(lambda a, b: a / 2 + b / 4, hvp(v), hvp(jax.tree.map(lambda a: 2 * a, v)))  # noqa: E731
        return inner.update(updates, state, params, hvp=twice, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)  # pyright: ignore[reportArgumentType]


@claim("digits network, batches of 64: a step of AdaHessian is at most 3 times the arithmetic of one of Adam's",
       source="ours", broken={"two Hessian products": {"method": _two_products}}, deterministic=True)  # fmt: skip
def costs_a_few_gradients(method=adahessian):
    ours, adam = (flops_per_step(_network(), as_method(make(0.1))) for make in (method, optax.adam))
    return Evidence(ours / adam, at_most=3.0)
