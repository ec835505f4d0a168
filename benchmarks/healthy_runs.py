"""Forty-five healthy runs, of other kinds than `faulty_programs`: is any of them accused?

    python benchmarks/healthy_runs.py develop             # the twelve that rules may be changed for
    python benchmarks/healthy_runs.py judge               # the twelve that judged first; since then, changed for, too
    python benchmarks/healthy_runs.py more                # the twenty-one that rules may not be changed for
    python benchmarks/healthy_runs.py develop --learning  # what each gains, without a monitor

They were written before the rules were changed, each to learn by settings that a practitioner would choose: warm-ups
and decaying rates, dropout, rare classes, few examples a step, targets with noise, plateaus that end. A run counts as
healthy if it reaches what its `Healthy.target` says, which is checked before any rule looks at it.
"""

import argparse
import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import healthy_more as more
import numpy as np
import torch
from faulty_programs import Net, Program, Residual, digits, train
from planted_faults import ADVICE, listen, ours
from sklearn.datasets import load_breast_cancer, load_wine, make_friedman1
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

AdamW, Adam, SGD = torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD
_momentum = functools.partial(SGD, momentum=0.9)
_nesterov = functools.partial(SGD, momentum=0.9, nesterov=True)
_decayed = functools.partial(AdamW, weight_decay=0.05)

TEXT = (
    "We hold these truths to be self-evident, that all men are created equal, that they are endowed by their Creator "
    "with certain unalienable Rights, that among these are Life, Liberty and the pursuit of Happiness. That to secure "
    "these rights, Governments are instituted among Men, deriving their just powers from the consent of the governed, "
    "That whenever any Form of Government becomes destructive of these ends, it is the Right of the People to alter or "
    "to abolish it, and to institute new Government, laying its foundation on such principles and organizing its "
    "powers in such form, as to them shall seem most likely to effect their Safety and Happiness. "
) * 3


@dataclass
class Healthy:
    """A run that learns.

    Attributes:
        make: Makes the program.
        target: What its loss falls below: the mean of the last tenth.
    """

    make: Callable[[], Program]
    target: float


def warm(steps: int, total: int) -> Callable[[torch.optim.Optimizer], Any]:
    """A linear warm-up, then a cosine to zero."""

    def factor(step: int) -> float:
        later = (step - steps) / (total - steps)
        return (step + 1) / steps if step < steps else 0.5 * (1 + math.cos(math.pi * min(later, 1.0)))

    return lambda optimizer: lr_scheduler.LambdaLR(optimizer, factor)


def steps_of(every: int, gamma: float) -> Callable[[torch.optim.Optimizer], Any]:
    """The rate falls by a factor every so many steps."""
    return lambda optimizer: lr_scheduler.StepLR(optimizer, every, gamma)


def standardized(load: Callable) -> tuple[Tensor, Tensor]:
    """One of scikit-learn's tables."""
    x, y = load(return_X_y=True)
    return torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32), torch.tensor(y)


def images() -> tuple[Tensor, Tensor]:
    """Digits with a channel."""
    x, y = digits()
    return x.reshape(-1, 1, 8, 8), y


def characters(length: int) -> tuple[Tensor, Tensor, int]:
    """Pieces of a text, the same a letter later, and how many letters there are."""
    letters = sorted(set(TEXT))
    codes = torch.tensor([letters.index(c) for c in TEXT])
    windows = codes.unfold(0, length + 1, 3)
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous(), len(letters)


def entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of classes."""
    return F.cross_entropy(model(x), y)


def binary(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of two classes."""
    return F.binary_cross_entropy_with_logits(model(x)[:, 0], y.float())


