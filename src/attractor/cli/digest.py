"""Commands for what goes out: ``digest``, ``subscribe``, ``unsubscribe``, ``subscribers``, ``daemon`` and ``mcp``."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from attractor.cli.common import AsJson, app, err, out, print_json, print_rows
from attractor.places import require_writable

SENT = {"sent": "green", "nothing": "dim", "deferred": "yellow", "refused": "red", "unknown": "red"}


@app.command(
    epilog="Examples: attractor digest --preview out.html   ·   attractor digest --send   ·   attractor digest --send "
    "--to ada@example.org"
)
def digest(
    preview: Annotated[
        Path | None, typer.Option(help="Write what is new for all follows here, and send nothing.")
    ] = None,
    send: Annotated[bool, typer.Option("--send", help="Send every digest that is due.")] = False,
    to: Annotated[str | None, typer.Option(help="With --send: only this subscriber's, before its hour, too.")] = None,
    follow: Annotated[list[str] | None, typer.Option(help="With --preview: only this one; may be repeated.")] = None,
    days: Annotated[int, typer.Option(help="With --preview: of so many days.", min=1)] = 7,
    as_json: AsJson = False,
) -> None:
    """What is new for follows, as a page or as mail. Exit code 1 if a digest could not be sent."""
    from attractor.feed import Library, follows, mail
    from attractor.feed.database import BusyError
    from attractor.feed.digest import compose, send_due
    from attractor.names import unknown
    from attractor.progress import task

    if (preview is None) == (not send):
        raise ValueError("digest: expected either --preview FILE or --send")
    if to is not None and not send:
        raise ValueError("--to: goes with --send")
    if preview is not None:
        require_writable(preview, "--preview")
    now = datetime.now(UTC)
    with Library() as library:
        if preview is not None:
            known = {f.name: f for f in follows.every(library)}
            for name in follow or ():
                if name not in known:
                    raise unknown("follow", name, known, "`attractor follow list` shows them")
            if not known:
                raise ValueError('digest: nothing is followed yet; try `attractor follow "what makes minima flat"`')
            since = (now - timedelta(days=days)).isoformat(timespec="seconds")
            url = mail.Settings.load().url if mail.path().exists() else mail.Settings.url
            found = compose(library, [known[name] for name in follow or known], since, url)
            preview.parent.mkdir(parents=True, exist_ok=True)
            preview.write_text(found.html, encoding="utf-8")
            papers = [{"uid": e.stored.uid, "title": e.stored.entry.title, "follow": e.follow} for e in found.entries]
            if as_json:
                return print_json({"subject": found.subject, "new": len(found.papers), "papers": papers})
            out.print(f"{found.subject}\nwrote {preview}", highlight=False, markup=False, soft_wrap=True)
            return None
        mailer = mail.Mailer()
        with task("sending", 1, "round") as advance:
            try:
                sent = send_due(library, mailer, now, only=to)
            except BusyError as error:
                out.print(f"nothing to do: {error}", highlight=False, markup=False, soft_wrap=True)
                raise typer.Exit(0) from error
            advance(1)
    if as_json:
        print_json([vars(s) for s in sent])
    else:
        for s in sent:
            out.print(
                f"{s.email}  [{SENT[s.state]}]{s.state}[/]  {s.papers} papers  [dim]{s.period}[/]", highlight=False
            )
            if s.answer and s.state != "sent":
                out.print(f"  {s.answer}", highlight=False, markup=False, soft_wrap=True)
        if not sent:
            said = "no digest is due" if to is None else f"{to} has had the digest of today, or of this week"
            out.print(said, highlight=False, soft_wrap=True)  # no error: cron would send it by mail
    raise typer.Exit(int(any(s.state not in ("sent", "nothing") for s in sent)))


@app.command(epilog="Example: attractor subscribe ada@example.org sharpness --every weekly --zone Europe/Zurich")
def subscribe(
    email: Annotated[str, typer.Argument(help="Whose.")],
    follows: Annotated[list[str], typer.Argument(help="Names, as `attractor follow list` shows them.")],
    every: Annotated[str, typer.Option(help="daily, or weekly: on Mondays.")] = "daily",
    zone: Annotated[str, typer.Option(help="Time zone, such as Europe/Zurich.")] = "UTC",
    hour: Annotated[int, typer.Option(help="At which hour there, 0 to 23.")] = 7,
    always: Annotated[bool, typer.Option("--always", help="Send mail also where nothing is new.")] = False,
    confirmed: Annotated[bool, typer.Option("--confirmed", help="The address is your own: ask for no reply.")] = False,
) -> None:
    """Send new papers to an address, once its owner has pressed the button behind a link that is mailed there."""
    from attractor.feed import Library, mail, subscribers
    from attractor.feed.digest import ask

    with Library() as library:
        how = {"zone": zone, "hour": hour, "quiet": not always}
        token = subscribers.subscribe(library, email, follows, every, **how)
        if confirmed:
            found = subscribers.confirm(library, token)
            out.print(f"{found.email} gets {', '.join(found.follows)}, {found.every}", highlight=False, soft_wrap=True)
            return
        try:
            ask(library, mail.Mailer(), token)
        except (mail.RefusedError, mail.DeferredError, mail.UnreachableError) as error:
            err.print(f"the mail could not go: {error}", highlight=False, markup=False, soft_wrap=True)
            raise typer.Exit(1) from error
    out.print("a link is on its way; the digest begins once it is confirmed", highlight=False, soft_wrap=True)


@app.command(epilog="Example: attractor unsubscribe ada@example.org")
def unsubscribe(email: Annotated[str, typer.Argument(help="Whose.")]) -> None:
    """End a subscription, and forget the address."""
    from attractor.feed import Library, subscribers

    with Library() as library:
        subscribers.unsubscribe(library, subscribers.unsubscribe_token(subscribers.get(library, email)))
    out.print(f"no more mail goes to {email}", highlight=False, soft_wrap=True)


@app.command(name="subscribers", epilog="Example: attractor subscribers --json")
def list_subscribers(as_json: AsJson = False) -> None:
    """Who gets the digest."""
    from attractor.feed import Library, subscribers

    with Library() as library:
        found = [{**vars(s), "follows": list(s.follows)} for s in subscribers.subscribers(library)]
    if as_json:
        return print_json(found)
    if not found:
        return err.print("nobody yet; `attractor subscribe ADDRESS FOLLOW` asks somebody")
    names = ("email", "follows", "every", "hour", "zone", "since")
    print_rows([{n: ", ".join(row[n]) if n == "follows" else row[n] for n in names} for row in found], False)
    return None


@app.command(epilog="Example: attractor daemon")
def daemon(
    no_mail: Annotated[bool, typer.Option("--no-mail", help="Only fetch; send nothing.")] = False,
) -> None:
    """Fetch what is new every six hours, and send digests when they are due, until it is asked to end."""
    from attractor.feed import mail, schedule

    def say(line: str) -> None:
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {line}", flush=True)

    mailer = None if no_mail else mail.Mailer()
    say("the daemon runs; Ctrl-C or SIGTERM ends it")
    schedule.run(mailer, say=say)
    say("ended")


@app.command(epilog='Example, for an assistant\'s settings: {"command": "attractor", "args": ["mcp"]}')
def mcp() -> None:
    """Serve the catalogue and the feed to an assistant over stdin and stdout (Model Context Protocol)."""
    from attractor.feed.mcp import server

    server().run()
