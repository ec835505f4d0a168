"""Twenty-one more healthy runs, of kinds, losses and optimizers that neither `healthy_runs` nor `faulty_programs` has.

They were written after those had been looked at, and before the rules were changed for what was seen there.
"""

import functools
import math
from typing import Any

import numpy as np
import torch
from faulty_programs import Net, Program, digits
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_sample_image, make_moons, make_swiss_roll
from torch import Tensor, nn
from torch.nn import functional as F

optim = torch.optim


def _floats(x: Any) -> Tensor:
    return torch.as_tensor(np.asarray(x), dtype=torch.float32)


def _entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def _squared(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(model(x), y)


def softmax() -> Program:
    """A softmax regression on digits, by Adagrad."""
    return Program(Net(nn.Identity(), nn.Linear(64, 10)), digits(), _entropy, 0.05, optim.Adagrad, 32)


def flowers() -> Program:
    """Irises, by Adamax, ten a step."""
    x, y = (np.asarray(a) for a in load_iris(return_X_y=True))
    body = nn.Sequential(nn.Linear(4, 16), nn.Softplus(), nn.Linear(16, 16), nn.Softplus())
    data = _floats((x - x.mean(0)) / x.std(0)), torch.as_tensor(y)
    return Program(Net(body, nn.Linear(16, 3)), data, _entropy, 0.01, optim.Adamax, 10)


def moons() -> Program:
    """Two moons that overlap, by NAdam."""
    x, y = map(np.asarray, make_moons(1500, noise=0.2, random_state=0))
    body = nn.Sequential(nn.Linear(2, 32), nn.ELU(), nn.Linear(32, 32), nn.ELU())
    data = _floats((x - x.mean(0)) / x.std(0)), torch.as_tensor(y)
    return Program(Net(body, nn.Linear(32, 2)), data, _entropy, 5e-3, optim.NAdam, 32, steps=500)


def spirals() -> Program:
    """Three spirals, by RAdam: a plateau before the classes come apart."""
    random = np.random.default_rng(0)
    radius, arm = random.uniform(0.1, 1, 1800), random.integers(0, 3, 1800)
    angle = 4 * radius + 2 * math.pi * arm / 3 + 0.1 * random.normal(size=1800)
    x = 2 * np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    body = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
    data = _floats(x), torch.as_tensor(arm)
    return Program(Net(body, nn.Linear(64, 3)), data, _entropy, 5e-3, optim.RAdam, 64, steps=500)


class Sine(nn.Module):
    """A layer with a sine, and the first weights that go with it."""

    def __init__(self, inputs: int, outputs: int, first: bool = False):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.factor = 15.0 if first else 1.0
        bound = 1 / inputs if first else math.sqrt(6 / inputs)
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.factor * self.linear(x))


def picture() -> Program:
    """A picture as a function of its coordinates, with sines, by Adam."""
    gray = np.asarray(load_sample_image("flower.jpg"), float).mean(2)[::10, ::10][:40, :60]
    rows, columns = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 60), indexing="ij")
    x, y = np.stack([rows.ravel(), columns.ravel()], 1), ((gray - gray.mean()) / gray.std()).reshape(-1, 1)
    body = nn.Sequential(Sine(2, 64, first=True), Sine(64, 64), Sine(64, 64))
    return Program(Net(body, nn.Linear(64, 1)), (_floats(x), _floats(y)), _squared, 1e-3, optim.Adam, 256)


class Timed(nn.Module):
    """Noisy points and how noisy they are, as features."""

    def __init__(self, width: int):
        super().__init__()
        self.point, self.time = nn.Linear(2, width), nn.Linear(4, width)

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.stack([f(k * math.pi * x[:, 2]) for k in (0.5, 1.0) for f in (torch.sin, torch.cos)], 1)
        return self.point(x[:, :2]) + self.time(waves)


