"""Rules of keywords: ``(muon OR "second order") AND title:newton NOT category:cs.CV``, as conditions in SQL.

Words stand for all their endings and both spellings (British, American), quoted phrases for just these words in this
order, ``optim*`` for all words that begin so. Side by side means AND, which binds closer than OR; NOT closer still.
``title:``, ``abstract:``, ``author:`` and ``category:`` say where; elsewhere is anywhere but in the category.
"""

import re
from dataclasses import dataclass

from attractor.feed.meaning import spellings

_TOKEN = re.compile(
    r"\s*(?:(?P<open>\()|(?P<close>\))|(?:(?P<field>[A-Za-z]+):(?!//))?(?:\"(?P<phrase>[^\"]*)(?P<end>\"?)|(?P<word>[^\s()\"]+))?)"
)
FIELDS = {"title": "title", "abstract": "abstract", "author": "authors", "authors": "authors", "category": "category"}
LONGEST = 1_000  # characters
DEEPEST = 50  # parentheses and NOTs within each other


@dataclass(frozen=True)
class Rule:
    """A rule that was understood.

    Attributes:
        condition: In SQL, on the table ``entries``.
        arguments: For its question marks.
        words: What it asks for, without what it excludes: to rank by.
    """

    condition: str
    arguments: tuple[str, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Token:
    kind: str  # "(", ")", "AND", "OR", "NOT", "term", "end"
    start: int
    rule: Rule | None = None


def parse(text: str) -> Rule:
    """Understand a rule.

    Raises:
        ValueError: where it cannot be understood; the message points at the place.
    """
    if len(text) > LONGEST:
        raise ValueError(f"keywords: expected at most {LONGEST} characters, got {len(text)}")
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str):
        self.text, self.tokens, self.at, self.depth = text, list(_tokens(text)), 0, 0

    def parse(self) -> Rule:
        rule = self.either()
        if self.next.kind == ")":
            raise _error(self.text, self.next.start, "there is no ( for this )")
        return rule

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def either(self) -> Rule:
        rules = [self.both()]
        while self.next.kind == "OR":
            self.at += 1
            rules.append(self.both())
        return _joined(rules, " OR ")

    def both(self) -> Rule:
        rules = [self.one()]
        while self.next.kind in ("AND", "NOT", "term", "("):
            self.at += self.next.kind == "AND"
            rules.append(self.one())
        return _joined(rules, " AND ")

    def one(self) -> Rule:
        token = self.next
        self.at += 1
        self.depth += token.kind in ("NOT", "(")
        if self.depth > DEEPEST:
            raise _error(self.text, token.start, f"nested more than {DEEPEST} deep")
        if token.kind == "term" and token.rule:
            return token.rule
        if token.kind == "NOT":
            denied = self.one()
            self.depth -= 1
            return Rule(f"NOT {denied.condition}", denied.arguments)
        if token.kind == "(":
            rule = self.either()
            if self.next.kind != ")":
                raise _error(self.text, token.start, "this ( is never closed")
            self.at += 1
            self.depth -= 1
            return rule
        found = {"end": "the end", ")": "a )"}.get(token.kind, token.kind)
        raise _error(self.text, token.start, f"expected a word, a quoted phrase or a (, and here is {found}")


def _tokens(text: str):
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        assert found is not None  # every part of the expression may be empty
        start = position + len(found[0]) - len(found[0].lstrip())
        position = found.end()
        if found["open"] or found["close"]:
            yield _Token(found["open"] or found["close"], start)
            continue
        word, phrase, field = found["word"], found["phrase"], found["field"]
        if phrase is not None and not found["end"]:
            raise _error(text, text.index('"', start), "this quotation mark is never closed")
        if word in ("AND", "OR", "NOT") and not field:
            yield _Token(word, start)
        elif word and word.lower() in ("and", "or", "not") and not field:
            raise _error(text, start, f'write {word.upper()} in capitals, or "{word}" in quotation marks for the word')
        elif field and field.lower() not in FIELDS:
            raise _error(text, start, f"unknown prefix {field}:, expected {', '.join(f'{f}:' for f in FIELDS)}")
        else:
            said = word if phrase is None else phrase
            if not said or not re.search(r"\w", said):
                after = f" after {field}:, not a group" if field else " with a letter or digit"
                raise _error(text, start, f'expected a word or a "quoted phrase"{after}')
            yield _Token("term", start, _term(FIELDS[field.lower()] if field else "", said, phrase is not None))
    yield _Token("end", end)


def _term(field: str, said: str, quoted: bool) -> Rule:
    if field == "category":
        inside = "(lower(value) = ? OR substr(lower(value), 1, length(?) + 1) = ? || '.')"
        return Rule(f"EXISTS (SELECT 1 FROM json_each(categories) WHERE {inside})", (said.lower(),) * 3, ())
    prefix = not quoted and said.endswith("*")
    forms = [said.rstrip("*")] if quoted or prefix else [said, *spellings(said.lower())]
    either = " OR ".join(f'"{form}"{" *" if prefix else ""}' for form in forms)
    match = f"{{{field}}} : ({either})" if field else either
    return Rule("id IN (SELECT rowid FROM entries_text WHERE entries_text MATCH ?)", (match,), (said.rstrip("*"),))


def _joined(rules: list[Rule], word: str) -> Rule:
    if len(rules) == 1:
        return rules[0]
    arguments = tuple(a for r in rules for a in r.arguments)
    return Rule(f"({word.join(r.condition for r in rules)})", arguments, tuple(w for r in rules for w in r.words))


def _error(text: str, at: int, message: str) -> ValueError:
    line = " ".join(text.splitlines()) if "\n" not in text else re.sub(r"\s", " ", text)
    return ValueError(f"keywords: {message}, at character {at + 1}:\n  {line}\n  {' ' * at}^")
