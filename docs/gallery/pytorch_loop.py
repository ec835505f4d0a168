# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Your PyTorch loop, with other optimizers
#
# The loop stays yours. It has two blanks, what makes the optimizer and the seed, and yields dicts of numbers.

# %%
import torch
from sklearn.datasets import load_digits

from attractor import Loop, compare

torch.set_num_threads(1)  # the network is small
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


def train(make_optimizer, seed):
    torch.manual_seed(seed)
    order = torch.randperm(len(labels))
    learn, validate, test = order[:1200], order[1200:1500], order[1500:]
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = make_optimizer(model.named_parameters())

    def accuracy(rows):
        return float((model(images[rows]).argmax(1) == labels[rows]).float().mean())

    for _ in range(5):
        for rows in learn.split(100):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            yield {"test_accuracy": accuracy(test), "validation_accuracy": accuracy(validate)}


# %% [markdown]
# `adamw` and `muon` are torch's own here; what torch does not have comes from attractor, over DLPack. As the loop
# records both, configurations are chosen by `validation_accuracy` and graded by `test_accuracy`.

# %%
result = compare(Loop(train), ["adamw", "muon", "lion"], seeds=4, budget=4, progress=False)
result

# %% [markdown]
# Without a comparison, any registered method is one line in a loop of yours:

# %%
from attractor.torch import optimizer

model = torch.nn.Linear(64, 10)
lion = optimizer("lion", model.named_parameters(), lr=1e-3)
for _ in range(50):
    lion.zero_grad()
    error = torch.nn.functional.cross_entropy(model(images[:500]), labels[:500])
    error.backward()
    lion.step()
print(f"cross-entropy after 50 steps: {error.item():.3f}")
