"""Adaptive moment methods against NumPy, their limits and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import adamomentum, ademamix, exadam, growing_schedule, half_life_schedule, scale_by_exadam


def descend(optimizer, gradients):
    """The updates that a sequence of gradients gives, in double precision."""
    with jax.enable_x64(True):
        state = optimizer.init(jnp.zeros(gradients.shape[1]))
        _, updates = jax.lax.scan(
            lambda state, g: optimizer.update(g, state, jnp.zeros_like(g))[::-1], state, jnp.asarray(gradients)
        )
        return np.asarray(updates)


@pytest.fixture
def gradients():
    return np.random.default_rng(0).standard_normal((12, 5))


def test_half_life_schedule_halves_the_logarithm_at_the_right_place():
    schedule = half_life_schedule(0.9, 0.999, 10)
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.array([0, 10, 99])), [0.9, 0.999, 0.999], rtol=1e-6)
    middle = np.exp(2 / (1 / np.log(0.9) + 1 / np.log(0.999)))
    np.testing.assert_allclose(jnp.asarray(schedule(5)), middle, rtol=1e-6)


@pytest.mark.parametrize("bad", [{"start": 0.0}, {"start": 1.0}, {"end": 1.0}, {"steps": 0}])
def test_half_life_schedule_names_the_bad_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        half_life_schedule(**{"start": 0.9, "end": 0.999, "steps": 10, **bad})


def test_ademamix_with_its_warm_ups_is_another_programs(gradients):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")
    peers = pytest.importorskip("pytorch_optimizer", reason="a peer that is installed for tests only")
    x, path = torch.nn.Parameter(torch.full((5,), 0.3, dtype=torch.float64)), []
    theirs = peers.AdEMAMix(
        [x], 0.1, betas=(0.8, 0.99, 0.999), weight_decay=0.2, weight_decouple=True, alpha=5.0, t_alpha_beta3=10
    )
    for g in gradients:  # 12 of them: the warm-ups end inside
        x.grad = torch.from_numpy(g.copy())
        theirs.step()
        path.append(x.detach().numpy().copy())
    with jax.enable_x64(True):
        optimizer, ours = ademamix(0.1, 0.8, 0.99, 0.999, 5.0, weight_decay=0.2, warmup=10), jnp.full(5, 0.3)
        state = optimizer.init(ours)
        for g, expected in zip(gradients, path, strict=True):
            updates, state = optimizer.update(jnp.asarray(g), state, ours)
            ours = optax.apply_updates(ours, updates)
            np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_ademamix_without_the_slow_average_is_adamw(gradients):
    ours = descend(ademamix(0.1, alpha=0.0, weight_decay=0.1), gradients)
    np.testing.assert_allclose(ours, descend(optax.adamw(0.1, weight_decay=0.1), gradients), atol=1e-10)


def test_adamomentum_agrees_with_numpy(gradients):
    m, v = np.zeros((2, 5))
    expected = []
    for t, g in enumerate(gradients, start=1):
        m = 0.8 * m + 0.2 * g
        v = 0.95 * v + 0.05 * m**2 + 1e-3
        expected.append(-0.1 * m / (1 - 0.8**t) / np.sqrt(v / (1 - 0.95**t)))
    np.testing.assert_allclose(descend(adamomentum(0.1, b1=0.8, b2=0.95, eps=1e-3), gradients), expected, rtol=1e-10)


def test_adamomentum_steps_like_adam_once_the_average_has_settled():
    constant = np.tile([3.0, -1e-3, 0.5], (400, 1))
    ours, adams = (descend(method(0.1, b2=0.9), constant)[-1] for method in (adamomentum, optax.adam))
    np.testing.assert_allclose(ours, adams, rtol=1e-4)


def test_adamomentum_without_momentum_is_rmsprop(gradients):
    ours = descend(adamomentum(0.1, b1=0.0, b2=0.99), gradients)
    np.testing.assert_allclose(ours, descend(optax.adam(0.1, b1=0.0, b2=0.99, eps=0.0), gradients), rtol=1e-8)


def test_exadam_agrees_with_numpy(gradients):
    m, v = np.zeros((2, 5))
    expected, eps = [], 1e-2
    for t, g in enumerate(gradients, start=1):
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        first, second = 1 + v / (v + eps) * 0.95**t, 1 + m**2 / (m**2 + eps) * 0.8**t
        mean, now, square = m / (1 - 0.8**t) * first, g / (1 - 0.8**t) * first, v / (1 - 0.95**t) * second
        expected.append(-0.1 * np.log(np.sqrt(2) * np.sqrt(t + 1)) * (mean + now) / (np.sqrt(square) + eps))
    np.testing.assert_allclose(descend(exadam(0.1, b1=0.8, b2=0.95, eps=eps), gradients), expected, rtol=1e-6)


def test_exadam_doubles_adams_step_once_the_averages_have_settled():
    constant = np.tile([3.0, -1e-1, 0.5], (400, 1))
    settled = descend(scale_by_exadam(b2=0.9), constant)[-1]
    np.testing.assert_allclose(settled, 2 * descend(optax.scale_by_adam(b2=0.9), constant)[-1], rtol=1e-6)


def test_growing_schedule_checks_its_argument():
    with pytest.raises(ValueError, match="learning_rate"):
        growing_schedule(0.0)
