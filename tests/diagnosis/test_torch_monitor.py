"""The monitor of PyTorch loops: its numbers against direct ones, what it must not change, and what it names."""

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="an extra")
nn = torch.nn

import attractor.diagnosis.torch  # noqa: E402
from attractor.diagnosis.hooks import _inputs, effective_rank, origin  # noqa: E402
from attractor.diagnosis.torch import Monitor, check  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded(one_torch_thread):
    torch.manual_seed(0)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 1))


def batch(n: int = 16):
    x = torch.randn(n, 3)
    return x, torch.sin(x.sum(1, keepdim=True))


def train(model, optimizer, steps=40, monitor=None, data=batch):
    for _ in range(steps):
        x, y = data()
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        if monitor is not None:
            monitor(loss)
    return [p.detach().clone() for p in model.parameters()]


def test_gradient_update_and_weights_are_those_of_the_step():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    monitor = Monitor(model, optimizer, every=1)
    expected = []
    for _ in range(3):
        x, y = batch()
        before = torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
        optimizer.step()
        monitor(loss)
        after = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        size = before.norm()
        expected.append(
            [float(loss.detach()), float(gradient.norm()), float((after - before).norm() / size), float(size)]
        )
    _, curves = monitor.signs().steps, monitor.signs().curves
    found = [curves[name] for name in ("loss", "gradient norm", "update ratio", "weight norm")]
    np.testing.assert_allclose(np.transpose(found), expected, rtol=1e-5)


def test_layers_are_in_the_order_of_the_forward_pass_and_have_their_numbers():
    model = net()
    x, y = batch(64)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    monitor = Monitor(model, optimizer, every=1)
    loss = (model(x) - y).square().mean()
    loss.backward()
    optimizer.step()
    monitor(loss)
    layers = monitor.signs().layers
    assert list(layers) == ["0", "1", "2", "3", "4"]
    hidden = model[1](model[0](x)).detach()
    assert layers["1"].output == pytest.approx(float(hidden.square().mean().sqrt()), rel=1e-5)
    dead = float((hidden.amax(0) == hidden.amin(0)).float().mean())
    assert layers["1"].dead == pytest.approx(dead)
    own = torch.cat([p.grad.reshape(-1) for p in model[2].parameters()])
    assert layers["2"].gradient == pytest.approx(float(own.square().mean().sqrt()), rel=1e-5)
    assert layers["2"].update == 0
    assert layers["2"].reached
    assert layers["2"].trained
    assert layers["1"].trained is None
    assert layers["1"].size == 0


