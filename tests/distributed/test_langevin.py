"""Langevin steps at clients against a NumPy loop that is given the same noise, and against an exact posterior."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.distributed import FederatedLangevin, Surrogates, dsgld, laplace_surrogates
from attractor.problem import Federated
from attractor.problems import diabetes_posterior

RNG = np.random.default_rng(0)
ROWS, TARGETS = RNG.normal(size=(4, 5, 3)) * [1.0, 2.0, 0.5], RNG.normal(size=(4, 5))


def regression():
    def loss(x, batch):
        rows, targets = batch
        return jnp.mean((rows @ jnp.r_[x["c"], x["w"]] - targets) ** 2) / 2

    return Federated(loss, {"c": jnp.asarray(0.5), "w": jnp.arange(2.0)}, (ROWS, TARGETS))


def test_surrogates_of_a_regression_are_exact():
    with jax.enable_x64(True):
        problem = regression()
        made = laplace_surrogates(problem, problem.init(jr.key(0)), 1)
    for i in range(4):
        np.testing.assert_allclose(made.precision[i], ROWS[i].T @ ROWS[i], rtol=1e-8)
        np.testing.assert_allclose(made.mean[i], np.linalg.lstsq(ROWS[i], TARGETS[i])[0], rtol=1e-6)


@pytest.mark.parametrize("corrected", [False, True])
def test_steps_are_those_of_a_loop_with_the_same_noise(corrected):
    means, factors = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3, 3))
    precisions = factors @ factors.swapaxes(1, 2)
    h, z, client, visited = 0.003, np.r_[0.5, np.arange(2.0)], None, []
    with jax.enable_x64(True):
        problem = regression()
        given = Surrogates(jnp.asarray(means), jnp.asarray(precisions)) if corrected else None
        method = FederatedLangevin(h, 2, given) if corrected else dsgld(h, 2)
        x = problem.init(jr.key(0))
        state = method.init(problem, x, jr.key(0))
        step = jax.jit(lambda x, state, key: method.step(problem, x, state, key))
        for t, key in enumerate(jr.split(jr.key(1), 12)):
            x, state = step(x, state, key)
            for_noise, for_client = jr.split(jr.fold_in(key, 1))
            client = int(jr.randint(for_client, (), 0, 4)) if t % 2 == 0 else client
            visited.append(client)
            drift = 20 * ROWS[client].T @ (ROWS[client] @ z - TARGETS[client]) / 5
            if corrected:
                pulls = np.array([precisions[j] @ (z - means[j]) for j in range(4)])
                drift = drift + pulls.sum(0) - 4 * pulls[client]
            z = z - h / 2 * drift + h**0.5 * np.asarray(jr.normal(for_noise, (3,)))
    assert len(set(visited)) > 2
    np.testing.assert_allclose(np.r_[x["c"], x["w"]], z, rtol=1e-8)


def test_the_posterior_of_diabetes_is_that_of_its_loss():
    with jax.enable_x64(True):
        problem = diabetes_posterior(10)
        slope, curvature = (d(problem.loss)(problem.solution, problem.full) for d in (jax.grad, jax.hessian))
        np.testing.assert_allclose(slope, 0, atol=1e-9)
        spread = np.sqrt(np.diag(np.linalg.inv(440 * curvature)))
        moment = problem.probes["moment"](
            problem, problem.solution + jnp.asarray([2.0, 0, 0, -1.0]) * spread, jr.key(0)
        )
    np.testing.assert_allclose(moment, 5 / 4, rtol=1e-6)
    targets = np.asarray(problem.full[1])
    assert (targets[:-1].max(1) <= targets[1:].min(1)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dsgld(0.0), "step_size"),
        (lambda: diabetes_posterior(0), "clients"),
        (lambda: diabetes_posterior(noise=0.0), "noise"),
        (lambda: FederatedLangevin(0.1, 0), "local_steps"),
        (lambda: laplace_surrogates(regression(), {"c": jnp.asarray(0.0), "w": jnp.zeros(2)}, 0), "newton_steps"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
