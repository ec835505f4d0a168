"""Findings: what is wrong, by which number, how sure that is, what supports it, and what to try."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attractor.diagnosis.signs import Signs
from attractor.places import write_atomically


@dataclass
class Trial:
    """A remedy tried: a short run with it beside the same run without.

    Attributes:
        remedy: What was changed.
        without: The loss at the end as things are (mean over the last tenth of the steps).
        with_remedy: The same with the change.
        steps: Of each run.
    """

    remedy: str
    without: float
    with_remedy: float
    steps: int

    @property
    def helped(self) -> bool:
        """Whether the loss ended at least 5 % lower, or finite where it was not."""
        if not math.isfinite(self.with_remedy):
            return False
        return not math.isfinite(self.without) or self.with_remedy < self.without - 0.05 * abs(self.without)


@dataclass
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        name: Of the finding, as in the table of `attractor.diagnosis.RULES`.
        sentence: What was found, with its number.
        number: That it is judged by (NaN: it is so or not) …
        threshold: … and against what; it is past it, above or below.
        confidence: In (0, 1): by how much the number is past the threshold, one half at it; less where it may be
            harmless.
        where: Layer, operation or steps; empty: the whole.
        remedy: What to try.
        paper: Slug of a paper of the catalogue that explains it; empty: none.
        claim: A claim of that paper, by name.
        follows: Names of other findings that explain this one.
        trial: What trying the remedy gave.
    """

    name: str
    sentence: str
    number: float
    threshold: float
    confidence: float
    where: str = ""
    remedy: str = ""
    paper: str = ""
    claim: str = ""
    follows: list[str] = field(default_factory=list)
    trial: Trial | None = None

    @property
    def sure(self) -> str:
        """The confidence in a word."""
        return "sure" if self.confidence >= 0.9 else "likely" if self.confidence >= 0.65 else "possible"

    @property
    def support(self) -> str:
        """The paper and its verdict on record, in words; empty without a paper."""
        return _support(self.paper, self.claim)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        data: dict[str, Any] = asdict(self) | {"sure": self.sure, "support": self.support}
        if self.trial is not None:
            data["trial"] = asdict(self.trial) | {"helped": self.trial.helped}
        return _finite(data)


@dataclass
class Diagnosis:
    """Findings, the likeliest cause first, and what they were made from.

    Iterating gives the findings; printing shows them, and so does a notebook; `save` writes a page or JSON.
    """

    findings: list[Finding]
    signs: Signs

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __contains__(self, name: object) -> bool:
        return name in self.names or name in self.findings

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"{name!r} was not found; findings: {', '.join(self.names) or 'none'}")

    @property
    def names(self) -> list[str]:
        """The findings' names, the likeliest cause first."""
        return [finding.name for finding in self.findings]

    def to_dict(self) -> dict[str, Any]:
        """``{findings, numbers, layers, notes}``, as JSON can hold it."""
        layers = {name: asdict(layer) for name, layer in self.signs.layers.items()}
        return _finite({
            "kind": self.signs.kind, "findings": [f.to_dict() for f in self.findings], "numbers": self.signs.numbers,
            "layers": layers, "notes": self.signs.notes,
        })  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write an HTML page (``….html``), or JSON (``….json``), to a local file or any fsspec URL; returns where.

        Raises:
            ValueError: for another ending.
        """
        ending = Path(path).suffix.lower()
        if ending == ".json":
            text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
        elif ending in (".html", ".htm"):
            from attractor.diagnosis.page import render

            text = render(self)
        else:
            raise ValueError(f"path: expected a name that ends in .html or .json, got {path!r}")
        write_atomically(path, lambda file: file.write(text.encode()))
        return os.fspath(path)

    def __str__(self) -> str:
        if not self.findings:
            return "\n".join(["Nothing stands out.", *self._notes()])
        lines = []
        for i, f in enumerate(self.findings, 1):
            lines.append(f"{i}. {f.name} ({f.sure}): {f.sentence}")
            if f.follows:
                lines.append(f"   May follow from: {', '.join(f.follows)}.")
            if f.remedy:
                lines.append(f"   Try: {f.remedy}")
            if f.trial is not None:
                lines.append(f"   Tried: {told(f.trial)}")
            if f.support:
                lines.append(f"   See: {f.support}")
        return "\n".join([*lines, *self._notes()])

    def _notes(self) -> list[str]:
        return [f"{'Note' if self.signs.kind == 'log' else 'Not looked at'}: {note}" for note in self.signs.notes]

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from attractor.diagnosis.page import fragment

        return fragment(self)


def told(trial: Trial) -> str:
    """A trial in words."""
    losses = f"loss {trial.with_remedy:.4g} after {trial.steps} steps, {trial.without:.4g} without"
    return f"{trial.remedy}: {losses}: {'it helps' if trial.helped else 'no help'}"


def _support(paper: str, claim: str) -> str:
    if not paper:
        return ""
    from attractor.papers import find, record

    title, kept = find(paper).title, record.read(paper)
    if kept is None or claim not in kept.quick:
        return f"{title} (attractor show {paper})"
    return f"{title}; our check of “{kept.quick[claim].statement}”: {kept.outcome(claim)} (attractor show {paper})"


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _finite(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(v) for v in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
