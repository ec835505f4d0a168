"""Eight small PyTorch programs that learn, and twelve mistakes that can be planted into each of them."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn

STEPS = 300


@dataclass
class Program:
    """A training program in parts, so that a mistake can be made in any of them.

    Attributes:
        model: With a ``body`` and a ``head``.
        data: Inputs and targets, a row an example.
        loss: Of the model on a batch of them.
        rate: A learning rate that works.
        optimizer: Makes the optimizer.
        batch: Examples a step.
        units: Biases of units that can die.
        differentiated: Whether the loss needs derivatives by the inputs.
        schedule: Makes what moves the rate after every step.
        steps: A run's.
    """

    model: Any
    data: tuple[Tensor, Tensor]
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor]
    rate: float = 1e-3
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    batch: int = 64
    units: Callable[[Any], list[Tensor]] = lambda model: []
    differentiated: bool = False
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None
    steps: int = STEPS

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Without end, every example once an epoch."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            for rows in torch.randperm(len(self.data[0]), generator=generator).split(self.batch):
                if len(rows) == self.batch:
                    yield self.data[0][rows], self.data[1][rows]


class Net(nn.Module):
    """A body that makes features, and a head."""

    def __init__(self, body: nn.Module, head: nn.Module):
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """Images as rows, standardized, and their labels."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32)
    return (x - x.mean()) / x.std(), torch.tensor(labels)


def _classify(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(x), y)


def _regress(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x) - y).square().mean()


def mlp() -> Program:
    """A perceptron with two hidden layers, on digits."""
    body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    return Program(Net(body, nn.Linear(64, 10)), digits(), _classify, units=lambda m: [m.body[2].bias])


def conv() -> Program:
    """A convolutional network with batch normalization, on digits."""
    x, y = digits()
    body = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
    )  # fmt: skip
    head = nn.Linear(256, 10)
    return Program(Net(body, head), (x.reshape(-1, 1, 8, 8), y), _classify, units=lambda m: [m.body[5].bias])


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(x + self.norms[1](self.second(inside)))


def resnet() -> Program:
    """A residual network, on digits, by SGD with momentum."""
    x, y = digits()
    body = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        Residual(12),
        nn.MaxPool2d(2),
        Residual(12),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )

    def sgd(params: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr, momentum=0.9, weight_decay=1e-4)

    data = x.reshape(-1, 1, 8, 8), y
    return Program(Net(body, nn.Linear(48, 10)), data, _classify, 0.03, sgd, units=lambda m: [m.body[1].norms[0].bias])


class Mean(nn.Module):
    """Over the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def transformer() -> Program:
    """A transformer whose tokens are the rows of digits, by AdamW."""
    x, y = digits()
    layers = [nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True) for _ in range(2)]
    body = nn.Sequential(nn.Linear(8, 32), *layers, nn.LayerNorm(32), Mean())
    data = x.reshape(-1, 8, 8), y
    units = lambda m: [m.body[i].linear1.bias for i in (1, 2)]  # noqa: E731
    return Program(Net(body, nn.Linear(32, 10)), data, _classify, 1e-3, torch.optim.AdamW, units=units)


class Last(nn.Module):
    """The state of a recurrent network after the last token."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.lstm = nn.LSTM(inputs, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0][:, -1]


def lstm() -> Program:
    """A recurrent network that hears a noisy tone and tells its frequency."""
    random = np.random.default_rng(0)
    frequency, phase = random.uniform(0.5, 2.0, 1500), random.uniform(0, 2 * np.pi, 1500)
    time = np.linspace(0, 2 * np.pi, 16)
    tone = np.sin(frequency[:, None] * time + phase[:, None]) + 0.05 * random.normal(size=(1500, 16))
    x = torch.tensor(np.stack([tone, np.gradient(tone, axis=1)], 2), dtype=torch.float32)
    y = torch.tensor((frequency - 1.25)[:, None] / 0.43, dtype=torch.float32)

    def gates(model: Any) -> list[Tensor]:
        return [model.body.lstm.bias_ih_l0[-32:]]  # of the output gate

    return Program(Net(Last(2, 32), nn.Linear(32, 1)), (x / x.std((0, 1)), y), _regress, 3e-3, units=gates)


def autoencoder() -> Program:
    """An autoencoder of digits with a code of 8 numbers."""
    x, _ = digits()
    body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8), nn.Linear(8, 64), nn.ReLU())
    return Program(Net(body, nn.Linear(64, 64)), (x, x.clone()), _regress, 2e-3, units=lambda m: [m.body[0].bias])


