"""What `attractor.Monitor` costs: a digits MLP in an optax loop, with it and without, taking turns.

    python benchmarks/monitor.py [--steps 2000] [--rounds 7] [--width 256] [--batch 256]

Prints seconds per step of both and their ratio: the median over rounds, each of which runs both. On a machine that is
busy with other work read the ratio of processor time. Exits with 1 where both are above the budget.
"""

import argparse
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from sklearn.datasets import load_digits

from attractor.diagnosis import Monitor

BUDGET = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description="What attractor.Monitor costs")
    for name, default in (("steps", 2000), ("rounds", 7), ("width", 256), ("batch", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    x, y = load_digits(return_X_y=True)
    x = (np.asarray(x) / 16).astype(np.float32)
    batches = [(jnp.asarray(x[i : i + args.batch]), jnp.asarray(y[i : i + args.batch]))
               for i in range(0, len(x) - args.batch + 1, args.batch)]  # fmt: skip
    sizes = (64, args.width, args.width, 10)
    keys = jr.split(jr.key(0), 3)
    params = [{"w": jr.normal(k, (a, b)) * np.sqrt(2 / a), "b": jnp.zeros(b)}
              for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)]  # fmt: skip
    optimizer = optax.adam(1e-3)

    def loss(params, batch):
        h, y = batch
        for layer in params[:-1]:
            h = jax.nn.relu(h @ layer["w"] + layer["b"])
        logits = h @ params[-1]["w"] + params[-1]["b"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(params, state, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value, grads, updates

    looks, inside = 0, []

    def seconds(watched: bool) -> tuple[float, float]:
        """Wall and processor seconds of a step."""
        nonlocal looks
        own = 0.0
        monitor = Monitor() if watched else None
        p, state, value, start = params, optimizer.init(params), None, 0.0
        used = 0.0
        for i in range(args.steps + 20):
            if i == 20:  # compiled, and warm
                jax.block_until_ready(value)
                start, used, own = time.perf_counter(), time.process_time(), 0.0
            p, state, value, grads, updates = step(p, state, batches[i % len(batches)])
            if monitor is not None:
                called = time.perf_counter()
                monitor(value, params=p, grads=grads, updates=updates, batch=batches[i % len(batches)])
                own += time.perf_counter() - called
        jax.block_until_ready(value)
        took = time.perf_counter() - start
        if monitor is not None:
            looks = monitor.looks
            inside.append(own / took)
        return took / args.steps, (time.process_time() - used) / args.steps

    for watched in (False, True):
        seconds(watched)
    pairs = [(seconds(False), seconds(True)) for _ in range(args.rounds)]
    ratio, processor = (statistics.median(b[i] / a[i] for a, b in pairs) for i in (0, 1))
    least = [min(pair[i][0] for pair in pairs) * 1e6 for i in (0, 1)]
    print(f"without {least[0]:.0f} us a step, with {least[1]:.0f} us (the fastest rounds)")
    print(f"inside the monitor's calls: {statistics.median(inside[1:]):.1%} of the time")
    print(f"ratio {ratio:.3f}, of processor time {processor:.3f} (median of {args.rounds} rounds)")
    print(f"{looks} looks in {args.steps + 20} steps")
    return int(min(ratio, processor) > 1 + BUDGET)


if __name__ == "__main__":
    sys.exit(main())