def squared(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of a regression."""
    return F.mse_loss(model(x), y)


def next_letter(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Of a language model."""
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


class Tokens(nn.Module):
    """Letters with places, for a transformer."""

    def __init__(self, letters: int, width: int, length: int):
        super().__init__()
        self.letter, self.place = nn.Embedding(letters, width), nn.Embedding(length, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.letter(x) + self.place(torch.arange(x.shape[1]))


class Causal(nn.Module):
    """A layer of a transformer that does not look ahead."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, "gelu", batch_first=True, norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.layer(x, src_mask=mask, is_causal=True)


class Recurrent(nn.Module):
    """A recurrent network: all its outputs, or the last one."""

    def __init__(self, net: nn.RNNBase, last: bool):
        super().__init__()
        self.net, self.last = net, last

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)[0]
        return out[:, -1] if self.last else out


# The twelve to develop on.


def wine() -> Program:
    """A perceptron with tanh on a table, by Nesterov's method with a cosine."""
    net = Net(nn.Sequential(nn.Linear(13, 32), nn.Tanh()), nn.Linear(32, 3))
    return Program(net, standardized(load_wine), entropy, 0.05, _nesterov, 32, schedule=warm(1, 300))


def cancer() -> Program:
    """Two classes, with dropout, by Adam with a rate that falls in steps."""
    body = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3))
    net = Net(body, nn.Linear(32, 1))
    return Program(net, standardized(load_breast_cancer), binary, 2e-3, Adam, 64, schedule=steps_of(100, 0.3))


def plain_conv() -> Program:
    """Convolutions without normalization, by momentum with a warm-up and a cosine."""
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.Flatten(),
    )  # fmt: skip
    return Program(Net(body, nn.Linear(512, 10)), images(), entropy, 0.05, _momentum, 32, schedule=warm(30, 300))


def rare_class() -> Program:
    """One digit against all others: a tenth of the examples."""
    x, y = digits()
    body = nn.Sequential(nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU())
    return Program(Net(body, nn.Linear(32, 1)), (x, (y == 8).long()), binary, 1e-3, AdamW, 64)


def counting() -> Program:
    """A gated recurrent network that tells which of two symbols was the more frequent, by Adam with a warm-up."""
    random = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (2000, 11), generator=random)
    y = (x.sum(1) > 5).long()
    body = Recurrent(nn.GRU(2, 32, batch_first=True), last=True)
    data = F.one_hot(x, 2).float(), y
    return Program(Net(body, nn.Linear(32, 2)), data, entropy, 3e-3, Adam, 64, schedule=warm(50, 400), steps=400)


def letters() -> Program:
    """A small causal transformer on letters, by AdamW with a warm-up and a cosine."""
    x, y, n = characters(24)
    body = nn.Sequential(Tokens(n, 48, 24), Causal(48, 0.1), Causal(48, 0.1), nn.LayerNorm(48))
    data = x, y
    return Program(
        Net(body, nn.Linear(48, n)), data, next_letter, 3e-3, _decayed, 16, schedule=warm(40, 500), steps=500
    )


def linear() -> Program:
    """A linear regression with as much noise as signal, by plain gradient descent."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1000, 12))
    y = x @ random.normal(size=(12, 1)) / math.sqrt(12) + random.normal(size=(1000, 1))
    data = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    net = Net(nn.Identity(), nn.Linear(12, 1))
    with torch.no_grad():
        net.head.bias.fill_(1.0)  # pyright: ignore[reportCallIssue]
    return Program(net, data, squared, 0.03, SGD, 32)


def few() -> Program:
    """Eight examples a step, by momentum."""
    body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    return Program(Net(body, nn.Linear(32, 10)), digits(), entropy, 5e-3, _momentum, 8, steps=500)


def deep_linear() -> Program:
    """A deep linear network from small weights: a plateau, and a fall."""
    random = np.random.default_rng(1)
    x = random.normal(size=(1000, 8))
    y = x @ random.normal(size=(8, 3))
    layers = [nn.Linear(8, 16, bias=False), nn.Linear(16, 16, bias=False)]
    head = nn.Linear(16, 3, bias=False)
    for layer in (*layers, head):
        nn.init.normal_(layer.weight, std=0.06)
    data = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    return Program(Net(nn.Sequential(*layers), head), data, squared, 0.03, _momentum, 64)


class Ratings(nn.Module):
    """Vectors of users and of films."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.film = nn.Embedding(120, 8), nn.Embedding(80, 8)
        for table in (self.user, self.film):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.user(x[:, 0]) * self.film(x[:, 1])


