"""What is on record of a paper's claims, and how a page writes it down."""

import re
from functools import cache
from typing import Any

from attractor.papers import Verdict, record

SPECIAL = re.compile(r"[\\`*_{}\[\]<>&$|~^#]")


def claims(slug: str) -> list[dict[str, Any]]:
    """A paper's claims, in the record's order; empty if none has been tried.

    This is the one place that knows the record's format. Every claim has ``name``, ``statement``, ``outcome``,
    ``value`` with its bounds ``low`` and ``high`` (`None` where not finite), ``threshold`` with ``direction`` and
    ``source``, ``broken`` (a list of ``name``, ``became``, ``value``), ``cases``, ``notes`` (a list), and ``where`` it
    ran.
    """
    known = _record(slug)
    return [] if known is None else [_claim(known, verdict) for verdict in known.quick.values()]


def _claim(known: record.Record, verdict: Verdict) -> dict[str, Any]:
    again, full = known.replicated(verdict.claim), known.full.get(verdict.claim)
    unmet = [name for name, met in verdict.given.items() if not met]
    notes = [
        verdict.note,
        f"Not met: {', '.join(unmet)}" if unmet else "",
        f"Replicated {again[0]} of {again[1]} times on other seeds" if again else "",
        f"In full: {full[0].verdict}, {'not finite' if full[0].value is None else f'{full[0].value:.3g}'}"
        if full
        else "",
    ]
    return {
        "name": verdict.claim,
        "statement": verdict.statement,
        "outcome": known.outcome(verdict.claim),
        "value": verdict.value,
        "low": verdict.low,
        "high": verdict.high,
        "threshold": verdict.threshold,
        "direction": verdict.direction,
        "source": verdict.source,
        "broken": [{"name": b["name"], "became": _became(b), "value": b["value"]} for b in verdict.broken],
        "cases": verdict.cases,
        "notes": [note for note in notes if note],
        "where": ", ".join([known.machine, *(f"{k} {v}" for k, v in known.versions.items())]),
    }


def _became(variant: dict[str, Any]) -> str:
    if variant["verdict"] in ("holds", "error"):
        return "not caught"
    return "caught" if variant["informative"] else "not informative"


@cache
def _record(slug: str) -> record.Record | None:
    return record.read(slug)


def status(slug: str) -> str:
    """A paper's count, such as ``3 of 4 hold``; ``""`` if no claim has been tried."""
    known = _record(slug)
    return record.summary(known) if known else ""


def outcome(claim: dict[str, Any]) -> str:
    """In one word, bold unless it holds."""
    return claim["outcome"] if claim["outcome"] == "holds" else f"**{claim['outcome']}**"


def measured(claim: dict[str, Any]) -> str:
    """The value, and its interval where it has one."""
    value, low, high = claim["value"], claim["low"], claim["high"]
    if value is None:
        return "not finite"
    bounds = ["−∞" if low is None else f"{low:.3g}", "∞" if high is None else f"{high:.3g}"]
    return f"{value:.3g}" if low == high else f"{value:.3g} [{', '.join(bounds)}]"


def needed(claim: dict[str, Any]) -> str:
    """The threshold, and where it is from."""
    if claim["threshold"] is None:
        return "–"
    bar = claim["threshold"]
    number = " … ".join(f"{b:g}" for b in bar) if isinstance(bar, list) else f"{bar:g}"
    return f"{claim['direction']} {number}" + (f" ({claim['source']})" if claim["source"] else "")


def plain(text: str) -> str:
    """Text of which Markdown takes nothing for markup."""
    return SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a bar inside a cell does not end it."""

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(c.replace('|', '&#124;') for c in cells)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])