def test_the_noise_scale_of_a_linear_model_is_that_of_its_gradients():
    """A weight that stays at zero, gradients of mean -2 and variance 4 s^2: the scale is s^2 |..|."""
    model, s = nn.Linear(1, 1, bias=False), 3.0
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    monitor = Monitor(model, optimizer, every=1)
    for _ in range(800):
        x = torch.ones(8, 1)
        loss = (model(x) - (1 + s * torch.randn(8, 1))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor(loss)
    signs = monitor.signs()
    # By pairs of gradients g = -2 (1 + s z / sqrt(8)), common part 4, squares 4 (1 + s^2 / 8).
    shares = signs.numbers["batch size"] / (signs.numbers["batch size"] + signs.numbers["noise scale"])
    assert signs.numbers["batch size"] == 8
    pairs = np.random.default_rng(0).normal(1, s / math.sqrt(8), (200_000, 2))
    share = np.mean(pairs[:, 0] * pairs[:, 1] / (pairs**2).mean(1))
    assert shares == pytest.approx(share, abs=0.05)


def test_training_is_the_same_to_the_bit_with_a_monitor():
    results = []
    for watched in (False, True):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        monitor = Monitor(model, optimizer, every=3) if watched else None
        results.append([*train(model, optimizer, 20, monitor), *model.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_evaluation_is_not_counted():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer, every=1)
    train(model, optimizer, 3, monitor)
    seen = {name: list(h.looks.get("output", [])) for name, h in monitor._layers.items()}
    model.eval()
    model(1000 * torch.ones(4, 3))
    model.train()
    with torch.no_grad():
        model(1000 * torch.ones(4, 3))
    assert seen == {name: list(h.looks.get("output", [])) for name, h in monitor._layers.items()}
    assert monitor.signs().numbers["input level"] < 10


def test_a_closed_monitor_leaves_nothing_behind():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, 2, monitor)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_forward_pass_that_raises_takes_the_look_off():
    class Raises(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken")

    model = nn.Sequential(nn.Linear(3, 1), Raises())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    Monitor(model, optimizer, every=1)
    with pytest.raises(RuntimeError, match="broken"):
        model(torch.ones(2, 3))
    assert not any(m._forward_hooks for m in model[0].modules())
    assert isinstance(torch.relu(torch.ones(2)), torch.Tensor)  # no mode is left on
    assert not torch.overrides._get_current_function_mode_stack()


def test_functions_in_a_module_are_seen_and_named_after_it():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 4)

        def forward(self, x):
            return torch.tanh(20 * nn.functional.relu(self.inner(x)) - 100)

    model = nn.Sequential(Block(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer, every=1)
    train(model, optimizer, 1, monitor)
    layers = monitor.signs().layers
    assert list(layers) == ["0.inner", "0", "0.tanh", "1"]
    assert layers["0.tanh"].saturated == 1.0
    assert math.isnan(layers["0"].saturated)


def test_an_output_at_the_end_of_its_range_is_no_saturation():
    model = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())
    with torch.no_grad():
        model[0].bias.fill_(30.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer, every=1)
    train(model, optimizer, 12, monitor)
    assert math.isnan(monitor.signs().layers["1"].saturated)


def faulty(name: str):
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    rate, data = 1e-2, batch
    if name == "frozen layer":
        model[2].requires_grad_(False)
    if name == "disconnected layer":

        class Cut(nn.Module):
            def forward(self, x):
                return x.detach()

        model = nn.Sequential(*model[:2], Cut(), *model[2:])
    if name == "dead units":
        with torch.no_grad():
            model[2].bias.fill_(-50.0)
    if name == "badly scaled inputs":

        def data():
            x, y = batch()
            return x * torch.tensor([1.0, 1.0, 1000.0]), y

    if name == "spike":
        count = iter(range(1000))

        def data():
            x, y = batch()
            return x * (1000 if next(count) == 40 else 1), y

    rate = {"step too large": 5.0, "step too small": 1e-6}.get(name, rate)
    return model, rate, data


@pytest.mark.parametrize(
    "name",
    [
        "step too large",
        "step too small",
        "frozen layer",
        "disconnected layer",
        "dead units",
        "badly scaled inputs",
        "spike",
    ],
)
def test_a_planted_fault_is_named_first(name):
    model, rate, data = faulty(name)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
    monitor = Monitor(model, optimizer, every=5)
    train(model, optimizer, 80, monitor, data)
    found = monitor.diagnosis()
    assert found.names[0] == name
    if name == "badly scaled inputs":
        assert "input feature, number 2, has" in found[name].sentence


def test_a_healthy_run_has_no_alarm():
    model, rate, data = faulty("")
    optimizer = torch.optim.Adam(model.parameters(), rate)
    monitor = Monitor(model, optimizer, every=5)
    train(model, optimizer, 150, monitor, data)
    assert [f.name for f in monitor.diagnosis() if f.sure != "possible"] == []


def test_the_origin_of_a_nan_is_its_operation_and_module():
    class Log(nn.Module):
        def forward(self, x):
            return torch.log(x)

    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.ModuleDict({"log": Log()})["log"], nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer, every=1)
    train(model, optimizer, 2, monitor)
    found = monitor.diagnosis()["not finite"]
    assert found.where == "the operation log in 2"
    assert found.sure == "sure"
    assert monitor.diagnosis().names[0] == "not finite"


def test_the_origin_of_what_the_weights_the_inputs_and_the_loss_break():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    x = torch.ones(2, 3)
    assert origin(model, (x,), {}) == ("", "")
    assert "inputs" in origin(model, (x * math.nan,), {})[1]
    with torch.no_grad():
        model[1].bias.fill_(math.inf)
    assert "1.bias" in origin(model, (x,), {})[1]
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer, every=1)
    loss = (model(x) - model(x)).mean().sqrt() / 0 * 0
    monitor(loss)
    assert "the loss" in monitor.diagnosis()["not finite"].where


def test_effective_rank_of_known_spectra():
    assert effective_rank(torch.randn(100, 6) @ torch.diag(torch.tensor([1.0, 1, 1, 0, 0, 0]))) == pytest.approx(
        0.5, 0.03
    )
    q = torch.linalg.qr(torch.randn(50, 8) - torch.randn(50, 8).mean(0))[0]
    centered = torch.linalg.qr(q - q.mean(0))[0]
    assert effective_rank(centered) == pytest.approx(1.0, abs=0.02)
    assert effective_rank(torch.ones(20, 6)) == 0.0


def test_what_cannot_be_watched_is_refused_by_name():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module"):
        check(lambda x: x, optimizer)
    with pytest.raises(TypeError, match=r"optimizer: expected a torch\.optim\.Optimizer"):
        check(model, 0.1)
    with pytest.raises(ValueError, match="none of them; was the model copied"):
        Monitor(net(), optimizer)
    with pytest.raises(ValueError, match="every"):
        Monitor(model, optimizer, every=0)
    with pytest.raises(ValueError, match="loss: expected a single number, got shape"):
        Monitor(model, optimizer)(torch.ones(3))


def test_a_closure_gives_the_numbers_of_the_same_step_without_one():
    results = []
    for closed in (False, True):
        torch.manual_seed(2)
        model = net()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        monitor = Monitor(model, optimizer, every=2)
        for _ in range(12):
            x, y = batch()

            def closure(x=x, y=y, model=model, optimizer=optimizer):
                optimizer.zero_grad()
                loss = (model(x) - y).square().mean()
                loss.backward()
                return loss

            loss = optimizer.step(closure) if closed else closure()
            if not closed:
                optimizer.step()
            monitor(loss)
        results.append(monitor.signs())
    for name, curve in results[0].curves.items():
        np.testing.assert_allclose(results[1].curves[name], curve, rtol=1e-6)
    assert results[0].numbers == pytest.approx(results[1].numbers)


