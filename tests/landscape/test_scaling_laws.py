"""Power-law random features: risk and SGD against dense moments; phases against a balance found numerically."""

import numpy as np
import pytest

from attractor.landscape import (
    Modes,
    compute_optimal_frontier,
    log_spaced_steps,
    power_law_random_features,
    scaling_phase,
    sgd_volterra_loss,
)


def model():
    return power_law_random_features(9, 4, 0.7, 0.4, np.random.default_rng(3))


def test_risk_and_modes():
    m = model()
    j = np.arange(1, 10)
    np.testing.assert_allclose(m.scales, j**-0.7)
    np.testing.assert_allclose(m.target, j**-0.4)
    theta = np.array([0.3, -1.0, 0.5, 0.2])
    covariance = np.diag(j**-1.4)
    apart = m.weights @ theta - m.target
    assert m.risk(theta) == pytest.approx(apart @ covariance @ apart)
    modes = m.modes()
    hessian = m.weights.T @ covariance @ m.weights
    np.testing.assert_allclose(modes.eigenvalues, np.linalg.eigvalsh(hessian), rtol=1e-10)
    best = np.linalg.solve(hessian, m.weights.T @ covariance @ m.target)
    assert modes.floor == pytest.approx(m.risk(best))
    assert modes.energies.sum() == pytest.approx(best @ best)
    assert modes.floor + modes.eigenvalues @ modes.energies == pytest.approx(m.risk(np.zeros(4)))
    many = power_law_random_features(2_000, 50, 1.0, 1.0, np.random.default_rng(0)).weights
    assert np.var(many) == pytest.approx(1 / 50, rel=0.03)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_expected_risk_of_sgd(batch_size):
    """Against the second moment of the error as a matrix, by Gaussian fourth moments."""
    m, rate = model(), 0.15
    covariance = np.diag(m.scales**2)
    h = m.weights.T @ covariance @ m.weights
    best = np.linalg.solve(h, m.weights.T @ covariance @ m.target)
    floor, c, expected = m.risk(best), np.outer(best, best), []
    for _ in range(30):
        expected.append(np.trace(h @ c) + floor)
        per_sample = 2 * h @ c @ h + h * np.trace(h @ c) + floor * h
        second = per_sample / batch_size + (1 - 1 / batch_size) * h @ c @ h
        c = c - rate * (h @ c + c @ h) + rate**2 * second
    found = sgd_volterra_loss(m.modes(), rate, np.arange(30), batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    both = Modes(*(np.stack([a, a]) for a in m.modes()))
    np.testing.assert_allclose(sgd_volterra_loss(both, rate, np.arange(30), batch_size), [found, found], rtol=1e-12)
    descent = sgd_volterra_loss(m.modes(), rate, np.arange(30), batch_size, noise=0.0)
    modes = m.modes()
    q = 1 - 2 * rate * modes.eigenvalues + (1 + 1 / batch_size) * (rate * modes.eigenvalues) ** 2
    assert descent[7] == pytest.approx(modes.floor + modes.eigenvalues * modes.energies @ q**7)


def test_far_steps():
    m = model()
    steps = log_spaced_steps(3_000, 10, 0.05)
    assert list(steps[:12]) == [*range(11), 11]
    assert steps[-1] == 3_000
    assert np.max(steps[20:] / steps[19:-1]) < 1.1
    assert list(log_spaced_steps(3)) == [0, 1, 2, 3]
    exact = sgd_volterra_loss(m.modes(), 0.15, np.arange(3_001))[steps]
    np.testing.assert_allclose(sgd_volterra_loss(m.modes(), 0.15, steps), exact, rtol=2e-2)
    fine = log_spaced_steps(3_000, 10, 0.01)
    exact = sgd_volterra_loss(m.modes(), 0.15, np.arange(3_001))[fine]
    np.testing.assert_allclose(sgd_volterra_loss(m.modes(), 0.15, fine), exact, rtol=1e-3)


def test_frontier():
    """Curves 1/d + 1/r: the best size for compute f is its root, the loss 2 / sqrt(f)."""
    sizes, times = 2.0 ** np.arange(2, 12), np.r_[0, np.geomspace(1, 1e5, 2_000)]
    with np.errstate(divide="ignore"):
        losses = 1 / sizes[:, None] + 1 / times
    flops = np.geomspace(10, 1e7, 50)
    best = compute_optimal_frontier(sizes, times, losses, flops)
    np.testing.assert_allclose(best.sizes, best.flops**0.5, rtol=0.05)
    np.testing.assert_allclose(best.losses, 2 / best.flops**0.5, rtol=0.05)
    assert best.sizes.min() >= 8
    assert best.sizes.max() <= 1_024
    inside = (flops**0.5 > 9) & (flops**0.5 < 900)
    assert set(flops[inside]) <= set(best.flops)


@pytest.mark.parametrize(
    ("alpha", "beta", "name"),
    [(1.1, 0.3, "Ia"), (0.4, 0.35, "Ib"), (0.2, 0.9, "Ic"), (1.3, 0.7, "II"), (0.7, 1.1, "III"), (0.42, 0.8, "IVa"),
     (0.28, 1.2, "IVb")],
)  # fmt: skip
def test_phases(alpha, beta, name):
    """The exponents are where the largest term of the risk is least, at a compute of 1e60."""
    a, b, log_f = alpha, beta, 60 * np.log(10)
    log_d = np.linspace(0.02, 0.98, 200_001) * log_f
    log_rate = np.minimum(0, (2 * a - 1) * log_d)
    flow = log_rate + log_f - log_d
    terms = [
        (-2 * a + max(0, 1 - 2 * b)) * log_d,
        -(2 * a + 2 * b - 1) / (2 * a) * flow,
        log_rate - (4 * a - 1) / (2 * a) * flow,
    ]
    if a > 0.5 and b > 0.5:
        terms.append(-log_d - (2 * a - 1) / (2 * a) * flow)
    risk = np.max(terms, 0)
    found = scaling_phase(a, b)
    assert found.name == name
    assert found.size_exponent == pytest.approx(log_d[risk.argmin()] / log_f, abs=1e-4)
    assert found.loss_exponent == pytest.approx(-risk.min() / log_f, abs=1e-4)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: power_law_random_features(3, 4, 1.0, 1.0, np.random.default_rng(0)), "v"),
        (lambda: power_law_random_features(3, 0, 1.0, 1.0, np.random.default_rng(0)), "d"),
        (lambda: power_law_random_features(3, 2, 0.0, 1.0, np.random.default_rng(0)), "alpha"),
        (lambda: log_spaced_steps(0), "last"),
        (lambda: log_spaced_steps(9, growth=0.0), "growth"),
        (lambda: sgd_volterra_loss(model().modes(), 0.0, [0, 1]), "rate"),
        (lambda: sgd_volterra_loss(model().modes(), 0.1, [1, 2]), "times"),
        (lambda: sgd_volterra_loss(model().modes(), 0.1, [0, 2, 2]), "times"),
        (lambda: sgd_volterra_loss(model().modes(), 0.1, [0, 1], 0), "batch_size"),
        (lambda: compute_optimal_frontier([1, 2], [0, 1], np.ones((2, 3)), [1.0]), "losses"),
        (lambda: compute_optimal_frontier([1, 2], [0, 1], np.ones((2, 2)), [1.0], reach=1.0), "reach"),
        (lambda: scaling_phase(0.0, 1.0), "alpha"),
        (lambda: scaling_phase(0.3, 0.2), "beta"),
    ],
)
def test_refusals(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()
