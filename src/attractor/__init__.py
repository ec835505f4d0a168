"""attractor: papers on how learning converges, as components and as experiments.

Everything below is imported when it is first used, so that ``import attractor`` is instant.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attractor.bilevel import Bilevel
    from attractor.blackbox import minimize_blackbox
    from attractor.comparison import compare
    from attractor.decision import Decision
    from attractor.diagnosis import Monitor, diagnose, diagnose_run
    from attractor.engine import run
    from attractor.loops import Loop
    from attractor.method import Gradient, Method
    from attractor.objectives import Composite, Constrained, MultiObjective
    from attractor.papers import check
    from attractor.probe import Probe
    from attractor.problem import Federated, FixedPoint, Game, Minimization, Problem
    from attractor.registry import Choice, LogUniform, Uniform, scheduled
    from attractor.results import Comparison
    from attractor.trace import Trace

_WHERE = {
    "attractor.blackbox": ("minimize_blackbox",),
    "attractor.comparison": ("compare",),
    "attractor.loops": ("Loop",),
    "attractor.method": ("Gradient", "Method"),
    "attractor.bilevel": ("Bilevel",),
    "attractor.objectives": ("Composite", "Constrained", "MultiObjective"),
    "attractor.papers": ("check",),
    "attractor.probe": ("Probe",),
    "attractor.decision": ("Decision",),
    "attractor.diagnosis": ("Monitor", "diagnose", "diagnose_run"),
    "attractor.problem": ("Federated", "FixedPoint", "Game", "Minimization", "Problem"),
    "attractor.registry": ("Choice", "LogUniform", "Uniform", "scheduled"),
    "attractor.results": ("Comparison",),
    "attractor.engine": ("run",),
    "attractor.trace": ("Trace",),
}
_HOME = {name: module for module, names in _WHERE.items() for name in names}
_PACKAGES = (
    "blackbox", "categories", "credit", "diagnosis", "distributed", "dynamics", "games", "generative", "landscape",
    "linalg", "nn", "operators", "optim", "papers", "physics", "problems", "registry", "representation", "rl",
    "second_order", "stats", "store",
)  # fmt: skip

__all__ = [
    "Bilevel", "Choice", "Comparison", "Composite", "Constrained", "Decision", "Federated", "FixedPoint", "Game",
    "Gradient", "LogUniform", "Loop", "Method", "Minimization", "Monitor", "MultiObjective", "Probe", "Problem",
    "Trace", "Uniform", "check", "compare", "diagnose", "diagnose_run", "minimize_blackbox", "run",
    "scheduled",
]  # fmt: skip
__version__ = "0.1.0"

# On the CPU a batched decomposition waits for others of the threads it occupies itself: with one thread for each of
# few cores two at once never end (docs/upstream/jax-batched-lapack-hangs.md). JAX reads this when its backend starts.
if not {"PJRT_NPROC", "NPROC"} & os.environ.keys():
    os.environ["PJRT_NPROC"] = str(max(16, os.cpu_count() or 1))


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"attractor.{name}")
    raise AttributeError(f"module 'attractor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES, "__version__"])