def test_a_unit_is_dead_if_it_sleeps_through_several_batches():
    """A rectifier that passes every other batch, and one that passes none."""
    model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.0], [-1.0]]))
        model[0].bias.copy_(torch.tensor([5.0, -50.0, 0.0]))
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    monitor = Monitor(model, optimizer, every=1)
    for step in range(6):
        x = (-1) ** step * torch.rand(16, 1)
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor(loss)
    layer = monitor.signs().layers["1"]
    assert layer.dead == pytest.approx(1 / 3)
    assert layer.first_dead == pytest.approx(2 / 3)


class Clock:
    """Seconds that pass where a test says so: in steps, and in what a monitor measures."""

    def __init__(self, monkeypatch, **costs: float):
        self.now = self.own = 0.0
        for name, seconds in costs.items():
            monkeypatch.setattr(f"attractor.diagnosis.torch.{name}", self.taking(seconds, name))

    def taking(self, seconds: float, name: str):
        inner = getattr(attractor.diagnosis.torch, name)

        def outer(*args):
            self.now, self.own = self.now + seconds, self.own + seconds
            return inner(*args)

        return outer

    def __call__(self) -> float:
        return self.now


COSTS = {"_size": 4e-5, "first_tensor": 1e-5, "input_signs": 5e-4, "numbers": 1e-4, "lengths": 1e-4}


@pytest.mark.parametrize(("step", "steps"), [(2e-2, 250), (2e-3, 1000), (3e-4, 1000), (5e-5, 1000)])
def test_it_keeps_its_share_however_short_the_steps_are(step, steps, monkeypatch):
    clock, model = Clock(monkeypatch, **COSTS), net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    monitor = Monitor(model, optimizer, clock=clock)
    x, y = batch()
    for i in range(steps):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.now += step
        monitor(loss)
        clock.own *= i > 0  # the first look apart
    assert clock.own < 0.05 * clock.now + 2e-3  # a look and a loan ahead at most
    assert clock.own > 0.01 * clock.now
    assert monitor.looks >= 2
    losses = monitor.signs().curves["loss"]
    assert len(losses) == steps if step > 2e-3 else len(losses) > 100


def test_a_jump_of_the_loss_is_measured_where_there_was_no_time_for_the_size_of_inputs(monkeypatch):
    clock, model = Clock(monkeypatch, **COSTS | {"_size": 2e-4}), net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    monitor = Monitor(model, optimizer, clock=clock)
    for i in range(160):
        x, y = batch()
        x, y = (1000 * x, 1000 * y) if i == 150 else (x, y)
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.now += 1e-3
        monitor(loss)
    sizes = monitor.signs().curves["input size"]
    assert np.isnan(sizes).mean() > 0.5
    assert sizes[150] > 100


def test_a_map_of_one_number_has_no_rank_to_lose():
    model = nn.Sequential(nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, 6), nn.Linear(6, 48))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    monitor = Monitor(model, optimizer, every=1)
    loss = model(torch.randn(64, 1)).square().mean()
    loss.backward()
    optimizer.step()
    monitor(loss)
    layers = monitor.signs().layers
    assert math.isnan(layers["0"].rank)
    assert layers["3"].rank > 0.1  # of six dimensions, not of 48


def test_what_the_outputs_of_a_map_are_made_of():
    """Of all groups of a convolution, and of a transposed one's inputs."""
    maps = [nn.Linear(5, 9), nn.Conv2d(6, 9, 2), nn.Conv2d(6, 9, 2, groups=3), nn.ConvTranspose2d(6, 9, 2, groups=3)]
    assert [_inputs(m) for m in maps] == [5, 24, 24, 24]


def test_rare_rows_of_a_table_are_no_noise():
    """The noise scale, and the least that it may be as well, are those of the other layer's gradients alone."""
    model = nn.Sequential(nn.Embedding(500, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    monitor, gradients = Monitor(model, optimizer, every=1), []
    for _ in range(20):
        loss = (model(torch.randint(0, 500, (64,))) - 3 - 3 * torch.randn(64, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        gradients.append(torch.cat([p.grad.reshape(-1).double() for p in model[1].parameters()]))
        optimizer.step()
        monitor(loss)
    pairs = [float(2 * a @ b / (a @ a + b @ b)) for a, b in itertools.pairwise(gradients)]
    half = np.asarray(pairs[: len(pairs) // 2])  # of a run, for later there is noise alone
    share, most = half.mean(), half.mean() + 2 * half.std(ddof=1) / np.sqrt(len(half))
    assert 0 < share < most < 1
    found = monitor.signs().numbers
    assert found["noise scale"] == pytest.approx(64 * (1 - share) / share, rel=1e-4)
    assert found["least noise scale"] == pytest.approx(64 * (1 - most) / most, rel=1e-4)
