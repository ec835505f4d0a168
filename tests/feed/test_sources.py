"""What each kind of source tells, as its server sends it, and with its server's faults."""

import json
from dataclasses import replace
from datetime import timedelta
from xml.etree import ElementTree

import pytest
import upstream as up
from upstream import NOW, Reply, papers

from attractor.feed.fetch import FetchError
from attractor.feed.sources import (
    AnyFeed,
    ArxivApi,
    ArxivRss,
    Folder,
    HuggingFace,
    Oai,
    Unreadable,
    arxiv_api,
    arxiv_rss,
    document,
    feeds,
)
from attractor.feed.sources import oai as oai_module

HARD = up.Paper(
    "2611.00007",
    "Bounds for $p<q$ & <em>more</em>: Über-parameterized\n  nets",
    "If $a<b$ and $c>d$, then <b>R&D</b>.\n  Second line.",
    ("Ada Example", "Émile O'Sample"),
    version=2,
    doi="10.1000/ABC",
)
TITLE = "Bounds for $p<q$ & more: Über-parameterized nets"
ABSTRACT = "If $a<b$ and $c>d$, then R&D. Second line."


@pytest.fixture
def pages(local_fetcher):
    """All pages of a source of the local server."""

    def run(source, state=None, now=NOW, most=10**6):
        with local_fetcher(source.servers()) as ask:
            found = []
            for page in source.pages(ask, state or {}, now):
                json.dumps(page.state)
                found.append(page)
                if len(found) == most:
                    break
            return found

    return run


def numbers(pages):
    return [entry.arxiv for page in pages for entry in page.told.entries]


def check_hard(entry, version=2, doi="10.1000/abc"):
    assert (entry.title, entry.abstract) == (TITLE, ABSTRACT)
    assert (entry.arxiv, entry.version, entry.doi) == (HARD.number, version, doi)
    assert (entry.authors, entry.categories) == (HARD.authors, HARD.categories)
    assert entry.link == f"https://arxiv.org/abs/{HARD.number}"


# --- arXiv's search


def api(upstream, **settings):
    return ArxivApi("search", url=f"{upstream.url}/api/query", pace=0.0, **({"categories": ("cs.LG",)} | settings))


def test_search_tells_papers(upstream, pages):
    upstream.answer = up.search([HARD])
    (page,) = pages(api(upstream, categories=("cs.LG", "stat.ML"), query='abs:"gradient"'))
    check_hard(*page.told.entries)
    assert page.told.entries[0].published == "2026-11-24"
    (asked,) = upstream.asked
    assert asked.query["search_query"] == (
        '(cat:cs.LG OR cat:stat.ML) AND (abs:"gradient") AND submittedDate:[202611191200 TO 202611261200]'
    )
    assert (asked.query["sortBy"], asked.query["sortOrder"], asked.query["max_results"]) == (
        "submittedDate", "ascending", "500",
    )  # fmt: skip


def test_search_goes_slice_by_slice_and_on_from_where_it_was_cut(upstream, pages):
    everything = papers(7) + papers(5, "2026-11-25")
    upstream.answer = up.search(everything)
    source = api(upstream, slice=5)
    whole = pages(source)
    assert sorted(numbers(whole)) == sorted(p.number for p in everything)
    assert [len(p.told.entries) for p in whole] == [5, 5, 2]
    assert [p.total for p in whole] == [12, 12, 12]
    one = pages(source, most=1)
    later = pages(source, one[0].state, NOW + timedelta(hours=3))
    assert numbers(one + later) == numbers(whole)
    windows = [asked.query["search_query"].partition("[")[2] for asked in upstream.asked[4:]]
    begun, following = "202611191200 TO 202611261200]", "202611261200 TO 202611261500]"
    assert windows == [begun, begun, following]


def test_the_next_search_begins_some_days_before_the_newest_paper(upstream, pages):
    upstream.answer = up.search(papers(3))
    (page,) = pages(api(upstream))
    assert page.state == {"newest": "2026-11-24"}
    pages(api(upstream), page.state, NOW + timedelta(days=30))
    assert "[202611200000 TO 202612261200]" in upstream.asked[-1].query["search_query"]


