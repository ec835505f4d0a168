"""Direct search with and without attacks against a NumPy loop fed with the same random numbers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.blackbox import DirectSearch, attack_operator, best_by_call, minimize_blackbox, penalized
from attractor.problem import Minimization

N = 3
NET = eqx.nn.MLP(N, 2, 5, 1, jnp.tanh, key=jr.key(1))


def bent(y):
    return (y[0] - 0.4) ** 2 + 0.7 * jnp.abs(y[1] + 0.2) ** 1.5 + 0.3 * y[0] * y[1]


def numbers(key):
    """The random numbers of a step, as the method draws them."""
    for_directions, for_length = jr.split(jr.split(key)[1])
    unit = np.asarray(jr.normal(for_directions, (3, N), float))
    return unit / np.linalg.norm(unit, axis=1, keepdims=True), float(jr.uniform(for_length, dtype=float))


def numpy_step(loss, attack, x, state, key, *, start, sufficient, smallest, largest, search=True):
    radius, attack_radius, searches, evaluations = state
    stay, value = False, loss(x)
    if attack is not None:
        moved = attack(x, attack_radius)
        gain, evaluations = value - loss(moved), evaluations + 1
        stay = gain >= sufficient * abs(value) and gain > 0
        attack_radius = min(largest, max(smallest, attack_radius * (1.3 if stay else 1.1 if gain > 0 else 1 / 1.3)))
        if gain > 0:
            x = moved
    if stay:
        return x, (2 * radius if radius <= smallest else radius, attack_radius, searches, evaluations)
    if not search:
        return x, (radius, attack_radius, searches, evaluations)
    unit, share = numbers(key)
    value, moves = loss(x), [start * share ** (1 / N) * unit[0]]
    if radius > smallest:
        moves.append(start * np.sqrt(searches + 1) * unit[1])
        basis = np.eye(N) - 2 * np.outer(unit[2], unit[2])
        moves += [radius * d / np.abs(d).max() for d in [*basis.T, -basis.T.sum(0)]]
    for i, move in enumerate(moves):
        if loss(x + move) < value:
            radius, searches = (radius, searches) if i == 0 else (2 * radius, searches + 1)
            return x + move, (radius, attack_radius, searches, evaluations + i + 1)
    halved = max(smallest, radius / 2) if radius > smallest else radius
    return x, (halved, attack_radius, searches + 1, evaluations + len(moves))


@pytest.mark.parametrize("how", ["hybrid", "search", "attacks"])
def test_steps_follow_a_numpy_loop(how):
    with jax.enable_x64(True):
        net = jax.tree.map(lambda a: a.astype(float) if eqx.is_array(a) else a, NET)
        loss = jax.jit(lambda x: bent(net(x)))
        attack = None if how == "search" else attack_operator(net, bent, 2, 0.6)
        numbers_of = {"sufficient": 0.02, "smallest": 0.02, "largest": 0.5}
        method = DirectSearch(0.3, attack, **numbers_of, search=how != "attacks")
        problem = Minimization(lambda x, batch: loss(x), jnp.array([0.5, -1.0, 2.0]))
        step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
        x = np.array([0.5, -1.0, 2.0])
        state, ours = (0.3, 0.3, 0, 0), (jnp.asarray(x), method.init(problem, jnp.asarray(x), jr.key(0)))
        slopes = jax.jit(jax.grad(bent)), jax.jit(lambda z, u: jax.vjp(net, z)[1](u)[0])

        def by_hand(x, r):
            u, z = slopes[0](net(jnp.asarray(x))), x
            for _ in range(2):
                z = np.clip(z - 0.6 * r * np.sign(np.asarray(slopes[1](jnp.asarray(z), u))), x - r, x + r)
            return z

        seen = set()
        for key in jr.split(jr.key(5), 60):
            before = state
            x, state = numpy_step(
                lambda z: float(loss(jnp.asarray(z))), attack and by_hand, x, state, key, start=0.3, **numbers_of,
                search=how != "attacks",
            )  # fmt: skip
            seen.add((np.sign(state[0] - before[0]), np.sign(state[1] - before[1]), state[3] - before[3] > 1))
            ours = step(*ours, key)
            np.testing.assert_allclose(ours[0], x, rtol=1e-10)
            np.testing.assert_allclose([float(s) for s in ours[1]], state, rtol=1e-10)
        assert len(seen) >= {"hybrid": 5, "search": 3, "attacks": 3}[how], seen  # branches


def test_an_attack_that_never_helps_leaves_the_search_as_it_is():
    x0 = jnp.array([0.5, -1.0, 2.0])
    problem = Minimization(lambda x, batch: bent(NET(x)), x0)
    plain, idle = DirectSearch(0.3), DirectSearch(0.3, lambda x, r: x)
    states = [(x0, m.init(problem, x0, jr.key(0))) for m in (plain, idle)]
    for key in jr.split(jr.key(3), 5):
        states = [m.step(problem, *s, key) for m, s in zip((plain, idle), states, strict=True)]
    np.testing.assert_array_equal(states[0][0], states[1][0])
    assert int(states[1][1].evaluations) == int(states[0][1].evaluations) + 5


def test_constraints_are_penalized_outside_only():
    f = penalized(lambda y: y[0], lambda y: jnp.stack([y[1] - 1, -y[1] - 2]))
    assert [float(f(jnp.array([3.0, v]))) for v in (0.0, 1.5, -4.0)] == [3.0, 3.25, 7.0]


def test_it_minimizes_a_plain_python_function():
    found = minimize_blackbox(lambda x: abs(x[0] - 0.3) + abs(x[1] + 0.1), [(-1, 1)] * 2, method=DirectSearch(0.2),
                              budget=60, seed=1)  # fmt: skip
    assert found.value < 0.15


@pytest.mark.parametrize("bad", [{"steps": 0}, {"step_size": 0.0}])
def test_bad_attacks_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        attack_operator(NET, bent, **bad)


@pytest.mark.parametrize("charged", [0, 3])
def test_the_best_value_by_call_is_that_of_steps_one_by_one(charged):
    key, start, calls = jr.key(5), jnp.asarray([0.9, -1.2, 0.4]), 40
    method = DirectSearch(0.4, attack_operator(NET, bent))
    problem = Minimization(lambda x: bent(NET(x)), start)
    found = best_by_call(method, problem, calls, key, charged)
    step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
    x, state, steps, wanted = start, method.init(problem, start, key), 0, np.full(calls + 1, bent(NET(start)))
    while (at := int(state.evaluations) + charged * steps) < calls:
        x, state = step(x, state, jr.fold_in(key, steps))
        steps += 1
        after = int(state.evaluations) + charged * steps
        assert after >= at + 1 + charged
        wanted[after:] = np.minimum(wanted[after:], bent(NET(x)))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert wanted[-1] < wanted[0]
    with pytest.raises(ValueError, match="calls"):
        best_by_call(method, problem, 0, key)
