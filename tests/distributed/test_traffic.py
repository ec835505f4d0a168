"""Bits on the wire, counted by hand for every method: 4 clients and a model of 20 numbers of 32 bits."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import distributed as lib
from attractor.engine import run
from attractor.method import Method
from attractor.problem import Federated

N, D, STEPS = 4, 20, 6
MODEL = D * 32
TARGETS = np.random.default_rng(0).normal(size=(N, 5, D)).astype(np.float32)
PROBLEM = Federated(
    lambda x, batch: jnp.mean((x["a"] - batch[:, :1]) ** 2) + jnp.mean((x["b"] - batch[:, 1:]) ** 2),
    {"a": jnp.zeros(1), "b": jnp.zeros(D - 1)},
    TARGETS,
    batch_size=2,
)
TENTH = 2 * (32 + 5)  # two numbers, and which of 20 they are
STAR = np.zeros((N, N), bool)
STAR[0, 1:] = STAR[1:, 0] = True  # 6 directed links
KNOWN = lib.Surrogates(jnp.zeros((N, D)), jnp.ones((N, 1, 1)) * jnp.eye(D))


def point(problem, x, key):
    return jnp.r_[x["a"], x["b"]]


@pytest.mark.parametrize(
    ("method", "sent", "fetched"),
    [
        (lib.fedavg(0.1, 3), STEPS * N * MODEL, STEPS * N * MODEL),
        (lib.FedSpeed(0.1, local_steps=3), STEPS * N * MODEL, STEPS * N * MODEL),
        (lib.AdversarialAveraging(0.1, attack_steps=1), STEPS * N * MODEL, STEPS * N * MODEL),
        (lib.EControl(0.1), STEPS * N * TENTH, STEPS * N * MODEL),
        (lib.error_compensation(0.1), STEPS * N * TENTH, STEPS * N * MODEL),
        (lib.ef21(0.1, lib.rand_k(0.1)), STEPS * N * TENTH, STEPS * N * MODEL),
        (lib.ef21(0.1, lib.identity), STEPS * N * MODEL, STEPS * N * MODEL),
        (lib.WeightedEF21(0.1, jnp.arange(1.0, 5.0)), STEPS * N * TENTH, STEPS * N * MODEL),
        # times 1, 2, 3, 4, an aggregation every 2: clients 0 and 1 deliver 6 times, 2 and 3 three times
        (lib.FedFix(0.1, interval=2.0), (6 + 6 + 3 + 3) * MODEL, (6 + 6 + 3 + 3) * MODEL),
        (lib.LocalGossip(0.1, local_steps=2, gossip_steps=3), STEPS * 3 * 2 * N * MODEL, 0),  # a ring
        (lib.LocalGossip(0.1, mixing=lib.mixing_matrix(STAR)), STEPS * 6 * MODEL, 0),
        (lib.ConsensusDescent(0.1, 0.1, graph=STAR), STEPS * 6 * MODEL, 0),
        (lib.monna(0.1, faulty=1, attack=lib.sign_flip()), STEPS * N * (N - 1) * MODEL, 0),
        (lib.dprgd(0.1, rounds=2), STEPS * 2 * 2 * N * MODEL, 0),  # a ring, points alone
        (lib.RiemannianGossip(0.1, rounds=2), STEPS * 2 * 2 * 2 * N * MODEL, 0),  # and directions
        (lib.Scaffold(0.1, 3), STEPS * 2 * 3 * MODEL, STEPS * 2 * 3 * MODEL),
        (lib.Scaffold(0.1, 3, corrected=False), STEPS * 3 * MODEL, STEPS * 3 * MODEL),
        # gradients at the start; then rounds 0 and 3 are for anchors, the other four for miners, who need a direction
        (lib.AnchorSampling(0.1, 3, period=3), (N + STEPS * 3) * MODEL, (N + STEPS * 3 + 4 * 3) * MODEL),
        (lib.AnchorSampling(0.1, anchors=0.0), (N + STEPS * N) * MODEL, (N + STEPS * 2 * N) * MODEL),
        # visits of 4 steps begin at steps 0 and 4; from the first the model comes back at the second
        (lib.dsgld(1e-4, 4), MODEL, 2 * MODEL),
        # and each client has told its mean and precision to all
        (lib.FederatedLangevin(1e-4, 4, KNOWN), MODEL + N * 32 * (D + D**2), 2 * MODEL + N * N * 32 * (D + D**2)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Method) else "",
)
def test_traffic_is_what_is_counted_by_hand(method, sent, fetched):
    counted = lib.Counted(method)
    x = PROBLEM.init(jr.key(0))
    state = counted.init(PROBLEM, x, jr.key(0))
    step = jax.jit(lambda x, state, key: counted.step(PROBLEM, x, state, key))
    for key in jr.split(jr.key(1), STEPS):
        x, state = step(x, state, key)
    assert (float(state.sent), float(state.fetched)) == (sent, fetched)


def test_counting_leaves_the_iterates_alone():
    probes = {"bits": lib.traffic, "fetched": lib.broadcasts}
    counted = run(PROBLEM, lib.Counted(lib.ef21(0.1)), steps=4, every=2, probes={**probes, "point": point})
    plain = run(PROBLEM, lib.ef21(0.1), steps=4, every=2, probes={"point": point})
    assert counted["bits"].values[0, 0].tolist() == [0, 2 * N * TENTH, 4 * N * TENTH]
    assert counted["fetched"].values[0, 0].tolist() == [0, 2 * N * MODEL, 4 * N * MODEL]
    np.testing.assert_allclose(counted["point"].values, plain["point"].values, rtol=1e-6)


def test_bits_follow_what_a_compressor_leaves():
    """Of gradients with a single number that is not 0, ten percent are one number."""
    problem = Federated(lambda x, batch: (x[3] - batch.mean()) ** 2, jnp.zeros(D), TARGETS)
    method = lib.Counted(lib.error_compensation(0.1))
    x = problem.init(jr.key(0))
    state = method.init(problem, x, jr.key(0))
    _, state = jax.jit(lambda *given: method.step(problem, *given))(x, state, jr.key(1))
    assert float(state.sent) == N * (32 + 5)


def test_an_unknown_method_is_named_and_can_be_made_known():
    class Silent(Method):
        def step(self, problem: Federated, x, state, key):
            return x, state

    with pytest.raises(TypeError, match=r"Silent.*round_bits\.register"):
        lib.Counted(Silent())
    with pytest.raises(TypeError, match="Silent"):
        lib.round_bits(Silent(), PROBLEM, None, None, None)
    lib.round_bits.register(Silent, lambda *given: (7, 1))
    trace = run(PROBLEM, lib.Counted(Silent()), steps=3, every=3, probes={"bits": lib.traffic})
    assert trace["bits"].values[0, 0].tolist() == [0, 21]
