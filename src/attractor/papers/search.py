"""Find papers by meaning: in words, in the concepts that words express, and in topics; one score adds them.

BM25 counts the query's words, pairs of words and concepts (`concepts.txt`) in each paper's text, rare ones
for more; the text is the paper's row and what else it may be looked for by (`keywords.txt`). Latent semantic
analysis compares query and papers in a space of topics, so that a paper which speaks of the same things in
other words is found too. All that does not depend on the query is in `index.npz`, written by
`python -m attractor.papers.build_index`.
"""

import difflib
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from attractor.papers._text import terms, weight, words
from attractor.papers.catalogue import ROOMS, Paper, catalogue, find

INDEX: Final = Path(__file__).with_name("index.npz")

# Chosen on the tuned part of the queries in tests/papers/test_search.py.
K1: Final = 1.0  # how fast repeating a term stops to count
B: Final = 0.5  # how much a long text is held back
TOPIC_WEIGHT: Final = 0.3  # of the topics, against 1 for BM25
NAME_WEIGHT: Final = 1.0  # added when a paper's slug and title have all the words of the query
NEAR: Final = 0.8  # least similarity, of 1, at which a known word stands in for an unknown one

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class _Index:
    papers: tuple[Paper, ...]  # n of them
    ids: dict[str, int]  # term -> number
    initials: dict[str, tuple[str, ...]]  # first letter -> words
    pointers: Array  # [terms + 1] where a term's postings start
    docs: Array  # [postings] number of the paper
    impact: Array  # [postings] what the term adds to the paper's BM25 score
    tfidf: Array  # [postings] matrix X of terms and papers, each paper's vector of length 1
    idf: Array  # [terms]
    fold: Array  # [n, topics] takes the similarities X q of a query q to its place among the topics
    topics: Array  # [n, topics] the papers' places, of length 1
    names: tuple[frozenset[str], ...]  # words of each paper's slug and title
    phrases: dict[str, tuple[str, ...]]  # what concepts a phrase expresses


def weigh(vocabulary: list[str], pointers: Array, docs: Array, counts: Array, n: int) -> tuple[Array, Array]:
    """The weight of each term, [terms], rarer is more, and the matrix X of terms and n papers, [postings]."""
    sizes = np.diff(pointers)
    idf = np.log1p((n - sizes + 0.5) / (sizes + 0.5)) * np.array([weight(term) for term in vocabulary])
    values = np.log1p(counts) * np.repeat(idf, sizes)
    norm = np.sqrt(np.bincount(docs, weights=values**2, minlength=n))
    return idf.astype(np.float32), (values / norm[docs]).astype(np.float32)


@cache
def _index() -> _Index:
    papers = tuple(catalogue().values())
    n = len(papers)
    with np.load(INDEX, allow_pickle=False) as stored:
        vocabulary, names, phrases = (
            stored[name].tobytes().decode().split("\n") for name in ("vocabulary", "names", "phrases")
        )
        pointers, docs = stored["pointers"].astype(np.int64), stored["docs"].astype(np.int64)
        counts = stored["counts"].astype(np.float64)
        left, values = stored["left"].astype(np.float32), stored["values"].astype(np.float32)
    if len(left) != n:
        stale = f"{INDEX.name} holds {len(left)} papers and the catalogue {n}"
        raise ValueError(f"{stale}: run python -m attractor.papers.build_index")
    idf, tfidf = weigh(vocabulary, pointers, docs, counts, n)
    length = np.bincount(docs, weights=counts, minlength=n)
    saturation = K1 * (1 - B + B * length / length.mean())
    gain = counts * (K1 + 1) / (counts + saturation[docs])
    topics = left * values
    initials: dict[str, list[str]] = {}
    for term in vocabulary:
        if len(term) > 3 and term.isalpha():
            initials.setdefault(term[0], []).append(term)
    return _Index(
        papers=papers,
        ids={term: i for i, term in enumerate(vocabulary)},
        initials={letter: tuple(found) for letter, found in initials.items()},
        pointers=pointers,
        docs=docs,
        impact=(np.repeat(idf, np.diff(pointers)) * gain).astype(np.float32),
        tfidf=tfidf,
        idf=idf,
        fold=left / values,
        topics=topics / np.linalg.norm(topics, axis=1, keepdims=True),
        names=tuple(frozenset(name.split()) for name in names),
        phrases={phrase: tuple(of.split()) for phrase, of in (line.split("\t") for line in phrases)},
    )


