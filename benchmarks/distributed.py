"""Bits on the wire against the loss, and liars against rules: the data of two plots in the documentation.

    python benchmarks/distributed.py            # prints both
    python benchmarks/distributed.py --write    # docs/data/distributed.json, which the docs show

*Wire*: twenty clients hold digits sorted by label, and a strongly convex loss. Every method runs at the best of nine
rates, by where it ends. *Liars*: three of twelve clients lie; for each rule and lie the accuracy on held-out images at
the rate that is best on other ones, the mean over seeds.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from attractor import distributed, run
from attractor.distributed import Counted, RobustGossip, exponential, mixing_matrix, traffic
from attractor.method import Method
from attractor.problem import Federated
from attractor.problems import dirichlet_digits, federated_digits
from attractor.progress import task

OUT = Path(__file__).parents[1] / "docs" / "data" / "distributed.json"
CLIENTS, RATES = 20, tuple(float(rate) for rate in np.geomspace(0.01, 2.56, 9))
FEW = distributed.top_k(0.02)
METHODS: dict[str, Callable[[Any], Method]] = {
    "gradient descent": lambda rate: distributed.fedavg(rate, 1),
    "fedavg, 5 local steps": lambda rate: distributed.fedavg(rate, 5),
    "FedSpeed, 5 local steps": lambda rate: distributed.FedSpeed(rate),
    "Scaffold, 5 local steps": lambda rate: distributed.Scaffold(rate),
    "error_compensation, 2 % of entries": lambda rate: distributed.error_compensation(rate, FEW),
    "ef21, 2 % of entries": lambda rate: distributed.ef21(rate, FEW),
    "EControl, 2 % of entries": lambda rate: distributed.EControl(rate, 0.02, FEW),
    "LocalGossip, 1 step, 5 neighbors": lambda rate: distributed.LocalGossip(
        rate, mixing=lambda n: mixing_matrix(exponential(n))
    ),
}

LIARS = 3
RULES = {"mean": distributed.mean, "trimmed_mean": distributed.trimmed_mean(LIARS),
         "coordinate_median": distributed.coordinate_median, "krum": distributed.krum(LIARS),
         "geometric_median": distributed.geometric_median(),
         "nearest_neighbors": distributed.nearest_neighbors(LIARS)}  # fmt: skip
LIES: dict[str, distributed.Attack] = {
    "nobody lies": lambda round, faulty, key: round.sent[-faulty:],
    "sign_flip": distributed.sign_flip(), "inner_product": distributed.inner_product(),
    "little_is_enough": distributed.little_is_enough(), "noise": distributed.noise(),
    "dropped": distributed.dropped, "late": distributed.late,
}  # fmt: skip
FLIPPED = "flipped_labels"


def _loss(problem: Federated, x: Any, key: Any) -> jax.Array:
    return problem.loss(x, problem.full)


def least(problem: Federated) -> float:
    """The smallest loss, by SciPy in double precision."""
    with jax.enable_x64(True):
        start, whole = ravel_pytree(jax.tree.map(lambda leaf: leaf.astype(float), problem.init(jax.random.key(0))))
        data = jax.tree.map(lambda leaf: jnp.asarray(leaf, float if leaf.dtype.kind == "f" else None), problem.full)
        value = jax.jit(jax.value_and_grad(lambda v: problem.loss(whole(v), data)))
        return float(minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": 5_000, "gtol": 1e-9}).fun)


def wire(problem: Federated, make: Callable[[Any], Method], steps: int, bottom: float) -> dict[str, Any]:
    """Kilobits that a client has sent, and the loss above the smallest, at the rate that ends lowest."""

    def made(*, learning_rate: Any) -> Method:
        return Counted(make(learning_rate))

    probes = {"sent": traffic, "loss": _loss}
    trace = run(problem, made, steps=steps, every=max(1, steps // 100), sweep={"learning_rate": list(RATES)},
                probes=probes, progress=False)  # fmt: skip
    losses = np.nan_to_num(trace["loss"].values[:, 0], nan=np.inf)
    best = int(losses[:, -1].argmin())
    sent = trace["sent"].values[best, 0] / problem.n_clients / 1e3
    return {"rate": RATES[best], "kilobits": [round(float(v), 2) for v in sent],
            "gap": [float(f"{v:.4g}") for v in np.maximum(losses[best] - bottom, 1e-7)]}  # fmt: skip


def _told(lie: Any, round: distributed.Round, faulty: int, key: Any) -> jax.Array:
    return jnp.stack([attack(round, faulty, key) for attack in LIES.values()])[lie.astype(int)]


def liars(rule: distributed.Aggregator, clients: int, steps: int, seeds: int) -> dict[str, float]:
    """Accuracy by lie, in per cent."""

    def made(*, learning_rate: Any, lie: Any) -> Method:
        return RobustGossip(learning_rate, 0.9, rule, LIARS, eqx.Partial(_told, lie))

    problem = dirichlet_digits(clients, 0.5)
    found = {}
    for given, lies in ((problem, range(len(LIES))), (distributed.flipped_labels(problem, LIARS), [0])):
        parts = {part: given.probes[part] for part in ("validation_accuracy", "test_accuracy")}
        sweep = [{"learning_rate": rate, "lie": float(lie)} for lie in lies for rate in (0.1, 0.3, 1.0, 3.0)]
        trace = run(given, made, steps=steps, every=steps, seeds=seeds, sweep=sweep, probes=parts, progress=False)
        chosen, shown = (trace[part].values[..., -1].mean(1).reshape(len(lies), -1) for part in parts)
        names = list(LIES) if len(lies) > 1 else [FLIPPED]
        best = np.nan_to_num(chosen).argmax(1)
        found |= {name: round(100 * float(row[i]), 1) for name, row, i in zip(names, shown, best, strict=True)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="rounds, of the first part")
    parser.add_argument("--rounds", type=int, default=300, help="rounds, of the second part")
    parser.add_argument("--seeds", type=int, default=3, help="of the second part")
    parser.add_argument("--write", action="store_true", help=f"write {OUT.name}")
    given = parser.parse_args()
    problem = federated_digits(CLIENTS)
    bottom = least(problem)
    data: dict[str, Any] = {"wire": {}, "liars": {}}
    with task("runs", len(METHODS) + len(RULES), "run") as advance:
        for name, make in METHODS.items():
            data["wire"][name] = found = wire(problem, make, given.steps, bottom)
            print(f"{name}: rate {found['rate']:.3g}, {found['gap'][-1]:.3g} after {found['kilobits'][-1]:,.0f} kbit")
            advance(1)
        for name, rule in RULES.items():
            data["liars"][name] = liars(rule, 12, given.rounds, given.seeds)
            print(f"{name}: {data['liars'][name]}")
            advance(1)
    if given.write:
        OUT.write_text(json.dumps(data) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
