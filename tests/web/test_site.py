"""The static pages: all links lead somewhere, nothing comes from elsewhere, the index is small."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag

import pytest
from web.conftest import METHODS, PROBLEMS

from attractor.papers import catalogue, record, rows
from attractor.web import site


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.forms = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[k] for k in ("href", "src", "action") if found.get(k)]
        self.ids.add(found.get("id"))
        if tag == "form":
            self.forms.append(found)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTRACTOR_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(rows, "methods", lambda: METHODS)
        patch.setattr(rows, "problems", lambda: PROBLEMS)
        patch.setattr(record, "status", lambda slug, found=None: record.standing(found))
        assert site.write(out) == 5 + 16 + len(PROBLEMS) + len(catalogue())
    return out


def test_all_links_resolve(written):
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in written.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            if link.startswith("https://arxiv.org/abs/"):
                continue
            address, anchor = urldefrag(link)
            assert not re.match(r"\w+:|/", address), (path, link)  # relative, to this site
            target = (path.parent / unquote(address)).resolve() if address else path
            assert target.is_file(), (path, link)
            if anchor and target.suffix == ".html":
                assert unquote(anchor) in pages[target].ids, (path, link)
        assert not [f for f in page.forms if f.get("method") == "post"]


def test_index_is_small_and_holds_every_paper(written):
    text = (written / "assets" / "index.js").read_text(encoding="utf-8")
    assert len(text.encode()) < 1_000_000
    found = json.loads(text.removeprefix("window.ATTRACTOR_INDEX=").removesuffix(";\n"))
    assert [row[0] for row in found["papers"]] == list(catalogue())


def test_writing_again_gives_the_same(written, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "methods", lambda: METHODS)
    monkeypatch.setattr(rows, "problems", lambda: PROBLEMS)
    monkeypatch.setattr(record, "status", lambda slug, found=None: record.standing(found))
    monkeypatch.setattr(site, "catalogue", lambda: {"gae": catalogue()["gae"]})
    site.write(tmp_path)
    for path in tmp_path.rglob("*.html"):
        assert path.read_text() == (written / path.relative_to(tmp_path)).read_text()
