"""The catalogue: what papers claim, and the experiments that try it.

A paper's file declares its claims in the words of `attractor.papers.words`; `check` runs them together with the broken
variants for which they must not hold; `attractor.papers.record` keeps what came of it.
"""

from attractor.papers.catalogue import ROOMS, Paper, catalogue, find
from attractor.papers.claims import Claim, Scale, Verdict, check, claim, claims_of, module_of, written
from attractor.papers.evidence import OUTCOMES, Evidence, Outcome

__all__ = [
    "OUTCOMES", "ROOMS", "Claim", "Evidence", "Outcome", "Paper", "Scale", "Verdict", "catalogue", "check", "claim",
    "claims_of", "find", "module_of", "written",
]  # fmt: skip