def recommender() -> Program:
    """A factorization of a table of ratings, by Adam."""
    random = np.random.default_rng(2)
    users, films = random.normal(size=(120, 3)), random.normal(size=(80, 3))
    pairs = np.stack([random.integers(0, 120, 5000), random.integers(0, 80, 5000)], 1)
    y = (users[pairs[:, 0]] * films[pairs[:, 1]]).sum(1, keepdims=True) + 0.3 * random.normal(size=(5000, 1))
    net = Net(Ratings(), nn.Linear(8, 1))
    return Program(net, (torch.tensor(pairs), torch.tensor(y, dtype=torch.float32)), squared, 0.02, Adam, 128)


class Gaussian(nn.Module):
    """A mean and a log variance."""

    def __init__(self, width: int):
        super().__init__()
        self.mean, self.log = nn.Linear(width, 1), nn.Linear(width, 1)
        self.in_features = width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.mean(x), self.log(x)], 1)


def likelihood() -> Program:
    """A regression that tells its own noise: a loss that falls below zero."""
    random = np.random.default_rng(3)
    x = random.uniform(-2, 2, (1500, 1))
    y = np.sin(2 * x) + 0.02 * (1 + x**2) * random.normal(size=x.shape)
    body = nn.Sequential(nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh())

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        mean, log = model(x).split(1, 1)
        return 0.5 * (log + (y - mean).square() * torch.exp(-log)).mean()

    data = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    return Program(Net(body, Gaussian(48)), data, loss, 5e-3, Adam, 64, steps=500)


class Variational(nn.Module):
    """A code with noise, of its mean and deviation."""

    def __init__(self, width: int, code: int):
        super().__init__()
        self.mean, self.log = nn.Linear(width, code), nn.Linear(width, code)
        self.divergence = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        mean, log = self.mean(x), self.log(x)
        self.divergence = 0.5 * (mean.square() + log.exp() - 1 - log).sum(1).mean()
        return mean + torch.randn_like(mean) * torch.exp(log / 2)


def variational() -> Program:
    """A variational autoencoder of digits, by Adam."""
    x, _ = digits()
    body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), Variational(64, 6), nn.Linear(6, 64), nn.ReLU())

    def loss(model: Any, x: Tensor, y: Tensor) -> Tensor:
        return (model(x) - y).square().sum(1).mean() + model.body[2].divergence

    return Program(Net(body, nn.Linear(64, 64)), (x, x.clone()), loss, 2e-3, Adam, 128)


# The twelve that judge.


class Patches(nn.Module):
    """Images as patches with places, and a token for the class."""

    def __init__(self, width: int):
        super().__init__()
        self.patch = nn.Conv2d(1, width, 2, stride=2)
        self.place, self.token = nn.Parameter(0.02 * torch.randn(17, width)), nn.Parameter(0.02 * torch.randn(1, width))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), 1, -1), patches], 1) + self.place


