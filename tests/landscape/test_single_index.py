"""Symmetric single-index models and invariant classes: moments, flows by differences, parities by loops."""

import math

import numpy as np
import pytest

from attractor.landscape import (
    csq_queries,
    cyclic_group,
    gradient_variance_over_targets,
    haar_unitary_eigenvalues,
    hypercube,
    information_exponent,
    power_sum_features,
    single_index_field,
    subset_orbits,
    symmetric_single_index_flow,
    symmetrized_parities,
    time_to_overlap,
)

RNG = np.random.default_rng(2)


def unit(k):
    v = RNG.standard_normal((k, 2)) @ [1, 1j]
    return v / np.linalg.norm(v)


def test_haar_and_power_sums():
    x = haar_unitary_eigenvalues(5, 4_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.abs(x), 1, rtol=1e-10)
    phi = power_sum_features(x, 4)
    assert phi[7, 2] == pytest.approx(np.sum(x[7] ** 3) / 3**0.5)
    assert np.abs(phi.mean(0)).max() < 4 / 4_000**0.5
    np.testing.assert_allclose(phi.T @ phi.conj() / 4_000, np.eye(4), atol=0.08)


def test_field_is_the_gradient_on_the_sphere():
    link, w, planted = [0.5, 0.3, -0.7j, 0.4], unit(4), unit(4)

    def correlation(w):
        m = np.vdot(planted, w)
        return sum(abs(c) ** 2 * m**d for d, c in enumerate(link)).real

    field = single_index_field(w, planted, link)
    assert np.vdot(w, field).real == pytest.approx(0, abs=1e-12)
    for _ in range(3):
        v = unit(4)
        v = v - np.vdot(w, v).real * w
        slope = (correlation(w + 1e-6 * v) - correlation(w - 1e-6 * v)) / 2e-6
        assert np.vdot(v, field).real == pytest.approx(slope, rel=1e-6)
    both = single_index_field(np.stack([w, planted]), planted, link)
    np.testing.assert_allclose(both[0], field)
    np.testing.assert_allclose(both[1], 0, atol=1e-12)


def test_correlation_is_that_of_the_link():
    """Complex Gaussian features: E conj f(<w*, phi>) f(<w, phi>) = sum |c|^2 m^l, by drawing."""
    planted, w = unit(3), unit(3)
    phi = RNG.standard_normal((200_000, 3, 2)) @ [1, 1j] / 2**0.5
    a, b = phi @ planted, phi @ w
    found = np.mean((a.conj() * b) ** 2) / 2
    assert found == pytest.approx(np.vdot(planted, w) ** 2, abs=0.03)


def test_information_exponent_and_times():
    assert information_exponent([1.0, 0, 0, 2.0]) == 3
    planted = np.array([1.0, 0])
    for m, level in ((0.01, 0.5), (0.3, 0.9)):  # m' = 2 m (1 - m^2)
        exact = 0.25 * (math.log(level**2 / (1 - level**2)) - math.log(m**2 / (1 - m**2)))
        start = np.array([m, (1 - m**2) ** 0.5])
        assert time_to_overlap(start[None], planted, [0, 0, 1], level)[0] == pytest.approx(exact, rel=2e-4)
        flow = symmetric_single_index_flow(3 * start, 2 * planted, [0, 0, 1], [0.0, exact])
        assert abs(flow[-1, 0]) == pytest.approx(level, rel=1e-4)
        np.testing.assert_allclose(flow[0], start)
    starts, planted = np.stack([unit(5) for _ in range(4)]), unit(5)
    taken = time_to_overlap(starts, planted, [0, 0, 0.6, 0.8j], 0.9)
    for start, t in zip(starts, taken, strict=True):
        flow = symmetric_single_index_flow(start, planted, [0, 0, 0.6, 0.8j], [0.0, t])
        assert abs(np.vdot(planted, flow[-1])) == pytest.approx(0.9, abs=1e-3)
    assert time_to_overlap(planted[None], planted, [0, 1])[0] == 0
    soon = time_to_overlap(starts, planted, [0, 0, 0.6, 0.8j], 0.9, longest=float(np.median(taken)))
    np.testing.assert_allclose(soon[taken < np.median(taken)], taken[taken < np.median(taken)])
    assert np.isinf(soon[taken > np.median(taken)]).all()


def test_orbits_and_parities():
    n = 5
    group = cyclic_group(n)
    assert sorted(map(tuple, group.tolist())) == sorted(tuple((i + s) % n for i in range(n)) for s in range(n))
    orbits = subset_orbits(group)
    seen = set()
    for subset in range(1, 2**n):
        bits = [i for i in range(n) if subset >> i & 1]
        seen.add(frozenset(sum(1 << (i + s) % n for i in bits) for s in range(n)))
    assert {frozenset(o.tolist()) for o in orbits} == seen
    swaps = np.array([[0, 1, 2], [1, 0, 2]])
    assert [o.tolist() for o in subset_orbits(swaps)] == [[1, 2], [3], [4], [5, 6], [7]]
    x, f = hypercube(n), symmetrized_parities(n, orbits)
    assert x[0b00110].tolist() == [1, -1, -1, 1, 1]
    for i in (0, 4, 6):
        value = sum(np.prod([x[:, j] for j in range(n) if s >> j & 1], 0) for s in orbits[i].tolist())
        np.testing.assert_allclose(f[i], value / len(orbits[i]) ** 0.5)
    np.testing.assert_allclose(f @ f.T / 2**n, np.eye(len(f)), atol=1e-12)
    back = {tuple(row): i for i, row in enumerate(x.tolist())}
    moved = [back[tuple(row)] for row in x[:, group[2]].tolist()]
    np.testing.assert_allclose(f[:, moved], f, atol=1e-12)


def test_query_bound_and_variance():
    f = symmetrized_parities(4, subset_orbits(cyclic_group(4)))
    assert csq_queries(f, 0.5) == pytest.approx(len(f) / 8)
    mixed = np.stack([f[0], 0.6 * f[0] + 0.8 * f[1], f[2]])
    assert csq_queries(mixed, 0.9) == pytest.approx(3 * (0.81 - 0.6) / 2)
    assert csq_queries(mixed, 0.5) == 0
    assert csq_queries(f[:1], 0.5) == pytest.approx(1 / 8)
    d = RNG.standard_normal((3, 16))
    by_hand = [np.mean([np.mean(row * g) ** 2 for g in f]) for row in d]
    np.testing.assert_allclose(gradient_variance_over_targets(d, f), by_hand)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: haar_unitary_eigenvalues(0, 1, RNG), "n"),
        (lambda: haar_unitary_eigenvalues(2, 0, RNG), "draws"),
        (lambda: power_sum_features(np.ones((1, 2), complex), 0), "largest"),
        (lambda: information_exponent([1.0, 0.0]), "link"),
        (lambda: symmetric_single_index_flow(np.ones(2), np.ones(2), [0, 1], [-1.0]), "times"),
        (lambda: time_to_overlap(np.ones((1, 2)), np.ones(2), [0, 1], 1.0), "level"),
        (lambda: time_to_overlap(np.ones((1, 2)), np.ones(2), [0, 1], step=0.0), "step"),
        (lambda: cyclic_group(0), "n"),
        (lambda: csq_queries(np.ones((1, 2)), 0.0), "tolerance"),
    ],
)
def test_refusals(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()
