"""Projected momentum methods against NumPy, their groups and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import adamp, project_out_radial, sgdp

LR, DECAY = 0.05, 0.2


def path_of(optimizer, gradient, x, steps=10):
    with jax.enable_x64(True):
        x, found = jnp.asarray(x), []
        state = optimizer.init(x)
        for _ in range(steps):
            updates, state = optimizer.update(gradient(x), state, x)
            x = optax.apply_updates(x, updates)
            found.append(np.asarray(x))
        return found


def numpy_project(u, g, w, delta=0.1):
    """The step, and whether it was projected, by the definition: channels first, then the layer."""
    for axis in (1, None):
        cosine = np.abs((w * g).sum(axis)) / (np.linalg.norm(w, axis=axis) * np.linalg.norm(g, axis=axis))
        dim = w.shape[1] if axis == 1 else w.size
        if cosine.max() <= delta / np.sqrt(dim):
            radial = (w * u).sum(axis, keepdims=True) / (w * w).sum(axis, keepdims=True)
            return u - radial * w, True
    return u, False


def normalized_loss(target):
    return lambda w: jnp.sum((w / jnp.linalg.norm(w, axis=1, keepdims=True) - target) ** 2)


@pytest.mark.parametrize("case", ["channels", "layer", "neither"])
@pytest.mark.parametrize("make", [sgdp, adamp])
def test_agrees_with_numpy(make, case):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 3, 4))
    losses = {
        "channels": normalized_loss(target),
        "layer": lambda w: jnp.sum((w / jnp.linalg.norm(w) - target) ** 2),
        "neither": lambda w: jnp.sum((w - target) ** 2),
    }
    gradient = jax.grad(losses[case])
    found = path_of(make(LR, weight_decay=DECAY), gradient, x)
    m, v, expected, projected = 0.0, 0.0, [], []
    for t in range(1, 11):
        with jax.enable_x64(True):
            g = np.asarray(gradient(jnp.asarray(x)))
        if make is sgdp:
            m = 0.9 * m + g
            u, decay = m, DECAY / 0.1
        else:
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            u, decay = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), DECAY
        u, hit = numpy_project(u, g, x)
        x = x - LR * (u + decay * (0.1 if hit else 1.0) * x)
        expected.append(x)
        projected.append(hit)
    assert all(projected) if case != "neither" else not any(projected)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize(("share", "projected"), [(0.95, True), (1.05, False)])
def test_a_channel_is_told_by_the_root_of_its_size(share, projected):
    """A cosine just below and just above δ / √dim, in every channel; the layer's is above its own threshold."""
    delta, dim = 0.1, 16
    rng = np.random.default_rng(0)
    w, across = rng.standard_normal((2, 3, dim))
    across -= (across * w).sum(1, keepdims=True) / (w * w).sum(1, keepdims=True) * w
    w, across = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (w, across))
    cosine = share * delta / np.sqrt(dim)
    g = cosine * w + np.sqrt(1 - cosine**2) * across
    with jax.enable_x64(True):
        method = project_out_radial(optax.identity(), delta)
        u, _ = method.update(jnp.asarray(g), method.init(jnp.asarray(w)), jnp.asarray(w))
    np.testing.assert_allclose((np.asarray(u) * w).sum(1), 0.0 if projected else cosine, atol=1e-12)


@pytest.mark.parametrize("make", [sgdp, adamp])
def test_is_another_programs_step_by_step(make):
    """Weights of which the loss ignores the scale, and weights of which it does not; steps with their decay."""
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")
    peers = pytest.importorskip("pytorch_optimizer", reason="a peer that is installed for tests only")
    rng = np.random.default_rng(1)
    starts, target = rng.standard_normal((3, 3, 4)), rng.standard_normal((3, 4))
    losses = (
        normalized_loss(target),
        lambda w: jnp.sum((w / jnp.linalg.norm(w) - target) ** 2),
        lambda w: jnp.sum((w - target) ** 2),
    )
    gradients = jax.jit(lambda x: [jax.grad(loss)(w) for loss, w in zip(losses, x, strict=True)])
    given = {"weight_decay": DECAY, "delta": 0.2, "wd_ratio": 0.3}
    theirs = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in starts]
    with jax.enable_x64(True):
        x = [jnp.asarray(x) for x in starts]
        if make is sgdp:
            optimizer, peer = sgdp(LR, 0.8, **given), peers.SGDP(theirs, LR, 0.8, eps=1e-12, **given)
        else:
            optimizer = adamp(LR, 0.8, 0.99, 1e-12, **given)
            peer = peers.AdamP(theirs, LR, (0.8, 0.99), eps=1e-12, **given)
        state = optimizer.init(x)
        for _ in range(10):
            g = gradients(x)
            for p, slope in zip(theirs, g, strict=True):
                p.grad = torch.from_numpy(np.array(slope))
            peer.step()
            updates, state = optimizer.update(g, state, x)
            x = optax.apply_updates(x, updates)
            for ours, p in zip(x, theirs, strict=True):
                np.testing.assert_allclose(ours, p.detach().numpy(), atol=1e-8)


def test_vectors_and_scalars_are_left_alone():
    x = {"bias": jnp.ones(3), "scale": jnp.asarray(2.0)}
    g = {"bias": jnp.array([1.0, -1.0, 0.0]), "scale": jnp.asarray(0.0)}  # orthogonal to their weights
    optimizer = project_out_radial(optax.identity())
    updates, _ = optimizer.update(g, optimizer.init(x), x)
    jax.tree.map(np.testing.assert_array_equal, updates, g)


def test_zero_weights_give_no_nan():
    x = jnp.zeros((2, 3))
    optimizer = project_out_radial(optax.identity())
    updates, _ = optimizer.update(jnp.ones((2, 3)), optimizer.init(x), x)
    np.testing.assert_array_equal(updates, jnp.ones((2, 3)))


def test_needs_the_parameters():
    optimizer = project_out_radial(optax.identity())
    with pytest.raises(ValueError, match="params"):
        optimizer.update(jnp.ones((2, 3)), optimizer.init(jnp.ones((2, 3))))
