"""Small subgradient steps from a small start recover a low-rank matrix, whatever the search rank and the outliers.

```python
from attractor import run
from attractor.optim import subgradient_descent
from attractor.problems import matrix_sensing

problem = matrix_sensing(measurements=600, search_rank=20, outliers=0.3, start=1e-3, norm="l1")
trace = run(problem, subgradient_descent(0.05, decay=0.9963), steps=2_500)
print(trace.last("error"))  # small: the truth has rank 2, and three measurements in ten are wrong
```
"""

import numpy as np

from attractor.optim.subgradient import subgradient_descent
from attractor.papers.words import Evidence, cached, claim, median, probes, run, seed, seeds, sizes
from attractor.problems.matrix import matrix_sensing

SQUARES = {"squared residuals": {"norm": "l2"}}


@cached
def _final(method, norm, search_rank, start, scale):
    """Per seed, relative error of the recovered matrix; 600 measurements, 30 % of them outliers."""
    steps = sizes(scale, steps=(2_500, 10_000))["steps"]
    problem = matrix_sensing(
        measurements=600, search_rank=search_rank, outliers=0.3, start=start, norm=norm, seed=seed(0)
    )
    # One schedule, chosen on other seeds for small starts: it ends 10,000 times smaller than it began. With the step
    # that suits a start of size 1 best, three times as large, the small start's error is a fifth of the large one's.
    made = method(0.05 if norm == "l1" else 0.005, 1e-4 ** (1 / steps))
    trace = run(problem, made, steps=steps, every=steps // 20, seeds=seeds(15), probes=probes(problem, "error"))
    return np.nan_to_num(trace["error"].values[0, :, -1], nan=np.inf)


def _constant(learning_rate, decay):
    """Steps that do not decay."""
    return subgradient_descent(learning_rate, 1.0)


@claim(
    "search rank 20 for rank 2, 30 % outliers: the error from a start of size 1e-3 is at most 0.1 times that from 1",
    source="ours",
    broken=SQUARES,
)
def a_small_start_helps(norm="l1", *, scale):
    small, large = (_final(subgradient_descent, norm, 20, start, scale) for start in (1e-3, 1.0))
    return Evidence(median(small / large), at_most=0.1, note=f"{np.median(small):.2g} against {np.median(large):.2g}")


@claim(
    "search rank 20 for rank 2, 30 % outliers: relative error at most 1e-3 from a start of size 1e-4",
    source="ours",
    broken=SQUARES,
)
def the_search_rank_does_not_matter(norm="l1", *, scale):
    return Evidence(median(_final(subgradient_descent, norm, 20, 1e-4, scale)), at_most=1e-3)


@claim(
    "search rank 2, the true one, 30 % outliers: relative error at most 1e-4 from a start of size 1e-3",
    source="ours",
    broken={"constant steps": {"method": _constant}},
)
def recovers_at_the_true_rank(method=subgradient_descent, *, scale):
    return Evidence(median(_final(method, "l1", 2, 1e-3, scale)), at_most=1e-4)
