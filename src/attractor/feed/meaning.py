"""Meaning: where a text stands among all that the catalogue speaks of, and what stands near it.

A text's vector has two halves: its place among the topics of `attractor.papers.search`, which brings together what
says the same in other words, and a random projection of its rare words and concepts, which knows words that the
catalogue does not. Search adds BM25, by SQLite's FTS5, to the likeness of the vectors; tests/feed/test_meaning.py has
the figures.
"""

import difflib
import hashlib
import importlib
import json
import math
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from attractor import progress
from attractor.extras import missing
from attractor.feed.database import transaction
from attractor.feed.entry import Entry
from attractor.feed.library import Library, Stored
from attractor.papers import _text
from attractor.papers.build_index import keywords
from attractor.papers.catalogue import catalogue
from attractor.papers.search import phrases, term_places

HASHED = 128  # dimensions of the second half
# Chosen on the tuned half of tests/feed/judged_queries.tsv.
TOPICS_SHARE = 0.75  # of the topics in a likeness, where they know every word; the rest is the words'
LIKENESS_WEIGHT = 1.0  # of the likeness in a search, against 1 for the highest BM25 that the query allows
WHOLE_WEIGHT = 0.5  # added where an entry has all the words of the query
FIELDS = "1.5, 1.0, 3.0"  # how much a word counts in title, abstract and authors
MISSPELLED = 0.83  # least likeness, as difflib counts it, at which a word may be meant by one that is nowhere
EXACT = 50_000  # vectors up to which all are looked at
COMMON = 2_000  # entries with a word, above which the word alone finds nothing
RECENT = 150_000  # entries looked through for frequent words
CANDIDATES = 200  # by each of the two ways, where not all are looked at
BATCH = 500  # entries embedded in one transaction

# What any abstract says of itself.
ABSTRACTS = frozenset(
    _text.words("""
        propose present introduce show demonstrate study investigate explore provide prove develop paper work approach
        method framework novel new result experiment experimental extensive empirical evaluate evaluation achieve
        improve improvement outperform performance state art existing previous prior recent recently significant
        significantly effective effectiveness efficient code available github various different several first second
        furthermore moreover however finally address challenge problem task model based
    """)
)

Array = np.ndarray[Any, np.dtype[Any]]
Embed = Callable[[Sequence[str]], Array]


def text_of(entry: Entry) -> str:
    """What an entry's vector is made of: its title, which counts twice, and its abstract."""
    return f"{entry.title}. {entry.title}. {entry.abstract}"


def embed(texts: Sequence[str]) -> Array:
    """The vectors of texts, float32 [n, d] with d = 256, of length 1; all 0 for one without a telling word."""
    found = np.stack([_place(text) for text in texts]) if texts else np.zeros((0, _topics() + HASHED), np.float32)
    return _unit(found)


def _topics() -> int:
    return term_places()[2].shape[1]


def _place(text: str) -> Array:
    ids, weights, places = term_places()
    rarest = weights.max()
    counts = Counter(_text.terms(text, phrases()))
    known = [term for term in counts if term in ids]
    numbers = [ids[term] for term in known]
    strength = np.log1p([counts[term] for term in known]) * weights[numbers]
    topics = strength @ places[numbers] if known else np.zeros(places.shape[1], np.float32)
    # A pair of words that the catalogue does not know says nothing that its words do not.
    telling = [t for t in counts if t not in ABSTRACTS and " " not in t]
    heavy = np.array([np.log1p(counts[t]) * (weights[ids[t]] if t in ids else rarest) for t in telling], np.float32)
    words = heavy @ np.stack([_signs(t) for t in telling]) if telling else np.zeros(HASHED, np.float32)
    # Topics speak for as much of the text as they know.
    share = TOPICS_SHARE * heavy[[t in ids for t in telling]].sum() / max(heavy.sum(), 1e-6) if telling else 0.0
    return np.concatenate([share**0.5 * _unit(topics), (1 - share) ** 0.5 * _unit(words)])


