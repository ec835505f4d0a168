"""A small transformer in PyTorch, written out, that learns to continue the prose of Python's manual.

attractor compare examples/torch_transformer.py:train adamw muon lion --target 2.3 --by seconds --jobs 2
"""

from dataclasses import dataclass
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from attractor import LogUniform, Loop, compare

torch.set_num_threads(1)  # for so small a network more of them only wait for each other
text = " ".join(" ".join(topics[name].split()) for name in ("assignment", "class", "exceptions", "import", "naming"))
alphabet = sorted(set(text))
tokens = torch.tensor([alphabet.index(c) for c in text])
fitted, held_out = tokens[: len(tokens) * 9 // 10], tokens[len(tokens) * 9 // 10 :]


@dataclass
class Config:
    vocabulary: int = len(alphabet)
    context: int = 32
    width: int = 32
    heads: int = 2
    layers: int = 2


class Block(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.heads = config.heads
        self.before_attention, self.before_mlp = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.qkv, self.out = nn.Linear(config.width, 3 * config.width), nn.Linear(config.width, config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 4 * config.width), nn.GELU(), nn.Linear(4 * config.width, config.width)
        )

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.before_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(scaled_dot_product_attention(*qkv, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.mlp(self.before_mlp(x))


class LanguageModel(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.embed, self.place = (nn.Embedding(n, config.width) for n in (config.vocabulary, config.context))
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.head = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, config.vocabulary))

    def forward(self, windows: Tensor) -> Tensor:
        """The loss on windows ``(batch, context + 1)`` of tokens."""
        seen, following = windows[:, :-1], windows[:, 1:]
        logits = self.head(self.blocks(self.embed(seen) + self.place.weight[: seen.shape[1]]))
        return cross_entropy(logits.flatten(0, 1), following.flatten())


def train(make_optimizer, seed, steps=40):
    torch.manual_seed(seed)
    config = Config()
    model = LanguageModel(config)
    optimizer = make_optimizer(model.named_parameters())
    windows, judged = (part.unfold(0, config.context + 1, 8) for part in (fitted, held_out))
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss = model(windows[torch.randint(len(windows), (16,))])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 0:
            with torch.no_grad():
                yield {"step": step, "validation_loss": model(judged[::4]), "loss": loss}


if __name__ == "__main__":
    sgd = (torch.optim.SGD, {"lr": LogUniform(1e-2, 3.0)})
    result = compare(Loop(train), {"adamw": "adamw", "sgd": sgd}, seeds=2, budget=2, target=3.0, label="prose")
    print(result)
    result.report("torch_transformer.html")
