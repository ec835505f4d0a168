"""The engine against the ways people sweep today: 64 Adam configurations x 1,000 steps on the digits MLP.

Each way runs in a process of its own (its peak memory is that process's), in rounds that take turns, so that a
machine that drifts drifts for all. Times are of a warm program: compilation is shown beside them.

    python benchmarks/engine.py            # a table
    python benchmarks/engine.py --json     # {"vs_eager_torch", "vs_jitted_loop", "vs_handwritten"}: their time / ours
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

CONFIGS, STEPS, BATCH, WIDTH = 64, 1_000, 64, 64
RATES = [10 ** (-4 + 3 * i / (CONFIGS - 1)) for i in range(CONFIGS)]
WAYS = {
    "ours": "attractor.run",
    "handwritten": "hand-written vmapped scan",
    "jitted_loop": "jitted optax step, Python loop",
    "eager_torch": "eager PyTorch, one after another",
}


def ours() -> Callable[[], float]:
    import jax
    import optax

    # As `attractor compare` does: one JAX device per core, over which the engine spreads the configurations.
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

    from attractor import problems, run

    problem = problems.digits_mlp(width=WIDTH, batch_size=BATCH)
    probes = {"loss": problem.probes["loss"]}

    def once() -> float:
        trace = run(problem, optax.adam, steps=STEPS, every=STEPS, sweep={"learning_rate": RATES}, probes=probes)
        return float(trace.last("loss").min())

    return once


def _jax_parts():
    import jax
    import jax.numpy as jnp
    import optax

    from attractor.problems.digits import digits

    (images, labels), _ = digits()
    images, labels = jnp.asarray(images), jnp.asarray(labels)

    def init(key):
        a, b = jax.random.split(key)
        return {
            "w1": jax.random.normal(a, (64, WIDTH)) / 8, "b1": jnp.zeros(WIDTH),
            "w2": jax.random.normal(b, (WIDTH, 10)) / 8, "b2": jnp.zeros(10),
        }  # fmt: skip

    def loss(params, batch):
        x, y = batch
        logits = jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(optimizer, params, state, key):
        index = jax.random.randint(key, (BATCH,), 0, len(labels))
        grad = jax.grad(loss)(params, (images[index], labels[index]))
        updates, state = optimizer.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    return init, loss, step, (images, labels)


def handwritten() -> Callable[[], float]:
    import jax
    import jax.numpy as jnp
    import optax

    init, loss, step, data = _jax_parts()
    keys = jax.random.split(jax.random.key(1), STEPS)

    def one(rate):
        optimizer = optax.adam(rate)
        params = init(jax.random.key(0))

        def body(carry, key):
            params, state = carry
            return step(optimizer, params, state, key), None

        (params, _), _ = jax.lax.scan(body, (params, optimizer.init(params)), keys)
        return loss(params, data)

    program = jax.jit(jax.vmap(one))
    return lambda: float(program(jnp.asarray(RATES)).min())


def jitted_loop() -> Callable[[], float]:
    import jax
    import optax

    init, loss, step, data = _jax_parts()
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=0.1)  # one program for all learning rates
    jitted = jax.jit(lambda params, state, key: step(optimizer, params, state, key), donate_argnums=(0, 1))
    keys = list(jax.random.split(jax.random.key(1), STEPS))

    def once() -> float:
        losses = []
        for rate in RATES:
            params = init(jax.random.key(0))
            state: Any = optimizer.init(params)
            state.hyperparams["learning_rate"] = jax.numpy.asarray(rate)
            for key in keys:
                params, state = jitted(params, state, key)
            losses.append(float(loss(params, data)))
        return min(losses)

    return once


def eager_torch() -> Callable[[], float]:
    import torch

    from attractor.problems.digits import digits

    (images, labels), _ = digits()
    x, y = torch.as_tensor(images), torch.as_tensor(labels).long()

    def once() -> float:
        losses = []
        for rate in RATES:
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Linear(64, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, 10))
            optimizer = torch.optim.Adam(model.parameters(), lr=rate)
            for _ in range(STEPS):
                index = torch.randint(len(y), (BATCH,))
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x[index]), y[index]).backward()
                optimizer.step()
            losses.append(float(torch.nn.functional.cross_entropy(model(x), y)))
        return min(losses)

    return once


def child(way: str, repeats: int) -> None:
    """Run one way in this process and print its figures."""
    begun = time.perf_counter()
    once = {"ours": ours, "handwritten": handwritten, "jitted_loop": jitted_loop, "eager_torch": eager_torch}[way]()
    loss = once() if way != "eager_torch" else float("nan")  # nothing to warm up there, and it takes a minute
    first = time.perf_counter() - begun
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        loss = once()
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "first": first, "peak_mib": peak, "loss": loss}))


def measure(rounds: int, progress: bool) -> dict[str, dict[str, float]]:
    """Median seconds, seconds of the first call and peak memory of every way that can run here."""
    found: dict[str, list[dict]] = {way: [] for way in WAYS}
    for turn in range(rounds):
        for way in WAYS:
            if way in ("eager_torch", "jitted_loop") and turn:
                continue  # minutes for a ratio far from its target: once is enough
            if way == "eager_torch" and importlib.util.find_spec("torch") is None:
                continue
            if progress:
                print(f"round {turn + 1}/{rounds}: {WAYS[way]} …", file=sys.stderr, flush=True)
            repeats = {"eager_torch": 1, "jitted_loop": 1}.get(way, 3)
            command = [sys.executable, __file__, "--child", way, "--repeats", str(repeats)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{way} failed:\n{done.stderr}")
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        way: {
            "seconds": statistics.median(s for r in runs for s in r["seconds"]),
            "first": statistics.median(r["first"] for r in runs),
            "peak_mib": max(r["peak_mib"] for r in runs),
            "loss": runs[-1]["loss"],
        }
        for way, runs in found.items()
        if runs
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the three ratios as JSON")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for the two vmapped ways (default 3)")
    parser.add_argument("--child", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.child, arguments.repeats)
    rows = measure(arguments.rounds, progress=not arguments.json or sys.stderr.isatty())
    own = rows["ours"]["seconds"]
    ratios = {
        f"vs_{way}": rows[way]["seconds"] / own if way in rows else None for way in reversed(WAYS) if way != "ours"
    }
    if arguments.json:
        print(json.dumps(ratios))
        return None
    print(f"{CONFIGS} Adam configurations x {STEPS:,} steps, digits MLP {WIDTH} wide, batch {BATCH}\n")
    print(f"{'':36}{'seconds':>9}{'first call':>12}{'peak MiB':>10}{'best loss':>11}{'/ ours':>9}")
    for way, row in rows.items():
        ratio = row["seconds"] / own
        print(
            f"{WAYS[way]:36}{row['seconds']:9.2f}{row['first']:12.2f}{row['peak_mib']:10.0f}{row['loss']:11.2g}{ratio:9.2f}"
        )
    if "eager_torch" not in rows:
        print("\ntorch is not installed: pip install 'attractor[torch]' for that row")
    return None


if __name__ == "__main__":
    main()