def diffusion() -> Program:
    """The noise in noisy points of a swiss roll is told: a loss that stays noisy and far from zero, by AdamW."""
    points = np.asarray(make_swiss_roll(3000, noise=0.3, random_state=0)[0])[:, [0, 2]]
    points = _floats((points - points.mean(0)) / points.std(0))

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        time, noise = torch.rand(len(x), 1), torch.randn_like(x)
        level = torch.cos(0.5 * math.pi * time)
        seen = level * x + torch.sqrt(1 - level**2) * noise
        return F.mse_loss(model(torch.cat([seen, time], 1)), noise)

    body = nn.Sequential(Timed(96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU())
    return Program(Net(body, nn.Linear(96, 2)), (points, points), loss, 2e-3, optim.AdamW, 128, steps=500)


class Coupling(nn.Module):
    """Half of the numbers shift and scale the other half."""

    def __init__(self, swap: bool):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 2))
        self.swap = swap

    def forward(self, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, volume = state
        kept, moved = (x.flip(1) if self.swap else x).split(1, 1)
        scale, shift = self.inner(kept).split(1, 1)
        scale = torch.tanh(scale)
        x = torch.cat([kept, moved * scale.exp() + shift], 1)
        return (x.flip(1) if self.swap else x), volume + scale[:, 0]


class Flow(nn.Module):
    """Couplings one after another, with the logarithm of the volume."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Coupling(i % 2 == 0) for i in range(6))

    def forward(self, x: Tensor) -> Tensor:
        state = x, torch.zeros(len(x))
        for layer in self.layers:
            state = layer(state)
        return torch.cat([state[0], state[1][:, None]], 1)


def flow() -> Program:
    """A normalizing flow to two moons, by Adam with amsgrad."""
    x = np.asarray(make_moons(2000, noise=0.08, random_state=1)[0])
    x = _floats((x - x.mean(0)) / x.std(0))

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        out = model(x)
        return (0.5 * out[:, :2].square().sum(1) - out[:, 2]).mean()

    amsgrad = functools.partial(optim.Adam, amsgrad=True)
    return Program(Net(Flow(), nn.Identity()), (x, x.clone()), loss, 3e-3, amsgrad, 128)


class Hourglass(nn.Module):
    """Convolutions down and up, with a bridge."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.relu(self.down(x))
        return torch.cat([fine, F.relu(self.up(F.relu(self.deep(F.max_pool2d(fine, 2)))))], 1)


def discs() -> Program:
    """Discs in noisy images are told from their ground, a pixel at a time, by Adam: a tenth of them is disc."""
    random = np.random.default_rng(2)
    rows, columns = np.mgrid[:16, :16]
    center, radius = random.uniform(4, 12, (800, 2, 1, 1)), random.uniform(2, 4, (800, 1, 1))
    inside = ((rows - center[:, 0]) ** 2 + (columns - center[:, 1]) ** 2 < radius**2)[:, None]
    x = inside + 0.7 * random.normal(size=inside.shape)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(x), y)

    head: Any = nn.Conv2d(16, 1, 1)
    return Program(Net(Hourglass(), head), (_floats(x), _floats(inside)), loss, 3e-3, optim.Adam, 16)


class Placed(nn.Module):
    """Digits with their places."""

    def __init__(self, width: int, length: int):
        super().__init__()
        self.digit, self.place = nn.Embedding(10, width), nn.Parameter(0.1 * torch.randn(length, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.digit(x) + self.place


def sorting() -> Program:
    """A transformer, normalized after its layers, that sorts six digits, by AdamW with a warm-up."""
    x = torch.randint(0, 10, (3000, 6), generator=torch.Generator().manual_seed(3))
    layers = [nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True) for _ in range(2)]

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten())

    def warm(optimizer: optim.Optimizer) -> Any:
        return optim.lr_scheduler.LinearLR(optimizer, 0.05, 1.0, 50)

    net = Net(nn.Sequential(Placed(32, 6), *layers), nn.Linear(32, 10))
    return Program(net, (x, x.sort(1).values), loss, 2e-3, optim.AdamW, 64, schedule=warm, steps=400)


class Pairs(nn.Module):
    """Vectors of a word and of one that may stand beside it."""

    def __init__(self, words: int):
        super().__init__()
        self.word, self.beside = nn.Embedding(words, 16), nn.Embedding(words, 16)
        for table in (self.word, self.beside):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.word(x[:, 0]) * self.beside(x[:, 1])).sum(1, keepdim=True)


def neighbors() -> Program:
    """Vectors of words from whether two are neighbors, in a chain of forty words, by Adagrad."""
    random = np.random.default_rng(4)
    first = random.integers(0, 40, 6000)
    near = random.random(6000) < 0.5
    second = np.where(near, (first + random.choice([-2, -1, 1, 2], 6000)) % 40, random.integers(0, 40, 6000))

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(x)[:, 0], y)

    data = torch.as_tensor(np.stack([first, second], 1)), _floats(near)
    return Program(Net(Pairs(40), nn.Linear(1, 1)), data, loss, 0.1, optim.Adagrad, 128)


