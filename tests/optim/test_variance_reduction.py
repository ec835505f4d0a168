"""Cyclic block descent against a NumPy derivation and its special cases."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import Minimization, run
from attractor.linalg import lasso
from attractor.optim import CyclicBlockDescent, NormalizedSpider, PrivateSpider, page, proximal_sgd, zcdp_budget

RNG = np.random.default_rng(0)
ROWS, Y = RNG.standard_normal((30, 5)).astype(np.float32), RNG.standard_normal(30).astype(np.float32)


def problem(batch_size=None):
    def loss(x, batch):
        rows, y = batch
        return jnp.mean((rows @ jnp.append(x["w"], x["b"]) - y) ** 2) / 2

    return Minimization(loss, {"b": jnp.asarray(0.5), "w": jnp.ones(4)}, (ROWS, Y), batch_size=batch_size)


def as_array(x):
    return np.concatenate([np.atleast_1d(x["b"]), x["w"]])


def gradient(z, rows, y):
    order = rows[:, [4, 0, 1, 2, 3]].astype(float)  # b comes first in the vector
    return order.T @ (order @ z - y) / len(y)


def test_ten_epochs_agree_with_numpy():
    task, method, rate = problem(batch_size=7), CyclicBlockDescent(0.2, 2, 1e-9), 0.2
    x, state = task.init(jr.key(0)), method.init(task, task.init(jr.key(0)), jr.key(0))
    here, before, kept, step = as_array(x).astype(float), np.zeros(5), np.zeros(5), eqx.filter_jit(method.step)
    for t in range(10):
        key = jr.key(t)
        rows, y = map(np.asarray, task.sample(key))
        x, state = step(task, x, state, key)
        point, estimate = here.copy(), np.zeros(5)
        for block in (slice(0, 2), slice(2, 5)):
            if t == 0:
                estimate[block] = gradient(point, ROWS, Y)[block]
            else:
                old = np.append(here[: block.start], before[block.start :])
                estimate[block] = (kept + gradient(point, rows, y) - gradient(old, rows, y))[block]
            point[block] -= rate * estimate[block]
        here, before, kept = point, here, estimate
        np.testing.assert_allclose(as_array(x), here, rtol=1e-4, atol=1e-6)


def test_one_exact_block_is_proximal_gradient_descent():
    ours, theirs = (
        run(problem(), m, steps=20, every=20).final
        for m in (page(0.1, 1.0, prox=lasso(0.1)), proximal_sgd(0.1, lasso(0.1)))
    )
    for name in ("w", "b"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-6)


@pytest.mark.parametrize("method", [functools.partial(CyclicBlockDescent, blocks=5), page])
def test_converges_where_minibatches_alone_would_not(method):
    solution = np.linalg.lstsq(np.float64(ROWS), Y)[0]
    final = run(problem(batch_size=5), method(0.05, probability=0.2), steps=2_000, every=2_000).final
    np.testing.assert_allclose(np.append(final["w"][0, 0], final["b"][0, 0]), solution, atol=1e-4)


@pytest.mark.parametrize("name", ["learning_rate", "blocks", "probability"])
def test_rejects(name):
    with pytest.raises(ValueError, match=name):
        CyclicBlockDescent(**{name: 0})  # pyright: ignore[reportArgumentType]


def test_spider_without_noise_is_gradient_descent():
    method = PrivateSpider(1e-9, 1e-9, learning_rate=0.1, steps=6)
    path = run(problem(), method, steps=8, every=1, probes={"loss": problem().probes["loss"]})["loss"].values[0, 0]
    x, losses = as_array(problem().init(jr.key(0))).astype(float), []
    for _ in range(6):
        losses.append(np.mean((ROWS[:, [4, 0, 1, 2, 3]] @ x - Y) ** 2) / 2)
        x -= 0.1 * gradient(x, ROWS, Y)
    np.testing.assert_allclose(path[1:7], losses, rtol=1e-5)  # the best point is at most where it was last released
    np.testing.assert_array_equal(path[6:], path[6])  # the budget is spent


def test_a_spiders_step_compiles_once():
    method, task = PrivateSpider(), problem()
    x = task.init(jr.key(0))
    state = method.init(task, x, jr.key(0))
    after = jax.eval_shape(lambda: method.step(task, x, state, jr.key(0))[1])
    before = jax.eval_shape(lambda: jax.tree.map(lambda a: a, state))
    assert jax.tree.map(lambda a: a.weak_type, after) == jax.tree.map(lambda a: a.weak_type, before)


def test_spider_noise_follows_the_movement():
    method, rho = PrivateSpider(0.5, 2.0, steps=8, period=3), float(zcdp_budget(1.0, 1e-5))
    full, change = np.sqrt(3 / rho) / 100, np.sqrt(5 / rho) / 100  # 3 full releases and 5 changes, half of rho each
    assert float(method.noise(100)) == pytest.approx(1.0 * full, rel=1e-5)
    assert float(method.noise(100, 0.01)) == pytest.approx(0.04 * change, rel=1e-5)
    assert float(method.noise(100, 10.0)) == pytest.approx(2.0 * change, rel=1e-5)
    spent = 3 * 1.0**2 / (2 * 100**2 * full**2) + 5 * 0.04**2 / (2 * 100**2 * (0.04 * change) ** 2)
    assert spent == pytest.approx(rho, rel=1e-5)


def test_seven_private_spider_steps_agree_with_numpy():
    task, method = problem(), PrivateSpider(0.5, 2.0, learning_rate=0.2, epsilon=3.0, steps=7.0, period=3.0)
    x = task.init(jr.key(0))
    state, here, rho = method.init(task, x, jr.key(0)), as_array(x).astype(float), float(zcdp_budget(3.0, 1e-5))
    before, kept, points, lengths = here, np.zeros(5), [], []
    for t in range(7):
        noise = as_array(optax.tree.random_like(jr.fold_in(jr.key(t), 1), x, sampler=jr.normal))
        x, state = method.step(task, x, state, jr.key(t))
        if t % 3 == 0:
            kept = gradient(here, ROWS, Y) + 2 * 0.5 / 30 * np.sqrt(3 / rho) * noise
        else:
            size = min(2 * 2.0 * np.linalg.norm(here - before), 4 * 0.5)
            change = gradient(here, ROWS, Y) - gradient(before, ROWS, Y)
            kept = kept + change + size / 30 * np.sqrt(4 / rho) * noise
        points.append(here)
        lengths.append(np.linalg.norm(kept))
        before, here = here, here - 0.2 * kept
        np.testing.assert_allclose(as_array(x), here, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(as_array(method.readout(x, state)), points[int(np.argmin(lengths))], rtol=1e-4)


def test_ten_normalized_spider_steps_agree_with_numpy():
    task, method = problem(batch_size=7), NormalizedSpider(0.2, period=4)
    x = task.init(jr.key(0))
    state, here = method.init(task, x, jr.key(0)), as_array(x).astype(float)
    before, kept = here, np.zeros(5)
    for t in range(10):
        rows, y = map(np.asarray, task.sample(jr.key(t)))
        x, state = method.step(task, x, state, jr.key(t))
        tracked = kept + gradient(here, rows, y) - gradient(before, rows, y)
        kept = gradient(here, ROWS, Y) if t % 4 == 0 else tracked
        before, here = here, here - 0.2 * kept / np.linalg.norm(kept)
        np.testing.assert_allclose(as_array(x), here, rtol=1e-4, atol=1e-5)
