"""Equilibrium propagation against NumPy, where linear systems give every response in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.credit import (
    Equilibrium,
    EquilibriumLoss,
    equilibrium_descent,
    equilibrium_digits,
    equilibrium_propagation,
    jacobian_asymmetry,
    layers_drive,
    settling_params,
)

RNG = np.random.default_rng(0)
WEIGHTS, INTO = 0.5 * RNG.standard_normal((4, 4)), RNG.standard_normal((4, 3))
OUT, INPUTS, TARGETS = RNG.standard_normal((2, 4)), RNG.standard_normal((5, 3)), RNG.standard_normal((5, 2))


def loss_of(steps=300, rate=0.3):
    return EquilibriumLoss(
        lambda p, r, x: p["w"] @ r + p["v"] @ x,
        lambda p, r, y: ((p["out"] @ r - y) ** 2).sum(),
        jnp.zeros(4),
        steps=steps,
        rate=rate,
        batch=(jnp.asarray(INPUTS), jnp.asarray(TARGETS)),
    )


def by_hand(w, nudge, transposed=False):
    """Value and estimate, by Newton's method and dense solves; one-sided, symmetric or infinitesimal nudges."""

    def settle(current, r):
        for _ in range(50):
            slope = np.diag(1 / (1 - r**2))
            r = r + np.linalg.solve(slope - w, w @ r + current - np.arctanh(r))
        return r

    value, total = 0.0, {"w": 0.0, "v": 0.0, "out": 0.0}
    for x, y in zip(INPUTS, TARGETS, strict=True):
        start = np.zeros(4)
        for _ in range(300):
            start = np.tanh(0.7 * np.arctanh(start) + 0.3 * (w @ start + INTO @ x))
        r = settle(INTO @ x, start)
        error = 2 * (OUT @ r - y)
        value, g = value + ((OUT @ r - y) ** 2).sum() / 5, OUT.T @ error
        h = w - np.diag(1 / (1 - r**2))
        if nudge is None:
            e = np.linalg.solve(h.T if transposed else h, g)
        else:
            sides = [settle(INTO @ x - b * g, r) for b in nudge]
            e = (sides[0] - r) / nudge[0] if len(nudge) == 1 else (sides[0] - sides[1]) / (nudge[0] - nudge[1])
        for name, part in (("w", -np.outer(e, r)), ("v", -np.outer(e, x)), ("out", np.outer(error, r))):
            total[name] = total[name] + part / 5
    return value, total