def test_a_search_that_finds_nothing_does_not_move_on(upstream, pages):
    upstream.answer = up.search([])
    (page,) = pages(api(upstream), {"newest": "2026-11-20"})
    assert (page.state, page.told.entries, page.quiet) == ({"newest": "2026-11-20"}, (), False)
    assert len(upstream.asked) == 1


def test_an_empty_slice_in_the_middle_is_asked_again_and_then_left_for_later(upstream, pages):
    everything, faults = papers(7), [5, 5]
    honest = up.search(everything)

    def answer(asked):
        if int(asked.query["start"]) in faults:
            faults.remove(int(asked.query["start"]))
            return Reply(up.api([], 7, 5))
        return honest(asked)

    upstream.answer = answer
    assert len(numbers(pages(api(upstream, slice=5)))) == 7
    faults += [5] * 3
    cut = pages(api(upstream, slice=5))
    assert [page.short for page in cut] == ["", "5 of 7 papers, then nothing"]
    assert len(numbers(cut + pages(api(upstream, slice=5), cut[-1].state))) == 7
    faults += [5] * 3
    upstream.answer = lambda asked: Reply(up.api([], 0)) if int(asked.query["start"]) else honest(asked)
    assert pages(api(upstream, slice=5))[-1].short == "5 of 0 papers, then nothing"


def test_a_slice_that_comes_short_is_continued_after_what_came(upstream, pages):
    honest = up.search(papers(9))

    def answer(asked):
        path = asked.path.replace("max_results=5", "max_results=3")
        return honest(replace(asked, path=path))

    upstream.answer = answer
    assert numbers(pages(api(upstream, slice=5))) == [p.number for p in papers(9)]


def test_a_window_of_more_than_arxiv_gives_to_a_query_is_halved(upstream, pages, monkeypatch):
    monkeypatch.setattr(arxiv_api, "MOST", 10)
    everything = papers(8, "2026-11-21") + papers(8, "2026-11-23") + papers(8, "2026-11-25")
    upstream.answer = up.search(everything)
    found = pages(api(upstream, slice=5, limit=10))
    while found[-1].short:
        assert found[-1].short == "10 papers a run, the next goes on"
        found += pages(api(upstream, slice=5, limit=10), found[-1].state)
    assert numbers(found) == [p.number for p in everything]
    assert all(int(a.query["start"]) + int(a.query["max_results"]) <= 10 for a in upstream.asked)
    assert found[-1].state == {"newest": "2026-11-25"}


def test_a_minute_with_more_than_arxiv_gives_is_told_of(upstream, pages, monkeypatch):
    monkeypatch.setattr(arxiv_api, "MOST", 10)
    upstream.answer = up.search(papers(12))
    assert "only 10 of 12 papers of one minute" in [p.short for p in pages(api(upstream, limit=10, slice=10))]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (up.api(papers(3), 3)[:-200], "not well-formed"),
        (up.api([], 1).replace("</feed>", "<entry><id>http://arxiv.org/api/errors#bad</id><title>Error</title>"
         "<summary>incorrect id format</summary></entry></feed>"), "arXiv says: incorrect id format"),
        (up.api(papers(3), 3).replace("totalResults", "total"), "opensearch:totalResults"),
        ("<html><body>Rate exceeded.</body></html>", "neither RSS nor Atom"),
        ("Rate exceeded.", "not well-formed"), ("", "not well-formed"),
    ],
)  # fmt: skip
def test_an_answer_of_search_that_is_not_whole_counts_for_nothing(upstream, pages, body, said):
    upstream.answer = lambda asked: Reply(body)
    with pytest.raises(Unreadable, match=said):
        pages(api(upstream))


# --- arXiv's announcements


def rss(upstream, **settings):
    return ArxivRss("news", url=f"{upstream.url}/rss", pace=0.0, **({"categories": ("cs.LG", "cs.AI")} | settings))


