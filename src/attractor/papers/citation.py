"""Papers as BibTeX entries."""

import re
import unicodedata

from attractor.papers.catalogue import Paper

ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    special: "\\" + special for special in "&%$#_{}"
}
PARTICLES = {"Al", "Da", "De", "Del", "Della", "Di", "Du", "La", "Le", "Van", "Von"}
SMALL = {"a", "an", "and", "as", "at", "by", "for", "from", "how", "in", "is", "of", "on", "the", "to", "what", "with"}


def bibtex(paper: Paper) -> str:
    """A BibTeX entry of a paper: a preprint where its arXiv number is known.

    Accents stay as they are (UTF-8, which biber and today's LaTeX read); LaTeX's special characters are escaped, and
    the title keeps its capitals. Fields that are unknown are left out.

    Arguments:
        paper: A row of the catalogue.
    """
    found = {
        "title": f"{{{escape(paper.title)}}}",
        "author": " and ".join(map(_author, paper.authors)),
        "year": str(paper.year or ""),
        "eprint": paper.arxiv or "",
        "archivePrefix": "arXiv" if paper.arxiv else "",
        "url": paper.link,
    }
    lines = [f"  {name} = {{{value}}}," for name, value in found.items() if value]
    return "\n".join([f"@misc{{{key(paper)},", *lines, "}"])


def key(paper: Paper) -> str:
    """What a text cites a paper by: first author, year and first telling word of the title, ``yao2020adahessian``.

    Without authors, the slug takes their place and the word's.
    """
    if not paper.authors:
        return f"{paper.slug}{paper.year or ''}"
    words = [w for w in map(_ascii, re.split(r"[^\w'’.-]+", paper.title)) if w]
    word = next((w for w in words if w not in SMALL), paper.slug)
    return f"{_ascii(paper.authors[0].split()[-1])}{paper.year or ''}{word}"


def escape(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(ESCAPES.get(character, character) for character in text)


def _author(name: str) -> str:
    """A name as BibTeX takes it apart rightly: of ``Nicolas Le Roux``, it would take ``Le`` for a given name."""
    given, *rest = name.split()
    start = next((i for i, part in enumerate(rest[:-1]) if part in PARTICLES), None)
    if start is None:
        return escape(name)
    return escape(" ".join([given, *rest[:start]])) + f" {{{escape(' '.join(rest[start:]))}}}"


def _ascii(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", plain)