def test_is_what_the_formula_says():
    with jax.enable_x64(True):
        params = {"w": jnp.asarray(WEIGHTS), "v": jnp.asarray(INTO), "out": jnp.asarray(OUT)}
        even = params | {"w": (params["w"] + params["w"].T) / 2}
        loss, key, beta = loss_of(), jr.key(0), 0.02
        ways = {0: None, 1: [beta], 2: [beta, -beta], 8: None}

        def every(params, even):
            found = {n: equilibrium_propagation(beta, n or None)(loss, params, key) for n in ways}
            return (
                found,
                jax.value_and_grad(loss)(params),
                equilibrium_propagation()(loss, even, key),
                jax.grad(loss)(even),
            )

        found, exact, tied, tied_exact = jax.jit(every)(params, even)
        for a, b in zip(jax.tree.leaves(tied[1]), jax.tree.leaves(tied_exact), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(jax.tree.leaves(exact)[0], by_hand(WEIGHTS, None)[0], rtol=1e-9)
    for phases, nudge in ways.items():
        value, expected = by_hand(WEIGHTS, nudge)
        np.testing.assert_allclose(found[phases][0], value, rtol=1e-9)
        for name, each in expected.items():
            np.testing.assert_allclose(found[phases][1][name], each, rtol=1e-6, atol=1e-7, err_msg=f"{phases}, {name}")
    transposed = by_hand(WEIGHTS, None, transposed=True)[1]
    for name, each in exact[1].items():  # the gradient itself takes the transpose, and asymmetry is seen
        np.testing.assert_allclose(each, transposed[name], rtol=1e-6, atol=1e-9)
    assert np.abs(found[0][1]["w"] - exact[1]["w"]).max() > 0.01


def test_the_penalty_is_half_the_square_of_the_asymmetry_and_its_slope_comes_on_top():
    with jax.enable_x64(True):
        state, key, matrix = jnp.asarray(RNG.standard_normal(4)), jr.key(2), jnp.asarray(WEIGHTS)

        def field(r):
            return matrix @ jnp.sin(r)

        jacobian = WEIGHTS * np.cos(np.asarray(state))
        v = np.asarray(jax.vmap(lambda k: optax.tree.random_like(k, state, jr.normal))(jr.split(key, 3)))
        drawn = [(jacobian @ u) @ (jacobian @ u) - u @ jacobian @ jacobian @ u for u in v]
        np.testing.assert_allclose(jacobian_asymmetry(field, state, key, 3), np.mean(drawn), rtol=1e-9)
        many = jax.jit(lambda k: jacobian_asymmetry(field, state, k, 40_000))(key)
        np.testing.assert_allclose(many, 0.5 * np.linalg.norm(jacobian - jacobian.T) ** 2, rtol=0.03)

        params = {"w": matrix, "v": jnp.asarray(INTO), "out": jnp.asarray(OUT)}
        loss = loss_of(20)
        ways = [equilibrium_propagation(homeostasis=h, probes=10_000) for h in (0.7, 0.0)]
        with_it, without = jax.jit(lambda p: [way(loss, p, key)[1]["w"] for way in ways])(params)
    np.testing.assert_allclose(with_it - without, 0.7 * 2 * (WEIGHTS - WEIGHTS.T), atol=0.1)


def test_layers_see_both_neighbors():
    params = jax.tree.map(lambda a: a + 0.1, settling_params(jr.key(0), (3, 4, 5, 2), 0.3, outputs=2))
    r, x = [jnp.asarray(RNG.standard_normal(n), jnp.float32) for n in (4, 5, 2)], jnp.ones(3)
    (w1, b1), (w2, b2), (w3, b3) = params["forward"]
    expected = w1 @ x + b1 + params["backward"][0] @ r[1], w2 @ r[0] + b2 + params["backward"][1] @ r[2], w3 @ r[1] + b3
    for a, b in zip(layers_drive(params, r, x), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_first_weights_have_their_law():
    params = settling_params(jr.key(0), (50, 200, 300), 0.6, gain=0.4)
    (first, _), (second, _) = params["forward"]
    (backward,) = params["backward"]
    np.testing.assert_allclose(first.std(), 50**-0.5, rtol=0.05)
    np.testing.assert_allclose([second.std(), backward.std()], 0.4 * 200**-0.5, rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(second.ravel(), backward.T.ravel())[0, 1], 0.6, atol=0.02)
    np.testing.assert_allclose(params["readout"][0].std(), 300**-0.5, rtol=0.05)


def test_a_step_is_adams_along_the_estimate():
    problem, method = Equilibrium.example(), equilibrium_descent(0.01)
    x = problem.init(jr.key(0))
    moved, _ = eqx.filter_jit(method.step)(problem, x, method.init(problem, x, jr.key(0)), jr.key(1))
    slope = jax.grad(problem.at(problem.sample(jr.key(1))))(x)
    np.testing.assert_allclose(moved, x - 0.01 * np.sign(slope), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: equilibrium_propagation(0.0), "beta"),
        (lambda: equilibrium_propagation(phases=0), "phases"),
        (lambda: equilibrium_propagation(homeostasis=-1.0), "homeostasis"),
        (lambda: equilibrium_propagation(probes=0), "probes"),
        (lambda: jacobian_asymmetry(jnp.sin, jnp.ones(2), jr.key(0), 0), "probes"),
        (lambda: loss_of(steps=0), "steps"),
        (lambda: loss_of(rate=1.5), "rate"),
        (lambda: settling_params(jr.key(0), (3,)), "sizes"),
        (lambda: equilibrium_digits(symmetry=2.0).init(jr.key(0)), "symmetry"),
        (lambda: settling_params(jr.key(0), (3, 2), outputs=0), "outputs"),
        (lambda: settling_params(jr.key(0), (3, 2), gain=-0.1), "gain"),
        (lambda: Equilibrium(loss_of(), jnp.zeros(2), jnp.zeros((3, 2))), "data"),
    ],
)
def test_refuses_what_makes_no_sense(call, name):
    with pytest.raises(ValueError, match=name):
        call()
