"""The pages of papers that came in, of follows and of subscriptions, and the feeds of all of them."""

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from attractor.feed import Library
from attractor.papers import ROOMS
from attractor.web import incoming
from attractor.web.forms import answer, see, text
from attractor.web.views import View

if TYPE_CHECKING:
    from attractor.web.app import House

FEEDS = {"atom": "application/atom+xml; charset=utf-8", "json": "application/feed+json; charset=utf-8"}
KINDS = ("question", "author", "room", "paper", "keywords")


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
    kind, query = text(form.get("kind"), "kind"), text(form.get("query"), "query")
    name = text(form.get("name"), "name", 60) or query[:60]

    def add() -> None:
        from attractor.feed import follows

        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
        with Library() as library:
            follows.add(library, follows.Follow(name, kind, query))

    await run_in_threadpool(add)
    return see(request, f"/follows/{quote(name, safe='')}")


async def remove_follow(house: "House", request: Request, form: FormData) -> Response:
    def remove() -> None:
        from attractor.feed import follows

        chosen, library = _follow(request.path_params["name"])
        with library:
            follows.remove(library, chosen.name)

    await run_in_threadpool(remove)
    return see(request, "/follows")


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
    back = text(form.get("back"), "back")
    return see(request, back if re.fullmatch(r"/(feed/\d+|follows/[\w%./-]+)?", back) else f"/feed/{number}")


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


async def room_feed(house: "House", request: Request, name: str, kind: str) -> Response:
    """Papers of a room that came in, as a feed."""
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
    query = text(request.query_params.get("q"), "q")
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
    email, every = text(form.get("email"), "email", 254), text(form.get("every"), "every") or "daily"
    names = [text(name, "follow") for name in form.getlist("follow")]

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
    token = text(request.query_params.get("token"), "token", 2_000)
    data = {"title": "Confirm", "told": "Send new papers to this address?", "action": "/confirm", "mail_token": token}
    return house.show(request, View("told.html", {"here": "follows", **data, "button": "Confirm"}))


async def confirm(house: "House", request: Request, form: FormData) -> Response:
    token = text(form.get("mail_token"), "token", 2_000)

    def begin() -> Any:
        from attractor.feed import subscribers

        with Library() as library:
            return subscribers.confirm(library, token)

    found = await run_in_threadpool(begin)
    told = f"New papers go to {found.email} from now on, {found.every}. Every mail has a link that ends it."
    return house.show(request, View("told.html", {"here": "follows", "title": "Confirmed", "told": told}))


async def unsubscribe_form(house: "House", request: Request) -> Response:
    token = text(request.query_params.get("token"), "token", 2_000)
    address = "/unsubscribe?" + urlencode({"token": token})
    data = {"title": "Unsubscribe", "told": "Send no more papers to this address?", "action": address}
    return house.show(request, View("told.html", {"here": "follows", **data, "button": "Unsubscribe"}))


async def unsubscribe(house: "House", request: Request) -> Response:
    house.limits["change"].check(request)
    token = text(request.query_params.get("token"), "token", 2_000)

    def end() -> None:
        from attractor.feed import subscribers

        with Library() as library:
            subscribers.unsubscribe(library, token)

    async def ended() -> Response:
        await run_in_threadpool(end)
        told = "No more mail goes to this address, and it is forgotten here."
        return house.show(request, View("told.html", {"here": "follows", "title": "Unsubscribed", "told": told}))

    return await answer(ended)
