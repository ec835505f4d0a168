"""What each instrument of the loss landscape costs, in gradients, beside curvlinops on the same model in PyTorch.

    python benchmarks/instruments.py              # a perceptron with a million parameters
    python benchmarks/instruments.py --width 256  # a smaller one
    python benchmarks/instruments.py --write      # and the table of docs/data/instruments.md

A gradient is that of the mean loss on the batch, compiled in JAX, eager in PyTorch: each is measured in its own
framework's. The instruments and the gradient take turns; the figure is the median of the ratios. Exits with 1 if the
largest eigenvalue costs more than 40 gradients.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.landscape import (
    antisymmetry,
    extreme_eigenvalues,
    gradient_noise_scale,
    sketched_tangent_kernel,
    spectral_density,
    tangent_kernel_product,
)
from attractor.linalg import ggn, hutchinson_diagonal, hutchinson_trace, hutchpp_trace, hvp
from attractor.progress import task

TABLE = Path(__file__).parents[1] / "docs" / "data" / "instruments.md"
LIMIT, CLASSES, INPUTS, BATCH = 40.0, 10, 256, 128


def model(width: int) -> tuple[Any, Any]:
    """Two hidden layers; parameters and the rest."""
    mlp = eqx.nn.MLP(INPUTS, CLASSES, width, 2, activation=jnp.tanh, key=jr.key(0))
    return eqx.partition(mlp, eqx.is_inexact_array)


def data() -> tuple[np.ndarray, np.ndarray]:
    """Noise in classes."""
    random = np.random.default_rng(0)
    return random.normal(size=(BATCH, INPUTS)).astype(np.float32), random.integers(0, CLASSES, BATCH)


def instruments(width: int) -> dict[str, Callable[[], Any]]:
    """Calls of the compiled instruments; the first is the gradient."""
    params, static = model(width)
    x, y = (jnp.asarray(a) for a in data())

    def outputs(p: Any) -> jax.Array:
        return jax.vmap(eqx.combine(p, static))(x)

    def mean(logits: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def loss(p: Any) -> jax.Array:
        return mean(outputs(p))

    def one(p: Any, x: jax.Array) -> jax.Array:
        return eqx.combine(p, static)(x)

    def each(p: Any) -> Any:
        parts = x.reshape(8, -1, INPUTS), y.reshape(8, -1)

        def part(x: jax.Array, y: jax.Array) -> Any:
            def loss(p: Any) -> jax.Array:
                return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(lambda x: one(p, x))(x), y).mean()

            return jax.grad(loss)(p)

        return gradient_noise_scale(jax.lax.map(lambda b: part(*b), parts), BATCH // 8)

    key, few, v = jr.key(1), x[:16], jax.tree.map(jnp.ones_like, params)
    programs = {
        "gradient": jax.grad(loss),
        "Hessian product": lambda p: hvp(loss, p)(v),
        "Gauss-Newton product": lambda p: ggn(outputs, mean, p)(v),
        "largest and smallest eigenvalue, 15 products": lambda p: extreme_eigenvalues(hvp(loss, p), p, iterations=15),
        "the same of Gauss-Newton": lambda p: extreme_eigenvalues(ggn(outputs, mean, p), p, iterations=15),
        "spectral density, 2 x 20 products": lambda p: spectral_density(hvp(loss, p), p, probes=2, iterations=20).nodes,
        "trace, 10 signs": lambda p: hutchinson_trace(hvp(loss, p), p, key, 10),
        "trace, Hutch++ with 30 products": lambda p: hutchpp_trace(hvp(loss, p), p, key, 30),
        "diagonal, 10 signs": lambda p: hutchinson_diagonal(hvp(loss, p), p, key, 10),
        "noise scale, 8 parts": each,
        "antisymmetry, 4 signs": lambda p: antisymmetry(jax.grad(loss), p, probes=4),
        "tangent kernel product, 16 inputs": lambda p: tangent_kernel_product(one, p, few)(jnp.ones((16, CLASSES))),
        "tangent kernel sketched 32 times, 16 inputs": lambda p: sketched_tangent_kernel(one, p, few, key=key, size=32),
    }
    return {name: eqx.Partial(jax.jit(program), params) for name, program in programs.items()}


def of_curvlinops(width: int) -> dict[str, Callable[[], Any]]:
    """Their counterparts in PyTorch, eager, the first is the gradient."""
    import curvlinops  # pyright: ignore[reportMissingImports]
    import torch
    from scipy.sparse.linalg import eigsh

    torch.manual_seed(0)
    layers = [torch.nn.Linear(INPUTS, width), torch.nn.Tanh(), torch.nn.Linear(width, width), torch.nn.Tanh()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(width, CLASSES))
    x, y = (torch.as_tensor(a) for a in data())
    function, params = torch.nn.CrossEntropyLoss(), list(net.parameters())
    settings: dict[str, Any] = {"check_deterministic": False}
    hessian = curvlinops.HessianLinearOperator(net, function, params, [(x, y)], **settings)
    gauss_newton = curvlinops.GGNLinearOperator(net, function, params, [(x, y)], **settings)
    v = torch.ones(hessian.shape[1])

    def gradient() -> Any:
        return torch.autograd.grad(function(net(x), y), params)

    def largest(operator: Any) -> Any:
        return eigsh(operator.to_scipy(), 1, which="LA", tol=1e-2)  # pyright: ignore[reportArgumentType]

    def trace() -> float:
        return float(curvlinops.hutchinson_trace(hessian, num_matvecs=10))

    return {
        "gradient": gradient,
        "Hessian product": lambda: hessian @ v,
        "Gauss-Newton product": lambda: gauss_newton @ v,
        "largest and smallest eigenvalue, 15 products": lambda: largest(hessian),
        "the same of Gauss-Newton": lambda: largest(gauss_newton),
        "trace, 10 signs": trace,
        "trace, Hutch++ with 30 products": lambda: curvlinops.hutchpp_trace(hessian, num_matvecs=30),
        "diagonal, 10 signs": lambda: curvlinops.hutchinson_diag(hessian, num_matvecs=10),
    }


def cost(calls: dict[str, Callable[[], Any]], rounds: int, label: str) -> dict[str, float]:
    """Median over rounds of the seconds of every call over those of the gradient beside it.

    On a CPU they are the processor's, which other programs on the machine change less than those of the clock.
    """
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    ratios: dict[str, list[float]] = {name: [] for name in calls}

    def seconds(call: Callable[[], Any]) -> float:
        begun = clock()
        jax.block_until_ready(call())
        return clock() - begun

    gradient = calls["gradient"]
    with task(label, len(calls), "instruments") as advance:
        for name, call in calls.items():
            seconds(call)  # compiles
            for _ in range(rounds):
                several = [seconds(gradient) for _ in range(3)]
                ratios[name].append(seconds(call) / float(np.median(several)))
            advance(1)
    return {name: float(np.median(values)) for name, values in ratios.items()}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--width", type=int, default=880, help="of the hidden layers; default: 880, a million parameters"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"write {TABLE}")
    args = parser.parse_args()
    ours = cost(instruments(args.width), args.rounds, "attractor")
    theirs: dict[str, float] = {}
    if importlib.util.find_spec("curvlinops"):
        theirs = cost(of_curvlinops(args.width), args.rounds, "curvlinops")
    size = sum(a.size for a in jax.tree.leaves(model(args.width)[0]))
    lines = [f"| in gradients, {size:,} parameters, batch of {BATCH} | attractor | curvlinops |", "|---|---|---|"]
    lines += [f"| {n} | {v:.1f} | {f'{theirs[n]:.1f}' if n in theirs else ''} |" for n, v in ours.items()]
    print("\n".join(lines))
    if args.write:
        TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    top = ours["largest and smallest eigenvalue, 15 products"]
    print(f"\nlargest eigenvalue: {top:.1f} gradients, at most {LIMIT:.0f}: {'held' if top <= LIMIT else 'NOT held'}")
    return int(top > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
