"""Which of 127,000 continued fractions are pi, e, ln 2 or Catalan's constant, and how each converges: the docs' plot.

python benchmarks/continued_fractions.py
"""

import json
from pathlib import Path

from attractor.linalg import dynamics
from attractor.papers.linalg.pcf_formula_clustering import CONSTANTS, recognized
from attractor.progress import task

OUT = Path(__file__).parents[1] / "docs" / "data" / "continued_fractions.json"


def polynomial(coefficients: list[int]) -> str:
    """Such as ``2n² - 3``."""
    powers = zip(reversed(coefficients), ("n⁴", "n³", "n²", "n", "")[-len(coefficients) :], strict=True)
    terms = [f"{c:+d}{power}" for c, power in powers if c]
    return " ".join(terms) or "0"


def main() -> None:
    rows = {}
    with task("continued fractions", len(CONSTANTS), "constant") as advance:
        for name, found in recognized().items():
            seen = [(a, b, how, dynamics(a, b)) for a, b, how in found]
            rows[name] = [
                {
                    "digits": round(metrics.digits, 4), "delta": round(metrics.delta, 4),
                    "formula": f"a = {polynomial(a)}, b = {polynomial(b)}: ({i} + {j} c) / ({k} + {l} c)",
                }
                for a, b, (i, j, k, l), metrics in seen
            ]  # fmt: skip
            advance(1)
    OUT.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
