"""AdaHessian against a NumPy derivation with the same probes, its limits, dtypes and errors."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from attractor import run
from attractor.linalg import hvp, rademacher_like
from attractor.problems import diagonal_quadratic, digits_logistic
from attractor.registry import find_method
from attractor.second_order import adahessian, scale_by_adahessian, spatial_average

SHAPES = {"bias": (3,), "kernel": (2, 1, 3), "matrix": (3, 4), "scalar": ()}  # in the order JAX flattens them


def dtypes(tree):
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"b1": 0.8, "b2": 0.95, "eps": 1e-2, "hessian_power": 0.5, "weight_decay": 0.1, "block_size": 5},
    ],
)
def test_agrees_with_numpy(settings):
    """f(x) = x'Ax/2 + sum(x^4)/4, so that H = A + 3 diag(x^2), with A dense across all leaves."""
    given = {"b1": 0.9, "b2": 0.999, "eps": 1e-4, "hessian_power": 1.0, "weight_decay": 0.0, "block_size": 1} | settings
    rng = np.random.default_rng(0)
    start = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    flat, unravel = np.concatenate([leaf.ravel() for leaf in start.values()]), ravel_pytree(start)[1]
    root = rng.standard_normal((flat.size, flat.size))
    matrix = root @ root.T / flat.size
    cuts = np.cumsum([int(np.prod(shape)) for shape in SHAPES.values()])[:-1]

    def averaged(diagonal):
        bias, kernel, dense, scalar = np.split(diagonal, cuts)
        kernel = np.repeat([kernel[:3].mean(), kernel[3:].mean()], 3)
        size = given["block_size"]
        dense = np.concatenate([np.full(len(b), b.mean()) for b in np.split(dense, range(size, 12, size))])
        return np.concatenate([bias, kernel, dense, scalar])

    with jax.enable_x64(True):
        keys = jr.split(jr.key(0), 10)
        x = jax.tree.map(jnp.asarray, start)
        probes = [np.asarray(ravel_pytree(rademacher_like(key, x))[0]) for key in keys]

        def loss(x):
            v = ravel_pytree(x)[0]
            return v @ jnp.asarray(matrix) @ v / 2 + jnp.sum(v**4) / 4

        optimizer = adahessian(0.1, **given)

        @jax.jit
        def step(x, state, key):
            updates, state = optimizer.update(jax.grad(loss)(x), state, x, hvp=hvp(loss, x), key=key)
            return optax.apply_updates(x, updates), state

        state, path = optimizer.init(x), []
        for key in keys:
            x, state = step(x, state, key)
            path.append(np.asarray(ravel_pytree(x)[0]))

    m, v = np.zeros_like(flat), np.zeros_like(flat)
    for t, (z, ours) in enumerate(zip(probes, path, strict=True), 1):
        gradient = matrix @ flat + flat**3
        diagonal = averaged(z * (matrix @ z + 3 * flat**2 * z))
        m = given["b1"] * m + (1 - given["b1"]) * gradient
        v = given["b2"] * v + (1 - given["b2"]) * diagonal**2
        scale = (v / (1 - given["b2"] ** t)) ** (given["hessian_power"] / 2) + given["eps"]
        flat = flat - 0.1 * (m / (1 - given["b1"] ** t) / scale + given["weight_decay"] * flat)
        np.testing.assert_allclose(ours, flat, atol=1e-6)
    assert jax.tree.structure(unravel(path[-1])) == jax.tree.structure(start)


def test_one_step_solves_a_diagonal_quadratic():
    problem = diagonal_quadratic(10, condition=100.0)
    trace = run(problem, adahessian(1.0, eps=1e-12), steps=1)
    assert float(trace.last("loss").max()) < 1e-10


def test_power_zero_is_gradient_descent_with_momentum():
    x, g = jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0])
    ours, theirs = scale_by_adahessian(eps=1e-12, hessian_power=0.0), optax.ema(0.9)
    updates, _ = ours.update(g, ours.init(x), x, hvp=lambda v: 7.0 * v, key=jr.key(0))
    expected, _ = theirs.update(g, theirs.init(x))
    np.testing.assert_allclose(np.asarray(updates), np.asarray(expected), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_keeps_dtypes_and_survives_zero_curvature(dtype):
    x = {name: jnp.ones(shape, dtype) for name, shape in SHAPES.items()}
    zero = optax.tree.zeros_like(x)
    optimizer = adahessian(block_size=2)
    state = optimizer.init(x)
    updates, after = jax.jit(functools.partial(optimizer.update, hvp=lambda v: zero))(zero, state, x, key=jr.key(0))
    assert dtypes(after) == dtypes(state)
    assert all(u.dtype == dtype and bool((u == 0).all()) for u in jax.tree.leaves(updates))


def test_spatial_average_by_rank():
    kernel = jnp.arange(24.0).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(spatial_average(kernel)[1, 2], np.full((2, 2), 21.5))
    matrix = jnp.arange(4.0).reshape(2, 2)
    np.testing.assert_array_equal(spatial_average(matrix), matrix)
    np.testing.assert_array_equal(spatial_average(matrix, 2), [[0.5, 0.5], [2.5, 2.5]])
    np.testing.assert_array_equal(spatial_average(jnp.arange(4.0), 2), jnp.arange(4.0))


def test_runs_as_a_sweep_on_real_data():
    sweep = {"learning_rate": [0.05, 0.1], "hessian_power": [0.5, 1.0]}
    trace = run(digits_logistic(), adahessian, steps=20, sweep=sweep)
    losses = trace["loss"].values
    assert (losses[:, :, -1] < losses[:, :, 0]).all()
    assert len(np.unique(losses[:, :, -1])) == 4


def test_names_the_bad_argument():
    entry = find_method("adahessian")
    for argument, value in entry.bad.items():
        with pytest.raises(ValueError, match=argument):
            entry.factory(**{argument: value})


def test_says_which_extra_arguments_it_needs():
    optimizer = adahessian()
    with pytest.raises(ValueError, match="hvp, key"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), jnp.ones(2))
