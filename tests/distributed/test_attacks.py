"""Every attack under every rule, step by step, against NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import distributed as lib
from attractor.problem import Federated

N, F, RATE, BETA, ROUNDS = 7, 2, 0.15, 0.6, 4
RNG = np.random.default_rng(3)
ROWS, LABELS = RNG.normal(size=(N, 5, 3)), RNG.integers(0, 10, (N, 5))
START = np.array([0.4, -1.0, 2.0])


def median_by_weiszfeld(received):
    point = received.mean(0)
    for _ in range(8):
        weights = 1 / np.maximum(np.linalg.norm(received - point, axis=1), 1e-6)
        point = weights @ received / weights.sum()
    return point


def nearest(received, own, count):
    return received[np.argsort(((received - own) ** 2).sum(1))[:count]]


def central(received):
    apart = ((received[:, None] - received) ** 2).sum(-1)
    return received[np.sort(apart, 1)[:, 1 : N - F - 1].sum(1).argmin()]


RULES = {
    "mean": (lib.mean, lambda received, own: received.mean(0)),
    "median": (lib.coordinate_median, lambda received, own: np.median(received, 0)),
    "trimmed mean": (lib.trimmed_mean(F), lambda received, own: np.sort(received, 0)[F : N - F].mean(0)),
    "krum": (lib.krum(F), lambda received, own: central(received)),
    "geometric median": (lib.geometric_median(8), lambda received, own: median_by_weiszfeld(received)),
    "nearest": (lib.nearest_neighbors(F), lambda received, own: nearest(received, own, N - F).mean(0)),
}
ATTACKS = {
    "sign flip": (lib.sign_flip(3.0), lambda sent, at, before: 4 * at[:-F].mean(0) - 3 * sent[:-F].mean(0)),
    "little is enough": (
        lib.little_is_enough(1.5),
        lambda sent, *_: sent[:-F].mean(0) - 1.5 * sent[:-F].std(0),
    ),
    "dropped": (lib.dropped, lambda sent, at, before: np.zeros(3)),
    "late": (lib.late, lambda sent, at, before: before[-F:]),
    "labels flipped": (None, lambda sent, at, before: sent[-F:]),
}


def squares(x, batch):
    return jnp.mean((batch[0] @ x - batch[1]) ** 2) / 2


def start_at(key):
    return jnp.asarray(START)


def any_rule(which, received, own):
    return jnp.stack([rule(received, own) for rule, _ in RULES.values()])[which]


def any_attack(which, round, faulty, key):
    lies = [round.sent[-faulty:] if attack is None else attack(round, faulty, key) for attack, _ in ATTACKS.values()]
    return jnp.stack(lies)[which]


@eqx.filter_jit
def models_of(problem, rule, attack):
    method = lib.RobustGossip(RATE, BETA, eqx.Partial(any_rule, rule), F, eqx.Partial(any_attack, attack))
    x = problem.init(jr.key(0))
    state = method.init(problem, x, jr.key(0))
    for key in jr.split(jr.key(1), ROUNDS):
        x, state = method.step(problem, x, state, key)
    return x, state.models


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_rule_under_attack_is_a_loop_over_clients(attack, subtests):
    lie, flips = ATTACKS[attack][1], attack == "labels flipped"
    labels = LABELS.copy()
    if flips:
        labels[-F:] = 9 - labels[-F:]
    for number, (name, (_, rule)) in enumerate(RULES.items()):
        models, momentum, before = np.tile(START, (N, 1)), np.zeros((N, 3)), np.tile(START, (N, 1))
        for _ in range(ROUNDS):
            slopes = np.array([a.T @ (a @ z - b) / 5 for a, b, z in zip(ROWS, labels, models, strict=True)])
            momentum = BETA * momentum + (1 - BETA) * slopes
            sent = models - RATE * momentum
            received = sent.copy()
            received[-F:] = lie(sent, models, before)
            models, before = np.array([rule(received, own) for own in sent]), sent
        with subtests.test(rule=name), jax.enable_x64(True):
            problem = Federated(squares, start_at, (ROWS, LABELS))
            problem = lib.flipped_labels(problem, F) if flips else problem
            x, found = models_of(problem, jnp.asarray(number), jnp.asarray(list(ATTACKS).index(attack)))
            np.testing.assert_allclose(found, models, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(x, models[:-F].mean(0), rtol=1e-8, atol=1e-10)
