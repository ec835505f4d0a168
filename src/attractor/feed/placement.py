"""Placement: what a paper that came in is near to: papers of the catalogue, what runs here, its room, how new it is.

Nothing here imports JAX: what runs is read from the catalogue and from the problems' source text.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import attractor
from attractor.feed.entry import Entry
from attractor.feed.library import slug_of
from attractor.feed.meaning import Array, embed, text_of
from attractor.papers import ROOMS, catalogue, written

NEAR = 0.25  # least likeness at which one paper is near another; of two papers of the catalogue, 1 pair in 80 is
RIDGE = 1.0  # finds the room of 76 % of the catalogue's papers, each left out; of 67 % where topics knew none of them
NEAR_PROBLEM = 0.35
NEAR_RUNS = 0.4  # at which what runs for the one is worth naming for the other
PARTS_EACH, PARTS = 3, 8  # named of each paper, and in all
NEAREST = 5


@dataclass(frozen=True)
class Placement:
    """Where a paper stands.

    Attributes:
        room: A key of `attractor.papers.ROOMS`; `None` where nothing in the catalogue is near.
        papers: The nearest papers of the catalogue, by slug, with their likenesses in [0, 1].
        parts: What of the near papers runs here, as import paths below ``attractor``.
        problems: Registered problems that are near, by name.
        novelty: The share of the catalogue's papers that have a nearer neighbor than this has, in [0, 1]: 1 is like
            nothing here; 0 for a paper of the catalogue.
    """

    room: str | None
    papers: tuple[tuple[str, float], ...]
    parts: tuple[str, ...]
    problems: tuple[str, ...]
    novelty: float

    def explained(self) -> str:
        """How new it is, in words."""
        if not self.papers:
            return "like nothing in the catalogue"
        slug, likeness = self.papers[0]
        if likeness > 0.999:
            return f"in the catalogue: {slug}"
        return f"nearest: {slug} ({likeness:.2f}); {self.novelty:.0%} of the catalogue's papers have a nearer neighbor"

    def asdict(self) -> dict[str, Any]:
        """Its fields, as JSON takes them, and ``explained``."""
        papers = [{"slug": slug, "likeness": round(likeness, 4)} for slug, likeness in self.papers]
        lists = {"parts": list(self.parts), "problems": list(self.problems)}
        return {"room": self.room, "papers": papers, **lists, "novelty": self.novelty, "explained": self.explained()}


def place(entry: Entry) -> Placement:
    """Place a paper among those of the catalogue; one that is in it stands where it stands there."""
    own, vector = slug_of(entry), embed([text_of(entry)])[0]
    _, vectors, neighbors = _catalogue()
    near = nearest(vector)
    if own:
        near = [(own, 1.0), *((slug, likeness) for slug, likeness in near if slug != own)][:NEAREST]
    room = catalogue()[own].room if own else rooms(vector[None])[0]
    novelty = 0.0 if own else float((neighbors > (vectors @ vector).max()).mean())
    return Placement(
        room,
        tuple(near),
        runs([slug for slug, likeness in near if likeness >= NEAR_RUNS]),
        _problems_near(vector),
        novelty,
    )


def nearest(vector: Array, limit: int = NEAREST) -> list[tuple[str, float]]:
    """The papers of the catalogue nearest to a vector, as `embed` makes it, that are near, with their likenesses."""
    slugs, vectors, _ = _catalogue()
    likeness = np.minimum(vectors @ vector, 1.0)
    order = np.argsort(-likeness, kind="stable")[:limit]
    return [(slugs[i], float(likeness[i])) for i in order if likeness[i] >= NEAR]


def rooms(vectors: Array) -> list[str | None]:
    """The rooms of papers by their vectors [n, d], as `embed` makes them; `None` where nothing is near.

    By ridge regression on the catalogue's papers.
    """
    _, known, _ = _catalogue()
    scores, near = vectors @ _room_weights(), (vectors @ known.T).max(axis=1, initial=0.0) >= NEAR
    names = tuple(ROOMS)
    return [names[i] if n else None for i, n in zip(scores.argmax(axis=1), near, strict=True)]


def runs(slugs: Sequence[str]) -> tuple[str, ...]:
    """Parts of papers that somebody has made executable, as import paths below ``attractor``, in the papers' order."""
    parts = (part for slug in slugs if written(slug) for part in catalogue()[slug].parts[:PARTS_EACH])
    return tuple(dict.fromkeys(parts))[:PARTS]


@cache
def _catalogue() -> tuple[list[str], Array, Array]:
    """Slugs, vectors [n, d], and each paper's likeness to its nearest neighbor [n]."""
    papers = catalogue().values()
    vectors = embed([f"{p.title}. {p.title}. {p.gist} {p.claim}" for p in papers])
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    return [p.slug for p in papers], vectors, likeness.max(axis=1)


@cache
def _room_weights() -> Array:
    """[d, rooms]; not centered, so that a room with many papers is no guess for text that says nothing."""
    _, vectors, _ = _catalogue()
    names = list(ROOMS)
    wanted = np.eye(len(names))[[names.index(p.room) for p in catalogue().values()]]
    return np.linalg.solve(vectors.T @ vectors + RIDGE * np.eye(vectors.shape[1]), vectors.T @ wanted)


def _problems_near(vector: Array) -> tuple[str, ...]:
    names, vectors = _problems()
    likeness = vectors @ vector
    return tuple(names[i] for i in np.argsort(-likeness, kind="stable")[:3] if likeness[i] >= NEAR_PROBLEM)


@cache
def _problems() -> tuple[list[str], Array]:
    """Names and vectors of the registered problems, from the decorators and docstrings in the source."""
    found: dict[str, str] = {}
    for file in sorted(Path(attractor.__file__).parent.glob("*/*.py")):
        text = file.read_text(encoding="utf-8")
        if "problem(" not in text:
            continue
        for node in ast.parse(text).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) in ("problem", "registry.problem"):
                    name = ast.literal_eval(mark.args[0])
                    told = (ast.get_docstring(node) or "").split("Arguments:")[0]
                    found[name] = f"{name.replace('-', ' ')}. {told}"
    return list(found), embed(list(found.values()))
