"""What a monitor costs: a digits MLP in an optax loop and in PyTorch's, each with a monitor and without, in turns.

    python benchmarks/monitor.py [--seconds 1.5] [--rounds 7] [--only jax]

For a tiny step (some tenths of a millisecond on one idle core), a small one (about 2 ms) and a larger one (about 20
ms) it prints the time of a step and the ratio of both loops: the median over rounds, each of which runs both from the
start, the first looks included, and the largest. Both loops run in turns of some steps, so that a machine that is busy
with other work slows both alike; the monitor's clock stands still in the other loop's turns. Where a loop gets a part
of a processor only, its steps seem long, and a monitor would take more processor time than it may: its budget is made
as much smaller. Exits with 1 where a median of processor time is above the budget.
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
SIZES = {"tiny": (32, 16), "small": (256, 128), "larger": (640, 512)}  # width and batch

TURN = 10  # steps of one loop, before as many of the other

Step = Callable[[int], Any]  # a step of a loop, by its number; gives the loss, to be waited for
Make = Callable[[dict[str, Any] | None], tuple[Step, Any]]  # given what the monitor takes; `None`: there is none


def digits(batch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The set in batches, five times over."""
    x, y = (np.asarray(a) for a in load_digits(return_X_y=True))
    rows = np.arange(5 * len(x)) % len(x)
    x = (x / 16).astype(np.float32)
    return [(x[r], y[r]) for r in np.array_split(rows, len(rows) // batch) if len(r) >= batch]


def in_jax(width: int, batch: int) -> Make:
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

    def make(given: dict[str, Any] | None) -> tuple[Step, Any]:
        monitor = Monitor(**given) if given else None
        now = [start, optimizer.init(start)]

        def step(i: int) -> jax.Array:
            batch = batches[i % len(batches)]
            *now[:], value, grads, updates = update(*now, batch)
            if monitor is not None:
                monitor(value, params=now[0], grads=grads, updates=updates, batch=batch)
            return value

        return step, monitor

    return make


def in_torch(width: int, batch: int) -> Make:
    """The same in PyTorch."""
    batches = [(torch.tensor(x[:batch]), torch.tensor(y[:batch])) for x, y in digits(batch)]

    def make(given: dict[str, Any] | None) -> tuple[Step, Any]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, width), torch.nn.ReLU(),
            torch.nn.Linear(width, 10),
        )  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        monitor = TorchMonitor(model, optimizer, **given) if given else None

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


def measure(make: Make, steps: int, budget: float) -> tuple[np.ndarray, int]:
    """Wall and processor seconds of a step, ``(watched or not, 2)``, and how many looks there were."""
    used, warm, began = np.zeros((2, 2)), np.zeros((2, 2)), 0.0  # outside of turns
    clock = lambda: used[1, 0] + bool(began) * (time.perf_counter() - began)  # noqa: E731
    loops = [make(None), make({"budget": budget, "clock": clock})]
    for first in range(0, steps + TURN, TURN):
        for watched, (step, _) in enumerate(loops):
            if first == TURN and not watched:  # compiled, allocated
                warm = used.copy()
            began, processor = time.perf_counter(), time.process_time()
            values = [step(i) for i in range(first, first + TURN)]
            jax.block_until_ready(values[-1])
            used[watched] += time.perf_counter() - began, time.process_time() - processor
            began = 0.0
    return (used - warm) / steps, loops[1][1].looks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="of processor time, that a loop takes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["jax", "torch"])
    parser.add_argument("--size", choices=list(SIZES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    for size, (width, batch) in SIZES.items():
        for name, loop in {"jax": in_jax, "torch": in_torch}.items():
            if args.only not in (None, name) or args.size not in (None, size):
                continue
            make = loop(width, batch)
            waited, step = measure(make, 3 * TURN, BUDGET)[0][0]
            steps = TURN * max(int(args.seconds / step / TURN), 2)
            rounds = []
            for _ in range(args.rounds):
                rounds.append(measure(make, steps, BUDGET * min(step / waited, 1.0)))
                waited, step = rounds[-1][0][0]
            ratios = [[used[1, k] / used[0, k] for used, _ in rounds] for k in (0, 1)]
            step = statistics.median(used[0, 1] for used, _ in rounds)
            looks = statistics.median(looks for _, looks in rounds)
            used, waited = (f"{statistics.median(r):.3f} ({max(r):.3f} at most)" for r in reversed(ratios))
            print(
                f"{size:7} {name:6} {1e3 * step:6.2f} ms of processor a step; with it times {used}, of wall time "
                f"{waited}; {looks:.0f} looks in {steps} steps",
                flush=True,
            )
            failed += statistics.median(ratios[1]) > 1 + BUDGET
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
