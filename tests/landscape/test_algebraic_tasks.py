"""Modular addition and parities: outputs and losses by loops, the semiring, what margins and constructions are."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.landscape import (
    QuadraticNet,
    composed_modular_addition,
    cyclic_nodes,
    fourier_nodes,
    frequency_share,
    grid_error,
    group_norm,
    largest_modular_margin,
    max_margin_modular_addition,
    max_margin_parity,
    modular_addition_loss,
    monomial_potential,
    normalized_margin,
    order_six_nodes,
    parity_margin,
    potential_loss,
    sums_modulo,
)

RNG = np.random.default_rng(1)


def net(d=5, nodes=3, centered=False):
    tables = RNG.standard_normal((3, nodes, d))
    return QuadraticNet(*(tables - centered * tables.mean(2, keepdims=True)))


def loop_outputs(n):
    nodes, d = n.a.shape
    out = np.zeros((d, d, d))
    for g, h, c, j in itertools.product(range(d), range(d), range(d), range(nodes)):
        out[g, h, c] += n.c[j, c] * (n.a[j, g] + n.b[j, h]) ** 2
    return out


def traced(n):
    return QuadraticNet(*map(jnp.asarray, n))


def test_outputs_loss_and_margin():
    n = net()
    out = loop_outputs(n)
    loss, margins = 0.0, []
    for g, h in itertools.product(range(5), range(5)):
        target = np.eye(5)[(g + h) % 5]
        apart = out[g, h] / 10 - target
        loss += np.sum((apart - apart.mean()) ** 2) / 25
        margins.append(out[g, h, (g + h) % 5] - np.max(np.delete(out[g, h], (g + h) % 5)))
    norms = np.sqrt(np.sum(n.a**2, 1) + np.sum(n.b**2, 1) + np.sum(n.c**2, 1))
    with jax.enable_x64(True):
        np.testing.assert_allclose(traced(n).outputs(), out, rtol=1e-12)
        assert modular_addition_loss(traced(n)) == pytest.approx(loss, rel=1e-10)
        assert normalized_margin(traced(n)) == pytest.approx(min(margins) / np.sum(norms**3), rel=1e-10)
        scaled = QuadraticNet(*(2.0 * t for t in traced(n)))
        assert normalized_margin(scaled) == pytest.approx(float(normalized_margin(traced(n))))
    assert sums_modulo(5)[3, 4] == 2
    with jax.enable_x64(True):
        assert group_norm(jnp.asarray([[3.0, 4.0], [0.0, 2.0]]), 3.0) == pytest.approx((125 + 8) ** (1 / 3))


def test_fourier_coefficients_and_back():
    n = net(6, 4)
    z = fourier_nodes(n)
    k, g = 2, 5
    wave = np.exp(2j * np.pi * np.arange(6) / 6)
    assert z.a[k, 1] == pytest.approx(n.a[1] @ wave.conj() ** k / 6)
    assert z.c[k, 1] == pytest.approx(n.c[1] @ wave**k / 6)
    assert n.b[3, g] == pytest.approx(np.sum(z.b[:, 3] * wave[g] ** np.arange(6)).real)
    with jax.enable_x64(True):
        for table, again in zip(n, z.weights(), strict=True):
            np.testing.assert_allclose(again, table, atol=1e-12)


def test_semiring():
    z, y, x = (fourier_nodes(net(7, nodes)) for nodes in (2, 3, 2))
    assert (z + y).a.shape == (7, 5)
    assert (z * y).c.shape == (7, 6)
    np.testing.assert_allclose((z * y).b[3, 1 * 3 + 2], z.b[3, 1] * y.b[3, 2])
    names = {"a": [1, 3], "b": [-2], "c": [2, 4]}
    by_hand = sum(z.a[1, j] * z.a[3, j] * z.b[5, j] * z.c[2, j] * z.c[4, j] for j in range(2))
    assert monomial_potential(z, **names) == pytest.approx(by_hand)
    left, right = (z + y) * x, z * x + y * x
    assert monomial_potential(left, **names) == pytest.approx(monomial_potential(right, **names))
    assert monomial_potential(z.scaled(2.0), **names) == pytest.approx(32 * monomial_potential(z, **names))


def test_potentials_make_the_loss():
    n = net(centered=True)
    with jax.enable_x64(True):
        assert potential_loss(fourier_nodes(n)) == pytest.approx(float(modular_addition_loss(traced(n))), rel=1e-10)


def test_constructions():
    z = order_six_nodes(7, 2)
    assert monomial_potential(z, [2], [2], [2]) == pytest.approx(1)
    unwanted = [([2], [2], [-2]), ([2], [-2], [2]), ([-2], [2], [2]), ([2, 2], [], [2]), ([2, 2], [], [-2]),
                ([], [2, 2], [2]), ([], [2, -2], [2]), ([], [2, 2], [-2]), ([2, -2], [], [2])]  # fmt: skip
    assert max(abs(monomial_potential(z, *names)) for names in unwanted) < 1e-12
    assert cyclic_nodes(7, 2, np.zeros((3, 2))).a[:, 0].tolist() == [0, 0, 1, 0, 0, 1, 0]
    with jax.enable_x64(True):
        solved = composed_modular_addition(5)
        assert solved.a.shape == (5, 12)
        assert modular_addition_loss(solved.weights()) < 1e-20
        best = max_margin_modular_addition(5)
        assert normalized_margin(best) == pytest.approx(largest_modular_margin(5), rel=1e-12)
        for _ in range(5):
            moved = QuadraticNet(*(t + 0.05 * RNG.standard_normal(t.shape) for t in best))
            assert normalized_margin(moved) < largest_modular_margin(5)
    assert largest_modular_margin(5) == pytest.approx(math.sqrt(2 / 27 / 5) / 4)


def test_grid_error():
    rows, columns = (RNG.standard_normal((3, n)) + 1j * RNG.standard_normal((3, n)) for n in (2, 3))
    exact = (rows[:, :, None] * columns[:, None, :]).reshape(3, 6)
    order = RNG.permutation(6)
    assert grid_error(exact[:, order], 2) < 1e-12
    assert grid_error(exact[:, order], 3) < 1e-12
    noise = 0.01 * RNG.standard_normal((3, 6))
    assert 0.1 * 0.01 < grid_error(exact[:, order] + noise, 2) < np.linalg.norm(noise) / np.linalg.norm(exact)
    z = np.array([[1.0, 1.0, 0, 1.0]]) + 0j  # the same grid up to order: eigenvalues of its square (3 +- sqrt(5)) / 2
    assert grid_error(z, 2) == pytest.approx(((3 - 5**0.5) / 2 / 3) ** 0.5)


def test_frequency_share():
    g = np.arange(7)
    wave = 3 + 2 * np.cos(2 * np.pi * 2 * g / 7 + 0.3) + np.sin(2 * np.pi * 3 * g / 7)
    share, which = frequency_share(np.stack([wave, np.ones(7)]))
    assert share.tolist() == pytest.approx([0.8, 0.0])
    assert which[0] == 2
    share, which = frequency_share(np.array([[1.0, -1, 1, -1]]) + 2 * np.cos(np.pi / 2 * np.arange(4)))
    assert share[0] == pytest.approx(2 / 3)  # powers 1 and 4 / 2
    assert which[0] == 1


@pytest.mark.parametrize("subset", [[2], [0, 3], [3, 1, 0]])
def test_parity(subset):
    n, k = 4, len(subset)
    first, second, largest = max_margin_parity(n, subset)
    assert first.shape == (2 ** (k - 1), n)
    assert parity_margin(first, second, subset) == pytest.approx(largest, rel=1e-12)
    w, u = RNG.standard_normal((3, n)), RNG.standard_normal((3, 2))
    least = np.inf
    for x in itertools.product([1, -1], repeat=n):
        out = sum((w[j] @ np.array(x)) ** k * u[j] for j in range(3))
        least = min(least, np.prod([x[i] for i in subset]) * (out[0] - out[1]))
    norm = np.sum((np.sum(w**2, 1) + np.sum(u**2, 1)) ** ((k + 1) / 2))
    assert parity_margin(w, u, subset) == pytest.approx(least / norm, rel=1e-10)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: order_six_nodes(6, 1), "d"),
        (lambda: order_six_nodes(7, 7), "k"),
        (lambda: composed_modular_addition(2), "d"),
        (lambda: grid_error(np.ones((3, 6), complex), 4), "rows"),
        (lambda: group_norm(jnp.ones((2, 2)), 0.5), "power"),
        (lambda: largest_modular_margin(1), "d"),
        (lambda: max_margin_parity(3, [0, 0]), "subset"),
        (lambda: max_margin_parity(3, [3]), "subset"),
    ],
)
def test_refusals(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()
