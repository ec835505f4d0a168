"""What a monitor costs: a digits MLP in an optax loop and in PyTorch's, each with a monitor and without, in turns.

    python benchmarks/monitor.py [--seconds 1.5] [--rounds 7] [--only jax]

For a small step (about 2 ms on one idle core) and a larger one (about 20 ms) it prints the time of a step and the ratio
of both loops: the median over rounds, each of which runs both from the start, the first looks included. On a machine
that is busy with other work read the ratio of processor time. Exits with 1 where both ratios are above the budget.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import torch
from sklearn.datasets import load_digits

from attractor.diagnosis import Monitor
from attractor.diagnosis.torch import Monitor as TorchMonitor

BUDGET = 0.05
SIZES = {"small": (256, 128), "larger": (640, 512)}  # width and batch
WARM = 5  # steps before the clock runs

Step = Callable[[int], Any]  # a step of a loop, by its number; gives the loss, to be waited for


def digits(batch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The set in batches, five times over."""
    x, y = (np.asarray(a) for a in load_digits(return_X_y=True))
    rows = np.arange(5 * len(x)) % len(x)
    x = (x / 16).astype(np.float32)
    return [(x[r], y[r]) for r in np.array_split(rows, len(rows) // batch) if len(r) >= batch]


def in_jax(width: int, batch: int) -> Callable[[bool], tuple[Step, Any]]:
    """Makes a fresh loop, watched or not, and its monitor."""
    batches = [(jnp.asarray(x), jnp.asarray(y)) for x, y in ((x[:batch], y[:batch]) for x, y in digits(batch))]
    sizes, keys = (64, width, width, 10), jr.split(jr.key(0), 3)
    start = [{"w": jr.normal(k, (a, b)) * np.sqrt(2 / a), "b": jnp.zeros(b)}
             for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)]  # fmt: skip
    optimizer = optax.adam(1e-3)

    def loss(params: Any, batch: Any) -> jax.Array:
        h, y = batch
        for layer in params[:-1]:
            h = jax.nn.relu(h @ layer["w"] + layer["b"])
        logits = h @ params[-1]["w"] + params[-1]["b"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def update(params: Any, state: Any, batch: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value, grads, updates

    def make(watched: bool) -> tuple[Step, Any]:
        monitor = Monitor() if watched else None
        now = [start, optimizer.init(start)]

        def step(i: int) -> jax.Array:
            batch = batches[i % len(batches)]
            *now[:], value, grads, updates = update(*now, batch)
            if monitor is not None:
                monitor(value, params=now[0], grads=grads, updates=updates, batch=batch)
            return value

        return step, monitor

    return make


def in_torch(width: int, batch: int) -> Callable[[bool], tuple[Step, Any]]:
    """The same in PyTorch."""
    batches = [(torch.tensor(x[:batch]), torch.tensor(y[:batch])) for x, y in digits(batch)]

    def make(watched: bool) -> tuple[Step, Any]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, width), torch.nn.ReLU(),
            torch.nn.Linear(width, 10),
        )  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        monitor = TorchMonitor(model, optimizer) if watched else None

        def step(i: int) -> torch.Tensor:
            x, y = batches[i % len(batches)]
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor(loss)
            return loss

        return step, monitor

    return make


def seconds(make: Callable[[bool], tuple[Step, Any]], watched: bool, steps: int) -> tuple[float, float, int]:
    """Wall and processor seconds of a step, and how many looks there were."""
    step, monitor = make(watched)
    wall, used, value = 0.0, 0.0, None
    for i in range(steps + WARM):
        if i == WARM:  # compiled, allocated
            wall, used = time.perf_counter(), time.process_time()
        value = step(i)
    jax.block_until_ready(value)
    took = (time.perf_counter() - wall) / steps, (time.process_time() - used) / steps
    return *took, monitor.looks if monitor is not None else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="of processor time, that a loop takes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["jax", "torch"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    for size, (width, batch) in SIZES.items():
        for name, loop in {"jax": in_jax, "torch": in_torch}.items():
            if args.only not in (None, name):
                continue
            make = loop(width, batch)
            seconds(make, True, 20)
            steps = max(int(args.seconds / seconds(make, False, 20)[1]), 20)
            rounds = []
            for i in range(args.rounds):
                pair = {
                    watched: seconds(make, watched, steps) for watched in ((False, True) if i % 2 else (True, False))
                }
                rounds.append((pair[False], pair[True]))
            wall, processor = (statistics.median(b[k] / a[k] for a, b in rounds) for k in (0, 1))
            step, looks = (statistics.median(r[j][k] for r in rounds) for j, k in ((0, 1), (1, 2)))
            print(
                f"{size:7} {name:6} {1e3 * step:6.2f} ms of processor a step; with it {processor:.3f} times that "
                f"(of wall time {wall:.3f} times), {looks:.0f} looks in {steps} steps",
                flush=True,
            )
            failed += min(wall, processor) > 1 + BUDGET
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
