"""Two mistakes of every beginner, planted in both frameworks: a softmax before a loss that has its own, and gradients
that are never cleared. Beside each stand healthy programs that look alike.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.diagnosis import Monitor, Signs, diagnose, judge

torch = pytest.importorskip("torch", reason="an extra")
nn, F = torch.nn, torch.nn.functional

import attractor.torch  # noqa: E402

SOFTMAX, KEPT = "probabilities taken for logits", "gradients never cleared"


def watched(model, loss_fn, *, clear=lambda i: True, steps=40, order="after", none=True, parts=1, rate=0.01):
    """Train on batches of three separable classes under a monitor that looks at every step."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    monitor = attractor.torch.Monitor(model, optimizer, every=1)
    for i in range(steps):
        if order == "before" and clear(i):
            optimizer.zero_grad(set_to_none=none)
        for part in range(parts):
            y = torch.randint(0, 3, (16,))
            x = F.one_hot(y, 4).float() + 0.3 * torch.randn(16, 4)
            loss = loss_fn(model(x), y)
            if order == "after" and part == 0 and clear(i):
                optimizer.zero_grad(set_to_none=none)
            loss.backward()
        optimizer.step()
        monitor(loss)
    return monitor.diagnosis()


def net(*end):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), *end)


def two_classes(out, y):
    return F.binary_cross_entropy_with_logits(out[:, 0], (y > 0).float())


@pytest.mark.parametrize(
    ("end", "loss", "words"),
    [
        (nn.Softmax(1), F.cross_entropy, "a softmax before LogSoftmax. The loss cannot fall below 0.551"),
        (nn.Sigmoid(), F.cross_entropy, "a sigmoid before LogSoftmax"),
        (nn.Sigmoid(), two_classes, "a sigmoid before BinaryCrossEntropyWithLogits. The loss cannot fall below 0.313"),
    ],
)
def test_probabilities_that_pytorchs_loss_takes_for_logits(end, loss, words):
    found = watched(net(end), loss)
    assert found.names[0] == SOFTMAX
    assert found[SOFTMAX].sure == "sure"
    assert words in found[SOFTMAX].sentence
    assert "take the softmax or sigmoid out" in found[SOFTMAX].remedy


@pytest.mark.parametrize(
    ("end", "loss"),
    [
        ([], F.cross_entropy),
        ([nn.LogSoftmax(1)], F.nll_loss),
        ([nn.LogSoftmax(1)], F.cross_entropy),  # twice is once
        ([nn.Softmax(1)], lambda p, y: F.nll_loss(torch.log(p), y)),
        ([nn.Sigmoid(), nn.Linear(3, 3)], F.cross_entropy),  # hidden units
        ([nn.Sigmoid()], lambda p, y: F.binary_cross_entropy(p[:, 0], (y > 0).float())),
        ([nn.Softmax(1)], lambda p, y: F.cross_entropy(p / 0.05, y)),  # a temperature: somebody meant it
    ],
)
def test_losses_that_are_right_are_not_accused(end, loss):
    assert SOFTMAX not in watched(net(*end), loss).names


def test_a_state_in_pytorch_tells_it_too():
    y = torch.arange(3).repeat(8)
    batches = [(F.one_hot(y, 4).float() + 0.3 * torch.randn(24, 4), y) for _ in range(3)]
    for end, there in (([nn.Softmax(1)], True), ([], False)):
        model = net(*end)
        found = attractor.torch.diagnose(
            model, nn.CrossEntropyLoss(), batches, torch.optim.SGD(model.parameters(), 0.1)
        )
        assert (SOFTMAX in found.names) == there


def in_jax(loss):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, (3, 16))
    batches = [(np.eye(4, dtype=np.float32)[k] + 0.3 * rng.normal(size=(16, 4)).astype(np.float32), k) for k in y]
    params = {"w": rng.normal(size=(4, 3)).astype(np.float32)}
    return diagnose(lambda p, b: loss(b[0] @ p["w"], b[1]).mean(), params, batches)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: optax.softmax_cross_entropy_with_integer_labels(jax.nn.softmax(z), y),
        lambda z, y: optax.softmax_cross_entropy(jax.nn.softmax(z), jax.nn.one_hot(y, 3)),
        lambda z, y: -jnp.take_along_axis(jax.nn.log_softmax(jax.nn.softmax(z)), y[:, None], 1),
        lambda z, y: optax.sigmoid_binary_cross_entropy(jax.nn.sigmoid(z[:, 0]), (y > 0) * 1.0),
    ],
)
def test_probabilities_that_a_loss_in_jax_takes_for_logits(loss):
    found = in_jax(loss)
    assert found[SOFTMAX].sure == "sure"
    assert "test_classic_mistakes.py:" in found[SOFTMAX].sentence


