"""Words as the search sees them: folded, stemmed, and joined by the names of the concepts they express."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final

CONCEPTS: Final = Path(__file__).with_name("concepts.txt")
LONGEST: Final = 5  # words in a phrase, stop words not counted
PAIR_WEIGHT: Final = 0.3
CONCEPT_WEIGHT: Final = 0.8

_WORD = re.compile(r"[a-z0-9]+")
_COMPOUND = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+")
_LETTERS: Final = str.maketrans(
    {"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "eps", "η": "eta", "κ": "kappa"}
    | {"λ": "lambda", "μ": "mu", "ρ": "rho", "σ": "sigma", "τ": "tau", "χ": "chi", "ω": "omega"}
    | {"\u2019": "'", "\u2010": "-", "\u2013": "-", "ł": "l", "ø": "o"}
)

# "not", "no" and "without" stay: they turn a phrase into its opposite.
_STOP_WORDS: Final = """
    a about after all also although am an and another any are as at be because been before being both
    but by can could do does each either else even ever every for from get gets had has have having
    here how i if in into is it its just let like many may me might more most much must my need needs of
    on one only onto or other our out over own per rather same shall should so some such than that the
    their them then there these they this those though through thus to too under until up upon use used
    uses using very via was we well were what when where whether which while who whose why will with
    within would yet you your
"""
_STOP: Final = frozenset(_STOP_WORDS.split())

# Spellings, and forms that the suffix rules cannot bring together.
_FORMS: Final = {
    "nn": "network",
    "nns": "network",
    "net": "network",
    "nets": "network",
    "backprop": "backpropagation",
    "bi": "two",
    "centred": "centered",
    "centring": "centering",
    "learnt": "learned",
    "categorical": "category",
    "chaotic": "chaos",
    "noisy": "noise",
    "noised": "noise",
    "stable": "stability",
    "unstable": "instability",
    "symmetric": "symmetry",
    "symmetrical": "symmetry",
    "quantum": "qubit",  # else a number that is quantized
    "qubits": "qubit",
    "matrices": "matrix",
    "minima": "minimum",
    "maxima": "maximum",
    "optima": "optimum",
    "spectra": "spectrum",
    "spectral": "spectrum",
    "vertices": "vertex",
    "indices": "index",
    "biased": "bias",
}


def _undouble(word: str) -> str:
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouszf" else word


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The key under which a lower-case word, British or American, singular or plural, is filed."""
    word = _FORMS.get(word, word)
    if len(word) <= 3 or not word.isalpha():
        return word
    # British to American. Rules hit words such as "noise" too, but everywhere alike, so nothing is lost.
    word = re.sub(r"is(e|ed|es|er|ers|ing|able|ation|ations)$", r"iz\1", word)
    word = re.sub(r"ys(e|ed|es|er|ing)$", r"yz\1", word)
    word = re.sub(r"(..)our(s|ed|ing|al|able|ed|hood)?$", r"\1or\2", word)
    word = re.sub(r"([bt])re(s|d)?$", r"\1er\2", word)
    word = re.sub(r"ogue(s?)$", r"og\1", word)
    # Inflection.
    if word.endswith(("ies", "ied")):
        word = word[:-3] + "y"
    elif re.search(r"(s|x|z|ch|sh)es$", word) and not re.search(r"(iz|yz|as|us|ns|rs)es$", word):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        left = word.removesuffix(ending)
        if left != word and len(left) >= 3 and re.search(r"[aeiouy]", left):
            word = _undouble(left)
            break
    if word.endswith("ly") and len(word) >= 7:
        word = word[:-2]
    # Derivation: the first ending that fits goes, once.
    for ending, least, instead in (
        ("ioner", 4, ""),
        ("ization", 3, "iz"),
        ("izer", 3, "iz"),
        ("ation", 3, "at"),
        ("ator", 3, "at"),
        ("ability", 4, "abl"),
        ("ibility", 4, "ibl"),
        ("iveness", 3, "iv"),
        ("ivity", 3, "iv"),
        ("ness", 4, ""),
        ("ment", 5, ""),
        ("ity", 4, ""),
        ("ence", 5, ""),
        ("ance", 5, ""),
        ("ency", 5, ""),
        ("ent", 6, ""),
        ("ical", 3, "ic"),
        ("ion", 4, ""),
        ("er", 4, ""),
        ("e", 3, ""),
    ):
        if word.endswith(ending) and len(word) - len(ending) >= least:
            word = word[: len(word) - len(ending)] + instead
            break
    for ending, least in (("iz", 4), ("yz", 3), ("at", 6), ("al", 5), ("um", 4)):
        if word.endswith(ending) and len(word) - len(ending) >= least:
            word = word[: len(word) - len(ending)]
    return word[:-1] + "i" if word.endswith("y") and len(word) > 4 else word


def words(text: str) -> list[str]:
    """Stems of a text in order, stop words left out; a hyphened word also gives its parts joined."""
    text = unicodedata.normalize("NFKD", text.lower().translate(_LETTERS))
    text = "".join(c for c in text if not unicodedata.combining(c)).replace("_", " ").replace("'s", " ")
    joined = [m.group().replace("-", "") for m in _COMPOUND.finditer(text)]
    return [stem(w) for w in [*_WORD.findall(text), *joined] if w not in _STOP]


def phrases() -> dict[str, tuple[str, ...]]:
    """The concepts that each phrase of `concepts.txt` expresses, by its stems, joined by spaces.

    Raises:
        ValueError: a phrase is empty or too long, or several words of which stop words leave one, without a hyphen.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(CONCEPTS.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        for phrase in rest.split("|"):
            stems = words(phrase.replace("-", " "))  # a text holds the parts of a hyphened word too
            found_at = f"{CONCEPTS.name}:{number}: phrase {phrase.strip()!r}"
            if not 1 <= len(stems) <= LONGEST:
                raise ValueError(f"{found_at} must have 1 to {LONGEST} words, stop words not counted")
            if len(stems) == 1 and len(phrase.replace("-", " ").split()) > 1:  # "one-step" is not any step
                if "-" not in phrase:
                    raise ValueError(f"{found_at} is {stems[0]!r} alone, stop words not counted: say it otherwise")
                stems = [stem(phrase.strip().lower().replace("-", ""))]  # as a text that hyphens it has it
            key = " ".join(stems)
            found[key] = tuple(dict.fromkeys((*found.get(key, ()), name)))
    return found


def concepts(stems: Sequence[str], known: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Names, as "#name", of the concepts whose phrases (`known`) occur among stems, as often as they do."""
    names: list[str] = []
    for start in range(len(stems)):
        for stop in range(start + 1, min(start + LONGEST, len(stems)) + 1):
            names.extend(f"#{name}" for name in known.get(" ".join(stems[start:stop]), ()))
    return names


def weight(term: str) -> float:
    """How much a term counts by its kind: a word 1, a pair of words and a concept less."""
    return CONCEPT_WEIGHT if term.startswith("#") else PAIR_WEIGHT if " " in term else 1.0


def terms(text: str, known: Mapping[str, tuple[str, ...]]) -> list[str]:
    """All that a text is filed under: its stems, pairs of neighboring stems ("a b"), and its concepts."""
    stems = words(text)
    return [*stems, *(f"{a} {b}" for a, b in pairwise(stems)), *concepts(stems, known)]