def values() -> Program:
    """The value of a random walk's states, by temporal differences and Adam, thirty-two a step."""
    random = np.random.default_rng(5)
    state = random.uniform(-1, 1, (3000, 1))
    after = np.clip(state + 0.1 * random.normal(size=state.shape), -1, 1)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            target = y.square() + 0.7 * model(y)
        return F.mse_loss(model(x), target)

    body = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
    return Program(Net(body, nn.Linear(32, 1)), (_floats(state), _floats(after)), loss, 3e-3, optim.Adam, 32, steps=400)


class Experts(nn.Module):
    """Four networks, mixed by a fifth."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(2, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(2, 24), nn.GELU(), nn.Linear(24, 8)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ne,enw->nw", self.gate(x).softmax(1), torch.stack([expert(x) for expert in self.experts]))


def mixture() -> Program:
    """A mixture of experts on a function with edges, by AdamW with other decays of its means."""
    random = np.random.default_rng(6)
    x = random.normal(size=(2000, 2))
    y = np.where(x[:, :1] > 0, np.sin(3 * x[:, 1:]), x[:, 1:] ** 2 - 1) + 0.1 * random.normal(size=(2000, 1))
    adamw = functools.partial(optim.AdamW, betas=(0.9, 0.95), weight_decay=0.1)
    return Program(Net(Experts(), nn.Linear(8, 1)), (_floats(x), _floats(y)), _squared, 1e-2, adamw, 64, steps=600)


class Convolved(nn.Module):
    """Two convolutions over a graph, of the nodes that are asked for."""

    def __init__(self, features: Tensor, graph: Tensor):
        super().__init__()
        self.first, self.second, self.drop = nn.Linear(features.shape[1], 32), nn.Linear(32, 32), nn.Dropout(0.3)
        self.register_buffer("features", features)
        self.register_buffer("graph", graph)

    def forward(self, nodes: Tensor) -> Tensor:
        graph: Any = self.graph
        hidden = self.drop(F.relu(graph @ self.first(self.features)))
        return F.relu((graph @ self.second(hidden))[nodes])


def graph() -> Program:
    """Communities of a graph from noisy features, by Adam with weight decay."""
    random = np.random.default_rng(7)
    group = random.integers(0, 4, 400)
    edges = random.random((400, 400)) < np.where(group[:, None] == group, 0.06, 0.01)
    edges = np.triu(edges, 1)
    edges = edges + edges.T + np.eye(400)
    root = edges.sum(1) ** -0.5
    features = np.eye(4)[group] @ random.normal(size=(4, 12)) + 2 * random.normal(size=(400, 12))
    body = Convolved(_floats(features), _floats(root[:, None] * edges * root))
    decayed = functools.partial(optim.Adam, weight_decay=5e-4)
    data = torch.arange(400), torch.as_tensor(group)
    return Program(Net(body, nn.Linear(32, 4)), data, _entropy, 5e-3, decayed, 100)


def triplets() -> Program:
    """Digits of a kind come nearer to each other than to another kind by a margin: a loss that comes to nothing."""
    images, labels = (np.asarray(a) for a in load_digits(return_X_y=True))
    images, random = (images - images.mean()) / images.std(), np.random.default_rng(8)
    anchor = random.integers(0, len(labels), 3000)
    kinds = [np.flatnonzero(labels == k) for k in range(10)]
    others = [np.flatnonzero(labels != k) for k in range(10)]
    same, other = (np.asarray([random.choice(group[labels[a]]) for a in anchor]) for group in (kinds, others))

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        points = model(x.flatten(0, 1)).unflatten(0, (-1, 3))
        return F.triplet_margin_loss(points[:, 0], points[:, 1], points[:, 2], margin=1.0)

    x = _floats(images[np.stack([anchor, same, other], 1)])
    body = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU())
    return Program(Net(body, nn.Linear(64, 8)), (x, x.clone()), loss, 1e-3, optim.Adam, 64)


def quantile() -> Program:
    """The upper quartile of a disease's progress, by Nesterov's method, sixteen patients a step."""
    x, y = (np.asarray(a) for a in load_diabetes(return_X_y=True))

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        missed = y - model(x)
        return torch.maximum(0.75 * missed, -0.25 * missed).mean()

    body = nn.Sequential(nn.Linear(10, 32), nn.SiLU())
    data = _floats(x / x.std(0)), _floats((y - y.mean())[:, None] / y.std())
    nesterov = functools.partial(optim.SGD, momentum=0.9, nesterov=True)
    return Program(Net(body, nn.Linear(32, 1)), data, loss, 0.02, nesterov, 16)


def counts() -> Program:
    """A regression of counts by their likelihood, by RMSprop with momentum."""
    random = np.random.default_rng(9)
    x = random.normal(size=(2000, 6))
    rate = np.exp(0.5 + 0.6 * np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * (x[:, 2] > 0))

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.poisson_nll_loss(model(x), y)

    body = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    rmsprop = functools.partial(optim.RMSprop, momentum=0.9)
    data = _floats(x), _floats(random.poisson(rate)[:, None])
    return Program(Net(body, nn.Linear(32, 1)), data, loss, 5e-4, rmsprop, 64, steps=600)


def forecast() -> Program:
    """Dilated convolutions that tell the next value of waves with noise, by AdamW."""
    random = np.random.default_rng(10)
    time = np.arange(33) + random.uniform(0, 100, (1500, 1))
    waves = np.sin(0.3 * time) + 0.5 * np.sin(0.83 * time) + 0.1 * random.normal(size=time.shape)
    layers = [
        m for i, (a, b) in enumerate([(1, 16), (16, 16), (16, 16)])
        for m in (nn.Conv1d(a, b, 3, dilation=2**i), nn.ReLU())
    ]  # fmt: skip
    net = Net(nn.Sequential(*layers, nn.Flatten()), nn.Linear(16 * 18, 1))
    return Program(net, (_floats(waves[:, None, :32]), _floats(waves[:, 32:])), _squared, 2e-3, optim.AdamW, 32)


def distilled() -> Program:
    """A small network learns what a large one thinks of points, by Adam."""
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(11)
    teacher = nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 5))
    x = torch.randn(2500, 12)
    with torch.no_grad():
        y = F.softmax(3 * teacher(x), 1)
    torch.random.set_rng_state(torch_state)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.kl_div(F.log_softmax(model(x), 1), y, reduction="batchmean")

    body = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
    return Program(Net(body, nn.Linear(48, 5)), (x, y), loss, 2e-3, optim.Adam, 64, steps=400)


def stream() -> Program:
    """A network learns another one, eight fresh examples a step, by averaged gradient descent."""
    random = np.random.default_rng(12)
    x = random.normal(size=(5000, 8))
    y = np.tanh(x @ random.normal(size=(8, 3)) / 2) @ random.normal(size=(3, 1)) + 0.1 * random.normal(size=(5000, 1))
    body = nn.Sequential(nn.Linear(8, 32), nn.Tanh())
    return Program(Net(body, nn.Linear(32, 1)), (_floats(x), _floats(y)), _squared, 0.05, optim.ASGD, 8, steps=600)


class Deep(nn.Module):
    """A perceptron beside the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def deep() -> Program:
    """Twelve residual layers on digits, by Adadelta."""
    body = nn.Sequential(nn.Linear(64, 32), *[Deep(32) for _ in range(12)], nn.LayerNorm(32))
    return Program(Net(body, nn.Linear(32, 10)), digits(), _entropy, 0.3, optim.Adadelta, 64)


def bandit() -> Program:
    """A policy for a bandit whose best arm depends on what is seen, by the gradient of sampled rewards and Adam."""
    random = torch.Generator().manual_seed(13)
    x = torch.randn(3000, 4, generator=random)
    rewards = torch.tanh(x @ torch.randn(4, 3, generator=random))

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        chosen = F.log_softmax(model(x), 1)
        arm = torch.multinomial(chosen.detach().exp(), 1, generator=random)
        gain = y.gather(1, arm) - y.mean(1, keepdim=True)
        # The reward itself is what is told; the gradient is that of its score.
        score = -(chosen.gather(1, arm) * gain).mean()
        return score - score.detach() + 1 - (chosen.detach().exp() * y).sum(1).mean()

    body = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    return Program(Net(body, nn.Linear(32, 3)), (x, rewards), loss, 2e-3, optim.Adam, 128, steps=400)