@lru_cache(maxsize=1 << 16)
def _signs(term: str) -> Array:
    bits = np.frombuffer(hashlib.blake2b(term.encode(), digest_size=HASHED // 8).digest(), np.uint8)
    return np.unpackbits(bits).astype(np.float32) * 2 - 1


def _unit(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32)


@cache
def embedder() -> Embed:
    """What makes the vectors: `embed`, or the function that ``$ATTRACTOR_EMBED`` names as ``module:function``.

    Such a function takes texts and gives an array [n, d]; it may hold a language model. None is ever downloaded here.

    Raises:
        ValueError: if there is no such function.
    """
    named = os.environ.get("ATTRACTOR_EMBED")
    if not named:
        return embed
    module, _, name = named.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"ATTRACTOR_EMBED: expected module:function, got {named!r} ({error})") from error
    return lambda texts: _unit(np.asarray(found(list(texts)), np.float32).reshape(len(texts), -1))


@cache
def fingerprint() -> str:
    """What made the vectors, told by what it makes of a few texts."""
    texts = ["Sharp minima and flat ones", "regularisation of bilevel learners", "zyzzyva", ""]
    return hashlib.sha256((np.round(embedder()(texts), 2) + 0.0).astype(np.float16).tobytes()).hexdigest()[:16]


class Index:
    """Vectors, to look up those nearest to another one.

    Exactly, by one matrix product, for up to `EXACT` vectors; above that by usearch's graph, which finds nearly all.

    Arguments:
        vectors: [n, d], of length 1.
        numbers: What each is known by, n whole numbers; default: 0, 1, ….
    """

    def __init__(self, vectors: Array, numbers: Array | None = None):
        self.numbers = np.arange(len(vectors)) if numbers is None else np.asarray(numbers)
        self.graph, self.vectors = None, np.zeros((0, 0), np.float32)
        if len(vectors) > EXACT and has_usearch():
            self.graph = graph(vectors.shape[1])
            self.graph.add(self.numbers, vectors)
        else:
            self.vectors = np.asarray(vectors, np.float32)

    def nearest(self, vector: Array, k: int) -> tuple[Array, Array]:
        """The numbers of the ``k`` nearest vectors and their likenesses (cosines), the nearest first."""
        if self.graph is not None:
            found = self.graph.search(np.asarray(vector, np.float32), k)
            return found.keys.astype(np.int64), 1 - found.distances
        if not len(self.vectors):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        likeness = self.vectors @ np.asarray(vector, np.float32)
        best = np.argpartition(-likeness, k - 1)[:k] if k < len(likeness) else np.arange(len(likeness))
        best = best[np.argsort(-likeness[best], kind="stable")]
        return self.numbers[best], likeness[best]


def has_usearch() -> bool:
    """Whether usearch is there; says once how to get it if it is not."""
    try:
        importlib.import_module("usearch.index")
    except ImportError:
        warnings.warn(f"more than {EXACT} papers take long to search: {missing('usearch', 'vectors')}", stacklevel=3)
        return False
    return True


def graph(dimensions: int) -> Any:
    """An empty graph of usearch for vectors of so many dimensions."""
    from usearch.index import Index as Graph

    return Graph(ndim=dimensions, metric="cos", dtype="i8", connectivity=16, expansion_add=32, expansion_search=256)


def refresh(library: Library) -> None:
    """Make the vectors that are missing, or all of them when what makes them has changed; about 1 ms each.

    Killed in the middle, it goes on where it was.
    """
    connection, made = library.connection, fingerprint()
    row = connection.execute("SELECT made FROM vectors_made").fetchone()
    if row is None or row["made"] != made:
        with transaction(connection):
            connection.execute("DELETE FROM vectors")
            connection.execute("INSERT OR IGNORE INTO vectors_due SELECT id FROM entries")
            connection.execute("DELETE FROM vectors_made")
            connection.execute("INSERT INTO vectors_made VALUES (?)", (made,))
    total = connection.execute("SELECT count(*) FROM vectors_due").fetchone()[0]
    if not total:
        return
    with progress.task("reading papers", total, "papers") as advance:
        _make_due(library, advance)


def _make_due(library: Library, advance: Callable[[float], None]) -> None:
    connection = library.connection
    while due := library.select("id IN (SELECT entry FROM vectors_due LIMIT ?)", (BATCH,), "id"):
        vectors = embedder()([text_of(s.entry) for s in due]).astype(np.float16)
        with transaction(connection):
            rows = [(s.id, v.tobytes()) for s, v in zip(due, vectors, strict=True)]
            connection.executemany("INSERT OR REPLACE INTO vectors (entry, vector) VALUES (?, ?)", rows)
            connection.executemany("DELETE FROM vectors_due WHERE entry = ?", [row[:1] for row in rows])
        advance(len(due))


def vectors(library: Library, where: str = "1", arguments: Sequence = ()) -> tuple[Array, Array]:
    """Numbers [n] and vectors, float32 [n, d], of the entries that meet a condition in SQL on the table ``entries``."""
    refresh(library)
    return _read(library, f"entry IN (SELECT id FROM entries WHERE {where})" if where != "1" else "1", arguments)


def _read(library: Library, where: str, arguments: Sequence = ()) -> tuple[Array, Array]:
    rows = library.connection.execute(f"SELECT entry, vector FROM vectors WHERE {where}", tuple(arguments)).fetchall()
    joined = np.frombuffer(b"".join(row["vector"] for row in rows), np.float16)
    width = len(joined) // len(rows) if rows else len(embedder()([""])[0])
    return np.array([row["entry"] for row in rows], np.int64), joined.reshape(len(rows), width).astype(np.float32)


_indices: dict[Path, tuple[int, str, Index]] = {}


def index(library: Library) -> Index:
    """The vectors of all entries, kept in memory from one call to the next; a graph is kept in a file as well."""
    refresh(library)
    path = Path(library.connection.execute("PRAGMA database_list").fetchone()["file"])
    row = library.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'vectors'").fetchone()
    serial, made = (row["seq"] if row else 0), fingerprint()
    if path not in _indices or _indices[path][:2] != (serial, made):
        if len(library) > EXACT and has_usearch():
            found = Index(np.zeros((0, 0), np.float32))
            found.graph = _kept_graph(library, path, serial, made)
        else:
            numbers, rows = _read(library, "1")
            found = Index(rows, numbers)
        _indices[path] = serial, made, found
    return _indices[path][2]


def _kept_graph(library: Library, path: Path, serial: int, made: str) -> Any:
    """The graph beside the file, whose name says what it holds; what came since is added."""
    from usearch.index import Index as Graph

    named = path.with_name(f"{path.stem}-{made}-{serial}.usearch")
    if named.exists():
        return Graph.restore(named, view=True)
    older = {int(f.stem.rsplit("-", 1)[1]): f for f in path.parent.glob(f"{path.stem}-{made}-*.usearch")}
    since = max(older, default=0)
    found: Any = Graph.restore(older[since]) if older else graph(len(embedder()([""])[0]))
    with progress.task("linking papers", serial - since, "papers") as advance:
        while since < serial:
            numbers, new = _read(library, "serial > ? AND serial <= ?", (since, since + 20 * BATCH))
            known = numbers[np.asarray(found.contains(numbers), bool)]
            if len(known):
                found.remove(known)
            if len(numbers):
                found.add(numbers, new)
            since += 20 * BATCH
            advance(20 * BATCH)
    partial = named.with_suffix(f".{os.getpid()}")
    found.save(partial)
    partial.replace(named)
    for file in path.parent.glob(f"{path.stem}-*.usearch"):
        if file != named:
            with suppress(FileNotFoundError):  # another process was first
                file.unlink()
    return found


def search(library: Library, query: str, limit: int = 50) -> list[tuple[Stored, float]]:
    """The entries that fit a query best, with scores in [0, 1], best first; those of two queries do not compare.

    Arguments:
        library: Where to look.
        query: Words, names or a question, in any spelling.
        limit: At most so many.

    Raises:
        ValueError: if the query is blank, or the limit below 1.
    """
    if not query.strip():
        raise ValueError("query: expected a few words, such as 'adaptive step size', got none")
    if limit < 1:
        raise ValueError(f"limit: expected a whole number >= 1, got {limit}")
    asked, found, wanted = spelled(library, query), index(library), max(limit, CANDIDATES)
    exact = by_words(library, asked, wanted)
    vector = vector_of(query, asked)
    numbers, likeness = found.nearest(
        vector, len(found.numbers) if len(found.numbers) <= EXACT and found.graph is None else wanted
    )
    near = dict(zip(numbers.tolist(), likeness.tolist(), strict=True))
    every = np.array([*(near.keys() | exact.keys())], np.int64)
    scores = fit(*(np.array([of.get(n, 0.0) for n in every.tolist()]) for of in (exact, near)))
    best = [i for i in np.lexsort((-every, -scores)) if scores[i] > 0][:limit]
    stored = by_number(library, every[best].tolist())
    return [
        (stored[n], float(score)) for n, score in zip(every[best].tolist(), scores[best], strict=True) if n in stored
    ]


def fit(exact: Array, likeness: Array) -> Array:
    """How well entries fit a question, [n] in [0, 1], by their words (see `by_words`) and their vectors' likeness."""
    total = exact + LIKENESS_WEIGHT * np.maximum(likeness, 0.0)
    return np.minimum(total / (1 + LIKENESS_WEIGHT + WHOLE_WEIGHT), 1.0)


def vector_of(query: str, asked: dict[str, list[str]]) -> Array:
    """A query's vector, [d]; ``asked`` as `spelled` gives it."""
    return embedder()([" ".join([query, *(w for also in asked.values() for w in also[1:])])])[0]


def by_number(library: Library, numbers: Sequence[int]) -> dict[int, Stored]:
    """Entries by their numbers; those that are gone are left out."""
    wanted = json.dumps([int(n) for n in numbers])
    return {s.id: s for s in library.select("id IN (SELECT value FROM json_each(?))", (wanted,), "id")}


def plain_words(text: str) -> list[str]:
    """The words of a text in order, lower case and without accents, as FTS5 sees them before it stems them."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return re.findall(r"\w+", "".join(c for c in plain if not unicodedata.combining(c)).replace("'s", " "))


def spelled(library: Library, query: str) -> dict[str, list[str]]:
    """The telling words of a query, each with other spellings; one that is nowhere, with the nearest words instead."""
    found = {}
    for word in dict.fromkeys(plain_words(query)):
        if word.isascii() and not _text.words(word):  # a stop word
            continue
        also = list(dict.fromkeys([word, *spellings(word)]))
        if len(word) > 4 and word.isalpha() and not any(_count(library, f'"{w}"') for w in also):
            first = [w for w in _known_words().get(word[0], ()) if abs(len(w) - len(word)) <= 2]
            also += difflib.get_close_matches(word, first, n=2, cutoff=MISSPELLED)
        found[word] = also
    return found


def spellings(word: str) -> list[str]:
    """A word in British and in American spelling."""
    pairs = (
        (r"([iy])s(e|ed|es|er|ers|ing|able|ation|ations)$", r"\1z\2"),
        (r"([iy])z(e|ed|es|er|ers|ing|able|ation|ations)$", r"\1s\2"),
        (r"(..)our(s|ed|ing|al|able)?$", r"\1or\2"),
        (r"(..)or(s|ed|ing|al|able)?$", r"\1our\2"),
        (r"([bt])re(s|d)?$", r"\1er\2"),
        (r"([bt])er(s|ed)?$", r"\1re\2"),
        (r"ll(ed|ing|er|ers)$", r"l\1"),
        (r"([aeo])l(ed|ing|er|ers)$", r"\1ll\2"),
    )
    return [re.sub(a, b, word) for a, b in pairs if re.search(a, word)]


@cache
def _known_words() -> dict[str, tuple[str, ...]]:
    """The catalogue's words, by first letter: what a misspelled one may have meant."""
    also, found = keywords(), {}
    for p in catalogue().values():
        for word in plain_words(" ".join((p.slug, p.title, p.gist, p.claim, *p.authors, also.get(p.slug, "")))):
            if len(word) > 3 and word.isalpha():
                found.setdefault(word[0], set()).add(word)
    return {letter: tuple(sorted(words)) for letter, words in found.items()}


def _count(library: Library, expression: str, most: int = 1) -> int:
    """How many entries an expression of FTS5 finds, counted up to ``most``."""
    inner = "SELECT 1 FROM entries_text WHERE entries_text MATCH ? LIMIT ?"
    return library.connection.execute(f"SELECT count(*) FROM ({inner})", (expression, most)).fetchone()[0]


def by_words(library: Library, asked: dict[str, list[str]], limit: int, since: int = 0) -> dict[int, float]:
    """How well entries fit a query's words: BM25, 1 where it could not be higher, and more where they are all there.

    Words that more than `COMMON` entries have are looked for only all together, and where no other is asked for among
    the newest `RECENT` entries.

    Arguments:
        library: Where to look.
        asked: As `spelled` gives it.
        limit: At most so many by some of the words, and by all.
        since: The lowest number of an entry that is looked at.
    """
    if not asked:
        return {}
    either = [" OR ".join(f'"{w}"' for w in also) for also in asked.values()]
    counts = {e: _count(library, e, COMMON + 1) for e in either}
    total = library.connection.execute("SELECT coalesce(max(id), 0) FROM entries").fetchone()[0]
    # As FTS5 weighs words. One that nobody uses counts too: what has the others is not all that was asked for.
    highest = 2.2 * sum(max(math.log((total - n + 0.5) / (n + 0.5)), 1e-6) for n in counts.values())
    rare = [e for e, n in counts.items() if n <= COMMON]
    recent = since if rare else max(since, total - RECENT)
    found = {}
    for expression, more, first in (
        (" OR ".join(rare), 0.0, since),
        (" AND ".join(f"({e})" for e in either), WHOLE_WEIGHT, recent),
    ):
        score = f"SELECT rowid, -bm25(entries_text, {FIELDS}) AS score FROM entries_text"
        newest = f"{score} WHERE entries_text MATCH ? AND rowid >= ? ORDER BY rowid DESC LIMIT ?"
        rows = f"SELECT rowid, score FROM ({newest}) ORDER BY score DESC LIMIT ?"
        for row in library.connection.execute(rows, (expression, first, 2 * COMMON, limit)) if expression else ():
            found[row["rowid"]] = row["score"] / highest + more
    return found
