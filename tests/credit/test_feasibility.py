"""Projections against constrained searches and enumeration; a step of training against loops over products."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import brentq, minimize

from attractor import run
from attractor.credit import MarginNetwork, ProjectionTraining, feasibility, margin_digits

RNG = np.random.default_rng(0)
MARGIN, RATE, ITERATIONS, SIZES = 2.5, 0.4, 15, (3, 4, 3, 3)
X, LABELS = RNG.standard_normal((5, 3)), RNG.integers(0, 3, 5)


def product(w, x, b, y):
    """By the root of the demand in λ; ``x`` moves, too."""

    def left(m):
        return (w - m * x) @ (x - m * w) / (1 - m**2) ** 2 + (b - m) - (y + m)

    m: Any = brentq(left, -1 + 1e-9, 1 - 1e-9, xtol=1e-15)
    return (w - m * x) / (1 - m**2), (x - m * w) / (1 - m**2), b - m, y + m


def affine(w, x, b, y):
    row = np.concatenate([x, [1.0, -1.0]])
    point = np.concatenate([w, [b, y]])
    moved = point - row * (row @ point) / (row @ row)
    return moved[:-2], moved[-2], moved[-1]


def margins(scores, label):
    """By all sets of scores that may be cut."""
    best = np.full(len(scores), np.inf)
    order = [j for j in np.argsort(-scores) if j != label]
    for k in range(len(order) + 1):
        level = (scores[label] + scores[order[:k]].sum() - MARGIN) / (1 + k)
        moved = scores.copy()
        moved[order[:k]], moved[label] = level, level + MARGIN if k else scores[label]
        feasible = all(moved[label] - moved[j] >= MARGIN - 1e-12 for j in order)
        if feasible and np.sum((moved - scores) ** 2) < np.sum((best - scores) ** 2):
            best = moved
    return best


def unit(kind, y, h):
    """By trying both sides."""
    if kind == "relu":
        right, left = max((y + h.sum()) / (1 + len(h)), 0.0), min(y, 0.0)
        tries = [(right, right), (left, 0.0)]
    else:
        tries = [(max(y, 0.1), 1.0), (min(y, -0.1), 0.0)]
    at, value = min(tries, key=lambda t: (t[0] - y) ** 2 + np.sum((t[1] - h) ** 2))
    return at, np.full(len(h), value)


def train(kind, rule, params):
    """One step of `ProjectionTraining` on all examples, product by product."""
    n, depth = len(X), len(params)
    w = [np.repeat(a[None], n, 0) for a, _ in params]
    b = [np.repeat(a[None], n, 0) for _, a in params]
    y, h, x = [], [], X
    for a, c in params:
        h.append(np.repeat(x[:, None], len(a), 1))
        y.append(x @ a.T + c)
        x = np.maximum(y[-1], 0) if kind == "relu" else (y[-1] > 0).astype(float)

    def products(z: Any):
        w, b, h, y = ([np.array(a, float) for a in c] for c in z)
        for i in range(depth):
            for s, j in np.ndindex(y[i].shape):
                if i:
                    w[i][s, j], h[i][s, j], b[i][s, j], y[i][s, j] = product(
                        w[i][s, j], h[i][s, j], b[i][s, j], y[i][s, j]
                    )
                else:
                    w[i][s, j], b[i][s, j], y[i][s, j] = affine(w[i][s, j], X[s], b[i][s, j], y[i][s, j])
        return w, b, h, y

    def agreement(z: Any):
        w, b, h, y = ([np.array(a, float) for a in c] for c in z)
        for i in range(depth):
            w[i][:], b[i][:] = w[i].mean(0), b[i].mean(0)
            for s in range(n):
                if i == depth - 1:
                    y[i][s] = margins(y[i][s], LABELS[s])
                else:
                    for j in range(y[i].shape[1]):
                        y[i][s, j], h[i + 1][s, :, j] = unit(kind, y[i][s, j], h[i + 1][s, :, j])
        return w, b, h, y

    z: Any = (w, b, h, y)
    for _ in range(ITERATIONS):
        shadow = agreement(z)
        if rule == "alternating":
            z = products(shadow)
        else:
            mirrored = products([[2 * p - a for p, a in zip(*c, strict=True)] for c in zip(shadow, z, strict=True)])
            z = [[a + q - p for a, q, p in zip(*c, strict=True)] for c in zip(z, mirrored, shadow, strict=True)]
    w, b = agreement(z)[:2]
    return [(a + RATE * (w[i][0] - a), c + RATE * (b[i][0] - c)) for i, (a, c) in enumerate(params)]


@pytest.mark.parametrize(("kind", "rule"), [("relu", "alternating"), ("step", "douglas-rachford")])
def test_a_step_is_that_of_loops(kind, rule):
    params = [(RNG.standard_normal((m, d)), RNG.standard_normal(m)) for d, m in pairwise(SIZES)]
    with jax.enable_x64(True):
        problem = MarginNetwork(SIZES, (X, LABELS), kind, MARGIN)
        if kind == "step":  # inputs near the threshold, so that some units turn over
            params[:-1] = [(0.05 * w, 0.05 * b) for w, b in params[:-1]]
        step = jax.jit(lambda x: ProjectionTraining(RATE, rule, ITERATIONS).step(problem, x, None, jr.key(0))[0])
        found = step(jax.tree.map(jnp.asarray, params))
    expected = train(kind, rule, params)
    assert max(np.abs(a - b).max() for a, b in zip(expected[0], params[0], strict=True)) > 1e-3
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_no_search_finds_a_nearer_point():
    for _ in range(4):
        w, x, b, y = RNG.standard_normal(3), RNG.standard_normal(3), *RNG.standard_normal(2)
        with jax.enable_x64(True):
            ours = np.hstack(feasibility.project_product(*map(jnp.asarray, (w, x, b, y))))
        point = np.hstack([w, x, b, y])
        demand = {"type": "eq", "fun": lambda z: z[:3] @ z[3:6] + z[6] - z[7]}
        assert abs(demand["fun"](ours)) < 1e-9
        starts = [point, *(point + RNG.standard_normal((5, 8)))]
        tries = [minimize(lambda z, p=point: np.sum((z - p) ** 2), s, constraints=demand) for s in starts]
        assert np.sum((ours - point) ** 2) <= min(t.fun for t in tries if t.success) + 1e-6
    scores, labels = 2 * RNG.standard_normal((50, 4)), RNG.integers(0, 4, 50)
    with jax.enable_x64(True):
        ours = feasibility.project_margin(jnp.asarray(scores), jnp.asarray(labels), MARGIN)
    np.testing.assert_allclose(ours, [margins(s, k) for s, k in zip(scores, labels, strict=True)], atol=1e-9)


def test_digits_are_learned():
    trace = run(margin_digits((12,), batch_size=16), ProjectionTraining(iterations=10), steps=60, every=60)
    assert trace.last("test_accuracy").values[0, 0] > 0.7


def test_bad_values_are_named():
    for named, given in {
        "units": {"units": "sine"}, "margin": {"margin": 0.0}, "sizes": {"sizes": (3, 2)}, "data": {"sizes": (4, 2, 2)},
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=named):
            MarginNetwork(**{"sizes": (3, 2, 3), "data": (X, LABELS), **given})