def pinn() -> Program:
    """A physics-informed network for u'' = f on [-1, 1] with u = 0 at the ends."""
    random = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(2000, 1, generator=random) - 1
    source = -(math.pi**2) * torch.sin(math.pi * x) / 4

    def residual(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x = x.requires_grad_()
        u = model(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        ends = model(torch.tensor([[-1.0], [1.0]]))
        return (bend - y).square().mean() + 10 * ends.square().mean()

    body = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
    net = Net(body, nn.Linear(32, 1))
    return Program(net, (x, source), residual, 3e-3, units=lambda m: [m.body[2].bias], differentiated=True)


def actor_critic() -> Program:
    """An actor with a critic that push a mass towards the origin: one-step returns from states drawn at random."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 2, generator=random)

    def loss(model: nn.Module, seen: Tensor, state: Tensor) -> Tensor:
        logits, value = model(seen).split([3, 1], 1)
        chosen = torch.distributions.Categorical(logits=logits)
        action = torch.multinomial(chosen.probs.detach(), 1, generator=random)[:, 0]
        moved = torch.stack([state[:, 0] + 0.5 * state[:, 1], state[:, 1] + action - 1], 1)
        reward = -moved.square().sum(1) / 4
        gain = (reward - value[:, 0]).detach()
        policy = -(chosen.log_prob(action) * gain).mean()
        return 1 + policy + (reward - value[:, 0]).square().mean() - 0.01 * chosen.entropy().mean()

    body = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    return Program(Net(body, nn.Linear(64, 4)), (x, x.clone()), loss, 3e-3, units=lambda m: [m.body[2].bias])


def wave() -> Program:
    """Convolutions in time with group normalization, by SGD with momentum, that hear the tone."""
    x, y = lstm().data
    body = nn.Sequential(
        nn.Conv1d(2, 16, 5, padding=2), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv1d(16, 16, 5, padding=2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(4), nn.Flatten(),
    )  # fmt: skip

    def sgd(params: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr, momentum=0.9)

    data = x.movedim(1, 2).contiguous(), y
    return Program(Net(body, nn.Linear(64, 1)), data, _regress, 0.02, sgd, units=lambda m: [m.body[0].bias])


class Mixed(nn.Module):
    """A perceptron beside the identity, after a normalization."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.inner, self.outer = (
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.Linear(2 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(nn.functional.gelu(self.inner(self.norm(x))))


def tabular() -> Program:
    """Residual perceptrons on a table of patients, by AdamW: a regression with few data and much noise."""
    x, y = (np.asarray(a) for a in load_diabetes(return_X_y=True))
    x, y = (torch.tensor(a, dtype=torch.float32) for a in (x / x.std(0), (y - y.mean())[:, None] / y.std()))
    body = nn.Sequential(nn.Linear(10, 32), Mixed(32), Mixed(32), nn.LayerNorm(32))
    units = lambda m: [m.body[i].inner.bias for i in (1, 2)]  # noqa: E731
    return Program(Net(body, nn.Linear(32, 1)), (x, y), _regress, 1e-3, torch.optim.AdamW, units=units)


# Every other one of the list; thresholds may be chosen on the first four only.
FITTED = {"perceptron": mlp, "residual network": resnet, "recurrent network": lstm, "physics-informed": pinn}
HELD_OUT = {
    "convolutions, batch norm": conv, "transformer": transformer, "autoencoder": autoencoder,
    "actor-critic": actor_critic,
}  # fmt: skip


def _setting(rate: float, optimizer: Callable[..., torch.optim.Optimizer], batch: int) -> Callable[[Program], None]:
    def change(program: Program) -> None:
        program.rate, program.optimizer, program.batch = rate, optimizer, batch

    return change


_momentum = functools.partial(torch.optim.SGD, momentum=0.9)
_decayed = functools.partial(torch.optim.AdamW, weight_decay=0.05)
# Healthy runs of the programs held out, with other settings that a practitioner would use; written before they were
# judged, and no threshold was moved since.
SETTINGS: dict[str, list[Callable[[Program], None]]] = {
    "convolutions, batch norm": [_setting(0.05, _momentum, 64), _setting(3e-3, _decayed, 128)],
    "transformer": [_setting(2e-3, torch.optim.Adam, 32), _setting(5e-4, _decayed, 64)],
    "autoencoder": [_setting(5e-3, torch.optim.Adam, 128), _setting(1e-3, torch.optim.RMSprop, 64)],
    "actor-critic": [_setting(1e-3, torch.optim.Adam, 128), _setting(3e-3, _decayed, 256)],
}
LATER = {"convolutions in time": wave, "residual perceptron": tabular}  # written when the rules were done


@dataclass
class Fault:
    """A mistake.

    Attributes:
        plant: Makes it, in place.
        names: The findings that name it.
        said: What the finding has to say besides.
    """

    plant: Callable[[Program], None]
    names: tuple[str, ...]
    said: str = ""


def _rate(factor: float) -> Callable[[Program], None]:
    def plant(program: Program) -> None:
        program.rate *= factor

    return plant


def _width(program: Program) -> int:
    return program.model.head.in_features


def _stack(make: Callable[[int], list[nn.Module]]) -> Callable[[Program], None]:
    """Six more layers before the head."""

    def plant(program: Program) -> None:
        layers = [m for _ in range(6) for m in make(_width(program))]
        program.model.body = nn.Sequential(program.model.body, *layers)

    return plant


def _wide(width: int) -> list[nn.Module]:
    layer = nn.Linear(width, width)
    nn.init.normal_(layer.weight, std=3 / math.sqrt(width))
    return [layer, nn.ReLU()]


def _dead(program: Program) -> None:
    with torch.no_grad():
        for bias in program.units(program.model):
            bias.copy_(torch.full_like(bias, -20.0))


def _frozen(program: Program) -> None:
    """The first layer with weights: set to be kept while something else was tried, and forgotten."""
    layer = next(m for m in program.model.body.modules() if list(m.parameters(recurse=False)))
    for p in layer.parameters():
        p.requires_grad_(False)


class _Detach(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class _Constant(nn.Module):
    """A layer whose weights are taken through ``.data``."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.functional_call(self.layer, {n: p.detach() for n, p in self.layer.named_parameters()}, x)


def _disconnected(program: Program) -> None:
    body = program.model.body
    if program.differentiated:  # a detach() would be an error there
        program.model.body = nn.Sequential(_Constant(body[0]), *body[1:])
    elif isinstance(body, nn.Sequential):
        layers = list(body.children())
        middle = max(len(layers) - 2, 1)
        program.model.body = nn.Sequential(*layers[:middle], _Detach(), *layers[middle:])
    else:
        program.model.body = nn.Sequential(body, _Detach())


def _unpaired(program: Program) -> None:
    """Inputs were shuffled, targets were not."""
    x, y = program.data
    program.data = x, y[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))]


def _unscaled(program: Program) -> None:
    """Raw units: pixels and coordinates of a hundred, one sensor in thousandths."""
    x, y = program.data
    factors = torch.tensor([1000.0, *[1.0] * (x.shape[2] - 1)]) if x.ndim == 3 else 100.0
    program.data = x * factors, y


class _Entropy(nn.Module):
    """Adds features times their logarithms, without the floor under the logarithm from some step on."""

    def __init__(self, since: int):
        super().__init__()
        self.since, self.calls = since, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        part = torch.relu(x)
        floor = 0.0 if self.calls > self.since else 1e-3
        return x + 0.01 * part * torch.log(part.clamp(min=floor))


def _nan(program: Program) -> None:
    program.model.body = nn.Sequential(program.model.body, _Entropy(80))


def _bad_batch(program: Program) -> None:
    """One batch of a run is garbage: inputs a thousand times too large."""
    inner = program.batches

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for i, (x, y) in enumerate(inner(seed)):
            yield (1000 * x if i == 180 else x), y

    program.batches = batches


def _tiny_batch(program: Program) -> None:
    program.batch = 2


FAULTS = {
    "step too large": Fault(_rate(300.0), ("step too large",)),
    "step too small": Fault(_rate(1e-3), ("step too small",)),
    "vanishing gradients": Fault(
        _stack(lambda width: [nn.Linear(width, width), nn.Sigmoid()]), ("vanishing gradients",)
    ),
    "exploding gradients": Fault(_stack(_wide), ("exploding gradients",)),
    "dead units": Fault(_dead, ("dead units", "saturated units")),
    "frozen layer": Fault(_frozen, ("frozen layer",)),
    "disconnected layer": Fault(_disconnected, ("disconnected layer",)),
    "unpaired targets": Fault(_unpaired, ("targets unrelated to inputs", "suspect labels")),
    "unscaled inputs": Fault(_unscaled, ("badly scaled inputs",)),
    "logarithm of zero": Fault(_nan, ("not finite",), "log"),
    "bad batch": Fault(_bad_batch, ("spike",), "odd"),
    "tiny batch": Fault(_tiny_batch, ("noisy gradients",)),
}


def train(program: Program, seed: int, watch: Callable | None = None) -> list[float]:
    """Train, calling ``watch(model, optimizer)`` once and what it gives with the loss after every step."""
    own = [p for p in program.model.parameters() if p.requires_grad]
    optimizer = program.optimizer(own, lr=program.rate)
    schedule = program.schedule(optimizer) if program.schedule else None
    report = watch(program.model, optimizer) if watch else None
    losses = []
    for _, (x, y) in zip(range(program.steps), program.batches(seed), strict=False):
        optimizer.zero_grad()
        loss = program.loss(program.model, x, y)
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(float(loss.detach()))
        if report is not None:
            report(loss)
        if not math.isfinite(losses[-1]) and len(losses) > program.steps // 2:
            break
    return losses