class First(nn.Module):
    """Of the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


def vision() -> Program:
    """A vision transformer with dropout, by AdamW with a warm-up and a cosine."""
    layers = [nn.TransformerEncoderLayer(32, 4, 64, 0.1, "gelu", batch_first=True, norm_first=True) for _ in range(2)]
    net = Net(nn.Sequential(Patches(32), *layers, nn.LayerNorm(32), First()), nn.Linear(32, 10))
    return Program(net, images(), entropy, 3e-3, _decayed, 64, schedule=warm(30, 300))


def remembering() -> Program:
    """A plain recurrent network that tells the first of eight symbols, by RMSprop."""
    random = torch.Generator().manual_seed(4)
    x = torch.randint(0, 4, (2000, 8), generator=random)
    body = Recurrent(nn.RNN(4, 48, batch_first=True), last=True)
    data = F.one_hot(x, 4).float(), x[:, 0]
    return Program(Net(body, nn.Linear(48, 4)), data, entropy, 1e-3, torch.optim.RMSprop, 64, steps=400)


def cycle() -> Program:
    """A residual network, by momentum with one cycle of the rate, and label smoothing."""
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), Residual(16), nn.MaxPool2d(2), Residual(16), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )  # fmt: skip

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y, label_smoothing=0.1)

    def one(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=301)

    return Program(Net(body, nn.Linear(16, 10)), images(), loss, 0.1, _momentum, 64, schedule=one)


def rarer_class() -> Program:
    """Patients of whom one in twenty is ill, by Adam."""
    x, y = standardized(load_breast_cancer)
    ill, well = torch.nonzero(y == 0)[:18, 0], torch.nonzero(y == 1)[:, 0]
    rows = torch.cat([ill, well])
    body = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
    return Program(Net(body, nn.Linear(16, 1)), (x[rows], (y[rows] == 0).long()), binary, 1e-3, Adam, 64)


def friedman() -> Program:
    """A regression with noise, sixteen examples a step, by AdamW with a rate that falls in steps."""
    x, y = make_friedman1(1200, 10, noise=1.0, random_state=0)
    data = torch.tensor((x - 0.5) / 0.29, dtype=torch.float32), torch.tensor((y - y.mean()) / y.std())[:, None].float()
    body = nn.Sequential(nn.Linear(10, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU())
    return Program(Net(body, nn.Linear(64, 1)), data, squared, 2e-3, AdamW, 16, schedule=steps_of(150, 0.3), steps=400)


def fewest() -> Program:
    """Four examples a step, by plain gradient descent."""
    net = Net(nn.Sequential(nn.Linear(13, 24), nn.ReLU()), nn.Linear(24, 3))
    return Program(net, standardized(load_wine), entropy, 0.02, SGD, 4, steps=500)


class Square(nn.Module):
    """Of every unit."""

    def forward(self, x: Tensor) -> Tensor:
        return x.square()


def phase() -> Program:
    """The phase problem, quadratic units from small weights: a plateau, and a fall."""
    random = np.random.default_rng(5)
    x = random.normal(size=(2000, 16))
    y = (x @ random.normal(size=(16, 1)) / 4) ** 2
    layer, head = nn.Linear(16, 8, bias=False), nn.Linear(8, 1)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.constant_(head.weight, 0.5)
    data = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    return Program(Net(nn.Sequential(layer, Square()), head), data, squared, 5e-3, Adam, 64, steps=400)


def speller() -> Program:
    """A long short-term memory on letters with dropout, by Adam."""
    x, y, n = characters(20)
    body = nn.Sequential(nn.Embedding(n, 32), Recurrent(nn.LSTM(32, 64, batch_first=True), last=False), nn.Dropout(0.2))
    return Program(Net(body, nn.Linear(64, n)), (x, y), next_letter, 5e-3, Adam, 32)


def denoiser() -> Program:
    """Convolutions down and up that take noise off digits, by Adam with a rate that decays."""
    x, _ = images()
    noisy = x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(6))
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.LeakyReLU(0.1), nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.LeakyReLU(0.1),
    )  # fmt: skip
    head: Any = nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1)
    decay = lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.995)  # noqa: E731
    return Program(Net(body, head), (noisy, x), squared, 3e-3, Adam, 64, schedule=decay)


def contrastive() -> Program:
    """Two views of a digit are to find each other among those of the batch, by Adam."""
    x, _ = digits()

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        one, two = (F.normalize(model(x + 0.3 * torch.randn_like(x))) for _ in range(2))
        return F.cross_entropy(one @ two.T / 0.2, torch.arange(len(x)))

    body = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU())
    return Program(Net(body, nn.Linear(96, 16)), (x, x.clone()), loss, 1e-3, Adam, 64)


class Largest(nn.Module):
    """Over the points of a set."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(1)


def sets() -> Program:
    """A network of sets, with layer normalization, that tells how far apart points lie, by momentum."""
    random = np.random.default_rng(7)
    x = random.normal(size=(1500, 12, 2))
    y = (x[..., 0].max(1) - x[..., 0].min(1))[:, None]
    body = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), Largest(), nn.LayerNorm(32), nn.ReLU())
    data = torch.tensor(x, dtype=torch.float32), torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)
    return Program(Net(body, nn.Linear(32, 1)), data, squared, 0.01, _momentum, 64)


