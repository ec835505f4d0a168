"""Ranking by what the reader kept and dismissed: ridge regression over the vectors, which can say why.

Kept papers count 1, dismissed ones -1, others 0 with less weight. The solution is a sum over the papers it was fitted
to, so that another paper's score is a sum of what each of them adds: the one that adds most is the reason. In closed
form it takes a few milliseconds; scikit-learn's `KernelRidge` gives the same numbers, and takes 1.6 s to import.
"""

import json
from dataclasses import dataclass

import numpy as np

from attractor.feed.library import Library
from attractor.feed.meaning import Array, by_number, vectors

RIDGE = 0.3
OPINIONS = 500  # the newest are learned from
OTHERS = 300  # papers without an opinion, the newest
OTHERS_WEIGHT = 0.1  # of each of them, against 1
TELLING = 0.1  # least share in a score at which a paper is named as the reason


@dataclass(frozen=True)
class Taste:
    """What was learned.

    Attributes:
        numbers: Of the papers with an opinion, [m].
        opinions: 1 or -1, [m].
        shares: What each paper learned from adds to a score at a likeness of 1, [n]; those with an opinion first.
        vectors: Of the papers learned from, [n, d].
    """

    numbers: Array
    opinions: Array
    shares: Array
    vectors: Array

    def scores(self, of: Array) -> Array:
        """How much the reader may like papers, by their vectors [k, d]: 1 as those kept, -1 as those dismissed."""
        return of @ (self.shares @ self.vectors)

    def reason(self, of: Array) -> tuple[int, int] | None:
        """Number and opinion of the paper that adds most, in the score's own direction, to that of a vector [d].

        `None` where no opinion tells.
        """
        m = len(self.numbers)
        added = self.shares[:m] * (self.vectors[:m] @ of)
        direction = np.sign(float(self.scores(of[None])[0]))
        best = int(np.argmax(direction * np.where(np.sign(self.opinions) == direction, added, 0.0)))
        return (int(self.numbers[best]), int(self.opinions[best])) if direction * added[best] > TELLING else None


def taste(library: Library) -> Taste | None:
    """Learn from what was kept and dismissed; `None` where nothing was."""
    newest = "SELECT entry, opinion FROM opinions ORDER BY at DESC, entry DESC LIMIT ?"
    said = {row["entry"]: row["opinion"] for row in library.connection.execute(newest, (OPINIONS,))}
    if not said:
        return None
    numbers, own = vectors(library, "id IN (SELECT value FROM json_each(?))", (json.dumps(list(said)),))
    others = "id IN (SELECT id FROM entries WHERE id NOT IN (SELECT entry FROM opinions) ORDER BY id DESC LIMIT ?)"
    _, rest = vectors(library, others, (OTHERS,))
    opinions = np.array([said[n] for n in numbers.tolist()], np.float64)
    every = np.concatenate([own, rest])
    weights = np.concatenate([np.ones(len(own)), np.full(len(rest), OTHERS_WEIGHT)])
    wanted = np.concatenate([opinions, np.zeros(len(rest))])
    shares = np.linalg.solve(every @ every.T + RIDGE * np.diag(1 / weights), wanted)
    return Taste(numbers, opinions, shares.astype(np.float32), every)


def explained(library: Library, taste: Taste | None, of: Array) -> str:
    """Why the reader may like a paper, or not, in words; ``""`` where no opinion tells."""
    found = taste.reason(of) if taste else None
    named = by_number(library, [found[0]]) if found else {}
    if not found or found[0] not in named:
        return ""
    title = named[found[0]].entry.title
    return f"because you kept “{title}”" if found[1] > 0 else f"though you dismissed “{title}”"
