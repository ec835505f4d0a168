"""The catalogue: one row of data a paper, read from ``catalogue.jsonl``. Standard library only: it loads at once.

A row's keys are the fields of `Paper`; what is not known of a paper is null.
"""

import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from attractor.names import unknown

PATH = Path(__file__).with_name("catalogue.jsonl")

ROOMS = {
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


@dataclass(frozen=True)
class Paper:
    """One row of the catalogue: what is known of a paper, in our own words but for its title.

    Attributes:
        slug: Its short name, lower case with hyphens; unique.
        title: As published, in plain text.
        year: Of its first version on arXiv, or of publication; `None` where unknown.
        arxiv: Its arXiv number, such as ``"2006.00719"``; `None` where unknown.
        authors: Their names in order, given name first; empty where unknown.
        room: Where its method lives in the package, a key of `ROOMS`.
        kind: ``method``, ``theory``, ``phenomenon``, ``application``, ``survey``, ``benchmark`` or ``position``.
        gist: What it does, in one sentence.
        claim: What it says holds.
        headline: The figure it is known for, or ``""``.
        parts: What the package offers for it, as import paths below ``attractor``; for a paper that nobody has
            tried yet, what is to be built, with arguments.
    """

    slug: str
    title: str
    year: int | None
    arxiv: str | None
    authors: tuple[str, ...]
    room: str
    kind: str
    gist: str
    claim: str
    headline: str
    parts: tuple[str, ...]

    @property
    def link(self) -> str:
        """The address of its abstract on arXiv; ``""`` where its number is unknown."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""


def catalogue() -> dict[str, Paper]:
    """All papers by slug, ordered by room and slug; a fresh dict on each call."""
    return dict(_papers())


def find(slug: str) -> Paper:
    """The paper with this slug.

    Raises:
        ValueError: if there is none; the message suggests the nearest slug.
    """
    papers = _papers()
    if slug not in papers:
        raise unknown("paper", slug, papers, "search the catalogue to find one")
    return papers[slug]


@cache
def _papers() -> dict[str, Paper]:
    return read(PATH)


def read(path: Path) -> dict[str, Paper]:
    """The papers of a file with one row of JSON a line, by slug.

    Raises:
        ValueError: if a row has other keys than `Paper`, an unknown room, or a slug again.
    """
    papers: dict[str, Paper] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            paper = _paper(json.loads(line))
            if paper.slug in papers:
                raise ValueError(f"slug {paper.slug!r} occurs twice")
        except ValueError as error:
            raise ValueError(f"{path.name}:{number}: {error}") from error
        papers[paper.slug] = paper
    return papers


def _paper(row: dict[str, Any]) -> Paper:
    expected = [field.name for field in fields(Paper)]
    if row.keys() != set(expected):
        raise ValueError(f"expected the keys {', '.join(expected)}, got {', '.join(row)}")
    if row["room"] not in ROOMS:
        raise unknown("room", row["room"], ROOMS, f"rooms: {', '.join(ROOMS)}")
    return Paper(**{**row, "authors": tuple(row["authors"] or ()), "parts": tuple(row["parts"])})
