"""AutoNumerics-Zero: evolution finds short programs of arithmetic that approximate a function, here 2^x on [0, 1].

```python
import numpy as np
from attractor.blackbox import evolve_program
found = evolve_program(np.exp2, 0.0, 1.0, max_cost=4, candidates=300)
print(found.programs[-1], f"\\n# right to {found.errors[-1]:.1e}")
```
"""

import math

import numpy as np

from attractor.blackbox import evolve_program, largest_error, tune_constants
from attractor.linalg import remez
from attractor.papers.words import Evidence, cached, claim, mean, seeds

BUDGETS, POINTS = np.array([4, 6, 8, 10]), np.linspace(0, 1, 10_001)
DRAWN = {"constants as drawn": {"fit": lambda program, x, target: program}}


@cached
def _errors(fit):
    """Largest relative errors on 10,001 points of the best program within each number of operations; by seed."""
    rows = []
    for s in seeds(4):
        how = {"candidates": 1_500, "parents": 40, "restarts": 2, "points": 25, "seed": s, "fit": fit}
        exchanges = 20 if fit is tune_constants else 0
        found = evolve_program(np.exp2, 0.0, 1.0, max_cost=10, exchanges=exchanges, **how)
        errors = np.array([largest_error(program, POINTS, np.exp2(POINTS)) for program in found.programs])
        costs = np.array([program.cost for program in found.programs])
        rows.append([errors[costs <= budget].min() for budget in BUDGETS])
    return np.array(rows)


def _polynomials(taylor=False):
    """Those of polynomials of degree 2 to 5, which take as many operations by Horner's scheme."""
    if not taylor:
        return np.array([remez(np.exp2, d, 0.0, 1.0, relative=True).error for d in BUDGETS // 2])
    terms = [math.log(2) ** k / math.factorial(k) for k in range(6)]
    sums = [np.polynomial.Polynomial(terms[: d + 1])(POINTS) for d in BUDGETS // 2]
    return np.array([np.abs(p / np.exp2(POINTS) - 1).max() for p in sums])


def _digits(rival, used, at_most, fit):
    """Decimal logarithms of evolved errors over a rival's, by number of operations."""
    logs = np.log10(_errors(fit) / rival)
    cases = {f"{BUDGETS[i]} operations": mean(logs[:, i]) for i in used}
    return Evidence.of_cases(cases, at_most=at_most, note="decimal logarithms of errors")


@claim("2^x in 4, 6 and 8 operations + - * /: evolved programs have at most a tenth of the Taylor polynomial's error",
       source="scaled", broken=DRAWN,
       reason="one of four short searches ends early; the others are more exact")  # fmt: skip
def a_tenth_of_taylors_error(fit=tune_constants):
    return _digits(_polynomials(taylor=True), (0, 1, 2), -1.0, fit)


@claim("2^x in 4, 6 and 8 operations + - * /: evolved programs are at least as exact as the best polynomials",
       source="scaled", broken=DRAWN,
       reason="half as large in 4 operations, ten times in 8: seconds of search find no long programs")  # fmt: skip
def as_exact_as_the_best_polynomials(fit=tune_constants):
    return _digits(_polynomials(), (0, 1, 2), 0.0, fit)


@claim("2^x in 6 operations + - * /: evolved programs have at most a tenth of the best polynomial's error",
       source="scaled", broken=DRAWN,
       reason="5,000 candidates make it a third to a sixth in single runs; 1,500 do not")  # fmt: skip
def a_tenth_of_the_best_polynomials_error(fit=tune_constants):
    return _digits(_polynomials(), (1,), -1.0, fit)


@claim("2^x in 10 operations + - * /, 1,500 candidates: evolved programs are right to 14 digits", source="paper",
       broken=DRAWN, reason="4.7 digits; the paper spends 10⁴ generations of CMA-ES on every candidate")  # fmt: skip
def fourteen_digits_in_ten_operations(fit=tune_constants):
    return _digits(np.ones(4), (3,), -14.0, fit)
