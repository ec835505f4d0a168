"""Graphs, robust rules, attacks, and decentralized methods against NumPy loops over clients."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import distributed as lib
from attractor.distributed.topologies import mixing_for
from attractor.engine import run
from attractor.problem import Federated
from attractor.problems import dirichlet_digits, split_by_dirichlet, split_by_label

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(7, 3)) * [1, 3, 0.5]


def least_squares(clients=5):
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(clients, 6, 3)), rng.normal(size=(clients, 6))

    def loss(x, batch):
        rows, wanted = batch
        return jnp.mean((rows @ x["w"] - wanted + x["c"]) ** 2) / 2

    start = {"c": jnp.asarray(0.5), "w": jnp.arange(3.0)}
    rows = np.concatenate([np.ones((clients, 6, 1)), features], -1)

    def slope(i, z):
        return rows[i].T @ (rows[i] @ z - targets[i]) / 6

    return Federated(loss, start, (features, targets)), slope, np.r_[0.5, np.arange(3.0)]


def steps(method, problem, n):
    """The iterate and the state after n steps, in double precision."""
    x = problem.init(jr.key(0))
    state = method.init(problem, x, jr.key(0))
    step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
    for key in jr.split(jr.key(1), n):
        x, state = step(x, state, key)
    return np.r_[x["c"], x["w"]], state


def rows_of(models):
    return np.c_[models["c"], models["w"]]


@pytest.mark.parametrize(
    ("graph", "gap"),
    [
        (lib.ring(3), 1.0),
        (lib.ring(7), 2 / 3 * (1 - np.cos(2 * np.pi / 7))),
        (lib.torus(3, 5), 2 / 5 * (1 - np.cos(2 * np.pi / 5))),
        (lib.complete(6), 1.0),
        (lib.exponential(8), 2 / (1 + 3)),
        (lib.exponential(16), 2 / (1 + 4)),
        (lib.erdos_renyi(5, 1.0), 1.0),
    ],
)
def test_spectral_gaps_are_those_of_the_closed_forms(graph, gap):
    mixing = lib.mixing_matrix(graph)
    np.testing.assert_allclose(lib.spectral_gap(mixing), gap, atol=1e-7)
    np.testing.assert_allclose([mixing.sum(0), mixing.sum(1)], 1.0)


def test_weights_of_an_irregular_graph_are_metropolis():
    star = np.zeros((4, 4), bool)
    star[0, 1:] = star[1:, 0] = True
    star[1, 2] = star[2, 1] = True  # degrees 3, 2, 2, 1
    mixing = lib.mixing_matrix(star)
    third, quarter = 1 / 3, 1 / 4
    expected = [[quarter] * 4, [quarter, 1 - third - quarter, third, 0], [quarter, third, 1 - third - quarter, 0]]
    np.testing.assert_allclose(mixing, [*expected, [quarter, 0, 0, 0.75]])
    sizes = np.sort(np.abs(np.linalg.eigvalsh(mixing)))
    np.testing.assert_allclose(lib.spectral_gap(mixing), 1 - sizes[-2])


def test_random_graphs_are_symmetric_and_of_their_density():
    graph = lib.erdos_renyi(60, 0.3, seed=1)
    np.testing.assert_array_equal(graph, graph.T)
    assert not graph.diagonal().any()
    assert abs(graph.sum() / (60 * 59) - 0.3) < 0.04
    assert (graph != lib.erdos_renyi(60, 0.3, seed=2)).any()


def test_rules_are_those_of_numpy():
    with jax.enable_x64(True):
        received, own = jnp.asarray(VECTORS), jnp.asarray(VECTORS[4])

        def found(rule):
            return rule(received, own)

        np.testing.assert_allclose(found(lib.mean), VECTORS.mean(0))
        np.testing.assert_allclose(found(lib.coordinate_median), np.median(VECTORS, 0))
        np.testing.assert_allclose(found(lib.trimmed_mean(2)), np.sort(VECTORS, 0)[2:5].mean(0))
        chosen, rule = [], jax.jit(lambda *given: lib.krum(2)(*given))
        for vectors in np.random.default_rng(1).normal(size=(20, 7, 3)):
            near = np.sort(np.linalg.norm(vectors[:, None] - vectors, axis=-1) ** 2, 1)
            np.testing.assert_allclose(rule(jnp.asarray(vectors), own), vectors[near[:, 1:4].sum(1).argmin()])
            chosen.append([near[:, 1:end].sum(1).argmin() for end in (3, 4, 5)])
        assert (np.ptp(chosen, 1) > 0).any()  # n - f - 2 = 3 neighbors, and not one more or less
        apart = np.linalg.norm(VECTORS[:, None] - VECTORS, axis=-1) ** 2
        near = np.argsort(apart[4])[:5]
        np.testing.assert_allclose(found(lib.nearest_neighbors(2)), VECTORS[near].mean(0))
        median = found(lib.geometric_median(300))
        pull = (VECTORS - median) / np.linalg.norm(VECTORS - median, axis=1)[:, None]
        np.testing.assert_allclose(pull.sum(0), 0, atol=1e-6)  # the sum of distances is stationary


def test_attacks_say_what_they_are_defined_to():
    sent, origin, before = RNG.normal(size=(3, 6, 4))
    with jax.enable_x64(True):
        known = lib.Round(*map(jnp.asarray, (sent, origin, before)))

        def found(attack):
            return np.asarray(attack(known, 2, jr.key(0)))

        ahead = (sent - origin)[:4].mean(0)
        for attack, message in (
            (lib.sign_flip(2.0), origin[:4].mean(0) - 2.0 * ahead),
            (lib.inner_product(0.3), sent[:4].mean(0) - 0.3 * ahead),
            (lib.little_is_enough(1.7), sent[:4].mean(0) - 1.7 * sent[:4].std(0)),
            (lib.dropped, np.zeros(4)),
        ):
            np.testing.assert_allclose(found(attack), np.tile(message, (2, 1)), atol=1e-12)
        np.testing.assert_array_equal(found(lib.late), before[4:])
        assert np.ptp(found(lib.noise(3.0)), 0).all()
        harm = {}
        for strength in (0.5, 3.0, 9.0):
            received = np.r_[sent[:4], np.tile(sent[:4].mean(0) - strength * sent[:4].std(0), (2, 1))]
            taken = [received[np.argsort(((received - own) ** 2).sum(1))[:4]].mean(0) for own in sent[:4]]
            harm[strength] = np.sum((np.mean(taken, 0) - sent[:4].mean(0)) ** 2)
        worst = max(harm, key=harm.get)
        chosen = found(lib.strongest(lib.little_is_enough, list(harm), lib.nearest_neighbors(2)))
        np.testing.assert_allclose(chosen, found(lib.little_is_enough(worst)))
        assert harm[worst] > 2 * np.median(list(harm.values()))


@pytest.mark.parametrize("attack", [None, lib.sign_flip(0.5), lib.late])
def test_robust_gossip_is_a_loop_over_clients(attack):
    rate, beta, faulty, n = 0.2, 0.7, 2, 5
    with jax.enable_x64(True):
        problem, slope, z = least_squares(n)
        x, state = steps(lib.monna(rate, beta, faulty, attack), problem, 6)
    models, momentum, before = np.tile(z, (n, 1)), np.zeros((n, 4)), np.tile(z, (n, 1))
    for _ in range(6):
        momentum = beta * momentum + (1 - beta) * np.array([slope(i, models[i]) for i in range(n)])
        sent = models - rate * momentum
        received = sent.copy()
        if attack is lib.late:
            received[-2:] = before[-2:]
        elif attack is not None:
            received[-2:] = models[:3].mean(0) - 0.5 * (sent - models)[:3].mean(0)
        apart = ((received - sent[:, None]) ** 2).sum(-1)
        models = np.array([received[np.argsort(row)[:3]].mean(0) for row in apart])
        before = sent
    np.testing.assert_allclose(rows_of(state.models), models, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(rows_of(state.momentum), momentum, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(x, models[:3].mean(0), rtol=1e-8)


@pytest.mark.parametrize(("radius", "gossip"), [(0.0, 1), (0.3, 2)])
def test_local_gossip_is_a_loop_over_clients(radius, gossip):
    n, rate, star = 5, 0.1, np.zeros((5, 5), bool)
    star[0, 1:] = star[1:, 0] = star[3, 4] = star[4, 3] = True
    mixing = lib.mixing_matrix(star)
    with jax.enable_x64(True):
        problem, slope, z = least_squares(n)
        x, state = steps(lib.LocalGossip(rate, radius, 3, gossip, mixing), problem, 4)
    models = np.tile(z, (n, 1))
    for _ in range(4):
        for i in range(n):
            for _ in range(3):
                uphill = slope(i, models[i])
                models[i] -= rate * slope(i, models[i] + radius * uphill / np.linalg.norm(uphill))
        for _ in range(gossip):
            models = mixing @ models
    np.testing.assert_allclose(rows_of(state.models), models, rtol=1e-8)
    np.testing.assert_allclose(x, models.mean(0), rtol=1e-8)
    found = lib.disagreement(problem, None, jr.key(0), state)
    np.testing.assert_allclose(found, ((models - models.mean(0)) ** 2).sum() / n, rtol=1e-5)


def test_clients_draw_their_own_minibatches_at_every_local_step():
    """With the gradient of sample s being s, the sum of what was drawn shows in the model."""
    problem = Federated(
        lambda x, s: x * jnp.mean(s), jnp.asarray(0.0), 10.0 ** (jnp.arange(8) % 4).reshape(2, 4), batch_size=1
    )
    method = lib.LocalGossip(1.0, local_steps=3, mixing=np.eye(2))
    _, state = method.step(problem, 0.0, method.init(problem, jnp.asarray(0.0), jr.key(0)), jr.key(3))
    first, second = (sorted(f"{round(-float(m))}".replace("0", "")) for m in state.models)
    assert sum(map(int, first)) == sum(map(int, second)) == 3


def test_bits_count_what_is_sent():
    assert int(lib.bits({"a": jnp.ones((3, 5)), "b": jnp.ones(())})) == 16 * 32
    sparse = jnp.zeros(1_000).at[jnp.asarray([3, 50])].set(1.0)
    assert int(lib.bits(sparse)) == 2 * (32 + 10)
    assert int(lib.bits(lib.top_k(0.1)(jr.normal(jr.key(0), (1_000,)), jr.key(0)))) == 100 * (32 + 10)


def test_digits_are_split_as_asked():
    labels = np.repeat(np.arange(10), 30)
    even, uneven = (split_by_dirichlet(labels, 10, c, seed=3) for c in (1e4, 0.1))
    sorted_ = split_by_label(labels, 10)
    for split in (even, uneven, sorted_):
        assert split.shape == (10, 30)
        assert len(set(split.ravel())) == 300
    counts = [np.sort([np.bincount(labels[row], minlength=10) for row in split], 1) for split in (even, uneven)]
    assert counts[0][:, -1].max() <= 9
    assert counts[1][:, -1].mean() >= 12
    assert [len(set(labels[row])) for row in sorted_] == [1] * 10
    problem = dirichlet_digits(4, None, width=3, l2=0.1)
    x = problem.init(jr.key(0))
    flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(x)])
    plain = dirichlet_digits(4, None, width=3)
    extra = problem.loss(x, problem.full) - plain.loss(x, plain.full)
    np.testing.assert_allclose(extra, 0.05 * flat @ flat, rtol=1e-4)
    assert 0 <= float(problem.probes["test_accuracy"](problem, x, jr.key(0))) < 0.5


def test_labels_are_flipped_at_the_faulty_clients():
    problem = dirichlet_digits(4, None)
    flipped = lib.flipped_labels(problem, 1)
    np.testing.assert_array_equal(flipped.full[1][:3], problem.full[1][:3])
    np.testing.assert_array_equal(flipped.full[1][3], 9 - problem.full[1][3])


def star_of(parts):
    return np.kron(np.eye(parts, dtype=bool), lib.complete(3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lib.mixing_matrix(star_of(2)), "adjacency: .*2 parts"),
        (lambda: lib.mixing_matrix(np.ones((2, 3), bool)), "adjacency: .*square"),
        (lambda: lib.mixing_matrix(np.array([[0, 1, 1], [1, 0, 0], [0, 1, 0]], bool)), "adjacency: .*regular"),
        (lambda: mixing_for(np.eye(3), 4), r"mixing: .*\(4, 4\)"),
        (lambda: lib.LocalGossip(0.1, mixing=np.ones((3, 3))), "mixing: .*sum to 1"),
        (lambda: lib.ring(0), "n: "),
        (lambda: lib.torus(0, 2), "rows"),
        (lambda: lib.torus(2, 0), "columns"),
        (lambda: lib.exponential(0), "n: "),
        (lambda: lib.erdos_renyi(3, 1.5), "probability"),
        (lambda: lib.trimmed_mean(2)(jnp.ones((4, 2)), jnp.ones(2)), "faulty: trimmed_mean of 4 vectors bears 0 … 1"),
        (lambda: lib.krum(2)(jnp.ones((6, 2)), jnp.ones(2)), "faulty: krum of 6 vectors bears 0 … 1"),
        (lambda: run(dirichlet_digits(4), lib.monna(0.1, faulty=2), steps=1), "nearest_neighbors of 4 .* 0 … 1"),
        (lambda: run(dirichlet_digits(4), lib.RobustGossip(0.1, faulty=4), steps=1), "faulty: expected 0 … 3"),
        (lambda: run(dirichlet_digits(4), lib.LocalGossip(0.1, mixing=np.eye(3)), steps=1), "mixing"),
        (lambda: lib.geometric_median(0), "iterations"),
        (lambda: lib.geometric_median(1, 0.0), "smoothing"),
        (lambda: lib.strongest(lib.noise, [], lib.mean), "strengths"),
        (lambda: lib.flipped_labels(dirichlet_digits(4), 4), "faulty"),
        (lambda: split_by_dirichlet(np.arange(4), 5, 1.0), "n_clients"),
        (lambda: dirichlet_digits(4, 0.0), "concentration"),
        (lambda: dirichlet_digits(4, l2=-1.0), "l2"),
        (lambda: dirichlet_digits(4, width=-1), "width"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