def _weights(query: str, index: _Index) -> dict[int, float]:
    """How often the query has each term of the index; for an unknown word, its nearest ones count half."""
    asked: dict[int, float] = {}
    stems = words(query)
    joined = [a + b for a, b in pairwise(stems)]
    for term in [*terms(query, index.phrases), *joined]:
        if term in index.ids:
            asked[index.ids[term]] = asked.get(index.ids[term], 0.0) + 1.0
        elif len(term) > 4 and term.isalpha() and term in stems:
            for near in difflib.get_close_matches(term, index.initials.get(term[0], ()), n=2, cutoff=NEAR):
                asked[index.ids[near]] = max(asked.get(index.ids[near], 0.0), 0.5)
    return asked


def _scores(query: str, index: _Index) -> Array:
    """Score of every paper, float32 [n], at least 0; all 0 if no term of the query is known."""
    n = len(index.papers)
    exact, likeness = np.zeros(n, np.float32), np.zeros(n, np.float32)
    asked = _weights(query, index)
    if not asked:
        return exact
    for term, times in asked.items():
        postings = slice(index.pointers[term], index.pointers[term + 1])
        # A term occurs at most once in a paper's postings, so that plain indexed addition is right.
        exact[index.docs[postings]] += times * index.impact[postings]
        likeness[index.docs[postings]] += times * index.idf[term] * index.tfidf[postings]
    place = likeness @ index.fold
    length = float(np.linalg.norm(place))
    close = np.maximum(index.topics @ place / length, 0.0) if length > 0.0 else likeness
    stems = frozenset(words(query))
    named = np.array([stems <= name for name in index.names], np.float32)
    total = exact / exact.max() + TOPIC_WEIGHT * close + NAME_WEIGHT * named
    return total / (1 + TOPIC_WEIGHT + NAME_WEIGHT)


@cache
def term_places() -> tuple[dict[str, int], Array, Array]:
    """For texts outside of the catalogue: what the index knows of each term.

    Returns:
        The number of each term; by number its weight, float32 [terms], rarer is more; and its place among the topics,
        float32 [terms, topics]: a text lies where the sum of its terms' places, each times its weight, points to.
    """
    index = _index()
    places = np.add.reduceat(index.tfidf[:, None] * index.fold[index.docs], index.pointers[:-1], axis=0)
    return index.ids, index.idf, places.astype(np.float32)


@cache
def phrases() -> dict[str, tuple[str, ...]]:
    """The concepts that a phrase, as stems joined by spaces, expresses."""
    return _index().phrases


def search(query: str, limit: int = 20, room: str | None = None) -> list[tuple[Paper, float]]:
    """The papers that fit a query best, with scores in [0, 1], best first.

    Scores order the papers of one query; those of two queries do not compare.

    Args:
        query: words, in any spelling; a paper with all of them in its slug or title comes before the others.
        limit: at most this many papers.
        room: only papers of this room, a key of `ROOMS`.

    Raises:
        ValueError: `query` is blank, `limit` is below 1, or `room` is unknown.
    """
    if not query.strip():
        raise ValueError("query must not be empty: give a few words, such as 'adaptive step size'")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if room is not None and room not in ROOMS:
        raise ValueError(f"room must be one of {', '.join(ROOMS)}, got {room!r}")
    index = _index()
    scores = _scores(query, index)
    best = np.argsort(-scores, kind="stable")
    found = ((index.papers[i], float(scores[i])) for i in best if scores[i] > 0.0)
    return [(paper, score) for paper, score in found if room in (None, paper.room)][:limit]


def nearest(slug: str, limit: int = 6) -> list[tuple[Paper, float]]:
    """The papers that speak of the same things as one of the catalogue, with cosines in [-1, 1], nearest first.

    Raises:
        ValueError: for a slug that is not in the catalogue, or a `limit` below 1.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    find(slug)
    index = _index()
    own = next(i for i, paper in enumerate(index.papers) if paper.slug == slug)
    close = index.topics @ index.topics[own]
    best = [i for i in np.argsort(-close, kind="stable") if i != own]
    return [(index.papers[i], float(close[i])) for i in best[:limit]]
