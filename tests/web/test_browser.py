"""The pages in Chromium, as a reader has them: search, check, compare, mail, keyboard, phone, dark, without scripts."""

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from outgoing import box, library, linked, mailer

from attractor import store
from attractor.feed import Entry, Library, digest, follows, subscribers
from attractor.papers import record
from attractor.store import FORMAT
from attractor.web.jobs import Job

__all__ = ["box", "library"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's package chromium is not installed")

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
AXE = (Path(__file__).with_name("vendor") / "axe.min.js").read_text(encoding="utf-8")
COMPARED, DIAGNOSED, STOPPED, CHECKED = (digit * 16 for digit in "0123")  # jobs that were kept
MAIN = (
    "/", "/papers?q=sharpness", "/papers/adahessian", "/papers/wavehax", "/rooms", "/rooms/games", "/methods",
    "/problems", "/problems/rosenbrock", "/compare", f"/jobs/{COMPARED}", "/diagnose", f"/jobs/{DIAGNOSED}",
    f"/jobs/{STOPPED}", f"/jobs/{CHECKED}", "/runs", "/runs/saved", "/feed/1", "/follows", "/follows/sharp",
    "/subscribe", "/confirm?token=x", "/unsubscribe?token=x", "/status", "/api", "/nothing",
)  # fmt: skip
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
BLOCKED = "Content Security Policy"


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, served):
    """A page that fails the test when a script fails, or something from elsewhere is asked for."""
    context = chromium.new_context(base_url=served.url, viewport={"width": 1280, "height": 900})
    found = context.new_page()
    wrong = []
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", lambda said: wrong.append(said.text) if BLOCKED in said.text else None)
    found.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(served.url) else None)
    yield found
    context.close()
    assert wrong == []


@pytest.fixture
def furnished(own_home):
    """What fills every kind of page: papers that came in, a follow, a saved run, and jobs that ended."""
    with Library() as library:
        entry = Entry(
            r"Sharpness stops at $2 / \eta$", "We find `it` there.", ("Ada Vale", "Bo Li"), arxiv="2611.00101"
        )
        other = Entry("Offline reinforcement learning without pessimism", arxiv="2611.00102")
        library.add([entry, other], "daily", day="2026-11-25", votes=[40, 0])
        follows.add(library, follows.Follow("sharp", "question", "where does sharpness stop?"))
    points = [(c, s, t) for c in range(9) for s in range(2) for t in range(3)]
    columns = {"config": 0, "seed": 1, "step": 2}
    rows = {name: [p[i] for p in points] for name, i in columns.items()}
    rows |= {"learning_rate": [0.1 + c for c, _, _ in points], "loss": [0.1 ** (c + t) for c, _, t in points]}
    header = {"format": FORMAT, "settings": {"steps": 3}, "hyperparameters": ["learning_rate"]}
    header |= {"shapes": {"loss": []}, "dtypes": {"loss": "float32"}}
    home = Path(store.home())
    (home / "traces").mkdir()
    table = pa.table(rows).replace_schema_metadata({"attractor": json.dumps(header)})
    pq.write_table(table, home / "traces" / "saved.parquet")
    settings = {"metric": "loss", "target": 0.01, "steps": 50, "seeds": 2, "budget": 2, "command": "attractor compare"}
    ratio = {"value": 2.0, "low": 1.5, "high": None}
    first = {"method": "adam", "steps to target": 20.0, "times the steps of adam": None, "tuned": "learning_rate=0.1"}
    second = {**first, "method": "sgd", "steps to target": None, "times the steps of adam": ratio}
    finding = {"name": "overfitting", "sentence": "It is.", "confidence": 0.9, "sure": "sure", "remedy": "stop"}
    finding |= {"paper": "gae", "support": "GAE; our check: holds (attractor show gae)"}
    verdicts = [asdict(v) for v in record.read("lion-k").quick.values()]
    compared = {"kind": "compare", "problem": "rosenbrock", "methods": ["adam", "sgd"]}
    diagnosed = {"kind": "diagnose", "title": "log.csv", "log": "log.csv"}
    for job in (
        Job(COMPARED, compared, "done", result={"table": [first, second], "settings": settings, "missing": ["lion"]}),
        Job(DIAGNOSED, diagnosed, "done", result={"findings": [finding]}),
        Job(STOPPED, compared, "running"),
        Job(CHECKED, {"kind": "check", "slug": "lion-k"}, "done", verdicts=verdicts),
    ):
        folder = home / "web" / "jobs" / job.id
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps(job.asdict()), encoding="utf-8")


