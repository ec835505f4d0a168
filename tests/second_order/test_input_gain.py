"""Two-stage training against a derivation in NumPy; whitening; the subspace step on a linear problem."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import Composite
from attractor.nn import BypassNetwork
from attractor.second_order import TwoStageTraining, gained, subspace_gauss_newton, whitening

RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.standard_normal((40, 3)) * [1.0, 5.0, 0.2], RNG.standard_normal(40)


def _network(width=4, depth=1):
    return Composite.of_model(
        lambda key: eqx.nn.MLP(3, 1, width, depth, jnp.tanh, key=key),
        lambda outputs, batch: jnp.mean((outputs[:, 0] - batch[1]) ** 2),
        (jnp.asarray(INPUTS), jnp.asarray(TARGETS)),
    )


_step = eqx.filter_jit(lambda problem, method, x: method.step(problem, x, None, jr.key(0))[0])


def _by_hand(w, v, gains, whiten, stepsize=1.0, around=None):
    """One iteration: w (4, 3 + 1) input weights, v (4 + 1) output weights, and those of the inputs ``around`` it."""
    x = np.column_stack([INPUTS, np.ones(40)])
    linear = np.zeros((40, 0)) if around is None else INPUTS
    skipped = linear @ (np.zeros(0) if around is None else around)
    transform = np.eye(4)
    if whiten:
        moments = x.T @ x / 40
        scale = np.diag(np.diag(moments) ** -0.5)
        values, axes = np.linalg.eigh(scale @ moments @ scale)
        transform = np.diag(values**-0.5) @ axes.T @ scale
    hidden = np.tanh(x @ w.T)
    error = hidden @ v[:-1] + v[-1] + skipped - TARGETS
    slopes = (1 - hidden**2) * v[:-1]  # of the output with respect to the units' inputs
    gradient = (2 / 40) * (slopes * error[:, None]).T @ x
    pieces = np.stack([np.outer((gradient @ transform.T)[:, m], transform[m]) for m in range(4)])
    if not gains:
        pieces = pieces.sum(0, keepdims=True)
    jacobian = np.einsum("mhn,ph,pn->pm", pieces, slopes, x)
    r = -np.linalg.solve(2 / 40 * jacobian.T @ jacobian, np.einsum("mhn,hn->m", pieces, gradient))
    w = w + stepsize * np.einsum("m,mhn->hn", r, pieces)
    features = np.column_stack([linear, np.tanh(x @ w.T), np.ones(40)])
    solved = np.linalg.lstsq(features, TARGETS, rcond=None)[0]
    return (w, solved) if around is None else (w, solved[3:], solved[:3])


@pytest.mark.parametrize("gains", [True, False])
@pytest.mark.parametrize("whiten", [True, False])
def test_agrees_with_numpy(gains, whiten):
    with jax.enable_x64(True):
        problem = _network()
        x = problem.init(jr.key(0))
        first, last = x.layers
        w, v = np.column_stack([first.weight, first.bias]), np.append(last.weight[0], last.bias)
        method = TwoStageTraining(gains, whiten, damping=1e-13)
        for _ in range(8):
            x, (w, v) = _step(problem, method, x), _by_hand(w, v, gains, whiten)
        first, last = x.layers
        np.testing.assert_allclose(np.column_stack([first.weight, first.bias]), w, atol=1e-6)
        np.testing.assert_allclose(np.append(last.weight[0], last.bias), v, atol=1e-6)


@pytest.mark.parametrize("whiten", [True, False])
def test_weights_around_the_hidden_layer_agree_with_numpy(whiten):
    with jax.enable_x64(True):
        problem = Composite.of_model(
            lambda key: BypassNetwork(3, 1, 4, key=key),
            lambda outputs, batch: jnp.mean((outputs[:, 0] - batch[1]) ** 2),
            (jnp.asarray(INPUTS), jnp.asarray(TARGETS)),
        )
        x = problem.init(jr.key(0))
        w = np.column_stack([x.hidden.weight, x.hidden.bias])
        v, around = np.append(x.output.weight[0, 3:], x.output.bias), np.asarray(x.output.weight[0, :3])
        method = TwoStageTraining(True, whiten, damping=1e-13, stepsize=0.6)
        for _ in range(8):
            x, (w, v, around) = _step(problem, method, x), _by_hand(w, v, True, whiten, 0.6, around)
        np.testing.assert_allclose(np.column_stack([x.hidden.weight, x.hidden.bias]), w, atol=1e-6)
        np.testing.assert_allclose(np.append(x.output.weight[0], x.output.bias), [*around, *v], atol=1e-6)


def test_a_traced_switch_is_the_static_one():
    problem = _network()
    x = problem.init(jr.key(0))
    step = jax.jit(lambda whiten: TwoStageTraining(whiten=whiten).step(problem, x, None, jr.key(0))[0])
    for whiten in (False, True):
        static = TwoStageTraining(whiten=whiten)
        expected = jax.jit(lambda static=static: static.step(problem, x, None, jr.key(0))[0])()
        for a, b in zip(jax.tree.leaves(step(float(whiten))), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_whitens_and_drops_what_is_not_there():
    inputs = np.column_stack([INPUTS, np.zeros(40)])
    transform = whitening(jnp.asarray(inputs.T @ inputs / 40))
    seen = inputs @ np.asarray(transform).T
    np.testing.assert_allclose(seen.T @ seen / 40, np.diag([0, 1, 1, 1]), atol=1e-5)


def test_gains_weight_the_inputs():
    gradient = jnp.arange(6.0).reshape(2, 3)
    found = gained(gradient, jnp.asarray([1.0, 0.0, 2.0]), jnp.eye(3))
    np.testing.assert_allclose(found, [[0.0, 0.0, 4.0], [3.0, 0.0, 10.0]])


def test_subspace_step_solves_a_linear_problem_in_the_subspace():
    rows, columns = jnp.asarray(RNG.standard_normal((6, 4))), jnp.asarray(RNG.standard_normal((4, 2)))
    problem = Composite.least_squares(lambda x: rows @ x - 1, init=jnp.zeros(4))
    found = subspace_gauss_newton(problem, jnp.zeros(4), None, lambda r: columns @ r, 2, 1e-7)
    expected = columns @ np.linalg.lstsq(np.asarray(rows @ columns), np.ones(6), rcond=None)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_damping_is_relative_to_the_curvature():
    rows, columns, damping = RNG.standard_normal((6, 4)), RNG.standard_normal((4, 2)), 0.3
    problem = Composite.least_squares(lambda x: jnp.asarray(rows) @ x - 1, init=jnp.zeros(4))
    found = subspace_gauss_newton(problem, jnp.zeros(4), None, lambda r: jnp.asarray(columns) @ r, 2, damping)
    slopes = rows @ columns
    hessian = slopes.T @ slopes
    expected = columns @ np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), slopes.T @ np.ones(6))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_deeper_networks_and_linear_models():
    for depth in (0, 2):
        problem = _network(depth=depth)
        x = problem.init(jr.key(0))
        new = _step(problem, TwoStageTraining(), x)
        losses = [float(problem.loss(z, problem.full)) for z in (x, new)]
        best = np.linalg.lstsq(np.column_stack([INPUTS, np.ones(40)]), TARGETS, rcond=None)[1][0] / 40
        assert losses[1] == pytest.approx(best, rel=1e-4) if depth == 0 else losses[1] < losses[0]


def test_refuses_no_damping():
    with pytest.raises(ValueError, match="damping"):
        TwoStageTraining(damping=0.0)
