"""The catalog of papers: one row of data each, read from `catalogue.jsonl`. Standard library only."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

PATH: Final = Path(__file__).with_name("catalogue.jsonl")

ROOMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "optim": "first-order minimization: adaptive methods, schedules, momentum, nonsmooth losses",
        "second_order": "Newton, Gauss-Newton, natural gradient, K-FAC and other curvature-aware methods",
        "games": "minimax problems, variational inequalities, equilibria and bilevel optimization",
        "blackbox": "zeroth-order, constrained, Bayesian and learned optimization",
        "distributed": "federated, decentralized, compressed and Byzantine-robust training",
        "credit": "gradients without backpropagation, and estimators where it does not apply",
        "landscape": "tangent kernels, sharpness, neural collapse, implicit bias and scaling laws",
        "nn": "activations, units, layers, quantization and sequence models",
        "operators": "neural operators: learned maps between function spaces",
        "physics": "physics-informed networks, reduced-order models, conservation laws and simulators",
        "dynamics": "chaos, Koopman operators, Lyapunov functions and integrators",
        "linalg": "linear systems, fixed points, matrix functions and transport solvers",
        "rl": "reinforcement learning, offline RL, bandits and control",
        "generative": "diffusion, flows, adversarial generators and bridges",
        "categories": "lenses, reverse derivatives and other categorical accounts of learning",
        "representation": "clustering, continual learning, associative memory and embeddings",
    }
)


@dataclass(frozen=True)
class Paper:
    """One row of the catalog; every field is text in our own words, except for the paper's own title.

    Args:
        slug: the paper's short name, lower case with hyphens; unique.
        title: the title as published.
        room: where its method lives in the package, a key of `ROOMS`.
        kind: "method", "theory", "phenomenon", "application", "survey", "benchmark" or "position".
        gist: what it does, in one sentence.
        claim: what it says holds.
        headline: the figure it is known for, or "".
        parts: what the package offers for it, as import paths below `attractor` with their arguments.
    """

    slug: str
    title: str
    room: str
    kind: str
    gist: str
    claim: str
    headline: str
    parts: tuple[str, ...]


_FIELDS: Final = {field.name for field in fields(Paper)}


class UnknownPaperError(ValueError):
    """No paper has the slug asked for."""


@cache
def _rows() -> Mapping[str, Paper]:
    papers: dict[str, Paper] = {}
    for number, line in enumerate(PATH.read_text(encoding="utf-8").splitlines(), start=1):
        row: dict[str, Any] = json.loads(line)
        at = f"{PATH.name}:{number}"
        if row.keys() != _FIELDS:
            raise ValueError(f"{at}: keys must be {', '.join(sorted(_FIELDS))}, got {', '.join(row)}")
        paper = Paper(**{**row, "parts": tuple(row["parts"])})
        if paper.slug in papers:
            raise ValueError(f"{at}: slug {paper.slug!r} occurs twice")
        if paper.room not in ROOMS:
            raise ValueError(f"{at}: room must be one of {', '.join(ROOMS)}, got {paper.room!r}")
        papers[paper.slug] = paper
    return papers


def catalogue() -> dict[str, Paper]:
    """All papers by slug, ordered by room and slug; read once, and a fresh dict on each call.

    Raises:
        ValueError: a row of `catalogue.jsonl` has other keys than `Paper`, an unknown room, or a slug again.
    """
    return dict(_rows())


def find(slug: str) -> Paper:
    """The paper with this slug.

    Raises:
        UnknownPaperError: there is none; the message suggests the nearest slugs.
    """
    papers = _rows()
    if slug in papers:
        return papers[slug]
    near = difflib.get_close_matches(slug.strip().lower().replace("_", "-"), papers, n=3, cutoff=0.6)
    hint = f", did you mean {' or '.join(map(repr, near))}?" if near else "; search the catalog to find one"
    raise UnknownPaperError(f"unknown paper {slug!r}{hint}")
