"""The command that runs claims: ``check``."""

import io
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from attractor.cli.common import AsJson, app, err, known_rooms, out, print_json
from attractor.cli.papers import print_verdict
from attractor.names import unknown
from attractor.papers import OUTCOMES, Verdict, catalogue, check, find, module_of, record, rows, written
from attractor.papers.claims import claims_of
from attractor.papers.record import Record
from attractor.papers.sources import ROOT, Sources
from attractor.places import require_writable


@app.command(
    name="check",
    epilog="Examples: attractor check fno gae   ·   attractor check --room optim --jobs 2   ·   "
    "attractor check --all --backend ray --address head:6379",
)
def check_command(
    slugs: Annotated[list[str] | None, typer.Argument(help="Papers to check.")] = None,
    claim: Annotated[list[str] | None, typer.Option(help="Only this claim of the paper; may be repeated.")] = None,
    room: Annotated[list[str] | None, typer.Option(help="All papers of a room; may be repeated.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every paper that has claims, oldest verdict first.")] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="Papers whose code changed since the record; fails if a verdict got worse.")
    ] = False,
    since: Annotated[str | None, typer.Option(help="Papers that a change since this git revision touches.")] = None,
    scale: Annotated[str, typer.Option(help="quick, or full (an hour on a workstation).")] = "quick",
    replication: Annotated[
        str | None, typer.Option(help="Other seeds: 1, 2, 3 …, or next: one more than is on record.")
    ] = None,
    more_seeds: Annotated[bool, typer.Option("--more-seeds", help="Four times the seeds, for a narrower interval.")] = (
        False
    ),
    minutes: Annotated[float | None, typer.Option(help="Begin no further paper after so many minutes.", min=0)] = None,
    jobs: Annotated[int, typer.Option(help="Papers at a time.", min=1)] = 1,
    backend: Annotated[str, typer.Option(help="local, or ray: a paper a core of a Ray cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="host:port of a running cluster; default: this machine's cores.")
    ] = None,
    save: Annotated[bool, typer.Option("--record", help="Write the project's own record, beside the claims.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run papers' claims, and the broken variants that must fail. Exit code 1 if a claim falls short."""
    # OpenBLAS' threads wait for each other in a loop, which multiplies the cost of small decompositions.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if backend == "ray" or (jobs > 1 and (os.cpu_count() or 1) <= jobs):  # a core for each process
        os.environ["PJRT_NPROC"] = "1"
    if scale not in ("quick", "full"):
        raise ValueError(f"--scale: expected quick or full, got {scale!r}")
    chosen = _chosen(slugs or [], room or [], every, stale, since)
    _known_claims(claim, slugs or [])
    missing = [s for s in chosen if not written(s)]
    if slugs and missing:
        err.print(f"no claim has been written yet for {', '.join(missing)}; see CONTRIBUTING.md to add one")
    chosen = [s for s in chosen if s not in missing]
    target = record.OFFICIAL if save else record.local()
    require_writable(target / "verdict.json", "--record" if save else "ATTRACTOR_HOME")
    before = {slug: record.read(slug) or Record(slug) for slug in chosen}
    if replication not in (None, "0") and save:
        outdated = [s for s in chosen if record.status(s, before[s]) in ("stale", "missing")]
        if outdated:
            raise ValueError(f"--replication: first record {', '.join(outdated)} anew, whose code has changed since")
    units = [(slug, _number(replication, before[slug])) for slug in chosen]
    verdicts: list[Verdict] = []
    how = {"scale": scale, "names": claim, "more_seeds": more_seeds}
    lost: list[str] = []  # papers that ended their process, killed for their memory say
    where = {"jobs": jobs, "backend": backend, "address": address, "lost": partial(_lost, lost)}
    for found in _run(units, how, where, minutes):
        record.write(found, target)  # paper by paper, so that an interruption loses nothing
        verdicts += found
        if not as_json:
            for verdict in found:
                out.print(f"[bold]{verdict.slug}[/] [dim]{verdict.claim}[/]", highlight=False)
                print_verdict(verdict)
    if as_json:
        print_json([rows.checked(v) for v in verdicts])
    else:
        counts = ", ".join(f"{sum(v.verdict == o for v in verdicts)} {o}" for o in OUTCOMES)
        out.print(f"{counts} · recorded in {target}", highlight=False)
    left = len(units) - len(lost) - len({(v.slug, v.replication) for v in verdicts})
    if minutes is not None and left > 0:
        err.print(f"{left} papers were left for another time (--minutes {minutes:g})")
    if stale or since:
        worse = [v for v in verdicts if _worse(v, before[v.slug])]
        for v in worse:
            err.print(f"worse than on record: {v.slug} {v.claim}: {v.verdict}", highlight=False)
        raise typer.Exit(1 if worse or lost else 0)
    raise typer.Exit(1 if (missing and slugs) or lost else int(any(v.verdict != "holds" for v in verdicts)))


def _lost(papers: list[str], unit: tuple[str, int], how: str) -> list[Verdict]:
    """Of a paper that ended its process whenever it was tried; the others go on."""
    papers.append(unit[0])
    err.print(f"{unit[0]}: its process ended ({how}); nothing is recorded of it", highlight=False)
    return []


def _worse(now: Verdict, before: Record) -> bool:
    """Whether a verdict is an error, or was better on record."""
    order = ["holds", "inconclusive", "void", "fails", "error"]
    then = before.quick.get(now.claim)
    return now.verdict == "error" or (then is not None and order.index(now.verdict) > order.index(then.verdict))


def _number(replication: str | None, known: Record) -> int:
    if replication is None:
        return 0
    if replication == "next":
        return 1 + max((r for runs in known.replications.values() for r in runs), default=0)
    if not replication.isdigit():
        raise ValueError(f"--replication: expected a number >= 0, or next, got {replication!r}")
    return int(replication)


def _chosen(slugs: list[str], rooms: list[str], every: bool, stale: bool, since: str | None) -> list[str]:
    for slug in slugs:
        find(slug)
    known_rooms(rooms)
    if not (slugs or rooms or every or stale or since):
        raise ValueError("nothing to check: name papers, or give --room ROOM, --stale, --since REV or --all")
    named = bool(slugs or rooms or every)
    chosen = [p.slug for p in catalogue().values() if not named or p.slug in slugs or p.room in rooms or every]
    if slugs and not (stale or since):
        return chosen
    chosen = [s for s in chosen if written(s)]
    if stale:
        chosen = [s for s in chosen if record.status(s) in ("stale", "missing")]
    if since:
        chosen = _touched(chosen, since)
    if every:
        known = record.read_all()
        chosen.sort(key=lambda s: known[s].oldest if s in known else "")
    return chosen


def _touched(slugs: list[str], revision: str) -> list[str]:
    """The papers whose hash differs from the one they have at a git revision."""
    command = ["git", "-C", str(ROOT), "archive", "--prefix=then/", revision, "."]
    archive = subprocess.run(command, capture_output=True)
    if archive.returncode:
        raise ValueError(f"--since: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        then, now = Sources(Path(folder) / "then"), Sources(ROOT)
        golden = [(root / "papers" / "golden.json") for root in (then.root, now.root)]
        core = [path.read_text(encoding="utf-8") if path.exists() else "" for path in golden]

        def differs(module: str) -> bool:
            try:
                return then.fingerprint(module, core[0]) != now.fingerprint(module, core[1])
            except ModuleNotFoundError:
                return True

        return [slug for slug in slugs if differs(module_of(slug))]


def _known_claims(names: list[str] | None, slugs: list[str]) -> None:
    if not names:
        return
    if len(slugs) != 1:
        raise ValueError("--claim: expected one paper, whose claims these are")
    listed = [c.name for c in claims_of(slugs[0])] if written(slugs[0]) else []
    for name in names:
        if name not in listed:
            raise unknown("claim", name, listed, f"{slugs[0]} has {', '.join(listed) or 'none yet'}")


def _run(
    units: list[tuple[str, int]], how: dict[str, Any], where: dict[str, Any], minutes: float | None
) -> Iterator[list[Verdict]]:
    """Yield each paper's verdicts as they come, with a bar; `spread` says where they may run."""
    from attractor.backends import spread
    from attractor.progress import task

    until = None if minutes is None else time.time() + 60 * minutes
    with task("checking claims", len(units), "paper") as advance:
        for _, found in spread(partial(_unit, how, until), units, **where):
            yield found
            advance(1)


def _unit(how: dict[str, Any], until: float | None, unit: tuple[str, int]) -> list[Verdict]:
    if until is not None and time.time() > until:
        return []
    slug, replication = unit
    return check(slug, replication=replication, **how)
