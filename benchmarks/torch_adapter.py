"""What a step of `attractor.torch.Optimizer` costs beside torch's own.

The same AdamW on the same tensors; the optimizers take turns, and a figure is the fastest round of each.

    python benchmarks/torch_adapter.py                      # on the CPU
    python benchmarks/torch_adapter.py --device cuda
    python benchmarks/torch_adapter.py --threads 1 --json
"""

import argparse
import json
import time
from collections.abc import Callable

import optax
import torch

from attractor.torch import Optimizer

CASES = {
    f"{numbers // 1_000_000}M numbers, {tensors} tensors": [(numbers // tensors,)] * tensors
    for numbers in (1_000_000, 10_000_000)
    for tensors in (10, 100, 300)
}
MAKERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "ours": lambda params: Optimizer(params, optax.adamw, lr=1e-3, weight_decay=1e-2),
    "foreach": lambda params: torch.optim.AdamW(params, 1e-3, foreach=True),
    "fused": lambda params: torch.optim.AdamW(params, 1e-3, fused=True),
}


def seconds(optimizer: torch.optim.Optimizer, steps: int, device: str) -> float:
    """Of one step, on average over a few."""
    begun = time.perf_counter()
    for _ in range(steps):
        optimizer.step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / steps


def measure(shapes: list[tuple[int, ...]], device: str, rounds: int) -> dict[str, float]:
    """Seconds: of a step of each, and of making and compiling ours."""
    optimizers, first = {}, 0.0
    for name, make in MAKERS.items():
        params = [torch.nn.Parameter(torch.randn(s, device=device)) for s in shapes]
        for p in params:
            p.grad = torch.randn_like(p)
        begun = time.perf_counter()
        optimizers[name] = make(params)
        optimizers[name].step()
        first = first or time.perf_counter() - begun
    steps = 10 if sum(map(torch.Size.numel, map(torch.Size, shapes))) <= 1_000_000 else 3
    turns = [{name: seconds(o, steps, device) for name, o in optimizers.items()} for _ in range(rounds)]
    return {name: min(turn[name] for turn in turns) for name in MAKERS} | {"first": first}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice (JAX's: PJRT_NPROC)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = {}
    if not options.json:
        print(f"{'milliseconds a step':28}" + "".join(f"{n:>10}" for n in MAKERS) + "  ours / foreach   first step, s")
    for case, shapes in CASES.items():
        rows[case] = measure(shapes, options.device, options.rounds)
        ratio = rows[case]["ours"] / rows[case]["foreach"]
        if not options.json:
            times = "".join(f"{1e3 * rows[case][name]:10.2f}" for name in MAKERS)
            print(f"{case:28}{times}{ratio:16.2f}{rows[case]['first']:16.1f}", flush=True)
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
