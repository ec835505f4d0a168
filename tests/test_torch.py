"""Our transformations in a PyTorch loop: JAX's trajectory, groups, state dictionaries, no copies."""

import io
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")

from attractor.optim import cautious_adamw  # noqa: E402
from attractor.problems import digits  # noqa: E402
from attractor.torch import Optimizer  # noqa: E402

(IMAGES, LABELS), _ = digits()
BATCHES = np.random.default_rng(0).integers(0, len(LABELS), (50, 32))
pytestmark = pytest.mark.usefixtures("one_torch_thread")


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def loss_of(model, batch):
    logits = model(torch.from_numpy(IMAGES[batch]))
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(LABELS[batch]).long())


def train(model, optimizer, batches=BATCHES):
    for batch in batches:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()


def in_jax(transformation):
    """The same network and batches, in JAX alone."""
    params = [jnp.asarray(p.detach().numpy().copy()) for p in network().parameters()]

    def loss(params, x, y):
        logits = jax.nn.relu(x @ params[0].T + params[1]) @ params[2].T + params[3]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(params, state, x, y):
        updates, state = transformation.update(jax.grad(loss)(params, x, y), state, params)
        return optax.apply_updates(params, updates), state

    state = transformation.init(params)
    for batch in BATCHES:
        params, state = step(params, state, IMAGES[batch], LABELS[batch])
    return params


@pytest.mark.parametrize(
    "transformation", [optax.adam(1e-2), cautious_adamw(1e-2), optax.sgd(optax.cosine_decay_schedule(0.5, 50), 0.9)]
)
def test_follows_the_jax_trajectory(transformation):
    model = network()
    train(model, Optimizer(model.parameters(), transformation))
    for ours, theirs in zip(model.parameters(), in_jax(transformation), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, atol=1e-5)


def test_adam_is_torchs_adam():
    ours, theirs = network(), network()
    train(ours, Optimizer(ours.parameters(), optax.adam(1e-2)), BATCHES[:10])  # later, rounding has grown past 1e-5
    train(theirs, torch.optim.Adam(theirs.parameters(), 1e-2), BATCHES[:10])
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("small", [0, 100, 1_000_000])
def test_however_tensors_are_passed_the_step_is_the_same(monkeypatch, small):
    """None end to end, some (of 12 names, whose order is not that of their numbers), all; and two dtypes."""
    monkeypatch.setattr("attractor.torch.together.SMALL", small)
    generator = torch.Generator().manual_seed(0)
    shapes = [(), (1,), (3, 4), (40, 5), (7,), (2, 3, 2), (101,), (100,), (11, 11), (5,), (6, 2), (4,)]
    starts = [torch.randn(s, generator=generator) for s in shapes]
    starts[4], starts[8] = starts[4].bfloat16(), starts[8].bfloat16()
    ours, theirs = ([torch.nn.Parameter(x.clone()) for x in starts] for _ in range(2))
    optimizers = Optimizer(ours, optax.adamw(0.1, weight_decay=0.2)), torch.optim.AdamW(theirs, 0.1, weight_decay=0.2)
    for _ in range(4):
        for params, optimizer in zip((ours, theirs), optimizers, strict=True):
            for i, p in enumerate(params):
                p.grad = (i + 1) * p.detach().cos()
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=0.1 if a.dtype == torch.bfloat16 else 1e-5, rtol=0)


