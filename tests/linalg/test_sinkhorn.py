import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.linalg import ot_dual_potential, sinkhorn, sinkhorn_newton_sparse, sparse_dual_hessian


def geometric(n=60, m=45, seed=0):
    random = np.random.default_rng(seed)
    points, targets = random.random((n, 2)), random.random((m, 2))
    r, c = random.random(n) + 0.5, random.random(m) + 0.5
    return ((points[:, None] - targets) ** 2).sum(-1), r / r.sum(), c / c.sum()


@pytest.mark.parametrize("eta", [20.0, 200.0])
def test_both_solvers_agree_with_pot(eta):
    ot = pytest.importorskip("ot")
    cost, r, c = geometric()
    wanted = ot.sinkhorn(r, c, cost, 1 / eta, method="sinkhorn_log", stopThr=1e-12, numItermax=20_000)
    for solver in (sinkhorn, sinkhorn_newton_sparse):
        found = solver(cost, r, c, eta, tol=1e-12)
        assert np.abs(found.plan - wanted).sum() < 1e-9
        assert np.allclose(found.plan.sum(0), c, atol=1e-11)
        assert np.allclose(found.plan, np.exp(eta * (found.x[:, None] + found.y - cost) - 1))


def test_a_sweep_is_the_textbooks_scaling_and_survives_absorption():
    cost, r, c = geometric()
    eta = 30.0
    kernel, v = np.exp(-eta * cost), np.ones_like(c)
    # The first sweep starts from y = 0, that is from v = 1.
    for sweeps in range(1, 11):
        u = r / (kernel @ v)
        v = c / (kernel.T @ u)
        found = sinkhorn(cost, r, c, eta, tol=0.0, max_sweeps=sweeps)
        assert found.sweeps == sweeps
        assert np.abs(found.plan - u[:, None] * kernel * v).sum() < 1e-12


def test_a_kernel_that_underflows_everywhere_is_no_trouble():
    cost, r, c = geometric()
    found = sinkhorn(cost + 5.0, r, c, 500.0, tol=1e-9)  # exp(-2500) is 0
    assert found.error < 2e-9
    near = sinkhorn(cost, r, c, 500.0, tol=1e-9)
    assert np.abs(found.plan - near.plan).sum() < 1e-8


@pytest.mark.parametrize(
    ("n", "m", "eta"), [(20, 20, 1_000.0), (30, 20, 1_000.0), (40, 60, 5_000.0), (20, 20, 10_000.0)]
)
def test_newton_converges_at_low_temperature(n, m, eta):
    """Unequal weights: after the warm-up masses are apart, and the Hessian is singular to rounding."""
    for seed in range(6):
        random = np.random.default_rng(seed)
        cost, r, c = random.random((n, m)), random.dirichlet(np.ones(n)), random.dirichlet(np.ones(m))
        found = sinkhorn_newton_sparse(cost, r, c, eta)
        assert found.converged
        assert np.abs(found.plan.sum(1) - r).sum() + np.abs(found.plan.sum(0) - c).sum() <= 1e-9
        assert np.allclose(found.plan, np.exp(eta * (found.x[:, None] + found.y - cost) - 1))
        assert found.newton_steps > 0
        assert found.iterations == found.sweeps + found.newton_steps < 120


def test_what_has_not_converged_says_so():
    cost, r, c = geometric()
    with np.errstate(all="raise", under="ignore"), pytest.warns(RuntimeWarning, match="above tol"):
        hard = sinkhorn_newton_sparse(cost, r, c, 2_000.0, max_newton=10)
    assert not hard.converged
    assert hard.sweeps > 20
    assert np.isfinite(hard.plan).all()
    assert np.allclose(hard.plan, np.exp(2_000.0 * (hard.x[:, None] + hard.y - cost) - 1))
    assert not sinkhorn(cost, r, c, 2_000.0, max_sweeps=10).converged
    warm = sinkhorn_newton_sparse(cost, r, c, 2_000.0, n_sinkhorn=500)  # more warm-up does no harm
    assert warm.converged
    assert warm.iterations < 600


def test_potential_and_hessian_are_those_of_automatic_differentiation():
    cost, r, c = geometric(7, 5)
    found = sinkhorn(cost, r, c, 10.0, max_sweeps=1)
    with jax.enable_x64(True):

        def dual(z):
            x, y = z[:7], z[7:]
            return -jnp.exp(10 * (x[:, None] + y - cost) - 1).sum() / 10 + r @ x + c @ y

        z = jnp.concatenate([found.x, found.y])
        value, hessian = jax.jit(lambda z: (dual(z), jax.hessian(dual)(z)))(z)
    assert ot_dual_potential(found.x, found.y, cost, r, c, 10.0) == pytest.approx(float(value), rel=1e-12)
    assert np.allclose(sparse_dual_hessian(found.plan, 10.0).toarray(), -np.asarray(hessian), rtol=1e-12)


def test_sparse_hessian_keeps_the_largest_entries_and_the_whole_diagonal():
    plan = np.arange(12.0).reshape(3, 4)
    hessian = sparse_dual_hessian(plan, 2.0, density=0.25).toarray()
    assert np.array_equal(hessian[:3, 3:], 2 * np.where(plan >= 9, plan, 0))
    assert np.array_equal(np.diag(hessian), 2 * np.concatenate([plan.sum(1), plan.sum(0)]))
    assert np.linalg.eigvalsh(hessian).min() > 0


@pytest.mark.parametrize("x64", [False, True])
def test_precision_does_not_depend_on_jax(x64):
    cost, r, c = geometric()
    with jax.enable_x64(x64):
        found = sinkhorn_newton_sparse(jnp.asarray(cost), jnp.asarray(r), jnp.asarray(c), 100.0, density=0.3, tol=1e-11)
    assert found.plan.dtype == np.float64
    assert found.error <= 1e-11


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("eta", 0.0), ("eta", np.nan), ("tol", -1.0), ("n_sinkhorn", 0), ("density", 0.0), ("density", 1.1),
        ("max_newton", -1), ("r", np.zeros(60)), ("c", np.full(45, 0.5)), ("C", np.full((60, 45), np.inf)),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(argument, value):
    cost, r, c = geometric()
    given = {"C": cost, "r": r, "c": c, "eta": 10.0, argument: value}
    with pytest.raises(ValueError, match=rf"^{argument}:"):
        sinkhorn_newton_sparse(**given)
