"""Sinkhorn-Newton-Sparse: a short matrix-scaling warm-up, then Newton on the dual with a thresholded Hessian.

```python
import numpy as np
from attractor.linalg import sinkhorn, sinkhorn_newton_sparse

points, targets = np.random.default_rng(0).random((2, 200, 2))
cost = ((points[:, None] - targets) ** 2).sum(-1)
weights = np.full(200, 1 / 200)
fast = sinkhorn_newton_sparse(cost, weights, weights, eta=1000.0)
slow = sinkhorn(cost, weights, weights, eta=1000.0)
print(f"{fast.iterations} iterations instead of {slow.iterations}, plans {abs(fast.plan - slow.plan).sum():.0e} apart")
```
"""

import time
from functools import partial

import numpy as np

from attractor.linalg.sinkhorn import Transport, sinkhorn, sinkhorn_newton_sparse
from attractor.papers.words import Evidence, cached, claim, paired_ratio, seeds, sizes

ETA = {"random": 500.0, "geometric": 1200.0}  # by family of costs
BLURRED = {"random": 50.0, "geometric": 50.0}

warm_up = partial(sinkhorn, max_sweeps=20)
dense_newton = partial(sinkhorn_newton_sparse, density=1.0)
# A single entry kept: the potentials of the rows no longer know of those of the columns.
uncoupled = {"solver": partial(sinkhorn_newton_sparse, density=1e-9, max_newton=100)}


@cached
def _solved(solver, family: str, eta: float, scale) -> list[tuple[Transport, float]]:
    """Solutions and their CPU seconds, one per seed."""
    size, found = sizes(scale, n=(300, 1_000), seeds=(16, 40)), []
    n = size["n"]
    for seed in seeds(size["seeds"]):
        random = np.random.default_rng(seed)
        points, targets = random.random((2, n, 2))
        cost = random.random((n, n)) if family == "random" else ((points[:, None] - targets) ** 2).sum(-1)
        weights = np.full(n, 1 / n)
        begun = time.process_time()
        found.append((solver(cost, weights, weights, eta), time.process_time() - begun))
    return found


def _ratios(solver, scale, cost):  # by family: a cost of ``solver`` over Sinkhorn's
    ratios = {}
    for family, eta in ETA.items():
        ours = [cost(*found) if found[0].error <= 1e-9 else np.inf for found in _solved(solver, family, eta, scale)]
        # Sinkhorn counts even where its 20,000 sweeps were not enough.
        theirs = [cost(*found) for found in _solved(sinkhorn, family, eta, scale)]
        ratios[family] = paired_ratio(ours, theirs)
    return ratios


@claim("the plan is that of dense Newton and that of converged Sinkhorn: at most 1e-6 of the mass is elsewhere",
       source="ours", broken={"no coupling in the Hessian": uncoupled})  # fmt: skip
def same_plan(solver=sinkhorn_newton_sparse, *, scale):
    differences, given = {}, {}
    for family, eta in ETA.items():
        for name, other in (("dense Newton", dense_newton), ("Sinkhorn", sinkhorn)):
            pairs = list(zip(_solved(solver, family, eta, scale), _solved(other, family, eta, scale), strict=True))
            # Plain Sinkhorn's 20,000 sweeps are not enough for every instance: then there is nothing to compare with.
            found = [np.abs(ours.plan - theirs.plan).sum() for (ours, _), (theirs, _) in pairs if theirs.error <= 1e-9]
            differences[f"{family} costs, {name}"] = max(found, default=np.nan)
            given[f"{family} costs: {name} converges on half of them"] = 2 * len(found) >= len(pairs)
    return Evidence.of_cases(differences, at_most=1e-6, given=given)


@claim("a marginal error of 1e-9 takes at most a tenth of Sinkhorn's iterations, warm-up included",
       source="ours", broken={"no coupling in the Hessian": uncoupled})  # fmt: skip
def tenth_of_the_iterations(solver=sinkhorn_newton_sparse, *, scale):
    return Evidence.of_cases(_ratios(solver, scale, lambda found, _: found.iterations), at_most=0.1)


@claim("a marginal error of 1e-9 takes less CPU time than with plain matrix scaling: at most 1 times its seconds",
       source="scaled",
       broken={"dense Hessian": {"solver": dense_newton}, "no coupling in the Hessian": uncoupled})  # fmt: skip
def less_time(solver=sinkhorn_newton_sparse, *, scale):
    return Evidence.of_cases(_ratios(solver, scale, lambda _, seconds: seconds), at_most=1.0)


@claim("the Hessian is almost sparse: after the warm-up fewer than 5 % of the plan's entries exceed 1e-6",
       source="ours", broken={"blurred plan (eta 50)": {"etas": BLURRED}})  # fmt: skip
def almost_sparse(etas=ETA, *, scale):
    shares = {
        f"{family} costs": max(float(np.mean(found.plan > 1e-6)) for found, _ in _solved(warm_up, family, eta, scale))
        for family, eta in etas.items()
    }
    return Evidence.of_cases(shares, at_most=0.05)