@pytest.mark.parametrize(
    "transformation",
    [optax.adam(1e-2), optax.contrib.schedule_free_sgd(0.1), optax.chain(optax.add_noise(0.1, 0.1, 0), optax.sgd(0.1))],
)
def test_a_saved_state_continues_bit_for_bit(transformation, monkeypatch):
    # The tests' faster code generator (conftest.py) rounds by where arrays lie; the one that users have does not.
    pinned = jax.__version__.startswith("0.10.")  # as for the flag in conftest.py, which this undoes
    exact = partial(jax.jit, compiler_options={"xla_cpu_use_fusion_emitters": True} if pinned else None)
    monkeypatch.setattr("attractor.torch.program.jax.jit", exact)
    straight, first, second = network(), network(), network()
    train(straight, Optimizer(straight.parameters(), transformation))
    before = Optimizer(first.parameters(), transformation)
    train(first, before, BATCHES[:20])
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": before.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second.load_state_dict(saved["model"])
    after = Optimizer(second.parameters(), transformation)
    after.load_state_dict(saved["optimizer"])
    train(second, after, BATCHES[20:])
    for a, b in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_groups_have_their_own_transformations():
    model = network()
    groups = [
        {"params": model[0].parameters(), "transformation": optax.sgd(0.0)},
        {"params": model[2].parameters()},
    ]
    before = [p.detach().clone() for p in model.parameters()]
    train(model, Optimizer(groups, optax.adam(1e-2)), BATCHES[:3])
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [False, False, True, True]


def test_masks_go_by_name():
    model = network()
    freeze = optax.masked(optax.set_to_zero(), lambda p: {name: name.endswith("bias") for name in p})
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    train(model, Optimizer(model.named_parameters(), optax.chain(optax.adam(1e-2), freeze)), BATCHES[:3])
    assert {n for n, p in model.named_parameters() if torch.equal(p, before[n])} == {"0.bias", "2.bias"}


def test_nothing_is_copied_on_the_way_in_and_parameters_stay_in_place():
    seen = []

    def update(updates, state, params=None):
        jax.debug.callback(lambda a: seen.append(a.shape), updates["0"])
        return updates, state

    w = torch.nn.Parameter(torch.ones(1024))
    optimizer = Optimizer(
        [w], optax.chain(optax.GradientTransformation(lambda p: optax.EmptyState(), update), optax.sgd(1.0))
    )
    w.grad = torch.ones(1024)
    place = w.data_ptr()
    view = jax.dlpack.from_dlpack(w.detach())
    assert view.unsafe_buffer_pointer() == place
    optimizer.step()
    assert w.data_ptr() == place
    assert w.detach().unique().tolist() == [0.0]
    assert seen == [(1024,)]


def test_a_state_that_stores_parameters_does_not_alias_them():
    keep = optax.GradientTransformation(lambda p: p, lambda g, s, p=None: (g, p))
    w = torch.nn.Parameter(torch.ones(4))
    optimizer = Optimizer([w], optax.chain(keep, optax.sgd(1.0)))
    for _ in range(2):
        w.grad = torch.ones(4)
        optimizer.step()
    assert optimizer.state_dict()["state"][0]["leaves"][0].tolist() == [0.0] * 4  # where it was before the last step
    assert w.tolist() == [-1.0] * 4


def test_parameters_without_a_gradient_stay():
    w, v = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = Optimizer([w, v], optax.adamw(0.1, weight_decay=0.5))
    optimizer.step()  # nobody has one
    w.grad = torch.ones(2)
    optimizer.step()
    assert v.tolist() == [1.0, 1.0]
    assert w[0] < 1


def test_a_gradient_that_is_absent_once_is_zero_then():
    w, v = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = Optimizer([w, v], optax.adam(0.1))
    x, transformation = jnp.ones(2), optax.adam(0.1)
    state = transformation.init(x)
    for gradient in (1.0, None, 2.0):
        w.grad = torch.ones(2)
        v.grad = None if gradient is None else torch.full((2,), gradient)
        optimizer.step()
        updates, state = transformation.update(jnp.full(2, gradient or 0.0), state)
        x = x if gradient is None else x + updates
    np.testing.assert_allclose(v.detach().numpy(), x, atol=1e-6)


