"""The pages as they are served, and the forms on them."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from attractor.feed import Library
from attractor.papers import ROOMS
from attractor.web import incoming, orders, runs, views
from attractor.web.jobs import Full, Job
from attractor.web.safety import FIELD, REPORT_POLICY
from attractor.web.views import View

if TYPE_CHECKING:
    from attractor.web.app import House

ASSETS = {
    "style.css": "text/css", "page.js": "text/javascript", "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}  # fmt: skip
LONGEST = 300  # characters of a query
FEEDS = {"atom": "application/atom+xml; charset=utf-8", "json": "application/feed+json; charset=utf-8"}
HERE = {"check": "papers", "compare": "compare", "diagnose": "diagnose"}  # the page that a job belongs to
Handler = Callable[..., Awaitable[Response]]


def routes(house: "House") -> list[BaseRoute]:
    """All pages."""

    def get(path: str, handler: Handler, private: bool = False) -> Route:
        return Route(path, partial(_read, house, handler, private), name=f"GET {path}")

    def post(path: str, handler: Handler, limit: str, private: bool = True) -> Route:
        return Route(path, partial(_write, house, handler, limit, private), methods=["POST"], name=f"POST {path}")

    return [
        get("/", today),
        get("/papers", papers),
        get("/papers/{slug}.bib", bib),
        get("/papers/{slug}", paper),
        get("/rooms", rooms),
        get("/rooms/{room}", room),
        get("/methods", methods),
        get("/problems", problems),
        get("/problems/{name}", problem),
        get("/feed/{number:int}", entry),
        get("/search.{kind}", search_feed),
        get("/compare", compare_form),
        get("/diagnose", diagnose_form, private=True),
        get("/jobs/{id}", job),
        get("/jobs/{id}/events", events),
        get("/jobs/{id}/report", report),
        get("/runs", run_list, private=True),
        get("/runs/{name}", run, private=True),
        get("/follows", follows),
        get("/follows/{name:path}", follow),
        get("/subscribe", subscribe_form),
        get("/confirm", confirm_form),
        get("/unsubscribe", unsubscribe_form),
        get("/status", status),
        get("/api", api_page),
        get("/assets/{name}", asset),
        get("/healthz", health),
        post("/papers/{slug}/check", check, "work"),
        post("/compare", compare, "work"),
        post("/diagnose", diagnose, "work"),
        post("/jobs/{id}/cancel", cancel, "change"),
        post("/follows", add_follow, "change"),
        post("/follows/{name:path}/remove", remove_follow, "change"),
        post("/feed/{number:int}/opinion", opinion, "change"),
        post("/subscribe", subscribe, "subscribe", private=False),
        post("/confirm", confirm, "subscribe", private=False),
        # Mail programs post here without a form (RFC 8058): the token in the address is what counts.
        Route("/unsubscribe", partial(unsubscribe, house), methods=["POST"], name="POST /unsubscribe"),
    ]


async def _read(house: "House", handler: Handler, private: bool, request: Request) -> Response:
    if private and house.settings.public:
        raise HTTPException(403, "This page is kept from visitors: the server was started with --public.")
    return await _asked(handler, house, request)


async def _write(house: "House", handler: Handler, limit: str, private: bool, request: Request) -> Response:
    form = await request.form(max_files=1, max_fields=64)
    house.tokens.check(request, request.headers.get("x-token") or form.get(FIELD))
    if private and house.settings.public:
        raise HTTPException(403, "Visitors change nothing here: the server was started with --public.")
    house.limits[limit].check(request)
    return await _asked(handler, house, request, form)


async def _asked(handler: Handler, *given: Any) -> Response:
    try:
        return await handler(*given)
    except Full as error:
        raise HTTPException(429, str(error), {"Retry-After": "60"}) from error
    except LookupError as error:
        raise HTTPException(404, str(error)) from error
    except ValueError as error:  # the library says what was wrong, and what is accepted
        raise HTTPException(404 if str(error).startswith("unknown ") else 400, str(error)) from error


def _see(request: Request, path: str) -> Response:
    return RedirectResponse(request.scope.get("root_path", "") + path, 303)


def _text(value: object, name: str, longest: int = LONGEST) -> str:
    """A field of a form or an address, bounded and without control characters."""
    text = value if isinstance(value, str) else ""
    if len(text) > longest:
        raise ValueError(f"{name}: expected at most {longest} characters, got {len(text)}")
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).strip()


def _number(request: Request, name: str, default: int, high: int) -> int:
    text = request.query_params.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= high):
        raise ValueError(f"{name}: expected a whole number from 1 to {high}, got {text[:20]!r}")
    return int(text)


# The catalogue.


async def today(house: "House", request: Request) -> Response:
    return await house.page(request, lambda: views.today(house.shelves.now(), house.warm.is_set()))


async def papers(house: "House", request: Request) -> Response:
    asked = request.query_params
    query, room, state = (_text(asked.get(k), k) for k in ("q", "room", "state"))
    page = _number(request, "page", 1, 1_000)
    return await house.page(request, lambda: views.papers(house.shelves.now(), query, room, state, page))


async def paper(house: "House", request: Request) -> Response:
    slug = request.path_params["slug"]
    return await house.page(request, lambda: views.paper(house.shelves.now(), slug, house.registry["methods"]))


async def bib(house: "House", request: Request) -> Response:
    from attractor.papers import find
    from attractor.papers.citation import bibtex

    return PlainTextResponse(bibtex(find(request.path_params["slug"])) + "\n", media_type="application/x-bibtex")


async def rooms(house: "House", request: Request) -> Response:
    return await house.page(request, lambda: views.rooms(house.shelves.now()))


async def room(house: "House", request: Request) -> Response:
    name = request.path_params["room"]
    name, dot, kind = name.partition(".")
    if dot:
        return await _room_feed(house, request, name, kind)
    return await house.page(request, lambda: views.room(house.shelves.now(), name, house.registry["methods"]))


async def methods(house: "House", request: Request) -> Response:
    await house.loaded.wait()
    asked = request.query_params
    room, sort, name = (_text(asked.get(k), k) for k in ("room", "sort", "problem"))
    return await house.page(request, lambda: views.methods(house.registry["methods"], room, sort or "name", name))


async def problems(house: "House", request: Request) -> Response:
    await house.loaded.wait()
    return await house.page(request, lambda: views.problems(house.registry["problems"]))


async def problem(house: "House", request: Request) -> Response:
    await house.loaded.wait()
    name = request.path_params["name"]
    return await house.page(request, lambda: views.problem(house.registry["problems"], name, house.registry["methods"]))


# The feed.


async def entry(house: "House", request: Request) -> Response:
    found = await run_in_threadpool(incoming.get, request.path_params["number"])
    if found is None:
        raise HTTPException(404, "No such paper came in.")

    def placed() -> Any:
        from attractor.feed.placement import place

        return place(found.stored.entry)

    placement = await run_in_threadpool(placed)
    return house.show(request, View("entry.html", {"here": "today", "news": found, "placement": placement}))


async def follows(house: "House", request: Request) -> Response:
    def every() -> list[Any]:
        if not incoming.exists():
            return []
        from attractor.feed import follows

        with Library() as library:
            return list(follows.every(library))

    found = await run_in_threadpool(every)
    return house.show(request, View("follows.html", {"here": "follows", "follows": found, "kinds": KINDS}))


KINDS = ("question", "author", "room", "paper", "keywords")


async def follow(house: "House", request: Request) -> Response:
    name, dot, kind = request.path_params["name"].rpartition(".")
    if not (dot and kind in FEEDS):
        name, kind = request.path_params["name"], ""

    def matched() -> tuple[Any, list[incoming.News]]:
        chosen, library = _follow(name)
        from attractor.feed import follows

        with library:
            found = follows.matches(library, chosen, limit=50)
            return chosen, incoming.told(library, [m.stored for m in found], [m.reason for m in found])

    chosen, news = await run_in_threadpool(matched)
    if kind:
        page = f"/follows/{quote(name, safe='')}"
        return await _feed(house, request, f"{chosen.name}: {chosen.query}", f"follow:{name}", page, kind, news)
    return house.show(request, View("follow.html", {"here": "follows", "follow": chosen, "news": news}))


def _follow(name: str) -> tuple[Any, Library]:
    """A follow, and the open library it is in."""
    from attractor.names import unknown

    if not incoming.exists():
        raise unknown("follow", name, [], "there is no feed yet: run `attractor feed init`")
    from attractor.feed import follows

    library = Library()
    every = {f.name: f for f in follows.every(library)}
    if name not in every:
        library.close()
        raise unknown("follow", name, every)
    return every[name], library


async def add_follow(house: "House", request: Request, form: FormData) -> Response:
    kind, query = _text(form.get("kind"), "kind"), _text(form.get("query"), "query")
    name = _text(form.get("name"), "name", 60) or query[:60]

    def add() -> None:
        from attractor.feed import follows

        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
        with Library() as library:
            follows.add(library, follows.Follow(name, kind, query))

    await run_in_threadpool(add)
    return _see(request, f"/follows/{quote(name, safe='')}")


async def remove_follow(house: "House", request: Request, form: FormData) -> Response:
    def remove() -> None:
        from attractor.feed import follows

        chosen, library = _follow(request.path_params["name"])
        with library:
            follows.remove(library, chosen.name)

    await run_in_threadpool(remove)
    return _see(request, "/follows")


async def opinion(house: "House", request: Request, form: FormData) -> Response:
    given, number = form.get("opinion"), request.path_params["number"]
    if given not in ("1", "0", "-1"):
        raise ValueError("opinion: expected 1 (kept), -1 (dismissed) or 0 (neither)")
    if await run_in_threadpool(incoming.get, number) is None:
        raise HTTPException(404, "No such paper came in.")

    def opine() -> None:
        from attractor.feed import follows

        with Library() as library:
            follows.opine(library, number, int(str(given)))

    await run_in_threadpool(opine)
    back = _text(form.get("back"), "back")
    return _see(request, back if re.fullmatch(r"/(feed/\d+|follows/[\w%./-]+)?", back) else f"/feed/{number}")


async def _feed(
    house: "House", request: Request, title: str, uid: str, page: str, kind: str, news: list[incoming.News]
) -> Response:
    """Papers as Atom or JSON Feed, which stand on a page too; a reader that has them is told so."""
    from attractor.feed import syndication

    if kind not in FEEDS:
        raise HTTPException(404, f"expected .{' or .'.join(FEEDS)}")
    base = house.settings.base_url or str(request.base_url).rstrip("/")
    own = request.url.path.removeprefix(request.scope.get("root_path", ""))
    here = f"{base}{quote(own)}" + (f"?{request.url.query}" if request.url.query else "")
    channel = syndication.Channel(title, base + page, here, uid, base_url=base)
    items = [syndication.Item(n.stored, n.reason, n.runs) for n in news]
    body = await run_in_threadpool(syndication.atom if kind == "atom" else syndication.json_feed, channel, items)
    headers = syndication.validators(channel, items, body)
    if syndication.not_modified(request.headers, headers):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=FEEDS[kind], headers=headers)


async def _room_feed(house: "House", request: Request, name: str, kind: str) -> Response:
    if name not in ROOMS:
        raise HTTPException(404, f"unknown room {name!r}")

    def placed() -> list[incoming.News]:
        if not incoming.exists():
            return []
        from attractor.feed import follows

        with Library() as library:
            found = follows.matches(library, follows.Follow(name, "room", name), limit=50)
            return incoming.told(library, [m.stored for m in found], [m.reason for m in found])

    news = await run_in_threadpool(placed)
    return await _feed(house, request, f"New papers: {name}", f"room:{name}", f"/rooms/{name}", kind, news)


async def search_feed(house: "House", request: Request) -> Response:
    query = _text(request.query_params.get("q"), "q")
    if not query:
        raise ValueError("q: expected words, such as /search.atom?q=sharpness")
    found = await run_in_threadpool(incoming.search, query)
    page = "/papers?" + urlencode({"q": query})
    return await _feed(house, request, query, f"search:{query}", page, request.path_params["kind"], found)


async def subscribe_form(house: "House", request: Request) -> Response:
    def every() -> list[str]:
        if not incoming.exists():
            return []
        from attractor.feed import follows

        with Library() as library:
            return [f.name for f in follows.every(library)]

    names = await run_in_threadpool(every)
    return house.show(request, View("subscribe.html", {"here": "follows", "names": names}))


async def subscribe(house: "House", request: Request, form: FormData) -> Response:
    email, every = _text(form.get("email"), "email", 254), _text(form.get("every"), "every") or "daily"
    names = [_text(name, "follow") for name in form.getlist("follow")]

    def ask() -> None:
        from attractor.feed import digest, mail, subscribers

        with Library() as library:
            token = subscribers.subscribe(library, email, names, every)
            try:
                digest.ask(library, mail.Mailer(), token)
            except (mail.RefusedError, mail.DeferredError, mail.UnreachableError) as error:
                raise HTTPException(424, "The mail server does not take mail to this address now.") from error

    await run_in_threadpool(ask)
    told = f"A mail with a link is on its way to {email}. Nothing is sent before you have opened it and confirmed."
    return house.show(request, View("told.html", {"here": "follows", "title": "Look into your mail", "told": told}))


async def confirm_form(house: "House", request: Request) -> Response:
    token = _text(request.query_params.get("token"), "token", 2_000)
    data = {"title": "Confirm", "told": "Send new papers to this address?", "action": "/confirm", "mail_token": token}
    return house.show(request, View("told.html", {"here": "follows", **data, "button": "Confirm"}))


async def confirm(house: "House", request: Request, form: FormData) -> Response:
    token = _text(form.get("mail_token"), "token", 2_000)

    def begin() -> Any:
        from attractor.feed import subscribers

        with Library() as library:
            return subscribers.confirm(library, token)

    found = await run_in_threadpool(begin)
    told = f"New papers go to {found.email} from now on, {found.every}. Every mail has a link that ends it."
    return house.show(request, View("told.html", {"here": "follows", "title": "Confirmed", "told": told}))


async def unsubscribe_form(house: "House", request: Request) -> Response:
    token = _text(request.query_params.get("token"), "token", 2_000)
    address = "/unsubscribe?" + urlencode({"token": token})
    data = {"title": "Unsubscribe", "told": "Send no more papers to this address?", "action": address}
    return house.show(request, View("told.html", {"here": "follows", **data, "button": "Unsubscribe"}))


async def unsubscribe(house: "House", request: Request) -> Response:
    house.limits["change"].check(request)
    token = _text(request.query_params.get("token"), "token", 2_000)

    def end() -> None:
        from attractor.feed import subscribers

        with Library() as library:
            subscribers.unsubscribe(library, token)

    async def ended() -> Response:
        await run_in_threadpool(end)
        told = "No more mail goes to this address, and it is forgotten here."
        return house.show(request, View("told.html", {"here": "follows", "title": "Unsubscribed", "told": told}))

    return await _asked(ended)


# Work.


async def compare_form(house: "House", request: Request) -> Response:
    await house.loaded.wait()
    asked = request.query_params
    problems = [p["name"] for p in house.registry["problems"]]
    chosen = _text(asked.get("problem"), "problem") or "digits-mlp"
    picked = asked.getlist("method")[: orders.METHODS]
    kept = [j for j in house.jobs.every("compare")][:20]
    data = {"here": "compare", "problems": problems, "problem": chosen, "picked": picked, "kept": kept}
    return house.show(request, View("compare.html", {**data, "listed": orders.fitting(house.registry, chosen)}))


async def compare(house: "House", request: Request, form: FormData) -> Response:
    await house.loaded.wait()
    names = [str(m) for m in form.getlist("method")]
    numbers = {k: orders.whole(str(form.get(k) or ""), k) for k in orders.LIMITS}
    order = orders.compare(house.registry, str(form.get("problem") or ""), names, **numbers)
    return _see(request, f"/jobs/{house.jobs.submit(order).id}")


async def check(house: "House", request: Request, form: FormData) -> Response:
    return _see(request, f"/jobs/{house.jobs.submit(orders.check(request.path_params['slug'])).id}")


async def diagnose_form(house: "House", request: Request) -> Response:
    kept = house.jobs.every("diagnose")[:20]
    return house.show(request, View("diagnose.html", {"here": "diagnose", "kept": kept}))


async def diagnose(house: "House", request: Request, form: FormData) -> Response:
    log = form.get("log")
    if not isinstance(log, UploadFile) or not log.filename:
        raise ValueError("log: expected a file with a training log, CSV or JSON lines")
    ending = next((e for e in orders.ENDINGS if log.filename.lower().endswith(e)), None)
    if ending is None:
        raise ValueError(f"log: expected a file that ends in {', '.join(orders.ENDINGS)}")
    content = await log.read()
    title = _text(log.filename, "log", 200)
    job = house.jobs.submit({"kind": "diagnose", "log": f"log{ending}", "title": title}, {f"log{ending}": content})
    return _see(request, f"/jobs/{job.id}")


def _job(house: "House", request: Request) -> Job:
    found = house.jobs.get(request.path_params["id"])
    if found is None or (house.settings.public and found.order["kind"] == "diagnose"):
        raise HTTPException(404, "No such job.")
    return found


async def job(house: "House", request: Request) -> Response:
    found = _job(house, request)
    return house.show(request, View("job.html", {"here": HERE[found.order["kind"]], **_shown(house, found)}))


def _shown(house: "House", job: Job) -> dict[str, Any]:
    from attractor.papers import Verdict

    verdicts = [Verdict(**v) for v in job.verdicts]
    before = [j.id for j in house.jobs.jobs.values() if j.active and j.made < job.made]
    return {"job": job, "verdicts": verdicts, "has_report": house.jobs.report(job) is not None, "before": len(before)}


async def events(house: "House", request: Request) -> Response:
    """The job as it goes, as server-sent events that each hold the piece of the page that changed."""
    found = _job(house, request)
    root = request.scope.get("root_path", "")

    async def stream() -> AsyncIterator[str]:
        async for now in house.jobs.follow(found):
            if now is None:
                yield ": still at work\n\n"
                continue
            html = house.render(View("_job.html", _shown(house, now)), root)
            name = "update" if now.active else "done"
            yield f"event: {name}\ndata: {json.dumps(html)}\n\n"

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


async def cancel(house: "House", request: Request, form: FormData) -> Response:
    found = _job(house, request)
    await house.jobs.cancel(found)
    return _see(request, f"/jobs/{found.id}")


async def report(house: "House", request: Request) -> Response:
    path = house.jobs.report(_job(house, request))
    if path is None:
        raise HTTPException(404, "It has no report.")
    return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


async def run_list(house: "House", request: Request) -> Response:
    found = await run_in_threadpool(runs.every)
    return house.show(request, View("runs.html", {"here": "runs", "runs": found}))


async def run(house: "House", request: Request) -> Response:
    metric = _text(request.query_params.get("metric"), "metric")
    shown = await run_in_threadpool(runs.show, request.path_params["name"], metric)
    return house.show(request, View("run.html", {"here": "runs", **shown}))


# The rest.


async def status(house: "House", request: Request) -> Response:
    found = await run_in_threadpool(incoming.fares, house.settings.public)
    shelf = house.shelves.now()
    stale = None if shelf.states is None else [s for s, state in shelf.states.items() if state == "stale"]
    jobs = [] if house.settings.public else house.jobs.every("check", "compare", "diagnose")[:20]
    data = {"here": "status", "feed": found, "stale": stale, "jobs": jobs, "trouble": house.trouble, "shelf": shelf}
    return house.show(request, View("status.html", data))


async def api_page(house: "House", request: Request) -> Response:
    document = request.app.openapi()
    return await house.page(request, lambda: View("api.html", {"here": "", "paths": document["paths"]}))


async def asset(house: "House", request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        raise HTTPException(404, "No such file.")
    content = files("attractor.web").joinpath("assets", name).read_bytes()
    return Response(content, media_type=ASSETS[name], headers={"cache-control": "public, max-age=3600"})


async def health(house: "House", request: Request) -> Response:
    return PlainTextResponse("ok\n")