@pytest.mark.parametrize(
    "loss",
    [
        optax.softmax_cross_entropy_with_integer_labels,
        lambda z, y: -jnp.log(jnp.take_along_axis(jax.nn.softmax(z), y[:, None], 1)),
        lambda z, y: optax.sigmoid_binary_cross_entropy(z[:, 0], (y > 0) * 1.0),
        lambda z, y: optax.softmax_cross_entropy_with_integer_labels(jax.nn.sigmoid(z) @ jnp.eye(3), y),
        lambda z, y: optax.softmax_cross_entropy_with_integer_labels(jax.nn.softmax(z) / 0.05, y),
    ],
)
def test_losses_in_jax_that_are_right_are_not_accused(loss):
    found = in_jax(loss)
    assert SOFTMAX not in found.names
    assert not any("outputs" in note for note in found.signs.notes)


def test_a_curve_that_stops_where_a_second_softmax_would_stop_it_is_possible_only():
    steps = np.arange(200.0)
    floor = np.log(np.e + 9) - 1
    curve = floor + (np.log(10) - floor) * np.exp(-steps / 30)
    found = judge(Signs("log", steps, {"loss": curve}))
    assert found[SOFTMAX].sure == "possible"
    assert SOFTMAX not in judge(Signs("log", steps, {"loss": np.log(10) * np.exp(-steps / 100)})).names
    assert SOFTMAX not in judge(Signs("log", steps, {"loss": curve + 0.3})).names


@pytest.mark.parametrize(("clear", "share"), [(lambda i: False, "100%"), (lambda i: i % 10 == 0, "90%")])
def test_gradients_that_are_never_cleared_or_once_an_epoch(clear, share):
    found = watched(net(), F.cross_entropy, clear=clear, steps=41)
    assert found.names[0] == KEPT
    assert found[KEPT].sure == "sure" if share == "100%" else found[KEPT].confidence > 0.65
    assert share in found[KEPT].sentence
    assert "Their norm went from" in found[KEPT].sentence
    assert "zero_grad" in found[KEPT].remedy


@pytest.mark.parametrize(
    "given",
    [{"order": "before"}, {"order": "after"}, {"none": False}, {"none": False, "order": "before"}, {"parts": 3}],
)
def test_gradients_that_are_cleared_in_any_of_the_usual_ways(given):
    found = watched(net(), F.cross_entropy, **given)
    assert KEPT not in found.names
    assert found.signs.number("kept gradients") == 0


def test_gradients_that_another_optimizers_loss_left_behind_are_no_fault():
    """The critic of two networks gets gradients from the other's loss, which are cleared before its own."""
    torch.manual_seed(0)
    maker, critic = nn.Linear(2, 4), net()
    first, second = torch.optim.SGD(critic.parameters(), 0.01), torch.optim.SGD(maker.parameters(), 0.01)
    monitor = attractor.torch.Monitor(critic, first, every=1)
    for _ in range(10):
        first.zero_grad()
        loss = critic(torch.randn(8, 4)).mean() - critic(maker(torch.randn(8, 2)).detach()).mean()
        loss.backward()
        first.step()
        second.zero_grad()
        critic(maker(torch.randn(8, 2))).mean().backward()
        second.step()
        monitor(loss)
    assert monitor.signs().number("kept gradients") == 0


@pytest.mark.parametrize("kept", [True, False])
def test_sums_of_gradients_in_a_jax_loop(kept):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 32, 4)).astype(np.float32)
    gradient = jax.jit(jax.value_and_grad(lambda p, x: jnp.mean((x @ p["w"] - x.sum(1) - 3) ** 2)))
    params, total, monitor = {"w": jnp.zeros(4)}, {"w": jnp.zeros(4)}, Monitor()
    for batch in x[:60]:
        value, grads = gradient(params, batch)
        total = jax.tree.map(lambda t, g: t * kept + g, total, grads)
        updates = jax.tree.map(lambda g: -0.001 * g, total)
        params = jax.tree.map(jnp.add, params, updates)
        monitor.recorder._next = None  # every step is looked at
        monitor(value, params=params, grads=total, updates=updates, batch=batch)
    found = monitor.diagnosis()
    assert (KEPT in found.names) == kept
    if kept:
        assert found[KEPT].sure == "possible"
        assert "as a sum does" in found[KEPT].sentence


def test_growth_that_is_no_sums_is_not_taken_for_it():
    steps = np.arange(60.0)
    for norms in (np.exp(steps / 15), 1 + 0 * steps, np.where(steps < 30, 1.0, 8.0)):
        assert KEPT not in judge(Signs("log", steps, {"loss": 2 - steps / 60, "gradient norm": norms})).names
    assert KEPT in judge(Signs("log", steps, {"loss": 2 - steps / 60, "gradient norm": steps + 1})).names
