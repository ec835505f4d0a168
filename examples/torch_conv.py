"""A convolutional network in PyTorch, on handwritten digits.

attractor compare examples/torch_conv.py:train adamw muon lion --metric test_accuracy --seeds 5 --budget 8 --jobs 2
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy

from attractor import LogUniform, Loop, Uniform, compare

torch.set_num_threads(1)  # for so small a network more of them only wait for each other
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16).float().view(-1, 1, 8, 8), torch.tensor(labels)
fitted, held_out = train_test_split(range(len(labels)), test_size=0.4, random_state=0, stratify=labels)
validation, test = held_out[::2], held_out[1::2]


def train(make_optimizer, seed):
    torch.manual_seed(seed)  # the first weights and the order of the data follow from it
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = make_optimizer(model.named_parameters())
    for _ in range(4):
        for batch in torch.tensor(fitted)[torch.randperm(len(fitted))].split(64):
            optimizer.zero_grad()
            loss = cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = (model(images).argmax(1) == labels).float()
        yield {
            "loss": loss.detach(),
            "validation_accuracy": right[validation].mean(),  # chooses configurations, as its name says
            "test_accuracy": right[test].mean(),  # grades them
        }


if __name__ == "__main__":
    sgd = (torch.optim.SGD, {"lr": LogUniform(1e-2, 1.0), "momentum": Uniform(0.0, 0.95)})
    loop, methods = Loop(train, metric="test_accuracy"), {"adamw": "adamw", "sgd": sgd}
    result = compare(loop, methods, seeds=2, budget=2, label="digits")  # more of both, for an answer
    print(result)
    result.report("torch_conv.html")
