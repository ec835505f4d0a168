"""Lie-group preconditioners against dense NumPy steps, what they converge to, noise, errors."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax import lax

from attractor.linalg import hvp
from attractor.second_order import psgd, scale_by_psgd
from attractor.second_order.lie_group import CrossShaped, LowRank, Triangular

RNG = np.random.default_rng(0)


def dense(preconditioner):
    if isinstance(preconditioner, Triangular):
        return np.asarray(preconditioner.q)
    if isinstance(preconditioner, CrossShaped):
        return np.diag(preconditioner.p) + np.diag(preconditioner.q)[:, ::-1]
    u, v, d = map(np.asarray, preconditioner)
    return (np.eye(len(d)) + u @ v.T) @ np.diag(d)


def start(group, n):
    if group is Triangular:
        return Triangular(jnp.asarray(np.triu(RNG.standard_normal((n, n))) + 3 * np.eye(n)))
    if group is CrossShaped:
        middle = np.arange(n) == n - 1 - np.arange(n)
        return CrossShaped(jnp.asarray(2 + RNG.random(n)), jnp.asarray(np.where(middle, 0, RNG.random(n))))
    return LowRank(*map(jnp.asarray, (RNG.standard_normal((n, 2)), RNG.standard_normal((n, 2)), 1 + RNG.random(n))))


@pytest.mark.parametrize("group", [Triangular, CrossShaped, LowRank])
@pytest.mark.parametrize("n", [4, 5])
def test_preconditions_with_its_dense_matrix(group, n):
    with jax.enable_x64(True):
        preconditioner, g = start(group, n), RNG.standard_normal(n)
        q = dense(preconditioner)
        np.testing.assert_allclose(preconditioner.precondition(jnp.asarray(g)), q.T @ q @ g, rtol=1e-10)
        np.testing.assert_allclose(dense(preconditioner.scaled(2.0)), 2 * q)


def test_all_begin_at_the_identity_or_near():
    for group in (Triangular, CrossShaped):
        np.testing.assert_array_equal(dense(group.identity(jnp.ones(4), jr.key(0))), np.eye(4))
    u, v, d = LowRank.identity(jnp.ones(400), jr.key(0))
    np.testing.assert_array_equal(d, 1)
    np.testing.assert_allclose([np.linalg.norm(u), np.linalg.norm(v)], 0.1, rtol=0.05)
    assert abs(np.sum(u * v)) < 0.1 * np.linalg.norm(u) * np.linalg.norm(v)


@pytest.mark.parametrize("n", [4, 5])
def test_triangular_and_cross_steps_agree_with_numpy(n):
    with jax.enable_x64(True):
        cross = (np.eye(n) + np.eye(n)[::-1]) > 0
        for group, mask in ((Triangular, np.triu(np.ones((n, n)))), (CrossShaped, cross)):
            preconditioner = start(group, n)
            q = dense(preconditioner)
            for _ in range(10):
                v, h = RNG.standard_normal((2, n))
                a, b = q @ h, np.linalg.solve(q.T, v)
                slope = mask * (np.outer(a, a) - np.outer(b, b))
                size = np.linalg.norm(slope) if group is Triangular else abs(slope).sum(1).max()
                q = q - 0.1 * slope @ q / size
                preconditioner = preconditioner.fitted(jnp.asarray(v), jnp.asarray(h), 0.1, jr.key(0))
                np.testing.assert_allclose(dense(preconditioner), q, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_low_rank_steps_descend_the_criterion(seed):
    """To first order, the change of h'Ph + v'P^-1 v agrees with its gradient by automatic differentiation."""
    with jax.enable_x64(True):
        preconditioner = start(LowRank, 5)
        v, h = map(jnp.asarray, RNG.standard_normal((2, 5)))

        def criterion(pre):
            q = (jnp.eye(5) + pre.u @ pre.v.T) @ jnp.diag(pre.d)
            return jnp.sum((q @ h) ** 2) + jnp.sum(jnp.linalg.solve(q.T, v) ** 2)

        slope = jax.grad(criterion)(preconditioner)
        step = 1e-6
        new = preconditioner.fitted(v, h, step, jr.key(seed))
        change = jax.tree.map(lambda a, b: (a - b) / step, new, preconditioner)
        # d follows d * d * gradient, scaled to a relative change of one:
        np.testing.assert_allclose(
            change.d, -(preconditioner.d**2 * slope.d) / jnp.abs(preconditioner.d * slope.d).max()
        )
        moved = [bool(jnp.abs(part).max() > 0) for part in change[:2]]
        assert sorted(moved) == [False, True]
        small = jnp.eye(5) + preconditioner.u @ preconditioner.v.T
        i = moved.index(True)
        # the gradient in E of U + E (I + V'U), or of V + (I + VU') E, taken once more through the same map:
        within = preconditioner.v.T @ preconditioner.u + jnp.eye(2)
        metric = slope.u @ within.T @ within if i == 0 else small.T @ (small @ slope.v)
        cosine = -jnp.sum(change[i] * metric) / jnp.linalg.norm(change[i]) / jnp.linalg.norm(metric)
        np.testing.assert_allclose(cosine, 1, atol=1e-6)
        # Its length: for a = Qh and b = Q^-T v, by the bound |a| |W W'a| + |b| |W W'b| with W the part that stays.
        q, stays = dense(preconditioner), np.asarray(preconditioner[1 - i])
        a, b = q @ np.asarray(h), np.linalg.solve(q.T, np.asarray(v))
        e = np.outer(a, a) - np.outer(b, b)
        bound = sum(np.linalg.norm(c) * np.linalg.norm(stays @ (stays.T @ c)) for c in (a, b))
        expected = e @ stays @ np.asarray(within) if i == 0 else np.asarray(small).T @ e @ stays
        np.testing.assert_allclose(change[i], -expected / bound, rtol=1e-6)


def test_noise_lowers_the_preconditioner_and_keeps_it_bounded():
    """E hh' = H^2 + s^2 I, and P goes to its inverse root, even where H is singular."""
    eigenvalues, s = jnp.asarray([2.0, -1.0, 0.0]), 0.5

    def fit(preconditioner, key):
        v, noise = jr.normal(key, (2, 3))
        return preconditioner.fitted(v, eigenvalues * v + s * noise, 0.01, key), preconditioner.q.T @ preconditioner.q

    _, fits = lax.scan(fit, Triangular.identity(jnp.ones(3), jr.key(0)), jr.split(jr.key(1), 10_000))
    found = fits[2_000:].mean(0)
    np.testing.assert_allclose(found, np.diag((eigenvalues**2 + s**2) ** -0.5), atol=0.2)


