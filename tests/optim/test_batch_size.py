"""Growing batches: the norm test against NumPy, its limits, AdaGrad-Norm and errors."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import Minimization
from attractor.optim import AdaptiveBatch, adadagrad_norm, scale_by_adagrad_norm

DATA = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)


def problem(data=DATA, **kwargs):
    return Minimization(lambda x, rows: jnp.mean(jnp.sum((x - rows) ** 2, -1)) / 2, jnp.ones(3), data, **kwargs)


def one_step(method, task):
    x = task.init(jr.key(0))
    return method.step(task, x, method.init(task, x, jr.key(0)), jr.key(1))


@pytest.mark.parametrize("coordinatewise", [False, True])
def test_next_batch_agrees_with_numpy(coordinatewise):
    # Few samples and a small η, so that no limit hides the variance: the answer lies between 8 and 256.
    method = AdaptiveBatch(optax.sgd(1.0), eta=0.2, initial=8, coordinatewise=coordinatewise)
    task = problem(np.tile(DATA, (4, 1)), batch_size=None)
    used = jr.permutation(jr.fold_in(jr.key(1), 1), 256) < 8
    gradients = 1 - np.tile(DATA, (4, 1))[np.asarray(used)]
    noise, signal = gradients.var(0, ddof=1), gradients.mean(0) ** 2
    needed = (noise / signal).max() if coordinatewise else noise.sum() / signal.sum()
    x, state = one_step(method, task)
    np.testing.assert_allclose(x, 1 - gradients.mean(0), atol=1e-6)
    assert 16 < needed / 0.2**2 < 220
    assert int(state.batch) == int(np.ceil(needed / 0.2**2))
    assert int(state.drawn) == 8


def test_batches_never_shrink_and_pass_the_test_once_grown():
    method, task = adadagrad_norm(0.5), problem()
    x = task.init(jr.key(0))
    state, sizes = method.init(task, x, jr.key(0)), []
    step = eqx.filter_jit(method.step)
    for t in range(40):
        x, state = step(task, x, state, jr.key(t))
        sizes.append(int(state.batch))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == 64  # at the minimizer there is only noise


def test_largest_is_respected_and_equal_samples_need_no_more():
    _, state = one_step(adadagrad_norm(0.5, eta=0.01, largest=16), problem())
    assert int(state.batch) == 16
    _, state = one_step(adadagrad_norm(0.5, eta=0.01), problem(np.zeros((64, 3), np.float32)))
    assert int(state.batch) == 8


def test_a_loss_without_data_is_minimized_too():
    x, _ = one_step(adadagrad_norm(0.5), Minimization(lambda x: jnp.sum(x**2), jnp.ones(3)))
    np.testing.assert_allclose(x, 1 - 0.5 / np.sqrt(3) * np.ones(3), rtol=1e-6)


def test_adagrad_norm_agrees_with_numpy_in_the_parameters_precision():
    scale, total = scale_by_adagrad_norm(0.5), 0.5
    with jax.enable_x64(True):
        state = scale.init({"a": jnp.zeros(2), "b": jnp.zeros(())})
        for g in np.random.default_rng(1).standard_normal((10, 3)):
            u: Any
            u, state = scale.update({"a": jnp.asarray(g[:2]), "b": jnp.asarray(g[2])}, state)
            total += g @ g
            np.testing.assert_allclose(np.append(u["a"], u["b"]), g / np.sqrt(total), rtol=1e-12)


def test_what_is_measured_around_a_schedule_free_optimizer_is_its_average():
    method, task = AdaptiveBatch(optax.contrib.schedule_free_sgd(0.3)), problem()
    x = task.init(jr.key(0))
    state = method.init(task, x, jr.key(0))
    for t in range(3):
        x, state = method.step(task, x, state, jr.key(t))
    average = method.readout(x, state)
    np.testing.assert_allclose(average, optax.contrib.schedule_free_eval_params(state.base, x), rtol=1e-6)
    assert float(jnp.abs(average - x).max()) > 1e-3


@pytest.mark.parametrize("bad", [{"eta": 0.0}, {"eta": 1.0}, {"initial": 1}, {"initial": 8, "largest": 4}])
def test_names_the_bad_argument(bad):
    with pytest.raises(ValueError, match=list(bad)[-1]):
        AdaptiveBatch(optax.sgd(1.0), **bad)
