"""Block coordinate descent on networks split into layers: every block in closed form, down to a critical point.

```python
from attractor import run
from attractor.credit import LayerSplitting, split_digits
trace = run(split_digits(hidden=(32, 32), examples=300), LayerSplitting(proximal=0.1), steps=50, every=50)
print(trace.last("loss").values, trace.last("test_accuracy").values)
```
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor import LogUniform
from attractor.credit import LayerSplitting, SplitNetwork, layered_digits, split_digits
from attractor.papers.words import Evidence, cached, claim, graded, log_slope, paired_difference, seeds, tune
from attractor.problems.digits import digits

CROSS = optax.softmax_cross_entropy_with_integer_labels
NETWORKS = {"2 layers": {}, "4 layers, residual": {"residual": True}, "2 layers, cross-entropy": {"criterion": CROSS}}
DEEP = partial(split_digits, (32,) * 8, examples=300)
SMALL, ALPHA, DECAY, SWEEPS = {"scale": 0.25 / 32**0.5, "bias": 0.1}, 0.3, 0.1, 256


@eqx.filter_jit
def _sweeps(problem, mistaken, keys):
    """Of every key and sweep: what the objective loses, its distance from critical, and the squared step."""

    def sweep(x, _):
        seen_by_steps = eqx.tree_at(lambda p: (p.loss.penalty, p.loss.decay), problem, mistaken)
        moved, _ = LayerSplitting(ALPHA).step(seen_by_steps, x, None, jr.key(0))
        gain = problem.loss(x, problem.full) - problem.loss(moved, problem.full)
        step = optax.tree.norm(optax.tree.sub(moved, x), squared=True)
        return moved, (gain, problem.stationarity(x), step)

    return jax.vmap(lambda k: jax.lax.scan(sweep, problem.init(k), None, SWEEPS)[1])(keys)


@cached
def _course(name, penalty=1.0, decay=DECAY):
    (images, labels), how = (a[:100] for a in digits()[0]), NETWORKS[name]
    with jax.enable_x64(True):
        data = images.astype(float), labels if "criterion" in how else np.eye(10)[labels]
        problem = SplitNetwork((64, *(16,) * int(name[0]), 10), data, 1.0, decay=DECAY, **how)
        mistaken, keys = jax.tree.map(jnp.asarray, (penalty, decay)), jax.vmap(jr.key)(jnp.asarray(seeds(4)))
        return [np.asarray(a) for a in _sweeps(problem, mistaken, keys)]


@claim("digits, 2 and 4 hidden layers: each of 256 sweeps lowers the objective by min(α, γ)/2 times its squared step",
       source="paper", broken={"decay forgotten": {"decay": 0.0}})  # fmt: skip
def every_sweep_descends(penalty=1.0, decay=DECAY):
    runs = {name: _course(name, penalty, decay) for name in NETWORKS}
    cases = {name: float((gain / (steps * min(ALPHA, 1.0) / 2)).min()) for name, (gain, _, steps) in runs.items()}
    moving = {"every sweep moves": all(steps.min() > 1e-12 for _, _, steps in runs.values())}
    return Evidence.of_cases(cases, at_least=1.0, given=moving)


@claim("same runs: the squared distance from critical, at best so far, falls at least like 1/k, sweeps 16 to 256",
       source="paper", broken={"penalties twice": {"penalty": 2.0}},
       reason="-0.5 to -1.1 until sweep 256; the bound's constant leaves room until far later")  # fmt: skip
def reaches_critical_points(penalty=1.0):
    best = {name: np.minimum.accumulate(_course(name, penalty)[1] ** 2, 1) for name in NETWORKS}
    return Evidence.of_cases({name: log_slope(np.arange(SWEEPS), b, 16) for name, b in best.items()}, at_most=-1.0)


class _HiddenStay(LayerSplitting):
    def step(self, problem, x, state, key):
        new, state = super().step(problem, x, state, key)
        return new._replace(outputs=(*x.outputs[:-1], new.outputs[-1])), state


STAY = {"hidden outputs are no unknowns": {"method": _HiddenStay}}


@cached
def _blocks(method):
    problem, pair = DEEP(**SMALL), (method, {"proximal": LogUniform(1e-3, 1.0)})
    return tune(problem, pair, steps=150, every=150, budget=4, seeds=4, **graded(problem, "accuracy")).final


@cached
def _gradients(optimizer, low, high, **first):
    p, drawn = layered_digits((64, *(32,) * 8, 10), jax.nn.relu, 32), DEEP(**first).init
    start = eqx.Partial(lambda key: [(w[:, :-1], w[:, -1]) for w in drawn(key).weights])
    p = eqx.tree_at(lambda p: (p.full, p.init), p, (tuple(a[:300] for a in p.full), start))
    pair = optimizer, {"learning_rate": LogUniform(low, high)}
    return tune(p, pair, steps=600, every=600, budget=4, seeds=4, **graded(p, "accuracy")).final


@claim("digits, 8 hidden layers, small first weights, both tuned: 50 points of test accuracy more than SGD",
       source="scaled", broken=STAY)  # fmt: skip
def trains_where_gradients_vanish(method=LayerSplitting):
    ours, sgd = _blocks(method), _gradients(optax.sgd, 1e-2, 10.0, **SMALL)
    given = {"Adam trains it from weights of the usual size": _gradients(optax.adam, 3e-4, 3e-2).mean() > 0.8}
    note = f"{ours.mean():.3f}, {sgd.mean():.3f}"
    return Evidence(paired_difference(ours, sgd), at_least=0.5, given=given, note=note)


@claim("same network, both tuned: test accuracy within 3 points of Adam's from weights of the usual size",
       source="ours", broken=STAY, reason="two to five points less, and four seeds leave two to six")  # fmt: skip
def is_as_accurate_as_adam(method=LayerSplitting):
    ours, adam = _blocks(method), _gradients(optax.adam, 3e-4, 3e-2)
    note, given = f"{ours.mean():.3f}, {adam.mean():.3f}", {"Adam learns": adam.mean() > 0.8}
    return Evidence(paired_difference(ours, adam), within=(-0.03, 0.03), given=given, note=note)
