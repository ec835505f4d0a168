"""What every registered optimizer costs: step time beside a reference, state per parameter, work per step.

The step time is that of one compiled ``update`` and its application on 1 million parameters in layers of usual shapes,
gradients given; method and reference take turns, and the ratio is of their fastest rounds. State is counted in bytes
per float32 parameter. Work is XLA's count of a whole step over that of a step of SGD, which is one gradient: on
digits-mlp, or, for methods of several losses, on overlaid-digits.

    python benchmarks/optimizers.py                       # all of them, a table
    python benchmarks/optimizers.py adam lion --json      # these, for a script
    python benchmarks/optimizers.py --record              # writes attractor/data/measured.json, which
                                                          # `attractor methods` and the docs read
"""

import argparse
import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import optax

from attractor import Minimization, problems, registry
from attractor.engine import flops_per_step
from attractor.method import Gradient, as_method, require
from attractor.progress import task

RECORD = Path(registry.__file__).with_name("data") / "measured.json"
SHAPES = {
    "embed": (512, 512),
    "hidden": [(512, 512), (512,)],
    "wide": [(512, 768), (768,)],
    "out": [(768, 128), (128,)],
}
# Beside which implementation a step is timed, where that is not Adam.
REFERENCE = {
    "adamw": "adam", "cautious-adamw": "adamw", "cautious-lion": "lion", "cautious-muon": "muon",
    "cautious-sgdm": "sgd", "lion": "adam", "lion-k": "lion", "sgdp": "sgd", "random-scaled-sgdm": "sgd",
}  # fmt: skip
DENSE = {"line-search-newton"}  # transformations that form a matrix of all parameters: not timed on a million
ROUNDS, UPDATES = 5, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="registered names; default: all that minimize")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    options = parser.parse_args()
    names = options.methods or [n for n in registry.methods() if stage(n) is not None]
    found: dict[str, dict[str, Any]] = {}
    with task("timing", len(names), "method") as advance:
        for name in names:
            try:
                found[name] = measure(name)
            except Exception as error:  # one method that cannot be timed is reported, and the others go on
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            advance(1)
    if options.record:
        lines = (f' "{name}": {json.dumps(row)}' for name, row in sorted((registry.costs() | found).items()))
        RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    if options.json:
        print(json.dumps(found))
        return
    print(f"{'method':28} {'ms':>8} {'ratio':>7}  {'reference':14} {'state B':>8} {'gradients':>9}")
    for name, row in found.items():
        timed = (
            f"{row['step_ms']:8.2f} {row['vs_reference']:7.2f}  {row['reference']:14}" if "step_ms" in row else " " * 32
        )
        print(f"{name:28} {timed} {row['state_bytes_per_parameter']:8.3g} {row['gradients_per_step']:9.3g}")


@functools.cache
def stages() -> list[Any]:
    """The networks that work per step is counted on."""
    return [problems.digits_mlp(), problems.overlaid_digits()]


def stage(name: str) -> Any:
    """The first of them that the method can work on, or `None`."""
    for problem in stages():
        try:
            require(problem, registry.find_method(name).make())
        except TypeError:
            continue
        return problem
    return None


def measure(name: str) -> dict[str, Any]:
    """A row of the table; whole methods, which are no transformations, are not timed on the pytree."""
    method, problem = registry.find_method(name).make(), stage(name)
    x = problem.init(jr.key(0))
    state = method.init(problem, x, jr.key(0))
    size = sum(leaf.size for leaf in jax.tree.leaves(x))
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if hasattr(leaf, "nbytes"))
    work = flops_per_step(problem, method) / flops_per_step(problem, as_method(optax.sgd(0.1)))
    row: dict[str, Any] = {"state_bytes_per_parameter": round(held / size, 2), "gradients_per_step": round(work, 3)}
    if isinstance(method, Gradient) and problem is stages()[0] and name not in DENSE:
        reference = REFERENCE.get(name, "adam")
        ours, theirs = updater(name), updater(reference)
        times = [(clock(ours), clock(theirs)) for _ in range(ROUNDS)]
        fastest, other = (min(column) for column in zip(*times, strict=True))
        row |= {"step_ms": round(fastest * 1e3, 3), "vs_reference": round(fastest / other, 3), "reference": reference}
    return row


@functools.cache
def million() -> Any:
    """About a million parameters, in float32."""
    return jax.tree.map(lambda shape: jnp.ones(shape), SHAPES, is_leaf=lambda s: isinstance(s, tuple))


def _quadratic(x: Any, batch: Any) -> Any:
    """Something cheap for those that ask for more than a gradient: its products with vectors are the vectors."""
    return 0.5 * jnp.mean(batch) * optax.tree.norm(x, squared=True)


@functools.cache
def updater(name: str) -> Any:
    """A compiled update that carries its state, and its first carry."""
    method = registry.find_method(name).make()
    assert isinstance(method, Gradient)
    problem = Minimization(_quadratic, million(), jnp.ones(2))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry: Any, grads: Any, key: Any) -> Any:
        x, state = carry
        oracles = problem.oracles(x, problem.full) | {"grad": grads}
        updates, state = method.transformation.update(grads, state, x, **oracles, key=key)
        return optax.apply_updates(x, updates), state

    # Copies, since the carry is donated, and a state may hold one array twice, or the parameters themselves.
    box = [jax.tree.map(lambda a: jnp.array(a, copy=True), (million(), method.transformation.init(million())))]
    grads = jax.tree.map(lambda a: 1e-3 * jr.normal(jr.key(1), a.shape), million())

    def go() -> None:
        box[0] = step(box[0], grads, jr.key(2))

    go()
    return go, box


def clock(updating: Any) -> float:
    """Seconds an update."""
    go, box = updating
    jax.block_until_ready(box[0])
    begun = time.perf_counter()
    for _ in range(UPDATES):
        go()
    jax.block_until_ready(box[0])
    return (time.perf_counter() - begun) / UPDATES


if __name__ == "__main__":
    main()
