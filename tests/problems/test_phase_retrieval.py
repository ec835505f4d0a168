"""Both losses of phase retrieval against NumPy."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import quartic_phase_retrieval, robust_phase_retrieval

RNG = np.random.default_rng(0)


def test_the_robust_loss():
    problem, x = (
        robust_phase_retrieval(dim=4, samples=50, outliers=0.2, spread=0.5, batch_size=3, seed=1),
        np.arange(4.0),
    )
    rows, intensities = (np.asarray(a, float) for a in problem.full)
    loss = np.mean(np.abs((rows @ x) ** 2 - intensities))
    assert float(problem.loss(jnp.asarray(x), problem.full)) == pytest.approx(loss, rel=1e-5)
    wrong = np.abs((rows @ np.full(4, 0.5)) ** 2 - intensities) > 1e-3
    assert wrong.sum() == 10
    starts = np.stack([problem.init(jr.key(i)) for i in range(400)])
    np.testing.assert_allclose(starts.mean(0), 0.5, atol=0.1)
    np.testing.assert_allclose(starts.std(0), 0.5, atol=0.1)
    assert problem.sample(jr.key(0))[0].shape == (3, 4)


def test_the_quartic_and_its_curvature():
    problem, x = quartic_phase_retrieval(dim=4, samples=30, distance=2.0, seed=1), RNG.standard_normal(4)
    rows, intensities = (np.asarray(a, float) for a in problem.full)
    loss = np.mean(((rows @ x) ** 2 - intensities) ** 2) / 4
    assert float(problem.loss(jnp.asarray(x), problem.full)) == pytest.approx(loss, rel=1e-5)
    assert float(problem.loss(problem.solution, problem.full)) == pytest.approx(0, abs=1e-10)
    hessian = jax.hessian(lambda w: problem.loss(w, problem.full))(problem.solution)
    assert problem.constants["L"] == pytest.approx(float(np.linalg.eigvalsh(hessian)[-1]), rel=1e-4)
    noisy = quartic_phase_retrieval(dim=4, samples=30, noise=0.5, seed=1)
    assert noisy.optimum is None
    assert np.std(np.asarray(noisy.full[1]) - intensities) == pytest.approx(0.5, rel=0.5)


@pytest.mark.parametrize("name", ["dim", "samples", "outliers", "spread"])
def test_robust_rejects(name):
    with pytest.raises(ValueError, match=name):
        robust_phase_retrieval(**{name: -1})


@pytest.mark.parametrize("name", ["dim", "samples", "distance", "noise"])
def test_quartic_rejects(name):
    with pytest.raises(ValueError, match=name):
        quartic_phase_retrieval(**{name: -1})
