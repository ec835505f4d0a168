"""The application: what it holds, how pages are made and kept, how errors look."""

import asyncio
import contextlib
import gzip
import hashlib
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from attractor import store
from attractor.papers import sources
from attractor.places import write_atomically
from attractor.web import incoming, jobs, views
from attractor.web.catalogue import Shelves
from attractor.web.safety import LOCAL, PLACE, Guard, Limit, Tokens

KEPT = 1_000  # pages in memory
SOON = 1.0  # seconds that the first page is waited for, and a page for the registry
API = "/api/"


@dataclass(frozen=True)
class Settings:
    """How a server is run.

    Attributes:
        home: Where it keeps what it makes; default: ``web`` under `attractor.store.home`.
        hosts: Names that it answers to, in any case those of this machine.
        public: Whether strangers read it: no work is started, no follows change, no diagnoses are shown.
        base_url: Its address in mails and feeds; default: as asked.
    """

    home: Path | None = None
    hosts: tuple[str, ...] = ()
    public: bool = False
    base_url: str = ""


@dataclass
class Page:
    """A page that was made: its bytes, and the same compressed, unless each visitor's differ."""

    stamp: tuple
    body: bytes
    status: int
    packed: bytes | None = None
    etag: str = ""


class House:
    """What a server holds.

    Arguments:
        settings: How it is run.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.home = settings.home or Path(store.home()) / "web"
        self.shelves, self.jobs, self.tokens = Shelves(), jobs.Jobs(self.home / "jobs"), Tokens()
        self.limits = {"subscribe": Limit(5, 3600), "work": Limit(20, 600), "change": Limit(120, 600)}
        self.registry: dict[str, list[dict[str, Any]]] = {"methods": [], "problems": []}
        self.loaded = asyncio.Event()
        self.shown, self.warm, self.stale_known = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.trouble = ""
        self._pages: OrderedDict[tuple, Page] = OrderedDict()
        self._making: dict[tuple, asyncio.Task[Page]] = {}

    async def page(self, request: Request, make: Callable[[], views.View]) -> Response:
        """A page that depends on files and address only: made once, and again when a file has changed."""
        kept, key = self.kept(request.scope), _key(request.scope)
        if kept is None:
            if key not in self._making:  # many may ask for it at the same time
                made = asyncio.create_task(self._make(key, make))
                self._making[key] = made
                made.add_done_callback(lambda _: self._making.pop(key))
            kept = await asyncio.shield(self._making[key])
        return self.send(request, kept)

    async def _make(self, key: tuple, make: Callable[[], views.View]) -> Page:
        stamp = self._stamp()
        view = await run_in_threadpool(make)
        html = await run_in_threadpool(self.render, view, key[0])
        made = Page(stamp, html.encode(), view.status)
        if PLACE not in html:
            made.packed = await run_in_threadpool(gzip.compress, made.body, 6, mtime=0)
            made.etag = f'"{hashlib.sha256(made.body).hexdigest()[:24]}"'
        self._pages[key] = made
        self.shown.set()
        if len(self._pages) > KEPT:
            self._pages.popitem(last=False)
        return made

    def kept(self, scope: Scope) -> Page | None:
        """The page at this address, if it was made and nothing has changed since."""
        found = self._pages.get(_key(scope))
        return found if found is not None and found.stamp == self._stamp() else None

    def _stamp(self) -> tuple:
        return (*self.shelves.stamp(), self.loaded.is_set(), self.warm.is_set())

    def render(self, view: views.View, root: str) -> str:
        """A page of a server that stands at ``root``."""
        return view.render(root.__add__, public=self.settings.public, token=PLACE, static=False)

    def send(self, request: Request, page: Page) -> Response:
        """A page as this visitor gets it."""
        if page.packed is None:
            return self.fresh(request, page.body.decode(), page.status)
        headers = {"etag": page.etag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == page.etag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return HTMLResponse(page.packed, page.status, headers | {"content-encoding": "gzip"})
        return HTMLResponse(page.body, page.status, headers)

    def fresh(self, request: Request, html: str, status: int = 200) -> Response:
        """A page with the visitor's own token in its forms."""
        visitor, new = self.tokens.visitor(request)
        response = HTMLResponse(html.replace(PLACE, self.tokens.of(visitor)), status, {"cache-control": "no-store"})
        if new and PLACE in html:
            self.tokens.remember(response, visitor, request)
        return response

    def show(self, request: Request, view: views.View) -> Response:
        """A page that is not kept."""
        root = request.scope.get("root_path", "")
        html = self.render(view, root)
        return self.fresh(request, html, view.status)

    async def load(self) -> None:
        """The registry's rows, from a process of their own: loading all rooms takes seconds and JAX."""
        kept = self.home / "registry.json"
        version = _version()
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(kept.read_text(encoding="utf-8"))
            if found["version"] == version:
                self.registry = found
                self.loaded.set()
                return
        if rows := await self._ask("registry"):
            self.registry = rows
            text = json.dumps({**rows, "version": version})
            await run_in_threadpool(write_atomically, kept, lambda file: file.write(text.encode()))
        self.loaded.set()

    async def ready(self) -> bool:
        """Whether the registry's rows are there; waits for them as long as a reader does without asking why."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.loaded.wait(), SOON)
        return self.loaded.is_set()

    async def find_stale(self) -> None:
        """What later pages need is read; then every paper's status is found out, in a process of its own."""
        with contextlib.suppress(TimeoutError):  # who waits for the first page comes before
            await asyncio.wait_for(self.shown.wait(), SOON)
        await run_in_threadpool(_warm)
        self.warm.set()
        told = await self._ask("stale")
        self.shelves.know(told.get("states", {}))
        self.stale_known.set()

    async def _ask(self, kind: str) -> dict[str, Any]:
        """What a worker answers; without an answer, `trouble` says why."""
        told: dict[str, Any] = {}

        async def heard(event: dict[str, Any]) -> None:
            told.update(event)

        await jobs.run({"kind": kind}, self.home, lambda _: None, heard)
        if told.pop("event", "") != "result":
            self.trouble = f"a worker for {kind} failed: {told.get('message', 'its process ended')}"
            return {}
        return told


