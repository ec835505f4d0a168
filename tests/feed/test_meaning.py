"""Search by meaning among papers that came in.

`judged_queries.tsv` has 179 queries in seven groups, with the papers of the catalogue that are expected. They are asked
of libraries that hold the catalogue as entries, with our gists and claims for abstracts, in two ways: as it is
("known"), where the topics, which were made from these papers and their keywords, know more of them than they say; and
by thirds, of which the topics know nothing ("unseen"), as with papers that come in.

The constants of `meaning.py` were chosen on the "tuned" part, unseen, and on the tuned part of
tests/papers/search_queries.tsv. Half of its 108 queries had first been held out; known, three groups fell short of BM25
by up to 0.05, which led to `WHOLE_WEIGHT`, and to the 71 queries that are held out now. Those were scored at each of
three settings, and chose none. nDCG@10, held out, against FTS5's BM25 with its defaults:

|                | known: BM25 | ours  | unseen: BM25 | ours  |
|----------------|-------------|-------|--------------|-------|
| own words      | 1.000       | 1.000 | 1.000        | 1.000 |
| other words    | 0.384       | 0.520 | 0.525        | 0.649 |
| long questions | 0.890       | 0.933 | 0.842        | 0.853 |
| names          | 0.750       | 0.963 | 0.800        | 0.800 |
| typos          | 0.666       | 0.992 | 0.733        | 0.876 |
| authors        | 1.000       | 1.000 | 1.000        | 1.000 |
| one word       | 0.858       | 0.924 | 0.770        | 0.916 |

With papers of both kinds in one library, those that the topics know come first too often: unseen ones are then found no
better than by BM25 alone (other words 0.433 against 0.474, own words 0.974 against 0.992, at an earlier setting).
"""

import csv
import math
import re
import sys
from pathlib import Path
from statistics import mean

import numpy as np
import pytest

from attractor.feed import Entry, Library, meaning
from attractor.feed.follows import entry_of
from attractor.papers import _text, build_index, search
from attractor.papers.catalogue import catalogue

QUERIES = Path(__file__).with_name("judged_queries.tsv")


def slugs(library, query, limit=10):
    return [stored.slug for stored, _ in meaning.search(library, query, limit)]


def bm25(library, query):
    words = [w for w in dict.fromkeys(re.findall(r"\w+", query.lower())) if _text.words(w)]
    asked = (" OR ".join(f'"{w}"' for w in words),)
    rows = library.connection.execute(
        "SELECT slug FROM entries_text JOIN entries ON id = entries_text.rowid "
        "WHERE entries_text MATCH ? ORDER BY bm25(entries_text) LIMIT 10",
        asked,
    )
    return [row["slug"] for row in rows]


def ndcg(found, expected):
    gain = sum(1 / math.log2(i + 2) for i, slug in enumerate(found[:10]) if slug in expected)
    return gain / sum(1 / math.log2(i + 2) for i in range(min(10, len(expected))))


def judged(part):
    with QUERIES.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["part"] == part]
    return {g: [(r["query"], r["slugs"].split()) for r in rows if r["group"] == g] for g in {r["group"] for r in rows}}


def graded(library, search, part):
    return {
        group: mean(ndcg(search(library, query), expected) for query, expected in queries)
        for group, queries in judged(part).items()
    }


@pytest.mark.parametrize("part", ["tuned", "held out"])
def test_no_group_of_queries_fares_worse_than_by_words_alone(papers, part):
    ours, words = graded(papers, slugs, part), graded(papers, bm25, part)
    assert len(ours) == 7
    for group in ours:
        assert ours[group] >= words[group], (group, ours, words)
    assert mean(ours.values()) > mean(words.values()) + 0.07, (ours, words)


@pytest.fixture
def thirds(tmp_path, monkeypatch):
    """Makes a library of a third of the catalogue, of which the topics know nothing."""
    meaning._known_words()  # of the whole
    whole, fold = catalogue(), np.random.default_rng(0).permutation(405) % 3
    also = build_index.keywords()
    caches = (search._index, search.term_places, search.phrases, meaning.fingerprint)

    def third(number):
        known = {slug: paper for (slug, paper), f in zip(whole.items(), fold, strict=True) if f != number}
        monkeypatch.setattr(build_index, "catalogue", lambda: known)
        monkeypatch.setattr(search, "catalogue", lambda: known)
        monkeypatch.setattr(build_index, "keywords", lambda: {slug: also[slug] for slug in known})
        monkeypatch.setattr(search, "INDEX", tmp_path / f"{number}.npz")
        np.savez(search.INDEX, allow_pickle=False, **build_index.build())
        for cached in caches:
            cached.cache_clear()
        library = Library(tmp_path / f"{number}.sqlite")
        library.add([entry_of(p) for p in whole.values() if p.slug not in known], "a")
        return library

    yield third
    monkeypatch.undo()
    for cached in caches:
        cached.cache_clear()


