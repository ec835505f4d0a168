"""PSGD: gradient descent preconditioned by a factor on a Lie group that whitens Hessian-vector pairs.

```python
import jax.numpy as jnp
from attractor import Minimization, run
from attractor.second_order import psgd

valley = Minimization(lambda w: 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2, init=jnp.array([-1.2, 1.0]))
optimizer = psgd(learning_rate=0.5, group="triangular", fit_probability=1.0)
print(run(valley, optimizer, steps=500).final)  # 1, 1
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax import lax

from attractor.papers.words import Evidence, cached, claim, first_step, key, mean, paired_ratio, run, seeds, sizes, tune
from attractor.problems.digits import digits_mlp
from attractor.problems.rosenbrock import rosenbrock
from attractor.registry import Choice, LogUniform
from attractor.second_order.lie_group import Triangular, psgd


def _without_inverse(preconditioner, v, h, step, key):
    """The probe goes through Q in place of its inverse transposed."""
    q = preconditioner.q
    slope = jnp.triu(jnp.outer(q @ h, q @ h) - jnp.outer(q @ v, q @ v))
    return Triangular(q - step * slope @ q / jnp.linalg.norm(slope))


@claim(
    "indefinite 10 x 10 Hessians of condition 100: the triangular group's P is within 10 % of |H|^-1 (Frobenius norm)",
    source="ours", broken={"probe not multiplied by the inverse": {"fitted": _without_inverse}})  # fmt: skip
def finds_the_absolute_inverse(fitted=Triangular.fitted, *, scale):
    dim, fits = 10, 5_000

    def error(key):
        signs, basis, start = jr.split(key, 3)
        eigenvalues = jnp.geomspace(0.1, 10.0, dim)
        basis = jnp.linalg.qr(jr.normal(basis, (dim, dim)))[0]
        hessian = basis * (eigenvalues * jr.rademacher(signs, (dim,))) @ basis.T

        def fit(preconditioner, given):
            key, rate = given
            v = jr.normal(key, (dim,))
            return fitted(preconditioner, v, hessian @ v, rate, key), None

        rates = jnp.linspace(0.1, 0.0, fits)  # an indefinite H leaves noise at a constant rate
        q = lax.scan(fit, Triangular.identity(jnp.ones(dim), start), (jr.split(start, fits), rates))[0].q
        truth = basis / eigenvalues @ basis.T
        return jnp.linalg.norm(q.T @ q - truth) / jnp.linalg.norm(truth)

    matrices = len(seeds(**sizes(scale, n=(16, 256))))
    return Evidence(mean(np.asarray(jax.jit(jax.vmap(error))(jr.split(key(), matrices)))), at_most=0.1)


@claim(
    "Rosenbrock's valley to 1e-6, defaults: at most a fifth of tuned gradient descent's gradients (Hessian product: 2)",
    source="ours", broken={"preconditioner not fitted": {"psgd": functools.partial(psgd, fit_rate=1e-9)}})  # fmt: skip
def crosses_the_valley(psgd=psgd):
    ours = run(rosenbrock(), psgd(group="triangular", fit_probability=1.0), steps=4_000, seeds=seeds(8), every=20)
    gradients = 3 * first_step(ours["loss"].values[0], 1e-6, ours["loss"].step.values)
    descent = tune(rosenbrock(), (optax.sgd, {"learning_rate": LogUniform(1e-4, 1e-2)}), steps=30_000, every=100,
                   target=1e-6)  # fmt: skip
    baseline = descent.steps_to_target
    return Evidence(paired_ratio(gradients, baseline), at_most=0.2,
                    given={"gradient descent gets there": descent.reached.all()},
                    note=f"medians {np.median(gradients):g} and {np.median(baseline):g} gradients")  # fmt: skip


_digits = cached(functools.partial(digits_mlp, width=16))  # one object, so that its programs are compiled once


@cached
def _make(group):
    return functools.partial(psgd, group=group)


ADAM = optax.adam, {"learning_rate": LogUniform(1e-3, 0.1)}


def _how():
    return {"steps": 200, "every": 20, "probes": {"loss": _digits().probes["loss"]}}


def _losses(method, scale):
    return tune(_digits(), method, **_how(), **sizes(scale, seeds=(16, 64), budget=(8, 32))).final


UNFITTED = {"preconditioner not fitted": {"fit": 1e-9, "groups": ("cross",)}}


@claim(
    "digits network, defaults, cross and low-rank groups: tuned Adam's training loss in at most 0.7 of its 200 steps",
    source="ours", broken=UNFITTED, reason="at its defaults most runs end above the loss of tuned Adam")  # fmt: skip
def overtakes_adam(fit=0.1, groups=("cross", "low-rank"), *, scale):
    drawn, adam, ratios = seeds(**sizes(scale, n=(16, 64))), _losses(ADAM, scale), {}
    how = _how() | {"sweep": {"learning_rate": [0.1], "fit_rate": [fit]}, "seeds": drawn, "lanes": len(drawn)}
    for group in groups:
        loss = run(_digits(), _make(group), **how)["loss"]
        steps = first_step(loss.values[0], adam, loss.step.values)
        ratios[group] = paired_ratio(steps, np.full(len(steps), 200.0))
    return Evidence.of_cases(ratios, at_most=0.7)


@claim("digits network, 200 steps, rates tuned, fit rate 0.1: cross and low-rank groups end with at most Adam's loss",
       source="paper", broken=UNFITTED, reason="the low-rank group ends at 1.32 [1.06, 1.64] times its loss; "
       "the cross group, 1.00, is not decided")  # fmt: skip
def outperforms_adam_when_tuned(fit=0.1, groups=("cross", "low-rank"), *, scale):
    space, adam = {"learning_rate": LogUniform(1e-2, 1.0), "fit_rate": Choice((fit,))}, _losses(ADAM, scale)
    given = {"Adam learns (a loss below 0.5)": bool(np.median(adam) < 0.5)}
    ratios = {group: paired_ratio(_losses((_make(group), space), scale), adam) for group in groups}
    return Evidence.of_cases(ratios, at_most=1.0, given=given)
