"""``feed.toml``: a first one that works, and mistakes refused by name with what is accepted."""

import re
import tomllib

import pytest

from attractor.feed import config
from attractor.feed.sources import KINDS, ArxivRss, HuggingFace


def test_the_first_file_is_sensible_and_not_overwritten():
    where = config.init()
    found = config.read()
    assert [type(source) for source in found.sources] == [ArxivRss, HuggingFace]
    assert found.servers() == {"rss.arxiv.org": 1.0, "huggingface.co": 1.0}
    assert not found.allow_private
    with pytest.raises(ValueError, match="is there already"):
        config.init()
    assert where.read_text() == config.DEFAULT


def test_the_examples_in_the_first_file_work():
    text = re.sub(r"^# (?=\[\[|\w+ = )", "", config.DEFAULT, flags=re.MULTILINE)
    found = config.parse(tomllib.loads(text))
    assert {source.kind for source in found.sources} == set(KINDS)
    assert (found.allow_private, found.contact) == (True, "you@example.org")


def test_without_a_file_the_error_says_what_to_do():
    with pytest.raises(ValueError, match="attractor feed init"):
        config.read()


def source(**more):
    return {"source": [{"name": "a", "kind": "arxiv-rss", "categories": ["cs.LG"]} | more]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"sources": []}, "unknown setting 'sources', did you mean 'source'"),
        ({"quux": 1}, "unknown setting 'quux'; accepted: source, allow_private, contact"),
        ({"source": {"name": "a"}}, r"source: expected tables, each under a line \[\[source\]\]"),
        ({"source": [5]}, "source: expected tables"),
        ({"source": [{"name": "a"}]}, r"source 'a': expected a name and a kind \(arxiv-rss, arxiv-api, oai"),
        ({"source": [{"kind": "feed"}]}, "source 1: expected a name and a kind"),
        (source(kind="arxiv-rs"), "source 'a': unknown kind 'arxiv-rs', did you mean 'arxiv-rss'"),
        (source(kind=5), "source 'a': unknown kind '5'"),
        (source(categorys=["x"]), "source 'a': unknown setting 'categorys', did you mean 'categories'"),
        (source(zzz=1), "source 'a': unknown setting 'zzz'; accepted: name, pace, hosts, quiet_days, url, categories"),
        (source(categories=[]), "source 'a': categories: expected at least one subject class"),
        (source(categories="cs.LG"), r"source 'a': categories: expected a list such as \[\"a\", \"b\"\], got 'cs.LG'"),
        (source(categories=["cs LG"]), "categories: expected arXiv's, such as cs.LG, got 'cs LG'"),
        (source(categories=["cs.LG/../x"]), "categories: expected arXiv's"),
        (source(announce=["news"]), "unknown announce 'news', did you mean 'new'"),
        (source(name=""), "name: expected 1 to 60 letters"),
        (source(name="../x"), "name: expected 1 to 60 letters"),
        (source(pace=-1), "pace: expected seconds from 0 to 3600, got -1.0"),
        (source(pace="fast"), "pace: expected a number, got 'fast'"),
        (source(pace=True), "pace: expected a number, got True"),
        (source(pace=float("nan")), "pace: expected seconds"),
        (source(quiet_days=0), "quiet_days: expected a number from 1 to 1000, got 0"),
        (source(quiet_days=1.5), "quiet_days: expected a whole number, got 1.5"),
        (source(url="file:///etc/passwd"), "url: expected an address that begins with http"),
        (source(url="http://user:word@a.example"), "url: expected an address"),
        (source(url=5), "url: expected a text in quotes, got 5"),
        (source(hosts=["https://a.example/"]), "hosts: expected names such as example.org"),
        ({"source": source()["source"] * 2}, "source 'a': expected a name of its own, got it 2 times"),
        ({"allow_private": "no"}, "allow_private: expected true or false, got 'no'"),
        ({"contact": "a\r\nX: y"}, "contact: expected an address"),
        ({"source": [{"name": "a", "kind": "arxiv-api"}]}, "query: expected a query, or categories"),
        (
            {"source": [{"name": "a", "kind": "arxiv-api", "query": "x", "slice": 2001}]},
            "slice: .* 1 to 2000, got 2001",
        ),
        ({"source": [{"name": "a", "kind": "arxiv-api", "query": "x", "limit": 30001}]}, "limit: .* 1 to 30000"),
        ({"source": [{"name": "a", "kind": "arxiv-api", "query": "x", "days": 0}]}, "days: expected"),
        ({"source": [{"name": "a", "kind": "oai", "since": "last week"}]}, "since: expected a day such as"),
        ({"source": [{"name": "a", "kind": "oai", "limit": 0}]}, "limit: expected"),
        ({"source": [{"name": "a", "kind": "huggingface", "days": 99}]}, "days: expected a number from 1 to 31"),
        ({"source": [{"name": "a", "kind": "feed"}]}, "url: expected the feed's address"),
        ({"source": [{"name": "a", "kind": "folder"}]}, "path: expected a folder"),
    ],
)
def test_mistakes_are_refused_by_name(data, said):
    with pytest.raises(ValueError, match=said):
        config.parse(data)


def test_the_file_is_named_in_the_error(tmp_path):
    for text, said in (("[[source", "feed.toml: "), ("quux = 1", "feed.toml: unknown setting 'quux'")):
        (tmp_path / "feed.toml").write_text(text)
        with pytest.raises(ValueError, match=said):
            config.read(tmp_path / "feed.toml")


def test_tables_of_other_parts_and_whole_numbers_pass():
    found = config.parse({**source(pace=2, hosts=["a.example:8080"]), "mail": {"host": "smtp.example"}})
    assert found.servers() == {"rss.arxiv.org": 2.0, "a.example:8080": 2.0}