@pytest.mark.parametrize("form", [up.rss, up.atom_announcements])
def test_announcements(upstream, pages, form):
    kinds = [replace(p, announce=k) for p, k in zip(papers(3), ("cross", "replace", "replace-cross"), strict=True)]
    upstream.answer = lambda asked: Reply(form([HARD, *kinds]), headers={"ETag": '"1"'})
    (page,) = pages(rss(upstream))
    assert upstream.asked[0].path == "/rss/cs.LG+cs.AI"
    assert numbers([page]) == [HARD.number, kinds[0].number, kinds[1].number]
    check_hard(page.told.entries[0], doi=None)
    assert [e.published for e in page.told.entries] == ["2026-11-26", None, None]  # an old paper's day is not told
    assert (page.day, page.quiet, page.whole) == ("2026-11-26", False, True)
    upstream.answer = lambda asked: Reply(status=304)
    (again,) = pages(rss(upstream), page.state)
    assert upstream.asked[-1].headers["if-none-match"] == '"1"'
    assert (again.quiet, again.told.entries, again.state) == (True, (), page.state)
    upstream.answer = lambda asked: Reply(form([HARD, *kinds]))
    assert len(numbers(pages(rss(upstream, announce=("replace-cross",))))) == 1


def test_days_without_announcements_are_quiet_and_others_are_not(upstream, pages):
    for form in (up.rss, up.atom_announcements):
        for day, quiet in (
            ("2026-11-28", True),
            ("2026-11-29", True),
            ("2026-11-26", False),
        ):  # Saturday, Sunday, Thursday
            upstream.answer = lambda asked, form=form, day=day: Reply(form([], day))
            assert [p.quiet for p in pages(rss(upstream), now=NOW + timedelta(days=3))] == [quiet]


def test_an_announcement_that_breaks_off_gives_what_came_whole_and_is_asked_for_anew(upstream, pages):
    text = up.rss(papers(10))
    for cut in (text[: text.index("order 6") + 3], text.replace("<title>On the descent of order 6", "<titel>", 1)):
        upstream.answer = lambda asked, cut=cut: Reply(cut, headers={"ETag": '"1"'})
        (page,) = pages(rss(upstream))
        assert numbers([page]) == [p.number for p in papers(6)]
        assert "not well-formed" in page.told.broken
        assert page.state == {}


def test_affiliations_and_foreign_kinds(upstream, pages):
    odd = replace(HARD, authors=("Ada Example (MIT, Cambridge)", "Bo Sample"))
    text = up.rss([odd, replace(papers(1)[0], announce="new-thing")])
    upstream.answer = lambda asked: Reply(text)
    (page,) = pages(rss(upstream))
    assert page.told.entries[0].authors == ("Ada Example", "Bo Sample")
    assert page.told.unread == ("announce type: expected new, cross, replace, replace-cross, got 'new-thing'",)


# --- OAI-PMH


def oai(upstream, **settings):
    return Oai("history", url=f"{upstream.url}/oai", pace=0.0, **settings)


def test_harvest_follows_the_tokens(upstream, pages):
    lists = {
        None: up.oai([HARD], "t|1", ("2611.99999",)),
        "t|1": up.oai(papers(2), "t|2"),
        "t|2": up.oai(papers(2, first=5)),
    }
    upstream.answer = lambda asked: Reply(lists[asked.query.get("resumptionToken")])
    found = pages(oai(upstream, since="2026-11-01", set="cs:cs:LG"))
    assert numbers(found) == [p.number for p in (HARD, *papers(2), *papers(2, first=5))]
    check_hard(found[0].told.entries[0], version=None)
    assert (found[0].told.entries[0].published, found[0].told.gone) == ("2026-11-24", 1)
    first, second = upstream.asked[:2]
    assert first.query == {"verb": "ListRecords", "metadataPrefix": "arXiv", "from": "2026-11-01", "set": "cs:cs:LG"}
    assert second.query == {"verb": "ListRecords", "resumptionToken": "t|1"}
    assert found[-1].state == {"from": "2026-11-25"}  # the day before the first answer
    one = pages(oai(upstream, since="2026-11-01"), most=1)
    assert numbers(one + pages(oai(upstream), one[-1].state)) == numbers(found)


