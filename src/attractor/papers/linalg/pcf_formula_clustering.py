"""Formulas for constants, told apart by how they converge: polynomial continued fractions, clustered blindly.

```python
import mpmath
from attractor.linalg import certified, dynamics

a, b = [3, 6], [0, 0, -1]  # 3 - 1 / (9 - 4 / (15 - …))
print(dynamics(a, b))  # 1.5 digits per term; delta tells good approximations, and needs no limit
print(certified(a, b, (2, 0, 0, 1), mpmath.ln2))  # it is 2 / ln 2, to 50 digits
```
"""

import numpy as np
from sklearn.cluster import HDBSCAN
from sklearn.preprocessing import RobustScaler

from attractor.extras import needs
from attractor.linalg.continued_fractions import certified, convergents, dynamics, fraction_grid, limits, recognize
from attractor.papers.words import Evidence, cached, claim

with needs("papers"):
    import mpmath

CONSTANTS = {name: getattr(mpmath, name) for name in ("pi", "e", "ln2", "catalan")}
DECOYS = {name: c + mpmath.mpf("0.07") for name, c in CONSTANTS.items()}


@cached
def recognized(decoys=False):
    """By constant: a, b and coefficients of up to 100 fractions that double precision takes for it, spread evenly."""
    a, b = fraction_grid()
    value, converged = limits(a, b)
    kept = np.flatnonzero(converged & np.isfinite(value) & (value != 0))
    constants = DECOYS if decoys else CONSTANTS
    found = recognize(value[kept], {name: float(c) for name, c in constants.items()}, bound=8)
    by_name = {name: [m for m in found if m.constant == name] for name in constants}
    return {name: [(a[kept[m.index]].tolist(), b[kept[m.index]].tolist(), m.coefficients)
                   for m in some[:: max(len(some) // 100, 1)][:100]] for name, some in by_name.items()}  # fmt: skip


@cached
def certificates(decoys=False):
    """By constant, how many of those are right to 50 digits."""
    constants = DECOYS if decoys else CONSTANTS
    return {name: sum(certified(a, b, how, constants[name]) for a, b, how in some)
            for name, some in recognized(decoys).items()}  # fmt: skip


def earlier(a, b, terms=60):
    ((p, q),) = convergents(a, b, (3 * terms // 4,))
    with mpmath.workdps(400):
        return dynamics(a, b, terms, mpmath.mpf(p) / q)


@claim("127,000 continued fractions: pi, e, ln 2 and Catalan's constant are found, each certified to 50 digits",
       source="scaled", deterministic=True, broken={"constants moved by 0.07": {"decoys": True}})  # fmt: skip
def constants_are_rediscovered(decoys=False):
    counts = certificates(decoys)
    return Evidence.of_cases({name: float(n) for name, n in counts.items()}, at_least=1.0, note="of up to 100 tried")


@claim("fractions that double precision takes for one of four constants: 99 of 100 are right to 50 digits, or more",
       source="ours", deterministic=True, broken={"constants moved by 0.07": {"decoys": True}})  # fmt: skip
def guesses_are_right(decoys=False):
    tried = sum(len(some) for some in recognized(decoys).values())
    return Evidence(sum(certificates(decoys).values()) / max(tried, 1), at_least=0.99, note=f"{tried} tried")


@claim("fractions for four constants: delta without the limit is within 0.02 of delta with it, after 60 terms",
       source="ours", deterministic=True, broken={"an earlier convergent": {"blind": earlier}})  # fmt: skip
def blind_delta_is_near(blind=dynamics):
    apart = {}
    with mpmath.workdps(400):
        for name, some in recognized().items():
            exact = [(i + j * CONSTANTS[name]) / (k + l * CONSTANTS[name]) for _, _, (i, j, k, l) in some[::5]]
            known = [dynamics(a, b, 60, x).delta for (a, b, _), x in zip(some[::5], exact, strict=True)]
            found = [blind(a, b, 60).delta for a, b, _ in some[::5]]
            apart[name] = float(np.abs(np.array(found) - known).max())
    return Evidence.of_cases(apart, at_most=0.02)


@claim("fractions for four constants, clustered by convergence alone: 80 of 100 are with their own, or more",
       source="ours", deterministic=True, broken={"metrics of others": {"shift": 37}})  # fmt: skip
def clusters_share_constants(shift=0):
    rows = [(dynamics(a, b, 60), name) for name, some in recognized().items() for a, b, _ in some]
    names = np.array([name for _, name in rows])
    metrics = RobustScaler().fit_transform([list(row) for row, _ in rows])  # delta, digits per term, growth
    labels = HDBSCAN(min_cluster_size=5, copy=True).fit_predict(np.roll(metrics, shift, 0) if shift else metrics)  # pyright: ignore
    shares = [np.unique(names[labels == k], return_counts=True)[1].max() for k in range(labels.max() + 1)]
    given = {"half of them are in clusters": (labels >= 0).mean() >= 0.5, "four clusters": labels.max() >= 3,
             "no constant has half": max(np.unique(names, return_counts=True)[1]) < 0.5 * len(names)}  # fmt: skip
    return Evidence(float(sum(shares) / max((labels >= 0).sum(), 1)), at_least=0.8, given=given)
