"""The addresses and what answers at each; the pages of the catalogue, and those that belong to no subject."""

from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from attractor.web import feed_pages, incoming, job_pages, views
from attractor.web.forms import Handler, answer, number, text
from attractor.web.safety import FIELD
from attractor.web.views import View

if TYPE_CHECKING:
    from attractor.web.app import House

ASSETS = {
    "style.css": "text/css", "page.js": "text/javascript", "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}  # fmt: skip
AGAIN = "3"  # seconds after which a page that was not ready is asked for again


def routes(house: "House") -> list[BaseRoute]:
    """All pages."""

    def get(path: str, handler: Handler, private: bool = False, registry: bool = False) -> Route:
        return Route(path, partial(_read, house, handler, private, registry), name=f"GET {path}")

    def post(path: str, handler: Handler, limit: str, private: bool = True) -> Route:
        return Route(path, partial(_write, house, handler, limit, private), methods=["POST"], name=f"POST {path}")

    return [
        get("/", today),
        get("/papers", papers),
        get("/papers/{slug}.bib", bib),
        get("/papers/{slug}", paper),
        get("/rooms", rooms),
        get("/rooms/{room}", room),
        get("/methods", methods, registry=True),
        get("/problems", problems, registry=True),
        get("/problems/{name}", problem, registry=True),
        get("/feed/{number:int}", feed_pages.entry),
        get("/search.{kind}", feed_pages.search_feed),
        get("/compare", job_pages.compare_form, registry=True),
        get("/diagnose", job_pages.diagnose_form, private=True),
        get("/jobs/{id}", job_pages.job),
        get("/jobs/{id}/events", job_pages.events),
        get("/jobs/{id}/report", job_pages.report),
        get("/runs", job_pages.run_list, private=True),
        get("/runs/{name}", job_pages.run, private=True),
        get("/follows", feed_pages.follows),
        get("/follows/{name:path}", feed_pages.follow),
        get("/subscribe", feed_pages.subscribe_form),
        get("/confirm", feed_pages.confirm_form),
        get("/unsubscribe", feed_pages.unsubscribe_form),
        get("/status", status),
        get("/api", api_page),
        get("/assets/{name}", asset),
        get("/healthz", health),
        post("/papers/{slug}/check", job_pages.check, "work"),
        post("/compare", job_pages.compare, "work"),
        post("/diagnose", job_pages.diagnose, "work"),
        post("/jobs/{id}/cancel", job_pages.cancel, "change"),
        post("/follows", feed_pages.add_follow, "change"),
        post("/follows/{name:path}/remove", feed_pages.remove_follow, "change"),
        post("/feed/{number:int}/opinion", feed_pages.opinion, "change"),
        post("/subscribe", feed_pages.subscribe, "subscribe", private=False),
        post("/confirm", feed_pages.confirm, "subscribe", private=False),
        # Mail programs post here without a form (RFC 8058): the token in the address is what counts.
        Route("/unsubscribe", partial(feed_pages.unsubscribe, house), methods=["POST"], name="POST /unsubscribe"),
    ]


async def _read(house: "House", handler: Handler, private: bool, registry: bool, request: Request) -> Response:
    if private and house.settings.public:
        raise HTTPException(403, "This page is kept from visitors: the server was started with --public.")
    if registry and not await house.ready():
        told = (
            "All methods and problems are being read, as after each change of the code; this page asks again by itself."
        )
        response = house.show(request, views.View("told.html", {"here": "", "title": "One moment", "told": told}, 503))
        response.headers.update({"retry-after": AGAIN, "refresh": AGAIN})
        return response
    return await answer(handler, house, request)


async def _write(house: "House", handler: Handler, limit: str, private: bool, request: Request) -> Response:
    form = await request.form(max_files=1, max_fields=64)
    house.tokens.check(request, request.headers.get("x-token") or form.get(FIELD))
    if private and house.settings.public:
        raise HTTPException(403, "Visitors change nothing here: the server was started with --public.")
    house.limits[limit].check(request)
    return await answer(handler, house, request, form)


# The catalogue.


async def today(house: "House", request: Request) -> Response:
    return await house.page(request, lambda: views.today(house.shelves.now(), house.warm.is_set()))


async def papers(house: "House", request: Request) -> Response:
    asked = request.query_params
    query, room, state = (text(asked.get(k), k) for k in ("q", "room", "state"))
    page = number(request, "page", 1, 1_000)
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
        return await feed_pages.room_feed(house, request, name, kind)
    return await house.page(request, lambda: views.room(house.shelves.now(), name, house.registry["methods"]))


async def methods(house: "House", request: Request) -> Response:
    asked = request.query_params
    room, sort, name = (text(asked.get(k), k) for k in ("room", "sort", "problem"))
    return await house.page(request, lambda: views.methods(house.registry["methods"], room, sort or "name", name))


async def problems(house: "House", request: Request) -> Response:
    return await house.page(request, lambda: views.problems(house.registry["problems"]))


async def problem(house: "House", request: Request) -> Response:
    name = request.path_params["name"]
    return await house.page(request, lambda: views.problem(house.registry["problems"], name, house.registry["methods"]))


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