def test_a_token_that_is_too_old_begins_the_harvest_anew(upstream, pages):
    def answer(asked):
        if asked.query.get("resumptionToken") == "old":
            return Reply(up.oai_page('<error code="badResumptionToken">expired</error>'))
        return Reply(up.oai(papers(2)))

    upstream.answer = answer
    found = pages(oai(upstream), {"from": "2026-11-10", "begun": "2026-11-20", "token": "old"})
    assert (len(numbers(found)), upstream.asked[-1].query["from"]) == (2, "2026-11-10")
    upstream.answer = lambda asked: Reply(up.oai_page('<error code="badResumptionToken">expired</error>'))
    with pytest.raises(Unreadable, match="badResumptionToken"):
        pages(oai(upstream), {"from": "2026-11-10", "begun": "2026-11-20", "token": "old"})


def test_a_harvest_without_records_does_not_move_on(upstream, pages):
    upstream.answer = lambda asked: Reply(up.oai_page('<error code="noRecordsMatch">none</error>'))
    (page,) = pages(oai(upstream), {"from": "2026-11-10"})
    assert (page.state, page.told.entries) == ({"from": "2026-11-10"}, ())


def test_a_harvest_stops_at_its_limit_and_at_circles(upstream, pages):
    upstream.answer = lambda asked: Reply(up.oai(papers(1), f"t{len(upstream.asked)}"))
    found = pages(oai(upstream, limit=3))
    assert (len(found), found[-1].short, found[-1].state["token"]) == (3, "3 requests a run, the next goes on", "t3")
    upstream.asked.clear()
    upstream.answer = lambda asked: Reply(up.oai(papers(1), f"t{len(upstream.asked) % 2}"))
    assert pages(oai(upstream))[-1].short == "the server's list goes round in circles"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (up.oai(papers(3), "t")[:-60], "not well-formed"), (up.oai_page(""), "without records"),
        (up.oai_page('<error code="badArgument">x</error>'), "the server says: badArgument"),
        ("<a/>", "expected an answer"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "entities of its own"),
    ],
)  # fmt: skip
def test_an_answer_of_a_harvest_that_is_not_whole_counts_for_nothing(upstream, pages, body, said):
    upstream.answer = lambda asked: Reply(body)
    with pytest.raises(Unreadable, match=said):
        pages(oai(upstream))


def test_a_record_without_metadata_is_told_of():
    text = up.oai(papers(2)).replace("<arXiv ", "<other ", 1).replace("</arXiv>", "</other>", 1)
    told = oai_module.read(text, NOW)[0]
    assert (len(told.entries), told.unread) == (1, ("a record without arXiv's metadata",))


# --- Hugging Face


def hf(upstream, **settings):
    return HuggingFace("daily", url=f"{upstream.url}/api/daily_papers", pace=0.0, **settings)


def by_day(found):
    return lambda asked: Reply(up.daily([p for p in found if p.day == asked.query["date"]]))


def test_daily_papers_with_votes_day_by_day(upstream, pages):
    liked = replace(HARD, votes=41)
    upstream.answer = by_day([liked, *papers(2, "2026-11-25")])
    found = pages(hf(upstream))
    assert [page.day for page in found] == ["2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26"]
    (entry,) = found[1].told.entries
    assert (entry.title, entry.abstract, entry.arxiv, entry.published) == (TITLE, ABSTRACT, HARD.number, "2026-11-24")
    assert (entry.authors, found[1].told.votes) == (HARD.authors, (41,))
    assert [p.quiet for p in found] == [False, False, False, True]  # today's may yet come
    assert found[-1].state == {"day": "2026-11-25"}
    upstream.asked.clear()
    pages(hf(upstream), found[-1].state, NOW + timedelta(days=1))
    assert [a.query["date"] for a in upstream.asked] == [
        "2026-11-23",
        "2026-11-24",
        "2026-11-25",
        "2026-11-26",
        "2026-11-27",
    ]


