"""An OPE tail: operators that are cut from a crossing equation are replaced by those of a theory that is solved.

```python
import numpy as np
from attractor.blackbox import bps_square, truncated_crossing

known = np.array([1.13600, 2.11148, 2.24149, 3.08567])  # dimensions on the Wilson line at coupling 0.4
for tail in (None, 4):  # without, and with the free operators from dimension 4 on
    print(truncated_crossing(bps_square(0.4), tail).squares(known)[0])
```
"""

import numpy as np

from attractor.blackbox.conformal_bootstrap import (
    bps_square,
    crossed_block,
    free_square,
    interior_point,
    truncated_crossing,
)
from attractor.blackbox.minimize import minimize_blackbox
from attractor.papers.words import Evidence, cached, claim, ratio_of_means, seeds

# The nine lowest dimensions at coupling 0.4, and the gap above, by the numerical quantum spectral curve: Integrability
# and Conformal Bootstrap: One Dimensional Defect CFT (arXiv 2107.08510). The authors' program has the same numbers.
SPECTRUM, GAP = np.array([1.1360024526900780, 2.1114849713531683, 2.2414898973615664, 3.0856688989142573,
                          3.1795380604123022, 3.2106154258526694, 3.3150208347668278, 3.3234554247857905,
                          3.4062798732892770]), 4.0697186685568622  # fmt: skip
LATE = {"the tail begins one dimension late": {"later": 1}}


def _strong(operators, tail):
    """C² of the first operator at infinite coupling, where dimensions are 2, 4, 6 …, by so many; less the exact one."""
    return truncated_crossing(2.0, tail).squares(2.0 * np.arange(1, operators + 1))[0] - 2 * free_square(2)


@claim("the exact dimensions and C² at couplings 0 and infinity solve the crossing equation to 1e-10",
       source="ours", deterministic=True,
       broken={"C² of the next dimension": {"shift": 1}, "the other's protected C²": {"swapped": True}})  # fmt: skip
def exact_data_cross(shift=0, swapped=False):
    missed, near = {}, 2.0**-40  # at dimension 1 the block has a pole and C² vanishes: their product counts
    for end, bps in (("0", 1.0), ("infinity", 2.0)):
        crossing, every = truncated_crossing(3.0 - bps if swapped else bps), int(bps)
        total = crossing.known + (near / 2 * crossed_block(1 + near, crossing.x) if end == "0" else 0)
        total = total + sum(bps * free_square(j + shift) * crossed_block(j, crossing.x) for j in range(2, 59, every))
        missed[f"coupling {end}"] = float(np.abs(total).max())
    return Evidence.of_cases(missed, at_most=1e-10)


@claim("coupling 0.4: nine known dimensions and a free tail give a first C² within what linear programs leave possible",
       source="scaled", deterministic=True,
       broken={"a tail of twice the C²": {"factor": 2.0}, "a tail of the other sign": {"factor": -1.0}})  # fmt: skip
def lies_within_the_bounds(factor=1.0):
    plain, tailed = (truncated_crossing(bps_square(0.4), tail) for tail in (None, 4))
    (low, high), without = plain.bounds(SPECTRUM, GAP), plain.squares(SPECTRUM)[0]
    found = plain._replace(known=plain.known + factor * (tailed.known - plain.known)).squares(SPECTRUM)[0]
    given = {"without a tail it does not": not low <= without <= high, "the bounds are tight": high - low < 0.01}
    note = f"{found:.5f} between {low:.5f} and {high:.5f}; {without:.5f} without"
    return Evidence((found - low) / (high - low), within=(0.0, 1.0), given=given, note=note)


@claim("infinite coupling, 3 to 6 operators: the tail of coupling 0 cuts the first C²'s error to a twentieth or less",
       source="ours", deterministic=True, broken=LATE,
       reason="to an eighth with 3 operators, a 26th with 6")  # fmt: skip
def tail_cuts_the_error(later=0):
    errors = {n: abs(_strong(n, 2 * n + 1 + later) / _strong(n, None)) for n in (3, 4, 5, 6)}
    return Evidence.of_cases({f"{n} operators": e for n, e in errors.items()}, at_most=0.05)


@claim("infinite coupling, six operators and the tail of coupling 0: the first C² to 6.8e-7, the paper's precision",
       source="scaled", deterministic=True, broken=LATE)  # fmt: skip
def reaches_the_papers_precision(later=0):
    return Evidence(abs(_strong(6, 13 + later)), at_most=6.77e-7)


@cached
def _errors(free, scale):
    """Errors of the first C² from many starts, 3 dimensions and C² unknown: interior point, and CMA-ES as long."""
    crossing, box = truncated_crossing(2.0, 7), [(1.5, 2.5), (3.5, 4.5), (5.5, 6.5)] + 3 * [(0.0, 1.0)]
    found, steps = [], 120 if scale == "quick" else 1_000

    def misfit(unknown):
        return float(np.sum((1e3 * crossing.residual(*np.split(np.asarray(unknown), 2))) ** 2))

    for number in seeds(8 if scale == "quick" else 32):
        low, high = np.transpose(box)
        start = low + np.random.default_rng(number).random(6) * (high - low)
        moves = np.repeat([free, 1.0], 3)
        inner, calls = interior_point(lambda p, s=start, m=moves: misfit(s + m * (p - s)), box, start, steps)
        other = minimize_blackbox(misfit, box, budget=calls, seed=number, progress=False)
        found.append([abs(inner[3] - 0.4), abs(other.x[3] - 0.4)])
    return np.array(found).T


@claim("three unknown dimensions and C², 8 starts: an interior point's error of the first C² is a tenth of a search's",
       source="scaled", broken={"dimensions stay where they start": {"free": 0.0}},
       reason="about a sixth, in 840 calls each from 8 starts: too few to say")  # fmt: skip
def solver_beats_search(free=1.0, *, scale):
    solver, search = _errors(free, scale)
    return Evidence(ratio_of_means(solver, search), at_most=0.1, given={"the search errs": search.mean() > 1e-4})
