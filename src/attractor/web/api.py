"""The JSON API: the objects that the command line prints with ``--json``."""

import re
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, HTTPException, Path, Query, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from attractor.feed import Library
from attractor.papers import ROOMS, find, rows
from attractor.papers.citation import bibtex
from attractor.papers.record import Status
from attractor.web import incoming, orders
from attractor.web.jobs import Full, Job

Rows = list[dict[str, Any]]
Row = dict[str, Any]
Room = Annotated[str | None, Query(pattern=f"^({'|'.join(ROOMS)})$", description="A room of the house.")]
Slug = Annotated[str, Path(description="A paper's short name.", max_length=100, examples=["adahessian"])]
Number = Annotated[str, Path(description="A job's id.", pattern="^[0-9a-f]{16}$")]


def _whole(given: Any) -> Any:
    """JSON's 8.0 is the whole number 8."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


def _day(given: Any) -> Any:
    """Seconds since 1970, which pydantic takes for a date, are none here."""
    if isinstance(given, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", given):
        raise ValueError("expected a day such as 2026-01-31")
    return given


Whole = Annotated[int, BeforeValidator(_whole)]
Day = Annotated[date, BeforeValidator(_day)]


class Problem(BaseModel):
    """What went wrong, in one sentence."""

    detail: str


class CheckOrder(BaseModel):
    """Run the claims of a paper."""

    model_config = ConfigDict(extra="forbid")
    slug: str = Field(max_length=100, examples=["adahessian"])


class CompareOrder(BaseModel):
    """Tune every method with the same budget, and measure the winners on fresh seeds."""

    model_config = ConfigDict(extra="forbid", strict=True)  # the string "8" is no number
    problem: str = Field(max_length=100, examples=["digits-mlp"])
    methods: list[Annotated[str, Field(max_length=100)]] = Field(min_length=1, max_length=orders.METHODS)
    steps: Whole = Field(0, ge=0, le=orders.LIMITS["steps"][1], description="0: the problem's own.")
    seeds: Whole = Field(8, ge=orders.LIMITS["seeds"][0], le=orders.LIMITS["seeds"][1])
    budget: Whole = Field(8, ge=orders.LIMITS["budget"][0], le=orders.LIMITS["budget"][1])


def answers(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The errors that an operation may answer."""
    return {code: {"model": Problem} for code in (400, 422, *codes)}


def house(request: Request) -> Any:
    """What the server holds."""
    return request.app.state.house


House = Annotated[Any, Depends(house)]
router = APIRouter(prefix="/api/v1")


@router.get("/papers", tags=["papers"], responses=answers())
async def list_papers(
    house: House,
    query: Annotated[str | None, Query(max_length=300, description="Words or a sentence.")] = None,
    room: Room = None,
    status: Status | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
) -> Rows:
    """Papers found by meaning: `attractor papers QUERY --json`."""
    await house.stale_known.wait()
    return await _given(rows.papers, query, room, status, limit, house.shelves.now().states)


@router.get("/papers/{slug}", tags=["papers"], responses=answers(404))
async def show_paper(house: House, slug: Slug) -> Row:
    """What a paper claims, and what was measured: `attractor show SLUG --json`."""
    return await _given(rows.details, slug)


@router.get("/papers/{slug}/bibtex", tags=["papers"], responses={200: {"content": {"text/plain": {}}}, **answers(404)})
async def cite_paper(slug: Slug) -> Response:
    """A paper as BibTeX: `attractor cite SLUG`."""
    return PlainTextResponse(await _given(lambda: bibtex(find(slug))))


@router.get("/rooms", tags=["papers"])
async def list_rooms() -> dict[str, str]:
    """The rooms of the house, and what each is about."""
    return ROOMS


@router.get("/methods", tags=["registry"], responses=answers(404))
async def list_methods(house: House, room: Room = None) -> Rows:
    """The registered methods: `attractor methods --json`."""
    await house.loaded.wait()
    return [m for m in house.registry["methods"] if room in (None, m["room"])]


@router.get("/problems", tags=["registry"])
async def list_problems(house: House) -> Rows:
    """The registered problems: `attractor problems --json`."""
    await house.loaded.wait()
    return house.registry["problems"]