def test_a_day_that_is_not_open_yet_and_long_absence(upstream, pages):
    upstream.answer = lambda asked: (
        Reply("", 400) if asked.query["date"] == "2026-11-26" else Reply(up.daily(papers(1)))
    )
    assert len(pages(hf(upstream, days=1))) == 1
    upstream.answer = lambda asked: Reply("", 400)
    with pytest.raises(FetchError, match="400"):
        pages(hf(upstream))
    upstream.answer = lambda asked: Reply("[]")
    assert len(pages(hf(upstream), {"day": "2020-01-01"})) == 32


def test_a_day_of_several_lists(upstream, pages):
    everything = papers(230, "2026-11-25")

    def answer(asked):
        at = 100 * int(asked.query.get("p", 0))
        return Reply(up.daily(everything[at : at + 100] if asked.query["date"] == "2026-11-25" else []))

    upstream.answer = answer
    assert numbers(pages(hf(upstream, days=1))) == [p.number for p in everything]
    upstream.answer = lambda asked: Reply(up.daily(everything[:100]))  # it does not know of further lists
    assert len(numbers(pages(hf(upstream, days=1)))) == 200  # of two days


def test_daily_papers_that_are_odd(upstream, pages):
    data = json.loads(up.daily(papers(4)))
    data[0]["paper"]["upvotes"] = "many"
    data[1]["paper"]["authors"] = [{"name": "Seen"}, {"name": "Hidden", "hidden": True}, "x", None, {"name": 5}]
    data[2]["paper"] = None
    data += ["x", None, 5, [], {}, {"paper": {"id": 5}}]
    upstream.answer = lambda asked: Reply(json.dumps(data))
    page = pages(hf(upstream, days=1))[0]
    assert (len(page.told.entries), page.told.votes, len(page.told.unread)) == (3, (None, 1, 1), 7)
    assert page.told.entries[1].authors == ("Seen",)
    for body in ('{"error": "busy"}', "<html>", "[1, 2", "[" * 100_000, ""):
        upstream.answer = lambda asked, body=body: Reply(body)
        with pytest.raises(Unreadable):
            pages(hf(upstream))


# --- any feed


def any_feed(upstream):
    return AnyFeed("blog", url=f"{upstream.url}/feed", pace=0.0)


BLOG = """<?xml version="1.0"?><!DOCTYPE rss><rss version="2.0" xmlns:prism="http://prismstandard.org/namespaces/basic/2.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>B&nbsp;log</title>
<item><title>On &lt;b&gt;curvature&lt;/b&gt; &amp;amp; rest &eacute; R&D</title><link>https://blog.example/1?a=1&b=2</link>
<description><![CDATA[<p>First.</p><p>Second&nbsp;one<script>x()</script></p>]]></description>
<pubDate>Tue, 24 Nov 2026 10:00:00 GMT</pubDate>
<author>someone@blog.example (Some One)</author></item>
<item><title>A preprint</title><link>https://arxiv.org/abs/2611.00009v3</link>
<dc:creator>Ada Example</dc:creator></item>
<item><title>A journal's</title><link>javascript:alert(1)</link><prism:doi>10.1000/XYZ</prism:doi></item>
<item><link>https://blog.example/untitled</link></item>
</channel></rss>"""


def test_any_feed(upstream, pages):
    upstream.answer = lambda asked: Reply(BLOG, headers={"ETag": '"9"'})
    (page,) = pages(any_feed(upstream))
    post, preprint, journal = page.told.entries
    assert (post.title, post.abstract) == ("On curvature & rest é R&D", "First. Second one")
    assert (post.link, post.published, post.arxiv) == ("https://blog.example/1?a=1&b=2", "2026-11-24", None)
    assert (preprint.arxiv, preprint.version, preprint.authors) == ("2611.00009", 3, ("Ada Example",))
    assert (journal.doi, journal.link) == ("10.1000/xyz", "https://doi.org/10.1000/xyz")
    assert page.told.unread == ("title: expected words, got ''",)
    assert page.state == {"validators": {"etag": '"9"'}}


