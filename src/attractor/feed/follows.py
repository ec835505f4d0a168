"""Follows: what the reader wants to hear of, and what came in about it."""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from attractor.feed import meaning, placement, ranking, rules
from attractor.feed.database import now, transaction
from attractor.feed.entry import ARXIV, DOI, Entry, normal_title
from attractor.feed.library import Library, Stored, slug_of
from attractor.feed.meaning import Array
from attractor.names import unknown
from attractor.papers.catalogue import ROOMS, Paper, catalogue

KINDS = ("question", "author", "room", "paper", "keywords")

# Least fit to a question, of 1: for the tuned long questions, 3 papers each, with 4 of 5 of those that are expected.
ASKED = 0.2
LIKE_IT = 0.35  # least likeness to a paper that is followed
TASTE_WEIGHT = 0.3  # of what was kept and dismissed, against 1 for the fit
FITS = 0.5  # the score of what meets a condition: by an author, in a room, under a rule


@dataclass(frozen=True)
class Follow:
    """Something that the reader follows.

    Attributes:
        name: What it is called, one line, unique.
        kind: ``question`` (in words), ``author`` (a name), ``room`` (one of the catalogue's), ``paper`` (more like
            this: a slug, an arXiv number or what else it is known by) or ``keywords`` (see `attractor.feed.rules`).
        query: What is asked for.
        since: Followed since then, UTC, ISO 8601; ``""`` until it is stored.
    """

    name: str
    kind: str
    query: str
    since: str = ""

    def asdict(self) -> dict[str, Any]:
        """Its fields, as JSON takes them."""
        return dict(vars(self))


@dataclass(frozen=True)
class Match:
    """A paper that a follow is about, how well it fits, in [0, 1], and why, in words."""

    stored: Stored
    score: float
    reason: str

    def asdict(self) -> dict[str, Any]:
        """The paper's fields, ``score`` and ``reason``, as JSON takes them."""
        return {**self.stored.asdict(), "score": round(self.score, 4), "reason": self.reason}


def add(library: Library, follow: Follow) -> Follow:
    """Follow something from now on; what is followed already stays as it is.

    Raises:
        ValueError: for a name that stands for something else, or a query that its kind cannot read.
    """
    name, query = " ".join(follow.name.split()), follow.query.strip()
    if not re.search(r"\w", name) or len(name) > 100:
        raise ValueError(f"name: expected 1 to 100 characters with a letter or digit, got {follow.name!r}")
    if follow.kind not in KINDS:
        raise unknown("kind", follow.kind, KINDS, f"kind is one of {', '.join(KINDS)}")
    _understood(library, follow.kind, query)
    with transaction(library.connection):
        same = [f for f in every(library) if f.name == name]
        if same and (same[0].kind, same[0].query) != (follow.kind, query):
            raise ValueError(
                f"name: {name!r} already follows the {same[0].kind} {same[0].query!r}; choose another name"
            )
        if same:
            return same[0]
        stored = Follow(name, follow.kind, query, now())
        library.connection.execute("INSERT INTO follows VALUES (?, ?, ?, ?)", tuple(vars(stored).values()))
    return stored


def _understood(library: Library, kind: str, query: str) -> None:
    if kind == "room" and query not in ROOMS:
        raise unknown("room", query, ROOMS, f"rooms: {', '.join(ROOMS)}")
    if kind == "keywords":
        rules.parse(query)
    elif kind == "paper":
        subject(library, query)
    elif kind == "author" and not _name(query)[0]:
        raise ValueError(f"author: expected a name such as 'Zhewei Yao', got {query!r}")
    elif kind == "question" and not meaning.spelled(library, query):
        raise ValueError(f"question: expected a few telling words, such as 'adaptive step size', got {query!r}")


def remove(library: Library, name: str) -> None:
    """Follow something no longer.

    Raises:
        ValueError: if nothing is followed under this name; the message suggests one.
    """
    find(library, name)
    library.connection.execute("DELETE FROM follows WHERE name = ?", (name,))


def every(library: Library) -> list[Follow]:
    """All that is followed, oldest first."""
    rows = library.connection.execute("SELECT name, kind, query, since FROM follows ORDER BY since, rowid")
    return [Follow(*row) for row in rows]


def find(library: Library, name: str) -> Follow:
    """What is followed under a name.

    Raises:
        ValueError: if nothing is; the message suggests one.
    """
    named = {f.name: f for f in every(library)}
    if name not in named:
        raise unknown("follow", name, named, "`attractor follow list` lists them")
    return named[name]


