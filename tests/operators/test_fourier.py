"""Fourier layers against explicit sums and torch's transforms; the operator on several grids."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import run
from attractor.operators import FNO, SpectralConv
from attractor.problems import burgers_operator, burgers_pairs


def explicit(layer, v):
    """The layer as a sum over frequencies and grid points, without any transform."""
    grid, dim = v.shape[1:], v.ndim - 1
    real, imaginary = np.asarray(layer.weight, np.float64)
    *others, last = layer.modes
    ranges = [[*range(m), *range(-m, 0)] for m in others] + [list(range(last))]
    x = np.stack(np.meshgrid(*(np.arange(n) / n for n in grid), indexing="ij"))
    out = np.zeros((real.shape[0], *grid))
    for index in np.ndindex(*(len(r) for r in ranges)):
        k = np.array([r[i] for r, i in zip(ranges, index, strict=True)])
        wave = np.exp(2j * np.pi * np.tensordot(k, x, 1))
        coefficient = (np.asarray(v, np.float64) * wave.conj()).mean(tuple(range(1, dim + 1)))
        mixed = (real[(..., *index)] + 1j * imaginary[(..., *index)]) @ coefficient
        # Modes with last frequency above 0 stand for their mirror image too.
        out += (mixed[(..., *[None] * dim)] * wave).real * (2 if k[-1] > 0 else 1)
    return out


@pytest.mark.parametrize(("modes", "grid"), [(3, (6,)), (3, (9,)), ((2, 3), (5, 8)), ((1, 2, 2), (4, 4, 5))])
def test_layer_is_a_sum_over_its_modes(modes, grid):
    layer = SpectralConv(2, 3, modes, key=jr.key(0))
    v = jr.normal(jr.key(1), (2, *grid))
    out = layer(v)
    assert out.shape == (3, *grid)
    np.testing.assert_allclose(out, explicit(layer, v), atol=1e-6)


def test_initial_range():
    weight = SpectralConv(3, 4, 100, key=jr.key(0)).weight
    assert 0 <= weight.min() < 1e-3
    assert 0.99 < 12 * weight.max() < 1


def test_layer_agrees_with_torch():
    torch = pytest.importorskip("torch")
    layer = SpectralConv(2, 2, (2, 3), key=jr.key(0))
    v = np.asarray(jr.normal(jr.key(1), (2, 8, 10)))
    weight = torch.complex(*map(torch.tensor, np.asarray(layer.weight)))
    spectrum = torch.fft.rfft2(torch.tensor(v))
    out = torch.zeros_like(spectrum)
    for rows, part in ((slice(None, 2), weight[:, :, :2]), (slice(-2, None), weight[:, :, 2:])):
        out[:, rows, :3] = torch.einsum("ixy,oixy->oxy", spectrum[:, rows, :3], part)
    np.testing.assert_allclose(layer(jnp.asarray(v)), torch.fft.irfft2(out, s=(8, 10)).numpy(), atol=1e-6)


def test_layer_commutes_with_shifts_and_drops_high_frequencies():
    layer = SpectralConv(1, 1, 4, key=jr.key(0))
    v = jr.normal(jr.key(1), (1, 32))
    np.testing.assert_allclose(layer(jnp.roll(v, 5, 1)), jnp.roll(layer(v), 5, 1), atol=1e-6)
    wave = jnp.cos(2 * jnp.pi * 4 * jnp.arange(32) / 32)[None]
    np.testing.assert_allclose(layer(wave), 0.0, atol=1e-6)


def test_model_gives_the_same_function_on_every_grid():
    model = FNO(1, 1, 3, width=8, hidden=16, key=jr.key(0))
    x = jnp.arange(128) / 128
    a = jnp.sin(2 * jnp.pi * x)[None]
    fine, coarse = model(a), model(a[:, ::2])
    # Equal up to aliasing by the activation; the coordinate, which jumps at the border, is sampled and not averaged.
    np.testing.assert_allclose(coarse, fine[:, ::2], atol=2e-3 * float(jnp.abs(fine).max()))


def test_model_is_what_its_parts_say():
    model = FNO(2, 3, (2, 2), width=4, depth=3, hidden=5, activation=jnp.tanh, key=jr.key(0))
    a = jr.normal(jr.key(1), (2, 6, 5))

    def affine(conv, v):
        return jnp.einsum("oi,ixy->oxy", conv.weight, v) + conv.bias[:, None, None]

    x, y = jnp.meshgrid(jnp.arange(6) / 6, jnp.arange(5) / 5, indexing="ij")
    v = affine(model.lift, jnp.stack([*a, x, y]))
    for depth in range(3):
        layer = jax.tree.map(lambda leaf, depth=depth: leaf[depth], eqx.filter(model.layers, eqx.is_array))
        kernel = eqx.tree_at(lambda k: k.weight, SpectralConv(4, 4, (2, 2), key=jr.key(2)), layer.kernel.weight)
        v = jnp.tanh(explicit(kernel, v) + affine(layer.pointwise, v))
    into, out = model.project
    np.testing.assert_allclose(model(a), affine(out, jnp.tanh(affine(into, v))), atol=1e-5)


def test_every_weight_learns_and_stays_real():
    model = FNO(1, 1, 2, width=3, hidden=4, key=jr.key(0))
    a = jr.normal(jr.key(1), (1, 8))
    grads = eqx.filter_grad(lambda m: jnp.sum(m(a) ** 2))(model)
    for leaf in jax.tree.leaves(grads):
        assert jnp.issubdtype(leaf.dtype, jnp.floating)
        assert jnp.isfinite(leaf).all()
        assert jnp.abs(leaf).max() > 0


def test_trains_through_run():
    pairs = burgers_pairs(jr.key(0), 8, 32)
    problem = burgers_operator(lambda key: FNO(1, 1, 4, width=4, hidden=8, key=key), pairs, pairs, batch_size=4)
    trace = run(problem, optax.adam(1e-2), steps=30, seeds=2)
    assert trace.metrics == ["loss", "test_error"]
    assert (trace.last("test_error") < trace["test_error"].isel(step=0)).all()


@pytest.mark.parametrize(
    ("bad", "named"),
    [({"modes": 0}, "modes"), ({"modes": ()}, "modes"), ({"width": 0}, "width"), ({"depth": 0}, "depth")],
)
def test_refuses_bad_sizes(bad, named):
    with pytest.raises(ValueError, match=named):
        FNO(**{"modes": 2, "width": 2, **bad}, key=jr.key(0))


def test_refuses_a_grid_that_cannot_hold_the_modes():
    layer = SpectralConv(1, 1, (2, 4), key=jr.key(0))
    with pytest.raises(ValueError, match=r"\(4, 8\)"):
        layer(jnp.zeros((1, 4, 7)))
    with pytest.raises(ValueError, match="grid"):
        layer(jnp.zeros((1, 16)))