class Keeper:
    """Answers with a page that is kept, before anything else is asked.

    Arguments:
        app: What answers else.
        house: What is kept.
    """

    def __init__(self, app: ASGIApp, house: House):
        self.app, self.house = app, house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            kept = self.house.kept(scope)
            if kept is not None:
                request = Request(scope)
                return await self.house.send(request, kept)(scope, receive, send)
        return await self.app(scope, receive, send)


def _key(scope: Scope) -> tuple:
    return scope.get("root_path", ""), scope["path"], scope["query_string"]


def _version() -> str:
    """Of all sources: what was read from others is read again."""
    files = [(str(p), p.stat().st_mtime_ns) for p in sorted(sources.ROOT.rglob("*.py")) if "/papers/" not in str(p)]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


def create(settings: Settings | None = None) -> FastAPI:
    """The application, as an ASGI server takes it.

    Arguments:
        settings: How it is run.
    """
    from attractor.web import api, pages

    house = House(settings or Settings())
    _prepare(house)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        house.home.mkdir(parents=True, exist_ok=True)
        house.jobs.load()
        tasks = [asyncio.create_task(work) for work in (house.jobs.work(), house.load(), house.find_stale())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await house.jobs.stop()

    app = FastAPI(
        title="attractor", version="1", summary="Papers on how learning converges, and what was measured of them.",
        openapi_url="/api/v1/openapi.json", docs_url=None, redoc_url=None, lifespan=life,
    )  # fmt: skip
    app.state.house = house
    app.include_router(api.router)
    app.router.routes.extend(pages.routes(house))
    app.add_exception_handler(HTTPException, partial(_failed, house))
    app.add_exception_handler(RequestValidationError, partial(_invalid, house))
    app.add_exception_handler(Exception, partial(_broke, house))
    app.add_middleware(Keeper, house=house)
    app.add_middleware(Guard, hosts=(*LOCAL, *house.settings.hosts))
    return app


def _prepare(house: House) -> None:
    """Read the record and the first page's templates: the least that nobody should wait for."""
    house.shelves.now()
    for name in ("today.html", "base.html", "_macros.html"):
        views.environment().get_template(name)


def _warm() -> None:
    """Read what other pages and the first search need, and place the papers that came in."""
    from attractor.papers.search import search

    for name in views.environment().list_templates():
        views.environment().get_template(name)
    search("warm")
    incoming.front()
    incoming.search("warm")


async def _failed(house: House, request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if _is_api(request):
        return JSONResponse({"detail": error.detail}, error.status_code, headers)
    response = house.show(request, views.View("error.html", {"here": "", "message": error.detail}, error.status_code))
    response.headers.update(headers)
    return response


async def _invalid(house: House, request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors())
    return JSONResponse({"detail": told}, 422)


async def _broke(house: House, request: Request, error: Exception) -> Response:
    """A mistake of ours: the server's log has the traceback, and the visitor one sentence."""
    message = "This should not have happened. The server's log says more."
    if _is_api(request):
        return JSONResponse({"detail": message}, 500)
    return house.show(request, views.View("error.html", {"here": "", "message": message}, 500))


def _is_api(request: Request) -> bool:
    return request.scope["path"].removeprefix(request.scope.get("root_path", "")).startswith(API)
