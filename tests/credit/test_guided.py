"""Guided forward gradients against NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from layers import INPUTS, TARGETS, loss_and_start

from attractor.credit import Layered, first_heads, guided_forward_descent, guided_gradient


def start():
    loss, params = loss_and_start()
    heads = jax.tree.map(lambda a: a + 0.2, first_heads(jr.key(3), loss, params))
    return loss, params, heads


def backward(weights, heads, x, t):
    """One example's signals at the outputs of both layers of units, of the network's loss and of the local ones."""
    (w1, b1), (w2, b2), (w3, b3) = weights
    h1 = np.tanh(w1 @ x + b1)
    h2 = np.tanh(w2 @ h1 + b2)
    error = 2 * (w3 @ h2 + b3 - t)
    exact = w2.T @ (w3.T @ error * (1 - h2**2)), w3.T @ error
    residuals = [2 * (w @ h + b - t) for (w, b), h in zip(heads, (h1, h2), strict=True)]
    own = [w.T @ r for (w, _), r in zip(heads, residuals, strict=True)]
    return exact, own, (x, h1, h2), error, residuals


def by_hand(weights, heads, target, space, drawn):
    """The estimate by `guided_gradient`, for local guesses or for drawn ones."""
    each = [backward(weights, heads, x, t) for x, t in zip(INPUTS, TARGETS, strict=True)]
    guesses, wanted = [], []
    for exact, own, (x, h1, h2), _, _ in each:
        aims = exact if target == "global" else own
        if space == "activations":
            guesses.append(own)
            wanted.append(aims)
            continue
        slopes, seen = (1 - h1**2, 1 - h2**2), (x, h1)
        guesses.append([np.outer(o * s, np.append(i, 1)) for o, s, i in zip(own, slopes, seen, strict=True)])
        wanted.append([np.outer(a * s, np.append(i, 1)) for a, s, i in zip(aims, slopes, seen, strict=True)])
    result = []
    for i in range(2):
        if space == "weights":
            u = sum(g[i] for g in guesses) if drawn is None else drawn[i]
            along = np.sum(sum(w[i] for w in wanted) * u) / 5
            g = along * u / (np.sum(u * u) if drawn is None else 1.0)
            result.append((g[:, :-1], g[:, -1]))
            continue
        total = 0.0
        for n, (_, _, (x, h1, h2), _, _) in enumerate(each):
            u = guesses[n][i] if drawn is None else drawn[i][n]
            signal = wanted[n][i] @ u * u / (u @ u if drawn is None else 1.0)
            total = total + np.outer(signal * (1 - (h1, h2)[i] ** 2), np.append((x, h1)[i], 1)) / 5
        result.append((total[:, :-1], total[:, -1]))
    last = sum(np.outer(error, np.append(h2, 1)) for _, _, (_, _, h2), error, _ in each) / 5
    of_heads = [sum(np.outer(r[i], np.append(s[i + 1], 1)) for _, _, s, _, r in each) / 5 for i in range(2)]
    return [*result, (last[:, :-1], last[:, -1])], [(g[:, :-1], g[:, -1]) for g in of_heads]


@pytest.mark.parametrize("space", ["activations", "weights"])
def test_is_what_the_formula_says(space):
    with jax.enable_x64(True):
        loss, params, heads = start()
        key = jr.key(7)
        at = params[:2] if space == "weights" else [jnp.zeros((5, n)) for n in (4, 6)]
        drawn = optax.tree.random_like(jr.split(key)[1], at, jr.normal)
        fresh = first_heads(jr.split(key)[0], loss, params)
        ways = [(guess, target) for guess in ("local", "random", "untrained") for target in ("global", "local")]

        def every(params, heads, key):
            each = [guided_gradient(loss, params, heads, key, guess=g, target=t, space=space) for g, t in ways]
            none = jax.tree.map(jnp.zeros_like, heads)
            return each, guided_gradient(loss, params, none, key, space=space), loss(params)

        found, still, value = jax.jit(every)(params, heads, key)
    weights, own, fresh = jax.tree.map(lambda a: np.asarray(a, float), (params, heads, fresh))
    drawn = [np.asarray(u) if space == "activations" else np.column_stack([np.asarray(a) for a in u]) for u in drawn]
    for (guess, target), each in zip(ways, found, strict=True):
        if guess == "untrained" and target == "local":
            continue  # heads of the guess and of the target differ: the two cases apart say what each does
        of_guess = fresh if guess == "untrained" else own
        expected, of_heads = by_hand(weights, of_guess, target, space, drawn if guess == "random" else None)
        if guess == "untrained":
            of_heads = by_hand(weights, own, target, space, None)[1]
        for a, b in zip(
            jax.tree.leaves((each.gradient, each.heads)), jax.tree.leaves((expected, of_heads)), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9, err_msg=f"{guess}, {target}")
    np.testing.assert_allclose(found[0].value, value, rtol=1e-6)
    for a in jax.tree.leaves(still.gradient[:2]):  # a guess without length
        np.testing.assert_array_equal(a, 0)


def test_a_step_moves_network_and_heads():
    problem, method = Layered.example(), guided_forward_descent(0.01)
    x = problem.init(jr.key(0))
    before = method.init(problem, x, jr.key(1))
    moved, after = eqx.filter_jit(method.step)(problem, x, before, jr.key(2))
    # The first step of Adam has the length of the rate in every number that its loss depends on.
    for a, b in zip(jax.tree.leaves((moved, after.heads)), jax.tree.leaves((x, before.heads)), strict=True):
        np.testing.assert_allclose(np.abs(a - b), 0.01, rtol=1e-3)


def test_refuses_what_does_not_fit():
    loss, params, heads = start()
    for name, choice in (("guess", "best"), ("target", "both"), ("space", "time")):
        with pytest.raises(ValueError, match=f"{name}: expected one of"):
            guided_gradient(loss, params, heads, jr.key(0), **{name: choice})
    with pytest.raises(ValueError, match="3 layers and 2 heads"):
        guided_gradient(loss, params, heads[:1], jr.key(0))
