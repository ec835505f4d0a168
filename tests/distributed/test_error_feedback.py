"""Compressed methods against NumPy loops over clients."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.distributed import (
    EControl,
    WeightedEF21,
    ef21,
    ef21_stepsize,
    error_compensation,
    identity,
    rand_k,
    top_k,
)
from attractor.engine import run
from attractor.problem import Federated
from attractor.problems import federated_digits


def least_squares():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(4, 6, 5)), rng.normal(size=(4, 6))

    def loss(x, batch):
        rows, wanted = batch
        return jnp.mean((rows @ x["w"] - wanted + x["c"]) ** 2) / 2

    start = {"c": jnp.asarray(0.5), "w": jnp.arange(5.0)}
    return Federated(loss, start, (features, targets)), features, targets


def numpy_top(vector, k):
    kept = np.zeros_like(vector)
    for i in np.argsort(-np.abs(vector))[:k]:
        kept[i] = vector[i]
    return kept


@pytest.mark.parametrize(
    ("method", "feedback", "shifted"),
    [
        (EControl(0.1, feedback=0.3, compressor=top_k(1 / 3)), 0.3, True),
        (error_compensation(0.1, top_k(1 / 3)), 1.0, False),
        (ef21(0.1, top_k(1 / 3)), 0.0, True),
    ],
)
def test_ten_steps_match_a_numpy_loop_over_clients(method, feedback, shifted):
    with jax.enable_x64(True):
        problem, features, targets = least_squares()
        x = problem.init(jr.key(0))
        state = method.init(problem, x, jr.key(0))
        step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
        for key in jr.split(jr.key(1), 10):
            x, state = step(x, state, key)
    z, error, shift = np.r_[0.5, np.arange(5.0)], np.zeros((4, 6)), np.zeros((4, 6))
    for _ in range(10):
        sent = np.zeros((4, 6))
        for i in range(4):
            rows = np.c_[np.ones(6), features[i]]
            news = rows.T @ (rows @ z - targets[i]) / 6 - shift[i]
            sent[i] = numpy_top(feedback * error[i] + news, 2)
            error[i] += news - sent[i]
        z = z - 0.1 * (shift + sent).mean(0)
        shift = shift + sent if shifted else shift
    np.testing.assert_allclose(np.r_[x["c"], x["w"]], z, rtol=1e-6)
    if state.error is not None:
        np.testing.assert_allclose(np.c_[state.error["c"], state.error["w"]], error, atol=1e-9)
    if state.shift is not None:
        np.testing.assert_allclose(np.c_[state.shift["c"], state.shift["w"]], shift, atol=1e-9)


def rounded(vector, key):
    """The two largest, with two binary digits: not in proportion to what it is given."""
    kept = top_k(1 / 3)(vector, key)
    unit = 2.0 ** jnp.floor(jnp.log2(jnp.where(kept == 0, 1, jnp.abs(kept)))) / 2
    return unit * jnp.round(kept / unit)


def test_weighted_ef21_matches_a_numpy_loop_whatever_the_compressor():
    shares = np.array([0.02, 0.08, 0.3, 0.6])
    z, estimates = np.r_[0.5, np.arange(5.0)], np.zeros((4, 6))
    with jax.enable_x64(True):
        problem, features, targets = least_squares()
        method = WeightedEF21(0.1, jnp.asarray(7 * shares), rounded)
        x = problem.init(jr.key(0))
        state = method.init(problem, x, jr.key(0))
        step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
        for key in jr.split(jr.key(1), 10):
            x, state = step(x, state, key)
    for _ in range(10):
        for i, w in enumerate(shares):
            rows = np.c_[np.ones(6), features[i]]
            news = numpy_top(rows.T @ (rows @ z - targets[i]) / 6 / (4 * w) - estimates[i], 2)
            mantissa, exponent = np.frexp(news)  # of at least 1/2: two digits are multiples of 1/4
            estimates[i] += np.ldexp(np.round(4 * mantissa) / 4, exponent)
        z = z - 0.1 * shares @ estimates
    np.testing.assert_allclose(np.r_[x["c"], x["w"]], z, rtol=1e-6)
    np.testing.assert_allclose(np.c_[state["c"], state["w"]], estimates, rtol=1e-6, atol=1e-9)


def test_weights_change_nothing_where_messages_are_in_proportion():
    """Nor do equal ones, whatever the compressor."""
    problem = least_squares()[0]
    weights = jnp.asarray([1.0, 40.0, 7.0, 0.2])

    def of(method):
        return run(problem, method, steps=12, every=1)["loss"].values

    for compressor in (top_k(1 / 3), rand_k(1 / 3)):
        np.testing.assert_allclose(of(WeightedEF21(0.1, weights, compressor)), of(ef21(0.1, compressor)), rtol=1e-5)
    plain = of(ef21(0.1, rounded))
    np.testing.assert_allclose(of(WeightedEF21(0.1, None, rounded)), plain, rtol=1e-5)
    assert abs(of(WeightedEF21(0.1, weights, rounded)) / plain - 1).max() > 1e-3


def test_the_step_of_the_arithmetic_mean_is_up_to_root_n_times_longer():
    one, even = np.array([3.0] + [1e-9] * 15), np.full(16, 2.0)
    for smoothness, each, alpha in ((0.2, one, 0.1), (2.0, even, 0.3), (1.7, np.array([0.5, 4.0, 2.0]), 1.0)):
        root = np.sqrt(1 - alpha)
        for kind, power in (("arithmetic", 1), ("quadratic", 2)):
            wanted = 1 / (smoothness + root / (1 - root) * np.mean(each**power) ** (1 / power))
            np.testing.assert_allclose(ef21_stepsize(smoothness, jnp.asarray(each), alpha, kind), wanted, rtol=1e-5)
    ratio = ef21_stepsize(1e-3, jnp.asarray(one), 1e-6) / ef21_stepsize(1e-3, jnp.asarray(one), 1e-6, "quadratic")
    np.testing.assert_allclose(ratio, 4, rtol=1e-4)


@pytest.mark.parametrize("make", [EControl, error_compensation, ef21, WeightedEF21])
def test_without_compression_all_are_stochastic_gradient_descent(make):
    problem = federated_digits(n_clients=5, batch_size=4)
    ours = run(problem, make(0.2, compressor=identity), steps=20)["loss"].values
    plain = run(problem, optax.sgd(0.2), steps=20)["loss"].values
    np.testing.assert_allclose(ours, plain, rtol=1e-5)


def test_top_k_keeps_exactly_the_largest():
    vector = jnp.asarray([1.0, -3.0, 0.5, 3.0, 2.0])
    np.testing.assert_array_equal(top_k(0.6)(vector, jr.key(0)), [0, -3, 0, 3, 2])
    assert int(jnp.count_nonzero(top_k(0.2)(jnp.ones(10), jr.key(0)))) == 2  # ties do not add coordinates
    np.testing.assert_array_equal(top_k(1e-9)(vector, jr.key(0)), [0, -3, 0, 0, 0])


@pytest.mark.parametrize("compressor", [top_k(0.3), rand_k(0.3)])
def test_compressors_contract(compressor):
    vector = jr.normal(jr.key(0), (50,))
    sent = jax.vmap(lambda key: compressor(vector, key))(jr.split(jr.key(1), 500))
    assert set(np.count_nonzero(sent, axis=1)) == {15}
    left_out = float(jnp.mean(jnp.sum((sent - vector) ** 2, -1)) / jnp.sum(vector**2))
    assert left_out < 0.7 + 0.02


def test_rand_k_leaves_out_the_expected_share():
    vector = jr.normal(jr.key(0), (50,))
    sent = jax.vmap(lambda key: rand_k(0.3)(vector, key))(jr.split(jr.key(1), 2_000))
    np.testing.assert_allclose(jnp.mean(jnp.sum((sent - vector) ** 2, -1)) / jnp.sum(vector**2), 0.7, atol=0.01)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("make", [EControl, error_compensation, ef21, WeightedEF21])
def test_any_pytree_keeps_its_shapes_and_types(make, dtype):
    def loss(x, batch):
        return jnp.sum(batch.astype(dtype)) * (x["a"] + jnp.sum(x["b"]))

    start = {"a": jnp.zeros((), dtype), "b": jnp.zeros((2, 3), dtype)}
    problem = Federated(loss, start, jnp.ones((3, 2)))
    x = problem.init(jr.key(0))
    state = make(0.1).init(problem, x, jr.key(1))
    after = make(0.1).step(problem, x, state, jr.key(2))
    kinds = [jax.tree.map(lambda p: (p.shape, p.dtype), t) for t in ((x, state), after)]
    assert kinds[0] == kinds[1]


def test_clients_compress_with_their_own_random_numbers():
    problem = Federated(lambda x, batch: jnp.sum(x), jnp.zeros(40), jnp.zeros((6, 1)))
    method = ef21(1.0, rand_k(0.1))
    _, state = method.step(problem, jnp.zeros(40), method.init(problem, jnp.zeros(40), jr.key(0)), jr.key(1))
    assert len({tuple(row) for row in np.asarray(state.shift)}) > 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EControl(-1.0), "learning_rate"),
        (lambda: EControl(0.1, feedback=0.0), "feedback"),
        (lambda: EControl(0.1, feedback=1.5), "feedback"),
        (lambda: ef21(0.0), "learning_rate"),
        (lambda: error_compensation(0.0), "learning_rate"),
        (lambda: WeightedEF21(-0.1), "learning_rate"),
        (lambda: WeightedEF21(0.1, jnp.asarray([1.0, 0.0])), "weights"),
        (lambda: WeightedEF21(0.1, jnp.ones(3)).init(least_squares()[0], {"c": jnp.zeros(())}, jr.key(0)), "weights"),
        (lambda: ef21_stepsize(0.0, jnp.ones(2), 0.1), "smoothness"),
        (lambda: ef21_stepsize(1.0, jnp.asarray([1.0, -1.0]), 0.1), "client_smoothness"),
        (lambda: ef21_stepsize(1.0, jnp.ones(2), 1.1), "contraction"),
        (lambda: ef21_stepsize(1.0, jnp.ones(2), 0.1, "harmonic"), "mean"),
        (lambda: top_k(0.0), "fraction"),
        (lambda: rand_k(1.5), "fraction"),
        (lambda: federated_digits(n_clients=0), "n_clients"),
        (lambda: federated_digits(l2=0.0), "l2"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_federated_digits_are_sorted_by_label_and_strongly_convex():
    problem = federated_digits(n_clients=10)
    _, labels = problem.full
    assert max(len(set(np.asarray(row).tolist())) for row in labels) <= 3
    x = problem.init(jr.key(0))
    np.testing.assert_allclose(problem.loss(x, problem.full), np.log(10), rtol=1e-6)
    L = problem.constants["L"]
    value_and_slope = jax.jit(jax.value_and_grad(lambda x: problem.loss(x, problem.full)))
    before, slope = value_and_slope(x)
    after, _ = value_and_slope(jax.tree.map(lambda p, g: p - g / L, x, slope))
    assert before - after >= optax.tree.norm(slope, squared=True) / (2 * L)
