"""Decentralized descent over frames against NumPy loops over agents."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.linalg import polar

from attractor.distributed import RiemannianGossip, dprgd, mixing_matrix
from attractor.distributed.topologies import ring
from attractor.linalg import nearest_frame, tangent_part
from attractor.problem import Federated
from attractor.problems import shared_components

RNG = np.random.default_rng(0)
GRAMS, PULLS = RNG.normal(size=(4, 5, 5)), RNG.normal(size=(4, 3))
START = {"frame": np.linalg.qr(RNG.normal(size=(5, 3)))[0], "free": np.array([0.5, -1.0, 2.0])}
GRAPH = ring(4)
GRAPH[0, 2] = GRAPH[2, 0] = True  # so that neighbors weigh unequally


def quartics():
    """Losses of a frame and of a free vector, not quadratic and not symmetric, whose gradients NumPy knows, too."""

    def loss(x, batch):
        gram, pull = batch[0][0], batch[1][0]
        return jnp.sum((gram @ x["frame"]) ** 4) / 4 + jnp.sum((x["frame"] @ (x["free"] - pull)) ** 2) / 2

    return Federated(loss, jax.tree.map(jnp.asarray, START), (GRAMS[:, None], PULLS[:, None]))


def slopes(i, x, free):
    off = free - PULLS[i]
    g = GRAMS[i].T @ (GRAMS[i] @ x) ** 3 + np.outer(x @ off, off)
    return g - x @ (x.T @ g + g.T @ x) / 2, x.T @ (x @ off)


@pytest.mark.parametrize(("method", "share"), [
    (RiemannianGossip(0.02, 0.3, 0.7, 2, mixing_matrix(GRAPH)), 0.7), (dprgd(0.02, 0.3, 2, mixing_matrix(GRAPH)), 0.0),
])  # fmt: skip
def test_steps_are_a_loop_over_agents(method, share):
    with jax.enable_x64(True):
        problem = quartics()
        x = problem.init(jr.key(0))
        state = method.init(problem, x, jr.key(0))
        step = jax.jit(lambda x, state: method.step(problem, x, state, jr.key(1)))
        for _ in range(6):
            x, state = step(x, state)
    mixing = np.linalg.matrix_power(mixing_matrix(GRAPH), 2)
    frames, free = [START["frame"]] * 4, [START["free"]] * 4
    g = [slopes(i, frames[i], free[i]) for i in range(4)]
    eta = [(-a, -b) for a, b in g]
    for k in range(6):
        alpha = 0.02 * (k + 1) ** -0.3
        frames, free = (
            [polar(sum(mixing[i, j] * frames[j] for j in range(4)) + alpha * eta[i][0])[0] for i in range(4)],
            [sum(mixing[i, j] * free[j] for j in range(4)) + alpha * eta[i][1] for i in range(4)],
        )
        old, g, carried = g, [slopes(i, frames[i], free[i]) for i in range(4)], eta
        eta = []
        for i in range(4):
            beta = share * sum(np.sum(a**2) for a in g[i]) / sum(np.sum(a**2) for a in old[i])
            mixed = [sum(mixing[i, j] * carried[j][part] for j in range(4)) for part in (0, 1)]
            inner = frames[i].T @ mixed[0]
            eta.append((
                beta * (mixed[0] - frames[i] @ (inner + inner.T) / 2) - g[i][0], beta * mixed[1] - g[i][1]
            ))  # fmt: skip
    np.testing.assert_allclose(state.models["frame"], frames, atol=1e-9)
    np.testing.assert_allclose(state.models["free"], free, atol=1e-9)
    np.testing.assert_allclose(state.directions["frame"], [a for a, _ in eta], rtol=1e-7)
    np.testing.assert_allclose(x["frame"], polar(np.mean(frames, 0))[0], atol=1e-9)
    np.testing.assert_allclose(x["free"], np.mean(free, 0), atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 3, 5)])
def test_projections_are_the_nearest_points(shape):
    with jax.enable_x64(True):
        v = RNG.normal(size=shape)
        x = nearest_frame(jnp.asarray(v))
        np.testing.assert_allclose(x, [polar(one)[0] for one in v], atol=1e-12)
        along = tangent_part(x, jnp.asarray(v))
        t = 1e-6  # a tangent curve leaves the manifold by the square, and what is cut off is orthogonal to all of them
        moved = x + t * along
        gram = moved.mT @ moved if shape[1] > shape[2] else moved @ moved.mT
        np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=1e-11)
        other = tangent_part(x, jnp.asarray(RNG.normal(size=shape)))
        assert np.abs(np.sum((v - along) * other, (1, 2))).max() < 1e-12


def test_what_is_not_finite_spoils_no_other_frame():
    x = np.ones((3, 4, 2)) * [1.0, -1.0]
    x[:, 0] = [[1.0, np.inf], [2.0, 1.0], [np.nan, 1.0]]
    found = nearest_frame(jnp.asarray(x, jnp.float32))
    assert np.isnan(found[jnp.array([0, 2])]).all()
    np.testing.assert_allclose(found[1], polar(x[1])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RiemannianGossip(0.0), "learning_rate"),
        (lambda: RiemannianGossip(0.1, decay=1.5), "decay"),
        (lambda: RiemannianGossip(0.1, share=-0.1), "share"),
        (lambda: dprgd(0.1, rounds=0), "rounds"),
        (lambda: dprgd(0.1, mixing=np.eye(3) + 1), "mixing"),
        (lambda: dprgd(0.1, mixing=np.eye(3)).init(quartics(), quartics().init(jr.key(0)), jr.key(0)), "4 clients"),
        (lambda: shared_components(np.full((2, 3, 4), np.inf), 1), "rows: expected finite samples"),
        (lambda: shared_components(np.ones((2, 3, 4)), 4), "rank"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_components_of_shared_rows_are_numpys():
    rows = RNG.normal(size=(3, 7, 4))
    problem = shared_components(rows, 2, seed=1)
    sizes, vectors = np.linalg.eigh(np.cov(rows.reshape(-1, 4).T, bias=True) + np.outer(*[rows.mean((0, 1))] * 2))
    best = jnp.asarray(vectors[:, 2:])
    values = {name: float(probe(problem, best, jr.key(0))) for name, probe in problem.probes.items()}
    assert values["loss"] == pytest.approx(-(sizes[2] / sizes[3] + 1) / 2, rel=1e-5)
    assert max(values["off"], values["gradient_norm"]) < 1e-5
    turned = best @ jnp.asarray([[0.6, 0.8], [-0.8, 0.6]])  # another frame of the same span, then one an angle apart
    assert float(problem.probes["off"](problem, turned, jr.key(0))) < 1e-5
    tilted = best.at[:, 0].set(0.8 * vectors[:, 2] + 0.6 * vectors[:, 0])
    assert float(problem.probes["off"](problem, tilted, jr.key(0))) == pytest.approx(0.6, rel=1e-5)