def test_a_json_feed(upstream, pages):
    upstream.answer = lambda asked: Reply(up.json_feed([HARD]))
    (entry,) = pages(any_feed(upstream))[0].told.entries
    assert (entry.title, entry.abstract, entry.arxiv, entry.authors) == (TITLE, ABSTRACT, HARD.number, HARD.authors)
    told = feeds.read(json.dumps({"version": "https://jsonfeed.org/version/1", "items": [5, None, {"title": 7}]}), NOW)
    assert (told.entries, len(told.unread)) == ((), 3)
    with pytest.raises(Unreadable, match="JSON Feed"):
        feeds.read('{"a": 1}', NOW)


def test_an_empty_feed_is_not_remembered_as_the_last_word(upstream, pages):
    upstream.answer = lambda asked: Reply(up.rss([]), headers={"ETag": '"9"'})
    (page,) = pages(any_feed(upstream))
    assert (page.state, page.quiet) == ({}, False)


# --- documents


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso-8859-1", "windows-1252"]
)
def test_encodings(encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?><a>Émile</a>'
    assert "Émile" in document.decoded(text.encode(encoding))
    assert "Émile" in document.decoded("<a>Émile</a>".encode(encoding), encoding)


def test_wrong_encodings_are_read_as_browsers_do():
    assert document.decoded('<?xml version="1.0" encoding="latin-1"?><a>Émile</a>'.encode()).endswith("<a>Émile</a>")
    assert document.decoded('<?xml version="1.0" encoding="utf-8"?><a>Émile</a>'.encode("latin-1")).endswith(
        "<a>Émile</a>"
    )
    assert document.decoded(b"<a>\x93quoted\x94</a>", "utf-7") == "<a>“quoted”</a>"


def test_one_damaged_letter_does_not_make_it_another_encoding():
    text = up.rss([HARD, replace(HARD, number="2611.00008", title="Da\udcffmaged")])
    body = text.encode("utf-8", "surrogateescape")
    told = arxiv_rss.read(document.feed(document.decoded(body, "iso-8859-1")), NOW)
    assert [e.title for e in told.entries] == [TITLE]
    assert told.unread == ("title: expected readable letters, got 'Da\ufffdmaged'",)


BOMB = '<!DOCTYPE a [<!ENTITY a "haha"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_entity_bombs_and_files_are_not_opened(encoding):
    for text in (
        BOMB + up.rss(papers(1)).partition("?>")[2].replace("On the", "&b;"),
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss version="2.0"><channel>&x;</channel></rss>',
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1/x"> %x;]><rss version="2.0"/>',
    ):
        with pytest.raises(Unreadable, match="entities of its own"):
            document.feed(document.decoded(text.encode(encoding)))


def test_a_document_type_from_elsewhere_is_not_fetched():
    text = '<!DOCTYPE rss SYSTEM "http://127.0.0.1:9/rss.dtd">' + up.rss(papers(2)).partition("?>")[2]
    assert len(document.feed(text).items) == 2


def test_deep_nesting_is_refused():
    with pytest.raises(Unreadable, match="deep"):
        document.feed("<rss>" * 5000)


def atom(items):
    return f'<feed xmlns="http://www.w3.org/2005/Atom"><id>https://a.example</id><title>The feed</title>{items}</feed>'


ONE, TWO = (f"<entry><id>https://a.example/{n}</id><title>{n}</title><category term='cs.LG'/></entry>" for n in "12")


@pytest.mark.parametrize(
    ("text", "titles", "damaged"),
    [
        (atom(ONE + TWO), "12", 0),
        (atom(ONE.replace("</title>", "</title><title>3</title>") + TWO), "2", 1),  # two that have run together
        (atom(ONE.replace("<category term='cs.LG'/>", "<author><author/></author>") + TWO), "2", 1),
        (atom(ONE.replace("<category term='cs.LG'/>", "<div><div/></div>") + TWO), "12", 0),
        (atom("<entry>" + ONE + "</entry>" + TWO), "12", 1),
        (atom(ONE.replace("<category", f"{TWO}<category")), "2", 1),
        (atom(ONE + TWO).replace("<id>", "<entry><id>", 1), "12", 0),  # the feed's own title is no item's
        (atom(ONE + TWO + ONE[:70]).replace("</feed>", ""), "12", 0),
        (atom(ONE.replace("</entry>", "") + TWO + TWO), "22", 0),
    ],
)
def test_what_is_not_one_item_is_left_out(text, titles, damaged):
    found = document.feed(text)
    assert ("".join(item.title for item in found.items), found.damaged) == (titles, damaged)
    assert found.channel.get("title", "The feed") == "The feed"
    ElementTree.fromstring(document.whole_items(text)[0])


def test_an_item_around_the_feed_is_no_feed():
    for end in ("</entry>", ""):
        with pytest.raises(Unreadable, match="neither RSS nor Atom"):
            document.feed(f"<entry>{atom(ONE)}{end}")


def test_a_category_within_a_category_does_not_change_their_order():
    text = up.rss([HARD, replace(HARD, number="2611.00008")])
    text = text.replace("</category><category>math.OC</category>", "<category>math.OC</category></category>", 1)
    told = arxiv_rss.read(document.feed(text), NOW)
    assert [e.arxiv for e in told.entries] == ["2611.00008"]
    assert told.unread == ("an item that runs into another, or into itself",)


def test_a_body_that_is_a_file_name_or_an_address_is_not_opened(tmp_path):
    (tmp_path / "feed.xml").write_text(up.rss(papers(1)))
    for text in (str(tmp_path / "feed.xml"), "http://127.0.0.1:9/", "file:///etc/passwd"):
        with pytest.raises(Unreadable):
            document.feed(text)


# --- folders


def test_a_folder_of_saved_files(tmp_path, pages):
    folder = tmp_path / "saved"
    folder.mkdir()
    texts = {
        "a.xml": up.rss(papers(1)), "b.atom": up.atom_announcements(papers(1, first=1)),
        "c.xml": up.api(papers(1, first=2), 1), "d.xml": up.oai(papers(1, first=3)),
        "e.json": up.daily(papers(1, first=4)), "f.json": up.json_feed(papers(1, first=5)), 
        "g.rss": BLOG, "broken.xml": "<rss><chan", "h.bib": "@misc{a, title={On saved bibliographies}, year={2026}}",
        "i.json": '[{"id": "x", "type": "article", "title": "On saved references"}]', "notes.md": "not read",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "j.xml").mkdir()
    source = Folder("saved", path=str(folder))
    found = pages(source)
    assert {p.number for p in papers(6)} <= set(numbers(found))
    titles = {entry.title for page in found for entry in page.told.entries}
    assert {"On saved bibliographies", "On saved references"} <= titles
    assert [p.short for p in found if p.short] == ["broken.xml: not well-formed in line 1: unclosed token"]
    again = pages(source, found[-1].state)
    assert [p.short[:10] for p in again] == ["broken.xml"]
    (folder / "broken.xml").write_text(up.rss(papers(2, first=8)))
    assert numbers(pages(source, again[-1].state)) == [p.number for p in papers(2, first=8)]
    (folder / "broken.xml").unlink()
    (last,) = pages(source, again[-1].state)
    assert (last.quiet, len(last.state["files"])) == (True, 9)
    with pytest.raises(Unreadable, match="no folder"):
        pages(Folder("x", path=str(tmp_path / "none")))


def test_an_announcement_knows_its_day():
    assert arxiv_rss.read(document.feed(up.rss(papers(1), "2026-11-25")), NOW).day == "2026-11-25"