def opine(library: Library, number: int, opinion: int) -> None:
    """Keep a paper (1), dismiss it (-1), or neither (0).

    Raises:
        ValueError: for another opinion, or a number that no paper has.
    """
    if opinion not in (-1, 0, 1):
        raise ValueError(f"opinion: expected 1 (kept), -1 (dismissed) or 0 (neither), got {opinion!r}")
    with transaction(library.connection) as connection:
        if not library.select("id = ?", (number,)):
            raise ValueError(f"paper: there is none with number {number}; `attractor feed list` shows them")
        connection.execute("DELETE FROM opinions WHERE entry = ?", (number,))
        if opinion:
            connection.execute("INSERT INTO opinions VALUES (?, ?, ?)", (number, opinion, now()))


def matches(library: Library, follow: Follow, since: str | None = None, limit: int = 50) -> list[Match]:
    """What came in about something that is followed, best first.

    Arguments:
        library: Where to look.
        follow: Need not be stored.
        since: Only what was added at this time or later, UTC, ISO 8601; default: among all, or of more than
            `attractor.feed.meaning.EXACT` papers the newest.
        limit: At most so many.

    Raises:
        ValueError: for a limit below 1, or a query that its kind cannot read.
    """
    if limit < 1:
        raise ValueError(f"limit: expected a whole number >= 1, got {limit}")
    _understood(library, follow.kind, follow.query)
    numbers, vectors = _candidates(library, since)
    if not len(numbers):
        return []
    fit, why = _FITS[follow.kind](library, follow.query, numbers, vectors)
    liked = ranking.taste(library)
    score = fit + TASTE_WEIGHT * np.clip(liked.scores(vectors), -1, 1) if liked else fit
    order = [i for i in np.lexsort((-numbers, -score)) if fit[i] > 0][:limit]
    stored = meaning.by_number(library, [int(numbers[i]) for i in order])
    found = []
    for i in order:
        if (paper := stored.get(int(numbers[i]))) is not None:
            reasons = (why(paper), ranking.explained(library, liked, vectors[i]))
            found.append(Match(paper, float(np.clip(score[i], 0, 1)), "; ".join(filter(None, reasons))))
    return found


def _candidates(library: Library, since: str | None) -> tuple[Array, Array]:
    if since is not None:
        return meaning.vectors(library, "added >= ?", (since,))
    index = meaning.index(library)
    if index.graph is None:
        return index.numbers, index.vectors
    return meaning.vectors(library, "id IN (SELECT id FROM entries ORDER BY id DESC LIMIT ?)", (meaning.EXACT,))


def _by_question(library: Library, query: str, numbers: Array, vectors: Array):
    asked = meaning.spelled(library, query)
    words = meaning.by_words(library, asked, meaning.EXACT, int(numbers.min()))
    exact = np.array([words.get(n, 0.0) for n in numbers.tolist()])
    fit = meaning.fit(exact, vectors @ meaning.vector_of(query, asked))

    def why(stored: Stored) -> str:
        text = set(
            meaning.plain_words(f"{stored.entry.title} {stored.entry.abstract} {' '.join(stored.entry.authors)}")
        )
        said = [word for also in asked.values() for word in also if word in text]
        return f"says {', '.join(said)}" if said else "close in meaning"

    return np.where(fit >= ASKED, fit, 0.0), why


def _by_author(library: Library, query: str, numbers: Array, vectors: Array):
    wanted = _name(query)
    family = f'{{authors}} : "{wanted[0]}"'
    inside = "id >= ? AND id IN (SELECT rowid FROM entries_text WHERE entries_text MATCH ?)"
    found = {
        s.id: name
        for s in library.select(inside, (int(numbers.min()), family), "id")
        for name in s.entry.authors
        if _same(wanted, _name(name))
    }
    return np.array([FITS * (n in found) for n in numbers.tolist()]), lambda stored: f"by {found[stored.id]}"


def _by_room(library: Library, query: str, numbers: Array, vectors: Array):
    known = {
        s.id: catalogue()[s.slug].room for s in library.select("slug IS NOT NULL", (), "id") if s.slug in catalogue()
    }
    # The catalogue's vectors are our own: entries' by another maker are not compared with them.
    if meaning.embedder() is not meaning.embed:
        stored = meaning.by_number(library, numbers.tolist())
        vectors = meaning.embed([meaning.text_of(stored[n].entry) for n in numbers.tolist()])
    rooms = placement.rooms(vectors)
    inside = [known.get(n, room) == query for n, room in zip(numbers.tolist(), rooms, strict=True)]
    return FITS * np.array(inside, float), lambda stored: f"in the room {query}"


def _by_paper(library: Library, query: str, numbers: Array, vectors: Array):
    about = subject(library, query)
    likeness = vectors @ about.vector
    near = (likeness >= LIKE_IT) & (numbers != about.number)
    return np.where(near, likeness, 0.0), lambda _: f"like “{about.entry.title}”"


