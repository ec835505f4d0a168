"""What a visitor sends, checked; and what goes back where it is not accepted."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from attractor.web.jobs import Full

LONGEST = 300  # characters of a query
Handler = Callable[..., Awaitable[Response]]


async def answer(handler: Handler, *given: Any) -> Response:
    """What a handler answers; an error of the library's becomes one of HTTP's, in the same words."""
    try:
        return await handler(*given)
    except Full as error:
        raise HTTPException(429, str(error), {"Retry-After": "60"}) from error
    except LookupError as error:
        raise HTTPException(404, str(error)) from error
    except ValueError as error:  # the library says what was wrong, and what is accepted
        raise HTTPException(404 if str(error).startswith("unknown ") else 400, str(error)) from error


def see(request: Request, path: str) -> Response:
    """Lead to another page, after a form."""
    return RedirectResponse(request.scope.get("root_path", "") + path, 303)


def text(value: object, name: str, longest: int = LONGEST) -> str:
    """A field of a form or an address, bounded and without control characters."""
    text = value if isinstance(value, str) else ""
    if len(text) > longest:
        raise ValueError(f"{name}: expected at most {longest} characters, got {len(text)}")
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).strip()


def number(request: Request, name: str, default: int, high: int) -> int:
    """A whole number of an address, from 1 to ``high``."""
    text = request.query_params.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= high):
        raise ValueError(f"{name}: expected a whole number from 1 to {high}, got {text[:20]!r}")
    return int(text)
