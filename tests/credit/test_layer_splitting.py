"""Layer splitting: sweeps against stacked least squares and one-dimensional searches, slopes against differences."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.optimize import minimize_scalar

from attractor import run
from attractor.credit import LayerSplitting, SplitNetwork, leaky_proximal, split_digits

RNG = np.random.default_rng(0)
SIZES, GAMMA, ALPHA, DECAY, SLOPE = (3, 4, 4, 4, 2), 1.7, 0.6, 0.3, 0.2
X, LABELS = RNG.standard_normal((5, 3)), RNG.integers(0, 2, 5)
Y = RNG.standard_normal((5, 2))
KEY = jr.key(1)
SKIPS = (False, True, True, False)


def network(criterion: Any = None, targets: np.ndarray = Y) -> SplitNetwork:
    return SplitNetwork(SIZES, (X, targets), GAMMA, criterion, DECAY, SLOPE, residual=True)


def units(i, u):
    return u if i == 3 else np.maximum(u, SLOPE * u)


def objective(w, u, v, data=X, targets=Y):
    before = [data, *v[:-1]]
    total = np.sum((v[-1] - targets) ** 2) / 2 + DECAY / 2 * sum(np.sum(a**2) for a in w)
    for i in range(4):
        past = before[i] if SKIPS[i] else 0.0
        seen = np.column_stack([before[i], np.ones(len(data))])
        total += GAMMA / 2 * np.sum((v[i] - units(i, u[i]) - past) ** 2)
        total += GAMMA / 2 * np.sum((u[i] - seen @ w[i].T) ** 2)
    return total


def best_input(v, mean, old):
    """Of one unit, by a search on either side of the kink."""

    def cost(u):
        return (
            GAMMA / 2 * (v - np.maximum(u, SLOPE * u)) ** 2 + GAMMA / 2 * (u - mean) ** 2 + ALPHA / 2 * (u - old) ** 2
        )

    found: list[Any] = [
        minimize_scalar(cost, bounds=b, method="bounded", options={"xatol": 1e-11}) for b in ((-20, 0), (0, 20))
    ]
    return min(found, key=lambda r: r.fun).x


def sweep(blocks: Any, output):
    """One sweep: every block by stacked least squares, example by example; ``output`` is what V_N becomes."""
    w, u, v = ([a.copy() for a in block] for block in blocks)
    for i in (3, 2, 1, 0):
        before = v[i - 1] if i else X
        past = before if SKIPS[i] else np.zeros_like(v[i])
        seen = np.column_stack([before, np.ones(5)])
        mean = seen @ w[i].T
        if i == 3:
            v[i] = output(u[i], v[i])
            u[i] = (v[i] + mean) / 2
        else:
            for n in range(5):
                rows, right = [np.eye(4)], [units(i, u[i])[n] + past[n]]
                if SKIPS[i + 1]:
                    rows, right = [*rows, np.eye(4)], [*right, v[i + 1][n] - units(i + 1, u[i + 1])[n]]
                rows, right = [*rows, w[i + 1][:, :-1]], [*right, u[i + 1][n] - w[i + 1][:, -1]]
                v[i][n] = np.linalg.lstsq(np.vstack(rows), np.concatenate(right), rcond=None)[0]
            u[i] = np.vectorize(best_input)(v[i] - past, mean, u[i])
        stacked = np.vstack([GAMMA**0.5 * seen, ALPHA**0.5 * np.eye(seen.shape[1]), DECAY**0.5 * np.eye(seen.shape[1])])
        wanted = np.vstack([GAMMA**0.5 * u[i], ALPHA**0.5 * w[i].T, np.zeros((seen.shape[1], u[i].shape[1]))])
        w[i] = np.linalg.lstsq(stacked, wanted, rcond=None)[0].T
    return w, u, v


def squared(u, v):
    return (Y + GAMMA * u + ALPHA * v) / (1 + GAMMA + ALPHA)


def linearized(u, v):
    p = np.exp(v) / np.exp(v).sum(1, keepdims=True)
    return (GAMMA * u + ALPHA * v - (p - np.eye(2)[LABELS])) / (GAMMA + ALPHA)


@pytest.mark.parametrize(
    ("problem", "output"),
    [(network, squared), (lambda: network(optax.softmax_cross_entropy_with_integer_labels, LABELS), linearized)],
    ids=["squared error", "cross-entropy"],
)
def test_sweeps_are_those_of_least_squares(problem, output):
    with jax.enable_x64(True):
        p = problem()
        x = jax.jit(lambda k: p.init(k))(KEY)
        x = jax.tree.map(lambda a: a + 0.5 * RNG.standard_normal(a.shape), x)  # away from a forward pass
        by_hand, step = (
            jax.tree.map(np.asarray, tuple(x)),
            jax.jit(lambda x: LayerSplitting(ALPHA).step(p, x, None, KEY)[0]),
        )
        for _ in range(4):
            x, by_hand = step(x), sweep(by_hand, output)
        for ours, theirs in zip(jax.tree.leaves(tuple(x)), jax.tree.leaves(by_hand), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_objective_and_its_distance_from_critical():
    with jax.enable_x64(True):
        p = network()
        x = jax.tree.map(lambda a: a + 0.5 * RNG.standard_normal(a.shape), jax.jit(lambda k: p.init(k))(KEY))
        x = x._replace(inputs=(x.inputs[0].at[:, :2].set(0.0), *x.inputs[1:]))  # at the kink, bent either way
        w, u, v = map(list, jax.tree.map(np.asarray, tuple(x)))
        np.testing.assert_allclose(jax.jit(lambda x: p.loss(x, p.full))(x), objective(w, u, v), rtol=1e-10)
        total, bends = 0.0, []
        for block in (w, u, v):
            for i, a in enumerate(block):
                for index in np.ndindex(a.shape):
                    values = []
                    for h in (-1e-6, 1e-6):
                        block[i] = a.copy()
                        block[i][index] += h
                        values.append(objective(w, u, v))
                    block[i] = a
                    middle = objective(w, u, v)
                    left, right = (middle - values[0]) / 1e-6, (values[1] - middle) / 1e-6
                    bends.append(right - left)
                    inside = left - 1e-4 <= right and left <= 0 <= right
                    total += 0.0 if inside else min(abs(left), abs(right)) ** 2
        assert max(bends) > 0.1
        assert min(bends) < -0.1
        np.testing.assert_allclose(jax.jit(lambda x: p.stationarity(x))(x), total**0.5, rtol=1e-4)


def test_no_other_input_costs_less():
    v, c = (RNG.standard_normal(200) for _ in range(2))
    grid = np.linspace(-6, 6, 4001)
    for weight, slope in ((0.3, 0.0), (2.0, 0.0), (0.7, 0.4), (1.0, 1.0)):

        def cost(u, weight=weight, slope=slope):
            return (v - np.where(u > 0, u, slope * u)) ** 2 + weight * (u - c) ** 2

        ours = cost(np.asarray(leaky_proximal(jnp.asarray(v), jnp.asarray(c), weight, slope), float))
        assert np.all(ours <= cost(grid[:, None]).min(0) + 1e-5)


def test_digits_are_learned_with_less_of_the_objective_in_every_sweep():
    p = split_digits((16,), examples=200, scale=0.1, bias=0.3)
    start = p.init(KEY)
    assert abs(float(start.weights[1][:, :-1].std()) - 0.1) < 0.02
    np.testing.assert_array_equal(start.weights[1][:, -1], np.full(10, 0.3, np.float32))
    trace = run(p, LayerSplitting(), steps=20)
    assert np.all(np.diff(trace["loss"].values[0, 0]) < 0)
    assert trace.last("train_accuracy").values[0, 0] > 0.8


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"penalty": 0.0}, "penalty"),
        ({"decay": -1.0}, "decay"),
        ({"slope": 1.5}, "slope"),
        ({"scale": 0.0}, "scale"),
        ({"sizes": (3,)}, "sizes"),
        ({"sizes": (4, 2)}, "data"),
        ({"sizes": (3, 5)}, "data"),
    ],
)
def test_bad_values_are_named(given, named):
    with pytest.raises(ValueError, match=named):
        SplitNetwork(**{"sizes": (3, 2), "data": (X, Y), **given})
    with pytest.raises(ValueError, match="examples"):
        split_digits(examples=0)
    with pytest.raises(ValueError, match="weight"):
        leaky_proximal(jnp.zeros(1), jnp.zeros(1), 0.0)
