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

from attractor.papers.words import Evidence, cached, claim, first_step, run, seed
from attractor.problem import Minimization
from attractor.problems.convex import logistic_regression
from attractor.second_order.polynomial import KrylovGradient, symmetric_polynomial_preconditioner


def _matrix(values):
    basis, _ = np.linalg.qr(np.random.default_rng(seed()).standard_normal((len(values), len(values))))
    return jnp.asarray((basis * values) @ basis.T)


def _outlier():
    return _matrix(np.array([1e4, *np.random.default_rng(seed(1)).uniform(1, 2, 49)]))


def _unsigned(matrix, degree):
    """The alternating sign of the recursion is dropped."""
    identity, power = jnp.eye(len(matrix)), jnp.eye(len(matrix))
    polynomials, terms = [identity], []
    for tau in range(1, degree + 1):
        power = power @ matrix
        terms.append(jnp.trace(power) * identity - power)
        products = jnp.stack([polynomials[-1 - i] @ u for i, u in enumerate(terms)])
        polynomials.append(products.sum(0) / tau)
    return polynomials[-1]


def _none(matrix, degree):
    return jnp.eye(len(matrix))


@claim(
    "n = 5: at degree 4 the preconditioned matrix is det(B) I, to a relative 1e-10",
    source="ours",
    broken={"no alternating sign": {"precondition": _unsigned}},
)
def inverts_at_full_degree(precondition=symmetric_polynomial_preconditioner):
    with jax.enable_x64(True):
        matrix = _matrix(np.random.default_rng(seed(2)).uniform(0.5, 5, 5))
        det = jnp.linalg.det(matrix)
        return Evidence(float(jnp.abs(precondition(matrix, 4) @ matrix / det - jnp.eye(5)).max()), at_most=1e-10)


@claim(
    "eigenvalues 1e4 and 49 in [1, 2]: the condition number falls at each degree from 0 to 4, and is below 100 at 1",
    source="ours",
    broken={"no alternating sign": {"precondition": _unsigned}, "identity": {"precondition": _none}},
)
def lowers_the_condition_number(precondition=symmetric_polynomial_preconditioner):
    with jax.enable_x64(True):
        found = [float(jnp.linalg.cond(precondition(_outlier(), degree) @ _outlier())) for degree in range(5)]
    falls = {f"degree {i + 1} to degree {i}": b / a for i, (a, b) in enumerate(itertools.pairwise(found))}
    note = "condition numbers " + ", ".join(f"{c:.4g}" for c in found)
    return Evidence.of_cases(falls | {"degree 1 to 100": found[1] / 100}, at_most=1 - 1e-6, note=note)


def _steps(problem, method, gap, steps, every):
    with jax.enable_x64(True):
        trace = run(problem, method, steps=steps, every=every)
    return float(first_step(trace["loss"].values[0, 0] - problem.optimum, gap, trace.dataset["step"].values))


def _preconditioned(matrix, factor):
    """Gradient descent with step 1/M, M the largest eigenvalue of the preconditioned matrix (for L = 1)."""
    largest = jnp.linalg.eigvals(factor @ matrix).real.max()
    return optax.chain(optax.stateless(lambda g, x: factor @ g / largest), optax.scale(-1.0))


@claim(
    "quadratic of eigenvalues 1e4 and 49 in [1, 2]: degree 1 takes at most 1/20 of gradient descent's steps to 1e-8",
    source="ours",
    broken={"identity": {"precondition": _none}},
)
def speeds_up_gradient_descent(precondition=symmetric_polynomial_preconditioner):
    with jax.enable_x64(True):
        matrix = _outlier()
        problem = Minimization(lambda x: 0.5 * x @ matrix @ x, jnp.ones(50), optimum=0.0)
        gap = 1e-8 * float(0.5 * jnp.sum(matrix))
        plain, ours = (_preconditioned(matrix, p) for p in (jnp.eye(50), precondition(matrix, 1)))
    taken, baseline = (_steps(problem, method, gap, 100_000, 10) for method in (ours, plain))
    given = {"gradient descent gets there": bool(np.isfinite(baseline))}
    return Evidence(taken / baseline, at_most=1 / 20, given=given, note=f"{taken:g} against {baseline:g} steps")


@cached
def _regression():
    with jax.enable_x64(True):
        problem = logistic_regression()
        x = problem.full[0]
        return problem, x.T @ x / len(x) + problem.constants["l2"] * jnp.eye(31)


@claim(
    "logistic regression: the search at degree 3 takes at most 1/3 of gradient descent's steps (1/L or exact) to 1e-6",
    source="ours",
    deterministic=True,
    broken={"identity for B": {"gram": jnp.eye(31)}},
)
def the_adaptive_search_is_faster(gram=None):
    problem, own = _regression()
    ours = _steps(problem, KrylovGradient(own if gram is None else gram, 3), 1e-6, 200, 1)
    exact = _steps(problem, KrylovGradient(own, 0), 1e-6, 1_000, 1)
    plain = _steps(problem, optax.sgd(1 / problem.constants["L"]), 1e-6, 10_000, 10)
    note = f"{ours:g} steps against {plain:g} and, with exact line search, {exact:g}"
    given = {"gradient descent gets there": bool(np.isfinite(min(exact, plain)))}
    return Evidence(ours / min(exact, plain), at_most=1 / 3, given=given, note=note)