def test_nor_where_the_topics_know_none_of_the_papers(thirds):
    ours, words = {}, {}
    for number in range(3):
        with thirds(number) as library:
            here = {stored.slug for stored in library.select()}
            for group, queries in judged("held out").items():
                for query, expected in queries:
                    if inside := here.intersection(expected):
                        ours.setdefault(group, []).append(ndcg(slugs(library, query), inside))
                        words.setdefault(group, []).append(ndcg(bm25(library, query), inside))
    for group in ours:
        assert mean(ours[group]) >= mean(words[group]), group
    assert mean(map(mean, ours.values())) > mean(map(mean, words.values())) + 0.04


def test_queries_are_about_known_papers_and_asked_once():
    rows = [row for part in ("tuned", "held out") for rows in judged(part).values() for row in rows]
    assert len({query for query, _ in rows}) == len(rows) >= 60
    assert {slug for _, expected in rows for slug in expected} <= catalogue().keys()


def test_the_measure_is_not_free(papers):
    queries = [row for rows in judged("held out").values() for row in rows]
    wrong = [(query, expected) for (query, _), (_, expected) in zip(queries, queries[5:] + queries[:5], strict=True)]
    assert mean(ndcg(slugs(papers, query), expected) for query, expected in wrong) < 0.1


@pytest.mark.parametrize(
    ("query", "slug"),
    [("adahessian", "adahessian"), ("adahesian", "adahessian"), ("GROKKING", "grokking-lazy-to-rich"),
     ("Richtarik", "ef21-weighted"), ("Richtárik", "ef21-weighted")],
)  # fmt: skip
def test_one_word_is_enough(papers, query, slug):
    assert slugs(papers, query)[0] == slug


@pytest.mark.parametrize(
    ("british", "american"),
    [("regularised behaviour", "regularized behavior"), ("modelling centres", "modeling centers"),
     ("normalisation layers", "normalization layers"), ("analysing colours", "analyzing colors")],
)  # fmt: skip
def test_spelling_does_not_matter(papers, british, american):
    def found(query):
        return [(s.id, round(score, 5)) for s, score in meaning.search(papers, query)]

    assert found(british) == found(american) != []


def test_scores_fall_from_at_most_one(papers):
    scores = [score for _, score in meaning.search(papers, "sharpness aware training", 405)]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] <= scores[0] <= 1


def test_what_no_one_says_finds_nothing(papers, library):
    assert meaning.search(library, "gradient") == []  # an empty library
    assert meaning.search(papers, "of the") == []
    assert meaning.search(papers, "?! ()* AND \"'") == []
    with pytest.raises(ValueError, match="query: expected a few words"):
        meaning.search(papers, " \n")
    with pytest.raises(ValueError, match="limit: expected"):
        meaning.search(papers, "x", 0)


def test_text_never_seen_before_is_placed_by_its_own_words_too(library):
    library.add(
        [Entry("Photometric redshifts of galaxies", abstract="Spectra of quasars.", arxiv="2001.00001"),
         Entry("Bread and its crumb", abstract="Sourdough, rye and spelt.", arxiv="2001.00002"),
         Entry("数学 の 学習", arxiv="2001.00003")], "a",
    )  # fmt: skip
    found = [(s.entry.arxiv, score) for s, score in meaning.search(library, "quasar redshift")]
    assert found[0][0] == "2001.00001"
    assert found[0][1] > 0.5
    assert [s.entry.arxiv for s, _ in meaning.search(library, "数学")] == ["2001.00003"]
    galaxies, quasars, bread = meaning.embed(["redshifts of galaxies", "redshifts of quasars", "sourdough crumb"])
    assert galaxies @ quasars > 0.3 > galaxies @ bread


def test_vectors_are_of_length_one_or_nothing():
    vectors = meaning.embed(["sharp minima", "", "of the", "zyzzyva"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 0, 1], atol=1e-5)
    assert meaning.embed([]).shape == (0, vectors.shape[1])


