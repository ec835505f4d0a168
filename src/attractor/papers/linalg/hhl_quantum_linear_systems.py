"""A quantum computer's solution of a linear system, simulated: what of it can be seen without one.

```python
import numpy as np
from attractor.linalg import hhl

A, b = np.array([[1.0, 0.3], [0.3, -0.5]]), np.array([1.0, 2.0])
found, x = hhl(A, b, clock_qubits=9), np.linalg.solve(A, b)
print(f"fidelity {found.fidelity(x):.4f}, x'x = {found.expectation(np.eye(2)):.2f}, exactly {x @ x:.2f}")
```
"""

from functools import partial

import numpy as np

from attractor.linalg.quantum_systems import hhl, random_hermitian
from attractor.papers.words import Evidence, cached, claim, log_slope, mean, seeds

CLOCKS, CONDITIONS, SIZES = np.arange(6, 12), np.array([2, 4, 8, 16]), np.array([8, 16, 32, 64, 128])


def unsigned(A, b, clock_qubits, **how):
    """All eigenvalues are taken for positive."""
    values, vectors = np.linalg.eigh(A)
    return hhl((vectors * np.abs(values)) @ vectors.conj().T, b, clock_qubits, **how)


@cached
def _misses(solve, clock, n, condition):
    """Infidelity, relative error of x'Mx for a random M, and success times condition², one of each a seed."""
    rows = []
    for s in seeds(32):
        random = np.random.default_rng(s)
        A, M, b = random_hermitian(s, n, condition), random_hermitian(s, n, 2.0), random.standard_normal(n)
        x, found = np.linalg.solve(A, b), solve(A, b, int(clock))
        M = M @ M  # positive, so that x'Mx is no small difference of large numbers
        error = abs(found.expectation(M) / (x.conj() @ M @ x).real - 1)
        rows.append((1 - found.fidelity(x), error, found.success * condition**2))
    return np.array(rows).T


def _infidelities(solve, settings):
    return np.stack([_misses(solve, *setting)[0] for setting in settings], 1)


@claim("eigenvalues on the clock's grid, of both signs: the prepared state is the solution's to 1e-10, and so is x'x",
       source="paper", deterministic=True,
       broken={"read as positive": {"solve": unsigned}, "sine window": {"window": "sine"}})  # fmt: skip
def exact_on_the_grid(solve=hhl, window="uniform"):
    values, b = np.array([0.125, -0.25, 0.5, -1.0, 0.75]), np.array([1.0, 2.0, -1.0, 0.5, 1.5])
    vectors = np.linalg.qr(np.vander(np.arange(1.0, 6.0)))[0]
    found = solve((vectors * values) @ vectors.T, b, 5, time=16 * np.pi, window=window)
    x = vectors @ ((vectors.T @ b) / values)
    cases = {"infidelity": 1 - found.fidelity(x), "x'x": abs(found.expectation(np.eye(5)) / (x @ x) - 1)}
    return Evidence.of_cases(cases, at_most=1e-10)


@claim("8 unknowns, conditions 2, 4, 8, a clock of 9 qubits: infidelity of at most 1 %, and an error of x'Mx of 2 %",
       source="ours", broken={"read as positive": {"solve": unsigned}, "5 qubits": {"clock": 5}})  # fmt: skip
def solutions_and_their_forms_are_near(solve=hhl, clock=9):
    cases = {}
    for condition in (2, 4, 8):
        infidelity, error, _ = _misses(solve, clock, 8, condition)
        cases |= {f"infidelity / 1 %, condition {condition}": mean(infidelity / 0.01),
                  f"error of x'Mx / 2 %, condition {condition}": mean(error / 0.02)}  # fmt: skip
    return Evidence.of_cases(cases, at_most=1.0)


@claim("8 unknowns, condition 8: infidelity falls as the evolution time squared, slope at most -1.8, 6 to 11 qubits",
       source="paper", broken={"no window": {"solve": partial(hhl, window="uniform")}})  # fmt: skip
def infidelity_falls_with_time_squared(solve=hhl):
    return Evidence(log_slope(2.0**CLOCKS, _infidelities(solve, [(c, 8, 8) for c in CLOCKS])), at_most=-1.8)


@claim("8 unknowns, conditions 2 to 16, 11 qubits: inversion succeeds with a probability of 0.2 / condition² or more",
       source="scaled", broken={"C squared": {"solve": lambda A, b, clock: hhl(
           A, b, clock, constant=np.abs(np.linalg.eigvalsh(A)).min() ** 2)}})  # fmt: skip
def success_falls_no_faster_than_condition_squared(solve=hhl):
    return Evidence.of_cases({str(c): mean(_misses(solve, 11, 8, c)[2]) for c in CONDITIONS}, at_least=0.2)


@claim("condition 8, 9 qubits, 8 to 128 unknowns: infidelity does not grow with their number, slope at most 0.1",
       source="paper", broken={"condition as n": {"condition": None}},
       reason="0.14 to 0.2 from 8 to 128: more eigenvalues lie near the smallest, where errors are")  # fmt: skip
def size_does_not_matter(condition=8):
    settings = [(9, n, condition or 4 * n) for n in SIZES]
    return Evidence(log_slope(SIZES, _infidelities(hhl, settings)), at_most=0.1)
