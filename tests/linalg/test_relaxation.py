"""Over-relaxation against a loop over unknowns, the bandits against their formulas."""

import numpy as np
import pytest
from scipy.optimize import brentq

from attractor.linalg import ChebyshevBandit, TsallisInf, learn_to_relax, sor

RNG = np.random.default_rng(0)
A = RNG.standard_normal((5, 5))
A = A @ A.T + 0.5 * np.eye(5)
B = RNG.standard_normal((5, 3))


def sweeps(b, omega, count):
    x = np.zeros(5)
    for _ in range(count):
        for i in range(5):
            x[i] += omega * (b[i] - A[i] @ x) / A[i, i]
    return x


def test_sweeps_are_those_of_a_loop_and_columns_are_counted_apart():
    found = sor(A, B, 1.3, tol=1e-4)
    for b, x, iterations in zip(B.T, found.x.T, found.iterations, strict=True):
        sizes = [np.linalg.norm(b - A @ sweeps(b, 1.3, k)) / np.linalg.norm(b) for k in range(iterations + 1)]
        assert sizes[-1] <= 1e-4 < min(sizes[:-1])
        np.testing.assert_allclose(x, sweeps(b, 1.3, found.iterations.max()), atol=1e-12)
        assert sor(A, b, 1.3, tol=1e-4).iterations == iterations
    assert len(set(found.iterations)) > 1
    stopped = sor(A, B[:, 0], 0.7, max_iterations=2)
    np.testing.assert_allclose(stopped.x, sweeps(B[:, 0], 0.7, 2), atol=1e-12)
    assert (stopped.iterations, stopped.converged) == (2, False)
    assert found.converged.all()


def test_tsallis_inf_plays_with_its_probabilities():
    bandit = TsallisInf(3, largest=50.0, seed=1)
    losses = np.zeros(3)
    for t in range(1, 30):
        arm = bandit.choose()
        eta = 2 / np.sqrt(t)
        z = brentq(lambda z, e=eta: (4 / (e * (losses - z)) ** 2).sum() - 1, losses.min() - 1e4, losses.min() - 1 / eta)
        p = 4 / (eta * (losses - z)) ** 2
        np.testing.assert_allclose(bandit.probabilities, p, rtol=1e-8)
        cost = (40.0, 10.0, 25.0)[arm]
        bandit.learn(cost)
        losses[arm] += cost / 50 / p[arm]
    assert bandit.probabilities.argmax() == 1


def test_the_contextual_bandit_fits_polynomials_and_explores_by_gaps():
    bandit = ChebyshevBandit(3, 1.0, 3.0, degree=3, largest=10.0, growth=0.5, ridge=1e-6, seed=2)
    data = {0: [], 1: [], 2: []}
    for t in range(1, 60):
        context = float(RNG.uniform(1, 3))
        arm = bandit.choose(context)
        predicted = []
        for seen in data.values():
            c, y = np.array(seen).T if seen else (np.zeros(0), np.zeros(0))
            polynomials = np.stack([np.ones_like(c), c - 2, 2 * (c - 2) ** 2 - 1], 1)
            fit = np.linalg.solve(polynomials.T @ polynomials + 1e-6 * np.eye(3), polynomials.T @ y)
            predicted.append(fit @ [1, context - 2, 2 * (context - 2) ** 2 - 1])
        best = int(np.argmin(predicted))
        p = [1 / (3 + 0.5 * t * (y - predicted[best])) for y in predicted]
        p[best] = 1 - sum(q for i, q in enumerate(p) if i != best)
        np.testing.assert_allclose(bandit.probabilities, p, rtol=1e-5)
        cost = 3.0 + (context - 1 - arm) ** 2
        bandit.learn(cost)
        data[arm].append((context, cost / 10))


def test_a_sequence_is_learned():
    costs = RNG.integers(5, 9, (300, 3)) - 4 * (np.arange(3) == 2)
    arms = learn_to_relax(TsallisInf(3, 10.0), lambda t, arm: float(costs[t, arm]), np.zeros(300))
    assert (arms[200:] == 2).mean() > 0.8


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("omega", lambda: sor(A, B, 2.0)),
        ("tol", lambda: sor(A, B, 1.0, tol=0.0)),
        ("A", lambda: sor(-A, B, 1.0)),
        ("b", lambda: sor(A, np.full(5, np.nan), 1.0)),
        ("arms", lambda: TsallisInf(0)),
        ("largest", lambda: ChebyshevBandit(2, 0.0, 1.0, largest=0.0)),
        ("high - low", lambda: ChebyshevBandit(2, 1.0, 1.0)),
    ],
)
def test_bad_input_is_named(argument, call):
    with pytest.raises(ValueError, match=argument):
        call()