def test_a_closure_gives_the_loss_and_its_value():
    w = torch.nn.Parameter(torch.full((3,), 2.0))
    optimizer = Optimizer([w], optax.contrib.momo(1.0))  # asks for the value

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(10)]
    x, expected = jnp.full(3, 2.0), []
    transformation = optax.contrib.momo(1.0)
    state = transformation.init(x)
    for _ in range(10):
        value, grad = jax.value_and_grad(lambda x: jnp.sum(x**2))(x)
        expected.append(float(value))
        updates, state = transformation.update(grad, state, x, value=value)
        x = optax.apply_updates(x, updates)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_non_contiguous_and_bfloat16_parameters():
    w = torch.nn.Parameter(torch.ones(4, 6, dtype=torch.bfloat16).t())
    w.grad = torch.ones(6, 4, dtype=torch.bfloat16)
    Optimizer([w], optax.sgd(0.5)).step()
    assert w.dtype == torch.bfloat16
    assert w.detach().unique().tolist() == [0.5]


def test_errors_say_what_is_wrong():
    w = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(TypeError, match="transformation: expected"):
        Optimizer([w], "adam")
    with pytest.raises(TypeError, match="transformation: expected"):
        Optimizer([w], lambda: "adam")
    with pytest.raises(ValueError, match="learning_rate: adam needs it"):
        Optimizer([w], optax.adam)
    with pytest.raises(ValueError, match="float64"):
        Optimizer([torch.nn.Parameter(torch.ones(2, dtype=torch.float64))], optax.sgd(0.1))
    saved = Optimizer([w], optax.adam(0.1)).state_dict()
    with pytest.raises(ValueError, match="other transformation"):
        Optimizer([w], optax.sgd(0.1)).load_state_dict(saved)
    with pytest.raises(ValueError, match="groups"):
        Optimizer([w, torch.nn.Parameter(torch.ones(3))], optax.adam(0.1)).load_state_dict(saved)


def averaging():
    return optax.chain(optax.clip(1e9), optax.contrib.schedule_free_sgd(0.1))


def test_eval_moves_to_the_averaged_point_and_train_back_to_the_bit():
    model, straight = network(), network()
    optimizer = Optimizer(model.parameters(), averaging())
    train(model, optimizer, BATCHES[:20])
    there = [p.detach().clone() for p in model.parameters()]
    places = [p.data_ptr() for p in model.parameters()]
    (state,) = (packed.state for packed in optimizer._programs)
    b1, z = float(state[1].b1), state[1].z
    optimizer.eval()
    optimizer.eval()
    for i, (y, x) in enumerate(zip(there, model.parameters(), strict=True)):
        assert not torch.equal(x, y)
        np.testing.assert_allclose(b1 * x.detach().numpy() + (1 - b1) * np.asarray(z[str(i)]), y.numpy(), atol=1e-6)
    optimizer.train()
    optimizer.train()
    assert all(torch.equal(p, y) for p, y in zip(model.parameters(), there, strict=True))
    assert places == [p.data_ptr() for p in model.parameters()]
    train(model, optimizer, BATCHES[20:])
    train(straight, Optimizer(straight.parameters(), averaging()))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), straight.parameters(), strict=True))


def test_only_the_averaging_group_moves_in_eval():
    model = network()
    groups = [{"params": model[0].parameters(), "transformation": averaging()}, {"params": model[2].parameters()}]
    optimizer = Optimizer(groups, optax.adam(1e-2))
    train(model, optimizer, BATCHES[:5])
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.eval()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [True, True, False, False]


def test_training_goes_on_from_the_training_point_only():
    model = network()
    optimizer = Optimizer(model.parameters(), averaging())
    train(model, optimizer, BATCHES[:2])
    state = optimizer.state_dict()
    optimizer.eval()
    for forbidden in (optimizer.step, optimizer.state_dict, lambda: optimizer.load_state_dict(state)):
        with pytest.raises(RuntimeError, match=r"call train\(\) first"):
            forbidden()
    optimizer.train()
    optimizer.load_state_dict(state)


@pytest.mark.parametrize(
    "transformation",
    [
        optax.MultiSteps(optax.adam(1e-2), 2),
        optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.01)),
        optax.chain(optax.clip(1e9), optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.01))),
    ],
)
def test_transformations_get_what_they_accept(transformation):
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    train(model, Optimizer(model.parameters(), transformation), BATCHES[:4])
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
