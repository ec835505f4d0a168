"""Polynomial preconditioning: a few outlying eigenvalues are evened out without knowing the spectrum.

```python
import jax.numpy as jnp
from attractor.second_order import symmetric_polynomial_preconditioner

matrix = jnp.diag(jnp.array([1e4, 2.0, 1.5, 1.0]))
for degree in range(3):
    product = symmetric_polynomial_preconditioner(matrix, degree) @ matrix
    print(degree, jnp.linalg.cond(product))  # 10,000, then 4.5 and 2
```
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.papers.words import Evidence, claim, first_step, run, seed
from attractor.problem import Minimization
from attractor.problems.convex import logistic_regression
from attractor.second_order.polynomial import KrylovGradient, symmetric_polynomial_preconditioner


def _matrix(values):
    basis, _ = np.linalg.qr(np.random.default_rng(seed()).standard_normal((len(values), len(values))))
    return jnp.asarray((basis * values) @ basis.T)


def _bulk(outliers):
    return np.random.default_rng(seed(1)).uniform(1, 2, 50 - outliers)


def _outlying(*top):  # 50 eigenvalues: these, and others in [1, 2]
    return _matrix(np.array([*top, *_bulk(len(top))]))


def _unsigned(matrix, degree):  # the alternating sign of the recursion is dropped
    identity, power = jnp.eye(len(matrix)), jnp.eye(len(matrix))
    polynomials, terms = [identity], []
    for tau in range(1, degree + 1):
        power = power @ matrix
        terms.append(jnp.trace(power) * identity - power)
        products = jnp.stack([polynomials[-1 - i] @ u for i, u in enumerate(terms)])
        polynomials.append(products.sum(0) / tau)
    return polynomials[-1]


WRONG = {"no alternating sign": {"precondition": _unsigned}}


@claim("n = 5: at degree 4 the preconditioned matrix is det(B) I, to a relative 1e-10",
       source="ours", broken=WRONG)  # fmt: skip
def inverts_at_full_degree(precondition=symmetric_polynomial_preconditioner):
    with jax.enable_x64(True):
        matrix = _matrix(np.random.default_rng(seed(2)).uniform(0.5, 5, 5))
        det = jnp.linalg.det(matrix)
        return Evidence(float(jnp.abs(precondition(matrix, 4) @ matrix / det - jnp.eye(5)).max()), at_most=1e-10)


@claim("eigenvalues 1e4 and 49 in [1, 2]: the condition number falls at each degree from 0 to 4, and is below 100 at 1",
       source="ours",
       broken=WRONG | {"the same at every degree": {"precondition": lambda b, tau: jnp.eye(len(b))}})  # fmt: skip
def lowers_the_condition_number(precondition=symmetric_polynomial_preconditioner):
    with jax.enable_x64(True):
        matrix = _outlying(1e4)
        found = [float(jnp.linalg.cond(precondition(matrix, degree) @ matrix)) for degree in range(5)]
    falls = {f"degree {i + 1} to degree {i}": b / a for i, (a, b) in enumerate(itertools.pairwise(found))}
    note = "condition numbers " + ", ".join(f"{c:.4g}" for c in found)
    return Evidence.of_cases(falls | {"degree 1 to 100": found[1] / 100}, at_most=1 - 1e-6, note=note)


@claim(
    "1, 2 or 3 outliers of 1e3 to 1e6: at that degree the condition number is at most sum over least of all the others",
    source="scaled", broken=WRONG | {
        "one less": {"precondition": lambda b, tau: symmetric_polynomial_preconditioner(b, tau - 1)}})  # fmt: skip
def outliers_do_not_count(precondition=symmetric_polynomial_preconditioner):
    """Over the bound, up to rounding. It holds of any spectrum: the largest of tau + 1 eigenvalues is left out."""
    ratios = {}
    with jax.enable_x64(True):
        for top in ([1e3], [1e6], [1e6, 1e3], [1e6, 1e6], [1e6, 3e4, 1e3]):
            matrix, others = _outlying(*top), _bulk(len(top))
            condition = float(jnp.linalg.cond(precondition(matrix, len(top)) @ matrix))
            ratios[f"{len(top)} up to {top[0]:g} and {top[-1]:g}"] = condition / (others.sum() / others.min())
    return Evidence.of_cases(ratios, at_most=1 + 1e-3)


def _steps(problem, method, gap, steps, every):
    with jax.enable_x64(True):
        trace = run(problem, method, steps=steps, every=every)
    return float(first_step(trace["loss"].values[0, 0] - problem.optimum, gap, trace.dataset["step"].values))


@claim("quadratic of eigenvalues 1e4 and 49 in [1, 2]: degree 1 takes at most 1/20 of gradient descent's steps to 1e-8",
       source="ours",
       broken={"half the trace": {"precondition": lambda b, _: jnp.trace(b) / 2 * jnp.eye(len(b)) - b}})  # fmt: skip
def speeds_up_gradient_descent(precondition=symmetric_polynomial_preconditioner):
    with jax.enable_x64(True):
        matrix = _outlying(1e4)
        problem = Minimization(lambda x: 0.5 * x @ matrix @ x, jnp.ones(50), optimum=0.0)
        # 1/M, with M the largest eigenvalue of the preconditioned matrix, is its step (L = 1)
        factors = [p / jnp.linalg.eigvals(p @ matrix).real.max() for p in (precondition(matrix, 1), jnp.eye(50))]
        gap = 1e-8 * float(0.5 * jnp.sum(matrix))
    methods = [optax.stateless(lambda g, x, factor=factor: -factor @ g) for factor in factors]
    taken, baseline = (_steps(problem, method, gap, 100_000, 10) for method in methods)
    given = {"gradient descent gets there": bool(np.isfinite(baseline))}
    return Evidence(taken / baseline, at_most=1 / 20, given=given, note=f"{taken:g} against {baseline:g} steps")


@claim(
    "logistic regression: the search at degree 3 takes at most 1/3 of gradient descent's steps (1/L or exact) to 1e-6",
    source="ours", broken={"features of B out of order": {"shift": 1}}, deterministic=True)  # fmt: skip
def the_adaptive_search_is_faster(shift=0):
    with jax.enable_x64(True):
        problem = logistic_regression()
        x = np.roll(problem.full[0], shift, axis=1)
        gram = jnp.asarray(x.T @ x / len(x) + problem.constants["l2"] * np.eye(31))
    ours = _steps(problem, KrylovGradient(gram, 3), 1e-6, 200, 1)
    exact = _steps(problem, KrylovGradient(gram, 0), 1e-6, 1_000, 1)
    plain = _steps(problem, optax.sgd(1 / problem.constants["L"]), 1e-6, 10_000, 10)
    note = f"{ours:g} steps against {plain:g} and, with exact line search, {exact:g}"
    given = {"gradient descent gets there": bool(np.isfinite(min(exact, plain)))}
    return Evidence(ours / min(exact, plain), at_most=1 / 3, given=given, note=note)