@router.get("/feed", tags=["feed"], responses=answers())
async def list_feed(
    source: Annotated[str | None, Query(max_length=100, description="Only what this source told of.")] = None,
    day: Annotated[Day | None, Query(description="Only what was told of on this day.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 30,
) -> Rows:
    """Papers that came in, newest first: `attractor feed list --json`."""

    def newest(library: Library) -> Rows:
        return [library.row(s) for s in library.newest(source, day and day.isoformat(), limit)]

    return await run_in_threadpool(_feed, newest, [])


def _feed(answer: Callable[[Library], Any], without: Any) -> Any:
    """What the feed answers; where there is none, none is made."""
    if not incoming.exists():
        return without
    with Library() as library:
        return answer(library)


@router.get("/follows", tags=["feed"])
async def list_follows() -> Rows:
    """What is followed: `attractor follow list --json`."""
    from attractor.feed import follows

    return await run_in_threadpool(_feed, lambda library: [f.asdict() for f in follows.every(library)], [])


@router.get("/feed/status", tags=["feed"])
async def feed_status(house: House) -> Row:
    """How the sources fare: `attractor feed status --json`; `{"ok": null}` where there is no feed."""
    return await run_in_threadpool(incoming.fares, house.settings.public) or {"ok": None}


@router.get("/jobs", tags=["work"])
async def list_jobs(house: House) -> Rows:
    """What was asked to be done, newest first."""
    return [_job(j) for j in house.jobs.every("check", "compare")]


@router.get("/jobs/{number}", tags=["work"], responses=answers(404))
async def show_job(house: House, number: Number) -> Row:
    """How far a job is, and what came of it."""
    return _job(_find(house, number))


@router.delete("/jobs/{number}", tags=["work"], responses=answers(403, 404, 429))
async def cancel_job(house: House, number: Number, request: Request) -> Row:
    """Cancel a job; one that is done stays as it is."""
    _may(house, request, "change")
    found = _find(house, number)
    await house.jobs.cancel(found)
    return _job(found)


@router.post("/checks", tags=["work"], status_code=202, responses=answers(403, 404, 413, 429))
async def check(house: House, order: Annotated[CheckOrder, Body()], request: Request) -> Row:
    """Run a paper's claims here; the job tells how it goes."""
    _may(house, request, "work")
    return _submit(house, await _given(orders.check, order.slug))


@router.post("/comparisons", tags=["work"], status_code=202, responses=answers(403, 404, 413, 429))
async def compare(house: House, order: Annotated[CompareOrder, Body()], request: Request) -> Row:
    """Compare methods on a problem here; the job tells how it goes."""
    _may(house, request, "work")
    await house.loaded.wait()
    return _submit(house, await _given(lambda: orders.compare(house.registry, **order.model_dump())))


def _may(house: Any, request: Request, limit: Literal["work", "change"]) -> None:
    if house.settings.public:
        raise HTTPException(403, "Visitors start no work here: the server was started with --public.")
    # A form on another site can send text, and only a script of this site JSON.
    if request.method == "POST" and "json" not in request.headers.get("content-type", ""):
        raise HTTPException(422, "expected content-type application/json")
    house.limits[limit].check(request)


def _submit(house: Any, order: dict[str, Any]) -> Row:
    try:
        return _job(house.jobs.submit(order))
    except Full as error:
        raise HTTPException(429, str(error), {"Retry-After": "60"}) from error


def _find(house: Any, number: str) -> Job:
    found = house.jobs.get(number)
    if found is None or found.order["kind"] == "diagnose":
        raise HTTPException(404, f"no job {number}")
    return found


def _job(job: Job) -> Row:
    data = job.asdict()
    kind = data["order"]["kind"]
    address = {"report": f"/jobs/{job.id}/report"} if kind == "compare" and job.state == "done" else {}
    return {**data, **address}


async def _given(make: Any, *given: Any) -> Any:
    """What the library answers; what it refuses is the caller's mistake."""
    try:
        return await run_in_threadpool(make, *given)
    except LookupError as error:
        raise HTTPException(404, str(error)) from error
    except ValueError as error:
        raise HTTPException(404 if str(error).startswith("unknown ") else 400, str(error)) from error
