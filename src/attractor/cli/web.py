"""The commands of the page: ``serve`` and ``site``."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from attractor.cli.common import app, out
from attractor.extras import needs
from attractor.places import require_writable


@app.command(epilog="Example: attractor serve --port 8000   ·   behind a proxy: attractor serve --root-path /attractor "
    "--allow-host papers.example.org --forwarded --public")  # fmt: skip
def serve(
    port: Annotated[
        int, typer.Option(help="0 takes one that is free; its address is the first line.", min=0, max=65535)
    ] = 8000,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name that is accepted in the Host header; may be repeated.")
    ] = None,
    root_path: Annotated[str, typer.Option(help="Where a reverse proxy has the page, such as /attractor.")] = "",
    forwarded: Annotated[
        bool, typer.Option("--forwarded", help="Believe a proxy on this machine who asks (X-Forwarded-For, -Proto).")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="For strangers: they read and subscribe, and start or change nothing.")
    ] = False,
    url: Annotated[str, typer.Option(help="The page's address in feeds; default: as it was asked for.")] = "",
) -> None:
    """Serve the page: what is new, what runs, what was measured, comparisons."""
    with needs("web"):
        import uvicorn

        from attractor.web.app import Settings, create
    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise ValueError(f"--root-path: expected a path such as /attractor, got {root_path!r}")
    if url and not url.startswith(("http://", "https://")):
        raise ValueError(f"--url: expected an address such as https://papers.example.org, got {url!r}")
    names = tuple(allow_host or ()) + (() if host in ("0.0.0.0", "::") else (f"[{host}]" if ":" in host else host,))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # who takes the address from the line below is answered, if a moment later
    except OSError as error:
        raise ValueError(
            f"--port: {host}:{port} cannot be had ({error.strerror}); --port 0 takes a free one"
        ) from error
    application = create(Settings(hosts=names, public=public, base_url=url.rstrip("/")))
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{listener.getsockname()[1]}{root_path}/", flush=True)
    config = uvicorn.Config(
        application, root_path=root_path, proxy_headers=forwarded, forwarded_allow_ips="127.0.0.1", server_header=False,
        log_level="warning", access_log=False, timeout_graceful_shutdown=2, limit_concurrency=1_000,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


@app.command(epilog="Example: attractor site public/")
def site(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
) -> None:
    """Write the page as static files, with search in the browser, for any host."""
    with needs("web"):
        from attractor.web import site as static
    from attractor.progress import task

    if folder.is_file():
        raise ValueError(f"OUT: {folder} is a file; name a folder")
    require_writable(folder / "index.html", "OUT")
    with task("writing pages", static.count(), "page") as advance:
        written = static.write(folder, advance)
    out.print(f"{written} pages: {(folder / 'index.html').resolve().as_uri()}", highlight=False, soft_wrap=True)
