"""What a step of `attractor.torch.Optimizer` costs beside torch's own, on the CPU.

The same AdamW on the same tensors; the three take turns, and the figure is the fastest round of each.

    python benchmarks/torch_adapter.py
"""

import time
from collections.abc import Callable

import optax
import torch

from attractor.torch import Optimizer

CASES = {
    "100 tensors of 100": [(10, 10)] * 100,
    "100 tensors of 10,000": [(100, 100)] * 100,
    "1,000 tensors of 100": [(10, 10)] * 1_000,
    "4 tensors of 250,000": [(500, 500)] * 4,
}
ROUNDS, STEPS = 7, 10


def seconds(optimizer: torch.optim.Optimizer) -> float:
    """Of one step, on average over a few."""
    begun = time.perf_counter()
    for _ in range(STEPS):
        optimizer.step()
    return (time.perf_counter() - begun) / STEPS


def main() -> None:
    torch.set_num_threads(1)
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "ours": lambda params: Optimizer(params, optax.adamw(1e-3, weight_decay=1e-2)),
        "torch foreach": lambda params: torch.optim.AdamW(params, 1e-3, foreach=True),
        "torch fused": lambda params: torch.optim.AdamW(params, 1e-3, fused=True),
    }
    print(f"{'milliseconds a step':24}" + "".join(f"{name:>16}" for name in makers) + f"{'ours / foreach':>18}")
    for case, shapes in CASES.items():
        optimizers = {}
        for name, make in makers.items():
            params = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
            for p in params:
                p.grad = torch.randn_like(p)
            optimizers[name] = make(params)
            optimizers[name].step()  # compiles
        best = {name: min(seconds(o) for _ in range(ROUNDS)) for name, o in optimizers.items()}
        times = "".join(f"{1e3 * t:16.2f}" for t in best.values())
        print(f"{case:24}{times}{best['ours'] / best['torch foreach']:18.2f}")


if __name__ == "__main__":
    main()
