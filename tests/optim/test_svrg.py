"""SVRG against a loop in NumPy, on the same minibatches."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor import Minimization
from attractor.optim import Svrg, recursion_slack


def test_agrees_with_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((12, 3)), rng.standard_normal(12)

    def gradient(x, rows):
        return a[rows].T @ (a[rows] @ x - b[rows]) / len(rows)

    with jax.enable_x64(True):
        problem = Minimization(
            lambda x, batch: 0.5 * jnp.mean((batch[0] @ x - batch[1]) ** 2),
            jnp.zeros(3), (jnp.asarray(a), jnp.asarray(b)), batch_size=2,
        )  # fmt: skip
        method, x = Svrg(0.1, 4), jnp.zeros(3)
        state = method.init(problem, x, jr.key(0))
        expected, snapshot, visited = np.zeros(3), np.zeros(3), []
        for t in range(10):
            key = jr.fold_in(jr.key(1), t)
            rows = np.asarray(jr.randint(key, (2,), 0, 12))
            full = gradient(snapshot, np.arange(12))
            visited.append(expected)
            expected = expected - 0.1 * (gradient(expected, rows) - gradient(snapshot, rows) + full)
            if len(visited) == 4:
                snapshot = expected = np.mean(visited, 0)
                visited = []
            x, state = method.step(problem, x, state, key)
            np.testing.assert_allclose(x, expected, rtol=1e-9)


def test_slack_of_the_recursion():
    np.testing.assert_allclose(recursion_slack(np.array([1.0]), 0.5, np.array([2.0]), 0.9, 0.1), [0.4])