def test_search_as_you_type(page):
    page.goto("/papers")
    page.get_by_role("searchbox").press_sequentially("adam with hessian diagonal")
    page.wait_for_url("**q=adam*diagonal*")  # what was found can be sent to somebody
    assert page.locator("#results h2 a").first.get_attribute("href") == "/papers/adahessian"
    page.goto("/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first stop skips what all pages have
    assert page.evaluate("document.activeElement.id") == "main"


def test_check_here_shows_verdicts_as_they_come(page, served):
    page.goto("/papers/lion-k")
    page.get_by_role("button", name="Check it here").click()
    page.wait_for_url("**/jobs/*")
    page.locator(".state.done").wait_for(timeout=120_000)
    claims = record.read("lion-k").quick
    assert page.locator("article.claim").count() == len(claims)
    assert page.locator("article.claim svg.verdict").count() == len(claims)
    assert set(record.read("lion-k", record.local()).quick) == set(claims)
    page.goto("/papers/lion-k")
    assert page.get_by_text("checked on this machine").count() == len(claims)


def test_compare_to_its_report(page):
    page.goto("/compare")
    page.get_by_label("Problem").select_option("rosenbrock")
    page.get_by_label("lion", exact=True).uncheck()
    page.get_by_label("sgd", exact=True).check()
    for label, number in (("Steps", "50"), ("Seeds", "2"), ("Configurations each", "2")):
        page.get_by_label(label).fill(number)
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url("**/jobs/*")
    page.locator(".state.done").wait_for(timeout=120_000)
    assert page.get_by_role("region", name="Result").locator("tbody tr").count() == 2
    page.get_by_role("link", name="Open the report").click()
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        figure = page.locator(".plotly-graph-div svg").first
        figure.wait_for(timeout=60_000)  # its scripts run, in their sandbox
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        place = figure.bounding_box()
        assert place["x"] + place["width"] <= width
    page.goto("/compare")
    page.get_by_role("link", name="rosenbrock: adam, sgd").wait_for()


def test_progress_and_cancel(page, scripted, served, monkeypatch):
    monkeypatch.setenv("SCRIPT", "adam,wait")
    page.goto("/compare")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url("**/jobs/*")
    page.get_by_text("1 of 4 methods done").wait_for()
    assert page.get_by_role("progressbar").get_attribute("value") == "25.0"
    page.get_by_role("button", name="Cancel").click()
    page.locator(".state.cancelled").wait_for()
    assert page.get_by_role("button", name="Cancel").count() == 0
    assert [j.state for j in served.house.jobs.every("compare")] == ["cancelled"]


def test_subscribe_to_unsubscribe(page, chromium, served, library, box):
    page.goto("/subscribe")
    page.get_by_label("Address").fill("ada@example.org")
    page.get_by_label("sharp").check()
    page.get_by_label("How often").select_option("weekly")
    page.get_by_role("button", name="Subscribe").click()
    page.get_by_role("heading", name="Look into your mail").wait_for()
    (asked,) = box.mails
    link = next(a for a in asked.get_body(("plain",)).get_content().split() if a.startswith("https://"))
    assert subscribers.subscribers(library) == []
    page.goto(linked(link))
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("heading", name="Confirmed").wait_for()
    (ada,) = subscribers.subscribers(library)
    assert (ada.email, ada.follows, ada.every) == ("ada@example.org", ("sharp",), "weekly")

    bob = subscribers.confirm(library, subscribers.subscribe(library, "bob@example.org", ["sharp"], "weekly"))
    library.connection.execute("UPDATE subscribers SET since = '2026-01-01T00:00:00+00:00'")
    now = datetime.now(UTC)
    sent = digest.send_due(library, mailer(box.settings), now + timedelta(days=8))
    assert sorted((s.email, s.state, s.papers) for s in sent) == [(ada.email, "sent", 3), (bob.email, "sent", 3)]
    mail = next(m for m in box.mails[1:] if m["To"] == "ada@example.org")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    leave = linked(mail["List-Unsubscribe"].strip("<>"))

    page.goto(leave)
    page.get_by_role("heading", name="Unsubscribe").wait_for()
    assert len(subscribers.subscribers(library)) == 2  # nobody leaves by looking
    program = chromium.new_context(base_url=served.url)  # a mail program has no cookie of ours
    assert program.request.post(leave, form={"List-Unsubscribe": "One-Click"}).ok
    program.close()
    assert [s.email for s in subscribers.subscribers(library)] == [bob.email]
    page.get_by_role("button", name="Unsubscribe").click()  # who clicks there, too, is told the same
    page.get_by_role("heading", name="Unsubscribed").wait_for()

    library.add([Entry("Sharpness once more", arxiv="2601.00009")], "test", "2026-01-08")
    later = (now + timedelta(days=10)).isoformat(timespec="seconds")
    library.connection.execute("UPDATE entries SET added = ? WHERE id = (SELECT max(id) FROM entries)", (later,))
    box.mails.clear()
    digest.send_due(library, mailer(box.settings), now + timedelta(days=16))
    assert [m["To"] for m in box.mails] == [bob.email]


def test_everything_works_without_scripts(chromium, served):
    context = chromium.new_context(base_url=served.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_role("searchbox").fill("adam with hessian diagonal")
    page.get_by_role("button", name="Search").click()
    page.locator("#results h2 a[href='/papers/adahessian']").wait_for()
    page.goto("/methods")
    page.get_by_role("link", name="state, bytes per parameter").click()
    assert page.locator("tbody tr").first.get_attribute("id") == "sgd"
    context.close()


def test_methods_are_sorted_in_place(page):
    page.goto("/methods")
    head = page.get_by_role("button", name="gradients per step")
    head.click()
    assert page.locator("tbody tr").first.get_attribute("id") == "sgd"
    head.click()
    assert page.locator("tbody tr").first.get_attribute("id") == "adam"
    assert page.locator("th[aria-sort=descending]").count() == 1


def test_what_runs_comes_by_itself_after_a_start(furnished, page, served):
    served.house.warm.clear()
    page.goto("/")
    page.get_by_role("heading", name="Sharpness stops").wait_for()
    assert page.get_by_text("Near it runs").count() == 0
    served.house.warm.set()
    page.get_by_text("Near it runs").first.wait_for()
    page.wait_for_function("document.querySelector('[hx-get=\"/\"]') === null")


def test_a_comparison_of_yesterday_is_read(furnished, page):
    page.goto(f"/jobs/{COMPARED}")
    page.get_by_text("not reached").wait_for()
    assert page.get_by_text("[1.5, ∞]").is_visible()
    assert page.get_by_text("learning_rate=0.1").first.is_hidden()  # until one asks for it
    page.get_by_text("What it cost").click()
    assert page.get_by_text("learning_rate=0.1").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(chromium, furnished, served, scheme, scripted, monkeypatch):
    monkeypatch.setenv("SCRIPT", "adam,wait")
    context = chromium.new_context(base_url=served.url, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    for path in (*MAIN, "a job under way"):
        if path in MAIN:
            page.goto(path)
        else:
            page.goto("/compare")
            page.get_by_role("button", name="Compare", exact=True).click()
            page.get_by_text("1 of 4 methods done").wait_for()
        for closed in page.locator("details").all():
            closed.evaluate("(details) => { details.open = true; }")
        page.evaluate(AXE)
        rules = TAGS if scheme == "light" else {"type": "rule", "values": ["color-contrast"]}  # all that differs
        found = page.evaluate("(rules) => axe.run({runOnly: rules})", rules)
        told = [(v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"]) for v in found["violations"]]
        assert told == [], (path, scheme)
    context.close()


def test_nothing_overflows_a_phone(chromium, furnished, served):
    context = chromium.new_context(base_url=served.url, viewport={"width": 360, "height": 780})
    page = context.new_page()
    for path in MAIN:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    context.close()


def test_static_pages_search_from_a_folder(chromium, tmp_path, monkeypatch):
    from web.conftest import METHODS, PROBLEMS

    from attractor.papers import catalogue, rows
    from attractor.web import site

    monkeypatch.setattr(rows, "methods", lambda: METHODS)
    monkeypatch.setattr(rows, "problems", lambda: PROBLEMS)
    monkeypatch.setattr(record, "status", lambda slug, found=None: record.standing(found))
    few = {slug: catalogue()[slug] for slug in ("gae", "adahessian", "lion-k")}
    monkeypatch.setattr(site, "catalogue", lambda: few)
    site.write(tmp_path)
    page, wrong = chromium.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "papers.html").as_uri())
    page.get_by_role("searchbox").fill("hessian")
    link = page.locator("#results h2 a").first
    assert link.get_attribute("href") == "papers/adahessian.html"
    link.click()
    page.get_by_role("heading", name="Measured here").wait_for()
    page.goto((tmp_path / "index.html").as_uri())
    page.get_by_role("searchbox").fill("advantage")
    page.keyboard.press("Enter")
    page.locator("#results h2 a").first.wait_for()
    page.get_by_role("searchbox").fill("zzzz")
    page.get_by_text("No paper has these words").wait_for()
    page.goto((tmp_path / "rooms.html").as_uri())  # has no search
    page.get_by_role("heading", name="Rooms").wait_for()
    page.close()
    assert wrong == []