def _by_keywords(library: Library, query: str, numbers: Array, vectors: Array):
    rule = rules.parse(query)
    inside = {
        s.id for s in library.select(f"id >= ? AND ({rule.condition})", (int(numbers.min()), *rule.arguments), "id")
    }
    likeness = vectors @ meaning.embedder()([" ".join(rule.words)])[0]
    fit = FITS * (1 + np.maximum(likeness, 0))
    return np.where([n in inside for n in numbers.tolist()], fit, 0.0), lambda _: f"meets {query}"


_FITS = {"question": _by_question, "author": _by_author, "room": _by_room, "paper": _by_paper, "keywords": _by_keywords}


@dataclass(frozen=True)
class Subject:
    """A paper to find more like, its vector [d], its number where it is stored, and its slug where it has one."""

    entry: Entry
    vector: Array
    number: int | None
    slug: str | None


def subject(library: Library, given: str) -> Subject:
    """A paper that came in, or one of the catalogue.

    Raises:
        ValueError: if it is neither; the message says what is understood.
    """
    stored = named(library, given)
    if stored is not None:
        entry, number, slug = stored.entry, stored.id, stored.slug
    elif (slug := _slug(given)) is not None:
        entry, number = entry_of(catalogue()[slug]), None
    else:
        raise _nobody(given)
    return Subject(entry, meaning.embedder()([meaning.text_of(entry)])[0], number, slug)


def _slug(given: str) -> str | None:
    """The paper of the catalogue with this slug, arXiv number or title."""
    number = ARXIV.fullmatch(given.strip())
    return given if given in catalogue() else slug_of(Entry(given, arxiv=given if number else None)) if given else None


def similar(
    library: Library, about: Subject, by: Literal["meaning", "recency"] = "meaning", limit: int = 10
) -> list[tuple[Stored, float]]:
    """The stored papers that are like one, with their likenesses: the nearest first, or the newest first."""
    numbers, likeness = meaning.index(library).nearest(about.vector, max(meaning.CANDIDATES, limit))
    near = {
        n: s for n, s in zip(numbers.tolist(), likeness.tolist(), strict=True) if s >= LIKE_IT and n != about.number
    }
    found = [(s, near[s.id]) for s in meaning.by_number(library, list(near)).values()]
    if by == "recency":
        found.sort(key=lambda pair: (pair[0].entry.published or pair[0].added[:10], pair[0].id), reverse=True)
    else:
        found.sort(key=lambda pair: -pair[1])
    return found[:limit]


def entry_of(paper: Paper) -> Entry:
    """A paper of the catalogue as an entry, with our own gist and claim for an abstract."""
    return Entry(paper.title, f"{paper.gist} {paper.claim}", paper.authors, arxiv=paper.arxiv)


def named(library: Library, given: str) -> Stored | None:
    """The stored paper with this number, arXiv number, DOI, slug, title or what else it is known by; `None`: none."""
    given = given.strip()
    tries = [("uid = ?", given), ("slug = ?", given), ("id = (SELECT entry FROM names WHERE name = ?)", given)]
    if given.isdecimal():
        tries.append(("id = ?", given))
    by_name = "id = (SELECT entry FROM names WHERE name = ?)"
    for kind, pattern in (("arxiv", ARXIV), ("doi", DOI)):
        if found := pattern.fullmatch(given):
            tries.append((by_name, f"{kind}:{found['id' if kind == 'arxiv' else 'doi'].lower()}"))
    tries.append((by_name, f"title:{normal_title(given)}"))
    return next((rows[0] for where, value in tries if (rows := library.select(where, (value,), "id"))), None)


def stored_of(library: Library, given: str) -> Stored:
    """As `named`.

    Raises:
        ValueError: if there is none.
    """
    found = named(library, given)
    if found is None:
        raise _nobody(given)
    return found


def _nobody(given: str) -> ValueError:
    return ValueError(
        f"paper: nothing here is known as {given!r}; expected a slug of the catalogue, or the number, arXiv number, "
        "DOI or title of a paper that came in (`attractor papers WORDS --feed` finds it)"
    )


def _name(text: str) -> tuple[str, tuple[str, ...]]:
    """Family name and given names, folded: of ``Zhewei Yao`` and ``Yao, Z.``."""
    family, comma, given = text.partition(",")
    parts = [*filter(None, map(normal_title, (f"{given} {family}" if comma else text).split()))]
    return (parts[-1], tuple(parts[:-1])) if parts else ("", ())


def _same(wanted: tuple[str, tuple[str, ...]], found: tuple[str, tuple[str, ...]]) -> bool:
    """Whether two names may be one person's: one family name, and given names that differ by being abbreviated only."""
    names = (n for pair in zip(wanted[1], found[1], strict=False) for n in zip(*map(str.split, pair), strict=False))
    return wanted[0] == found[0] and all(a == b or (a[0] == b[0] and 1 in (len(a), len(b))) for a, b in names)