class Mix(nn.Module):
    """A perceptron over the rows of digits, then one over their columns."""

    def __init__(self, rows: int, width: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.across, self.along = (
            nn.Sequential(nn.Linear(n, 2 * n), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * n, n)) for n in (rows, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.along(self.norms[1](x))


def mixer() -> Program:
    """A mixer of rows and columns with dropout, many examples a step, by AdamW."""
    x, y = digits()
    body = nn.Sequential(nn.Linear(8, 24), Mix(8, 24), Mix(8, 24), nn.LayerNorm(24), nn.Flatten())
    return Program(Net(body, nn.Linear(192, 10)), (x.reshape(-1, 8, 8), y), entropy, 2e-3, _decayed, 256)


DEVELOP = {
    "wine, tanh": Healthy(wine, 0.1),
    "cancer, dropout": Healthy(cancer, 0.2),
    "convolutions, no norm": Healthy(plain_conv, 0.3),
    "rare class": Healthy(rare_class, 0.1),
    "gated recurrent": Healthy(counting, 0.3),
    "causal transformer": Healthy(letters, 1.5),
    "noisy linear": Healthy(linear, 1.3),
    "eight a step": Healthy(few, 0.4),
    "deep linear": Healthy(deep_linear, 0.5),
    "recommender": Healthy(recommender, 1.0),
    "negative likelihood": Healthy(likelihood, -1.0),
    "variational": Healthy(variational, 35.0),
}
JUDGE = {
    "vision transformer": Healthy(vision, 0.5),
    "plain recurrent": Healthy(remembering, 0.5),
    "one cycle, smoothed": Healthy(cycle, 0.8),
    "rarer class": Healthy(rarer_class, 0.1),
    "friedman": Healthy(friedman, 0.3),
    "four a step": Healthy(fewest, 0.3),
    "phase problem": Healthy(phase, 0.5),
    "long short-term memory": Healthy(speller, 1.5),
    "denoiser": Healthy(denoiser, 0.4),
    "contrastive": Healthy(contrastive, 1.5),
    "sets": Healthy(sets, 0.3),
    "mixer": Healthy(mixer, 0.3),
}
MORE = {
    "softmax regression": Healthy(more.softmax, 0.3),
    "irises": Healthy(more.flowers, 0.2),
    "moons": Healthy(more.moons, 0.15),
    "spirals": Healthy(more.spirals, 0.3),
    "picture": Healthy(more.picture, 0.3),
    "diffusion": Healthy(more.diffusion, 0.6),
    "normalizing flow": Healthy(more.flow, 0.7),
    "discs": Healthy(more.discs, 0.15),
    "sorting": Healthy(more.sorting, 0.5),
    "neighbors": Healthy(more.neighbors, 0.6),
    "temporal differences": Healthy(more.values, 0.15),
    "experts": Healthy(more.mixture, 0.35),
    "graph": Healthy(more.graph, 0.7),
    "triplets": Healthy(more.triplets, 0.2),
    "quantile": Healthy(more.quantile, 0.28),
    "counts": Healthy(more.counts, 0.5),
    "forecast": Healthy(more.forecast, 0.06),
    "distilled": Healthy(more.distilled, 0.2),
    "stream": Healthy(more.stream, 0.1),
    "twelve layers": Healthy(more.deep, 0.2),
    "bandit": Healthy(more.bandit, 0.7),
}
SETS = {"develop": DEVELOP, "judge": JUDGE, "more": MORE}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=list(SETS))
    parser.add_argument("--learning", action="store_true", help="losses, without a monitor")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    loud = 0
    for i, (name, run) in enumerate(SETS[args.which].items()):
        if args.learning:
            torch.manual_seed(i)
            losses = train(run.make(), seed=i)
            end = float(np.mean(losses[-max(len(losses) // 10, 1) :]))
            print(
                f"{name:24} {losses[0]:8.3f} to {end:8.3f}, {'learns' if end < run.target else 'DOES NOT'}", flush=True
            )
            continue
        said = listen(ours, run.make, None, seed=i)
        alarms = [title for title, _, alarm in said if alarm and title not in ADVICE]
        loud += bool(alarms)
        print(f"{name:24} {alarms or '-'}   {[title for title, _, alarm in said if not alarm]}", flush=True)
    if not args.learning:
        print(f"{args.which}: alarms in {loud} of {len(SETS[args.which])} healthy runs")


if __name__ == "__main__":
    main()
