"""Complex parameters: gradients point uphill, curvature is symmetric, and what is for real numbers says so."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import Composite, Constrained, Federated, Game, Minimization, MultiObjective, Trace, problems, run
from attractor.gradients import adjoint, grad, split_complex, value_and_grad
from attractor.optim import adamomentum, adamp, ademamix, cautious_adamw, cautious_sgdm, exadam, muon, sgdp
from attractor.second_order import DampedNewton, LevenbergMarquardt, adahessian, psgd
from attractor.trees import as_vector, norm

BOWL = Minimization(lambda z: jnp.sum(jnp.abs(z - 1 - 1j) ** 2), jnp.zeros(2, jnp.complex64))


def draw(key, *shape):
    return jr.normal(jr.key(key), shape, jnp.complex64)


MATRIX, TARGET = draw(0, 8, 3), draw(1, 8)


def residuals(x, batch):
    """Holomorphic in one part of the parameters, not in the other, with a real parameter beside them."""
    rows, targets = batch
    return rows[..., :2] @ x["z"] ** 2 + x["a"] * jnp.conj(rows[..., 2] * x["z"][0]) - targets


START = {"z": jnp.asarray([0.5 + 1j, -1 + 0.3j], jnp.complex64), "a": jnp.asarray(0.7)}


def squared(x, batch):
    r = residuals(x, batch)
    return jnp.mean(r.real**2 + r.imag**2)


def inner_product(a, b):
    return sum(jnp.vdot(x, y).real for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def like_start(key):
    return {"z": draw(key, 2), "a": jnp.asarray(float(key))}


def test_complex_recordings_are_saved(tmp_path):
    probes = {"z": lambda problem, x, key: x, "first": lambda problem, x, key: x[0], "loss": BOWL.probes["loss"]}
    trace = run(BOWL, optax.sgd(0.1), steps=4, every=2, seeds=2, probes=probes)
    trace.save(tmp_path / "trace.parquet")
    loaded = Trace.load(tmp_path / "trace.parquet")
    for name in probes:
        assert loaded[name].dtype == trace[name].dtype
        np.testing.assert_array_equal(loaded[name].values, trace[name].values)
    assert np.abs(trace["first"].values.imag).max() > 0.1


@pytest.mark.parametrize(
    "optimizer",
    [
        adamomentum(0.1),
        exadam(0.1),
        ademamix(0.1, warmup=3),
        adamp(0.1, delta=5.0, weight_decay=0.1),
        sgdp(0.1),
        muon(0.1),
        cautious_adamw(0.1),
        cautious_sgdm(0.1),
    ],
)
def test_a_phase_turns_what_an_optimizer_does(optimizer):
    """Moments are of moduli, products are real parts: nothing depends on where the axes of the plane lie."""
    turn = jnp.exp(0.7j).astype(jnp.complex64)
    paths = []
    for phase in (1.0, turn):
        x = phase * draw(2, 3, 4)
        state = optimizer.init(x)
        for t in range(3):
            updates, state = optimizer.update(phase * draw(3 + t, 3, 4), state, x)
            x = optax.apply_updates(x, updates)
        paths.append(x)
    np.testing.assert_allclose(paths[1], turn * paths[0], atol=1e-4)


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        (optax.sgd(0.1), 60),
        (optax.sgd(0.05, 0.9), 400),
        (optax.adam(0.1), 400),
        (optax.lbfgs(), 20),
        (psgd(0.1), 200),
        (DampedNewton(1.0), 20),
    ],
)
def test_the_loss_falls_to_zero(method, steps):
    trace = run(BOWL, method, steps=steps)
    assert float(trace["loss"][0, 0, -1]) < 1e-4 < float(trace["loss"][0, 0, 0])
    assert trace.final.dtype == jnp.complex64
    np.testing.assert_allclose(np.asarray(trace.final)[0, 0], [1 + 1j, 1 + 1j], atol=1e-2)


def test_an_imaginary_part_that_is_not_finite_is_divergence():
    trace = run(BOWL, optax.sgd(10.0), steps=100, every=10)
    assert trace.diverged.all()


def test_the_gradient_is_that_of_the_real_and_imaginary_parts():
    def loss(x):
        return squared(x, (MATRIX, TARGET))

    parts, join = split_complex(START)
    of_parts = jax.grad(lambda p: loss(join(p)))(parts)
    value, slope = value_and_grad(loss)(START)
    assert float(value) == pytest.approx(float(loss(START)))
    for ours, theirs in zip(jax.tree.leaves(split_complex(slope)[0]), jax.tree.leaves(of_parts), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(as_vector(slope)[0], as_vector(grad(loss)(START))[0])


def test_products_with_the_hessian_are_symmetric_and_those_of_the_parts():
    problem = Minimization(squared, START, (MATRIX, TARGET))
    hvp = problem.oracles(START, problem.full)["hvp"]
    u, v = like_start(2), like_start(3)
    assert float(inner_product(u, hvp(v))) == pytest.approx(float(inner_product(hvp(u), v)), rel=1e-4)
    flat, unravel = as_vector(START)
    hessian = jax.hessian(lambda w: squared(unravel(w), problem.full))(flat)
    np.testing.assert_allclose(as_vector(hvp(v))[0], hessian @ as_vector(v)[0], rtol=1e-4, atol=1e-4)


def test_a_vector_of_parts_goes_back_to_the_same_tree():
    flat, unravel = as_vector(START)
    assert flat.dtype == jnp.float32
    assert flat.shape == (5,)
    jax.tree.map(np.testing.assert_array_equal, unravel(flat), START)


def test_the_adjoint_moves_a_map_to_the_other_side():
    def linear(v):
        return MATRIX[:, :2] @ v["z"] + v["a"] * jnp.conj(MATRIX[:, 2])

    w, v = draw(4, 8), like_start(5)
    assert float(inner_product(adjoint(linear, v)(w), v)) == pytest.approx(float(inner_product(w, linear(v))), rel=1e-4)


def test_gauss_newton_products_are_those_of_the_parts():
    problem = Composite.least_squares(residuals, START, (MATRIX, TARGET))
    product = problem.ggn(START, problem.full)
    flat, unravel = as_vector(START)

    def parts(w):
        r = residuals(unravel(w), problem.full)
        return jnp.concatenate([r.real, r.imag])

    jacobian, v = jax.jacfwd(parts)(flat), like_start(6)
    expected = jacobian.T @ (jacobian @ as_vector(v)[0])
    np.testing.assert_allclose(as_vector(product(v))[0], expected, rtol=1e-4, atol=1e-3)
    with pytest.raises(TypeError, match="complex outputs"):
        run(problem, LevenbergMarquardt(), steps=1)


def test_every_example_and_every_client_has_an_uphill_gradient():
    problem = Minimization(squared, START, (MATRIX, TARGET))
    oracles = problem.oracles(START, problem.full)
    mean = jax.tree.map(lambda g: jnp.mean(g, 0), oracles["per_example"]())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), mean, oracles["grad"])
    federated = Federated(squared, START, (MATRIX.reshape(4, 2, 3), TARGET.reshape(4, 2)))
    mean = jax.tree.map(lambda g: jnp.mean(g, 0), federated.client_gradients(START, federated.full))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), mean, oracles["grad"])


def test_several_losses_have_uphill_gradients():
    def losses(x, batch):
        return squared(x, batch), jnp.abs(x["z"][0]) ** 2

    problem = MultiObjective(losses, START, (MATRIX, TARGET), names=("fit", "size"))
    gradients = problem.gradients(START, problem.full)
    oracles = problem.oracles(START, problem.full)
    jax.tree.map(lambda g, total: np.testing.assert_allclose(g.sum(0), total, rtol=1e-4), gradients, oracles["grad"])


def test_a_game_of_complex_players_settles():
    def payoff(x, y):
        return jnp.abs(x - 1j) ** 2 + jnp.real(jnp.conj(x) * y) - jnp.abs(y - 1) ** 2

    game = Game.minimax(payoff, (jnp.zeros((), jnp.complex64), jnp.zeros((), jnp.complex64)))
    x, y = jnp.asarray([0.2 + 0.1j, -1j], jnp.complex64)
    for_x, for_y = game.field((x, y), None)
    np.testing.assert_allclose([for_x, for_y], [2 * (x - 1j) + y, 2 * (y - 1) - x], rtol=1e-5)


def test_the_conditions_of_a_constrained_minimum_hold_at_it():
    def loss(z):
        return jnp.sum(jnp.abs(z - 1j) ** 2)

    def constraint(z):
        return z.imag.sum()[None]

    problem = Constrained(loss, constraint, jnp.zeros(2, jnp.complex64))
    at_start, at_other = (problem.probes["kkt"](problem, z, jr.key(0)) for z in (jnp.zeros(2), jnp.ones(2)))
    assert float(at_start) == pytest.approx(0.0, abs=1e-5)
    assert float(at_other) > 1
    assert float(norm(jnp.asarray([3j, 4.0]))) == pytest.approx(5.0)


@pytest.mark.parametrize("method", [adahessian(learning_rate=0.1)])
def test_what_is_for_real_parameters_says_so(method):
    with pytest.raises(TypeError, match="complex parameters"):
        run(BOWL, method, steps=1)


def test_real_runs_are_lowered_to_the_same_program_as_with_jaxs_gradient():
    problem = problems.digits_logistic(batch_size=16)
    x = problem.init(jr.key(0))

    def text(gradient):
        def loss(x):
            return problem.loss(x, problem.full)

        return jax.jit(lambda x: gradient(loss)(x)).lower(x).as_text()

    assert text(grad) == text(jax.grad)
