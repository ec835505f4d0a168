"""The commands for what goes out, as a person and a script use them."""

import json
import os
import re
import shlex
from pathlib import Path

import typer
from outgoing import box, library
from typer.testing import CliRunner

from attractor.cli import app
from attractor.feed import mail

__all__ = ["box", "library"]


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(code, type):
        assert isinstance(done.exception, code), done.output
        return str(done.exception)
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def test_a_preview_is_a_page_and_sends_nothing(library, tmp_path):
    library.connection.execute("UPDATE entries SET added = strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now', '-1 day')")
    page = tmp_path / "out.html"
    assert "more new papers" in run("digest", "--preview", page)
    assert page.read_text().startswith("<!DOCTYPE html>")
    found = json.loads(run("digest", "--preview", page, "--follow", "federated", "--json"))
    assert found["new"] == len(found["papers"]) == 2
    library.connection.execute("UPDATE entries SET added = '2020-01-01T00:00:00+00:00'")
    assert run("digest", "--preview", page).startswith("Nothing new")
    assert library.connection.execute("SELECT count(*) FROM sends").fetchone()[0] == 0


def test_from_a_followed_question_to_a_mail_and_out_again(library, box):
    assert "on its way" in run("subscribe", "ada@example.org", "sharp", "--every", "weekly", "--zone", "Asia/Tokyo")
    assert json.loads(run("subscribers", "--json")) == []
    text = box.mails[0].get_body(("plain",)).get_content()
    from attractor.feed.subscribers import confirm

    confirm(library, text.split("token=")[1].split()[0])
    (who,) = json.loads(run("subscribers", "--json"))
    assert (who["email"], who["every"], who["zone"], who["follows"]) == (
        "ada@example.org", "weekly", "Asia/Tokyo", ["sharp"],
    )  # fmt: skip
    assert "ada@example.org" in run("subscribers")
    library.connection.execute("UPDATE subscribers SET since = '2026-01-01T00:00:00+00:00'")
    (sent,) = json.loads(run("digest", "--send", "--to", "ada@example.org", "--json"))
    assert (sent["state"], sent["papers"]) == ("sent", 3)
    assert json.loads(run("digest", "--send", "--to", "ada@example.org", "--json")) == []
    assert "AdaHessian" in box.mails[1]["Subject"]
    run("unsubscribe", "ada@example.org")
    assert json.loads(run("subscribers", "--json")) == []


def test_what_does_not_go_is_said_with_exit_code_1_and_shown_by_status(library, box):
    run("subscribe", "bob@example.org", "federated", "--confirmed", "--always")
    library.connection.execute("UPDATE subscribers SET confirmed = '2026-01-01T00:00:00+00:00'")
    box.answers = ["550 no such mailbox"]
    assert "no such mailbox" in run("digest", "--send", code=1)
    found = json.loads(run("feed", "status", "--json", code=1))
    assert [(o["email"], o["state"]) for o in found["overdue"]] == [("bob@example.org", "refused")]
    assert any("no such mailbox" in problem for problem in found["problems"])
    box.answers = ["550 never"]
    run("subscribe", "eve@example.org", "federated", code=1)


def test_bad_usage_says_what_to_do(library, tmp_path):
    assert "--preview FILE or --send" in run("digest", code=ValueError)
    assert "host is not set" in run("digest", "--send", code=ValueError)
    assert "goes with --send" in run("digest", "--preview", tmp_path / "x", "--to", "a@example.org", code=ValueError)
    assert "did you mean 'sharp'" in run("digest", "--preview", tmp_path / "x", "--follow", "sharpp", code=ValueError)
    assert "did you mean 'sharp'" in run("subscribe", "a@example.org", "sharpp", code=ValueError)
    assert "has not confirmed" in run("unsubscribe", "a@example.org", code=ValueError)
    assert str(mail.path()) in run("daemon", code=ValueError)


def test_every_command_in_the_documentation_exists():
    text = (Path(__file__).parents[2] / "docs" / "feed.md").read_text()
    commands = typer.main.get_command(app)
    for line in re.findall(r"attractor ((?:[a-z]+ ?)+)", "\n".join(re.findall(r"```bash\n(.*?)```", text, re.S))):
        group, first, *rest = commands, *line.split()
        assert first in group.commands, line
        inner = group.commands[first]
        if rest and getattr(inner, "commands", None) and first != "follow":
            assert rest[0] in inner.commands, line


def test_every_option_in_the_documentation_exists(library):
    """Its digest commands are read as they stand; what they need is made first."""
    text = (Path(__file__).parents[2] / "docs" / "feed.md").read_text()
    for line in re.findall(r"^attractor (subscribe .*?|digest --preview \S+)(?:\s+#.*)?$", text, re.M):
        words = shlex.split(line.replace("sharpness", "sharp").replace("new.html", os.devnull))
        run(*words, *(["--confirmed"] if words[0] == "subscribe" else []))
