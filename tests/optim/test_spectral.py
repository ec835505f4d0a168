"""Muon against PyTorch's, its layouts against each other, and what it leaves to Adam."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from optax.contrib import MuonDimensionNumbers

from attractor.optim import muon, newton_schulz, scale_by_muon

RNG = np.random.default_rng(0)
SHAPES = [(10, 64), (64, 10), (7, 7)]


@pytest.fixture
def torch_in_double(monkeypatch):
    """PyTorch, whose Newton-Schulz iteration, at a switch of our own, keeps the precision of the gradient."""
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch.optim.Muon is there from 2.9 on")
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    return torch


def first_update(optimizer, gradient):
    return optimizer.update(gradient, optimizer.init(gradient), gradient)[0]


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torchs_step_by_step(torch_in_double, nesterov):
    torch = torch_in_double
    starts, targets = ([RNG.standard_normal(s) for s in SHAPES] for _ in range(2))
    theirs = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in starts]
    reference = torch.optim.Muon(theirs, 0.03, weight_decay=0.2, momentum=0.8, nesterov=nesterov)
    with jax.enable_x64(True):
        x, optimizer = [jnp.asarray(x) for x in starts], muon(0.03, 0.8, 0.2, nesterov=nesterov)
        state, step = optimizer.init(x), jax.jit(optimizer.update)
        for _ in range(12):
            gradients = [np.asarray((i + 1) * (a - b)) for i, (a, b) in enumerate(zip(x, targets, strict=True))]
            for p, g in zip(theirs, gradients, strict=True):
                p.grad = torch.from_numpy(g.copy())
            reference.step()
            updates, state = step([jnp.asarray(g) for g in gradients], state, x)
            x = optax.apply_updates(x, updates)
            for ours, p in zip(x, theirs, strict=True):
                np.testing.assert_allclose(ours, p.detach().numpy(), atol=1e-9)


def test_muon_in_a_torch_loop_is_torchs(torch_in_double):
    torch = torch_in_double
    from attractor.torch import Optimizer

    starts = [torch.from_numpy(RNG.standard_normal(s)).float() for s in SHAPES]
    (ours, theirs) = ([torch.nn.Parameter(x.clone()) for x in starts] for _ in range(2))
    optimizers = Optimizer(ours, muon(0.03)), torch.optim.Muon(theirs, 0.03, weight_decay=0.0)
    for _ in range(4):
        for params, optimizer in zip((ours, theirs), optimizers, strict=True):
            for i, p in enumerate(params):
                p.grad = (i + 1) * p.detach().sin()
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_a_transposed_layout_gives_the_transposed_step_and_the_other_layout_another():
    g = jnp.asarray(RNG.standard_normal((10, 64)))
    stored = first_update(scale_by_muon(), g)
    np.testing.assert_allclose(first_update(scale_by_muon(dimension_numbers="in, out"), g.T), stored.T, atol=1e-5)
    wrong = first_update(scale_by_muon(dimension_numbers="in, out"), g)
    np.testing.assert_allclose(wrong, 6.4**0.5 * stored, rtol=1e-4)  # seen as 10 inputs of 64 outputs


def test_kernels_and_stacks_are_matrices_where_numbers_say_so():
    """A kernel (out, in, 3, 2) is a matrix of 5 outputs by 24 inputs; a stack of layers is one matrix each."""
    g = {"kernel": jnp.asarray(RNG.standard_normal((5, 4, 3, 2))), "stack": jnp.asarray(RNG.standard_normal((3, 6, 4)))}
    numbers = {"kernel": MuonDimensionNumbers((1, 2, 3), 0), "stack": MuonDimensionNumbers(-2, -1)}
    found = first_update(scale_by_muon(dimension_numbers=numbers), g)
    alone = scale_by_muon()
    np.testing.assert_allclose(
        found["kernel"].reshape(5, 24), first_update(alone, g["kernel"].reshape(5, 24)), atol=1e-5
    )
    for ours, layer in zip(found["stack"], g["stack"], strict=True):
        np.testing.assert_allclose(ours, first_update(alone, layer.T).T, atol=1e-5)


def test_all_else_is_adams_at_its_own_rate():
    g = {"layer": {"w": jnp.ones((2, 3)), "b": jnp.arange(1.0, 4)}, "embed": jnp.asarray(RNG.standard_normal((4, 3)))}

    def numbers(params):
        return {"layer": {"w": MuonDimensionNumbers(1, 0), "b": None}, "embed": None}

    for given in (numbers, numbers(g)):
        found = first_update(muon(0.5, dimension_numbers=given, adam_learning_rate=0.01), g)
        adam = first_update(optax.adam(0.01), g)
        np.testing.assert_allclose(found["embed"], adam["embed"], rtol=1e-6)
        np.testing.assert_allclose(found["layer"]["b"], adam["layer"]["b"], rtol=1e-6)
        factor = newton_schulz(g["layer"]["w"])
        np.testing.assert_allclose(found["layer"]["w"], -0.5 * factor, rtol=1e-5)
    prefix = first_update(muon(0.5, dimension_numbers={"layer": None, "embed": MuonDimensionNumbers(1, 0)}), g)
    np.testing.assert_allclose(prefix["layer"]["w"], first_update(optax.adam(0.5), g)["layer"]["w"], rtol=1e-6)


def test_newton_schulz_agrees_with_the_polynomial_of_the_singular_values():
    matrix, (a, b, c) = RNG.standard_normal((6, 4)), (3.4445, -4.7750, 2.0315)
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.linalg.norm(s)
    for _ in range(3):
        s = a * s + b * s**3 + c * s**5
    with jax.enable_x64(True):
        np.testing.assert_allclose(newton_schulz(jnp.asarray(matrix), 3), (u * s) @ v, atol=1e-12)
    assert not newton_schulz(jnp.zeros((2, 3))).any()


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="dimension_numbers"):
        scale_by_muon(dimension_numbers="rows")
    with pytest.raises(ValueError, match="adam_learning_rate"):
        muon(0.1, adam_learning_rate=-1.0)
    with pytest.raises(ValueError, match="eps"):
        muon(0.1, eps=0.0)


def test_a_model_with_parts_that_are_no_parameters():
    params, _ = eqx.partition(eqx.nn.MLP(3, 2, 4, 1, key=jr.key(0)), eqx.is_inexact_array)
    slopes = jax.tree.map(jnp.ones_like, params)
    update, _ = muon(0.1).update(slopes, muon(0.1).init(params), params)
    assert jax.tree.structure(update) == jax.tree.structure(params)
    weight = update.layers[0].weight
    expected = -0.1 * (4 / 3) ** 0.5 * newton_schulz(1.95 * jnp.ones((4, 3)))
    np.testing.assert_allclose(weight, expected, rtol=1e-5)