def test_vectors_follow_a_change_of_words_and_of_what_makes_them(library, monkeypatch):
    number = library.add([Entry("Sharp minima", arxiv="2001.00001v1")], "a").new[0]
    ((before,),) = (meaning.vectors(library)[1],)
    library.add([Entry("Bread and its crumb", arxiv="2001.00001v2")], "a")
    numbers, (after,) = meaning.vectors(library)
    assert numbers.tolist() == [number]
    assert before @ after < 0.5
    assert [s.id for s, _ in meaning.search(library, "crumb")] == [number]
    serial = "SELECT seq FROM sqlite_sequence WHERE name = 'vectors'"
    made = library.connection.execute(serial).fetchone()["seq"]
    meaning.vectors(library)
    assert library.connection.execute(serial).fetchone()["seq"] == made  # nothing is made twice
    monkeypatch.setenv("ATTRACTOR_EMBED", "attractor_embedding_of_mine:lengths")
    monkeypatch.setitem(sys.modules, "attractor_embedding_of_mine", type("M", (), {"lengths": lengths}))
    for cached in (meaning.embedder, meaning.fingerprint):
        cached.cache_clear()
    try:
        assert meaning.vectors(library)[1].shape == (1, 2)
        assert [s.id for s, _ in meaning.search(library, "anything")] == [number]
        monkeypatch.setenv("ATTRACTOR_EMBED", "nothing_of_the_kind:lengths")
        meaning.embedder.cache_clear()
        with pytest.raises(ValueError, match="ATTRACTOR_EMBED: expected module:function"):
            meaning.embedder()
    finally:
        monkeypatch.undo()
        for cached in (meaning.embedder, meaning.fingerprint):
            cached.cache_clear()
    assert meaning.vectors(library)[1].shape == (1, 256)


def lengths(texts):
    return [[1.0 + len(text), 1.0] for text in texts]


def test_an_entry_that_is_gone_is_not_found(library):
    library.add([Entry("A title", arxiv="2001.00001"), Entry("Another title", doi="10.1000/x")], "a")
    assert len(meaning.search(library, "title")) == 2
    library.add([Entry("A title", arxiv="2001.00001", doi="10.1000/x")], "a")
    assert len(meaning.search(library, "title")) == 1
    assert len(meaning.vectors(library)[0]) == 1


def test_nearest_is_exact_for_few_and_nearly_so_for_many(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3_000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    few = meaning.Index(vectors, np.arange(3_000) + 7)
    numbers, likeness = few.nearest(vectors[5], 10)
    assert numbers[0] == 12
    np.testing.assert_allclose(likeness, np.sort(vectors @ vectors[5])[:-11:-1], atol=1e-6)
    assert len(few.nearest(vectors[5], 5_000)[0]) == 3_000
    monkeypatch.setattr(meaning, "EXACT", 1_000)
    many = meaning.Index(vectors, np.arange(3_000) + 7)
    assert many.graph is not None
    shared = [len({*few.nearest(v, 10)[0]} & {*many.nearest(v, 10)[0]}) for v in vectors[:50]]
    assert mean(shared) > 8
    numbers, likeness = many.nearest(vectors[5], 10)
    np.testing.assert_allclose(likeness, vectors[numbers - 7] @ vectors[5], atol=0.02)
    assert len(meaning.Index(np.zeros((0, 32))).nearest(vectors[0], 3)[0]) == 0


def test_a_large_library_keeps_its_graph_beside_the_file_and_adds_what_is_new(tmp_path, monkeypatch):
    monkeypatch.setattr(meaning, "EXACT", 50)
    monkeypatch.setattr(meaning, "COMMON", 20)
    papers = list(catalogue().values())
    with Library(tmp_path / "feed.sqlite") as library:
        library.add(map(entry_of, papers[:200]), "a")
        first = meaning.index(library)
        assert first.graph is not None
        (kept,) = tmp_path.glob("*.usearch")
        library.add([entry_of(papers[300])], "a")
        library.add([Entry("Bread and its crumb", arxiv=f"{papers[0].arxiv}v9")], "a")
        assert slugs(library, papers[300].title)[0] == papers[300].slug
        assert [s.entry.title for s, _ in meaning.search(library, "crumb", 1)] == ["Bread and its crumb"]
        (now,) = tmp_path.glob("*.usearch")
        assert now != kept
        meaning._indices.clear()
        assert slugs(library, papers[100].title)[0] == papers[100].slug  # from the file
        assert len(meaning.index(library).graph) == 201
        # Words that many have find those that have all of them.
        assert slugs(library, "learning methods")
        meaning._indices.clear()


def test_without_usearch_many_are_searched_one_by_one(papers, monkeypatch):
    monkeypatch.setattr(meaning, "EXACT", 50)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    meaning._indices.clear()
    with pytest.warns(UserWarning, match=r"attractor\[vectors\]"):
        assert slugs(papers, "adahessian")[0] == "adahessian"
    meaning._indices.clear()
