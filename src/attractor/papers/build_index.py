"""Write `index.npz` for the search: `python -m attractor.papers.build_index`, when the catalogue has changed.

Nothing is random. The index is made of our own words only, those of `catalogue.jsonl`, `keywords.txt` and
`concepts.txt`, and says from which state of them (`fingerprint`), so that a test can tell when it is stale.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from attractor.papers import _text
from attractor.papers.catalogue import PATH, Paper, catalogue
from attractor.papers.search import INDEX, weigh

TOPICS: Final = 128
# How often an occurrence counts, by where it stands. Names of parts say little that the sentences do not.
FIELDS: Final = {
    "slug": 1.5,
    "title": 2.0,
    "gist": 1.5,
    "claim": 1.0,
    "headline": 0.5,
    "parts": 0.5,
    "keywords": 1.0,
}
KEYWORDS: Final = Path(__file__).with_name("keywords.txt")

Array = np.ndarray[Any, np.dtype[Any]]


def fingerprint() -> str:
    """SHA-256, in hexadecimal, of what the index is made from: catalogue, keywords, concepts and this code."""
    digest = hashlib.sha256()
    for path in (PATH, KEYWORDS, _text.CONCEPTS, Path(_text.__file__), Path(__file__)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def keywords() -> dict[str, str]:
    """What papers may be looked for by, beyond the words of their rows, by slug.

    Raises:
        ValueError: a line of `keywords.txt` has no colon, or names a paper that is not in the catalogue.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(KEYWORDS.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        slug, separator, phrases = line.partition(":")
        if not separator or slug not in catalogue():
            raise ValueError(f"{KEYWORDS.name}:{number}: no `slug: phrase; …` of a known paper: {line!r}")
        found[slug] = phrases.strip()
    return found


def _counts(paper: Paper, also: str, known: dict[str, tuple[str, ...]]) -> dict[str, float]:
    counts: dict[str, float] = {}
    for field, times in FIELDS.items():
        value = also if field == "keywords" else getattr(paper, field)
        # Taken apart, so that the last word of one sentence or part does not pair with the first of the next.
        for text in value if isinstance(value, tuple) else re.split(r"[.;:]\s", value):
            for term in _text.terms(text, known):
                counts[term] = counts.get(term, 0.0) + times
    return counts


def _lines(texts: Iterable[str]) -> Array:
    return np.frombuffer("\n".join(texts).encode(), np.uint8)


def build() -> dict[str, Array]:
    """The arrays of `index.npz`; texts are UTF-8 bytes, one entry a line.

    Returns:
        `vocabulary`, the terms; of term t, `docs[pointers[t]:pointers[t + 1]]` are the papers that have it
        and `counts[...]` how often; `left` [papers, topics] and `values` [topics], the leading singular
        vectors and values of the matrix of papers and terms; `names`, each paper's words of slug and title;
        `phrases`, those of `concepts.txt` with their concepts; `fingerprint`.
    """
    also, known = keywords(), _text.phrases()
    papers = [_counts(paper, also.get(paper.slug, ""), known) for paper in catalogue().values()]
    spread = Counter(term for counts in papers for term in counts)
    # A pair of words in one paper only says nothing that its words do not, and there are many.
    vocabulary = sorted(term for term, papers_with in spread.items() if papers_with > 1 or " " not in term)
    ids = {term: i for i, term in enumerate(vocabulary)}
    postings = sorted((ids[t], d, c) for d, paper in enumerate(papers) for t, c in paper.items() if t in ids)
    rows, docs, counts = (np.array(column) for column in zip(*postings, strict=True))
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(vocabulary)))])
    matrix = np.zeros((len(papers), len(vocabulary)))
    matrix[docs, rows] = weigh(vocabulary, pointers, docs, counts, len(papers))[1]
    # By way of the small Gram matrix: only the leading vectors are wanted, and those keep their digits.
    squares, left = np.linalg.eigh(matrix @ matrix.T)
    left, values = left[:, : -TOPICS - 1 : -1], np.sqrt(squares[: -TOPICS - 1 : -1])
    # Singular vectors have no sign of their own: the largest entry shall be positive.
    left *= np.sign(left[np.abs(left).argmax(axis=0), np.arange(TOPICS)])
    names = (" ".join(_text.words(f"{paper.slug} {paper.title}")) for paper in catalogue().values())
    return {
        "vocabulary": _lines(vocabulary),
        "names": _lines(names),
        "phrases": _lines(f"{phrase}\t{' '.join(concepts)}" for phrase, concepts in sorted(known.items())),
        "pointers": pointers.astype(np.int32),
        "docs": docs.astype(np.uint16),
        "counts": counts.astype(np.float16),
        "left": left.astype(np.float16),
        "values": values.astype(np.float32),
        "fingerprint": _lines([fingerprint()]),
    }


def main() -> None:
    """Write the index beside the catalogue."""
    np.savez_compressed(INDEX, allow_pickle=False, **build())
    print(f"{INDEX}: {INDEX.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