@pytest.mark.parametrize("group", ["triangular", "cross", "low-rank"])
def test_first_pair_sets_the_scale(group):
    """On f = 50 |x|^2 the first step with rate 1 is Newton's, whatever the group."""
    optimizer = psgd(1.0, group, momentum=0.0, fit_rate=1e-6)
    x = {"a": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(3.0)}

    def loss(x):
        return 50 * (jnp.sum(x["a"] ** 2) + x["b"] ** 2)

    updates, _ = optimizer.update(jax.grad(loss)(x), optimizer.init(x), x, hvp=hvp(loss, x), key=jr.key(0))
    for u, leaf in zip(jax.tree.leaves(updates), jax.tree.leaves(x), strict=True):
        np.testing.assert_allclose(u, -leaf, rtol=2e-2)


def test_fits_at_the_first_step_and_when_a_coin_says_so():
    hessian = jnp.asarray([[3.0, 1.0, 0.2], [1.0, 2.0, -0.4], [0.2, -0.4, 0.5]])
    with jax.enable_x64(True):
        hessian, optimizer = hessian.astype(float), scale_by_psgd("triangular", 0.2, 0.4)
        state, preconditioner, fitted = optimizer.init(jnp.ones(3)), Triangular(jnp.eye(3)), []
        for t in range(7):
            key, g = jr.key(t), jnp.asarray(RNG.standard_normal(3))
            probe, coin, choice = jr.split(key, 3)
            fitted.append(t == 0 or bool(jr.bernoulli(coin, 0.4)))
            if fitted[-1]:
                v = jr.normal(probe, (3,))
                h = hessian @ v
                if t == 0:
                    preconditioner = preconditioner.scaled(jnp.sqrt(jnp.linalg.norm(v) / jnp.linalg.norm(h)))
                preconditioner = preconditioner.fitted(v, h, jnp.asarray(0.2), choice)
            updates, state = optimizer.update(g, state, hvp=lambda v: hessian @ v, key=key)
            np.testing.assert_allclose(updates, preconditioner.precondition(g), rtol=1e-9)
    assert 2 <= sum(fitted) <= 5


def test_says_what_is_missing():
    optimizer = scale_by_psgd()
    with pytest.raises(ValueError, match="hvp, key"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
