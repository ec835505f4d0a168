"""What functions check with `in_range` is what their docstrings say, end by end; no code of theirs runs here.

Methods that declare their ranges with `hyper` are held to the same in `test_hyper`; `test_contract` tries both at
their ends.
"""

import math

from ranges import UNKNOWN, checks, stated


def test_docstrings_state_the_ranges_that_are_checked():
    """A whole number of which nothing is said is at least 1."""
    wrong, seen = [], 0
    for check in checks():
        if check.words is None:
            continue
        said = stated(check.words)
        if said is None and check.arguments.get(check.name, "").split(" ")[0] in ("int", "Count"):
            said = 1.0, UNKNOWN, False, False
        if said is None and (UNKNOWN in check.limits or check.limits[:2] == (-math.inf, math.inf)):
            continue  # in the terms of other arguments, or any finite number
        seen += 1
        pairs = [] if said is None else zip(said, check.limits, strict=True)
        if said is None or any(UNKNOWN not in pair and pair[0] != pair[1] for pair in pairs):
            wrong.append(f"{check.where} {check.name}: {check.limits}, in words {check.words!r}")
    assert not wrong, "\n".join(wrong)
    assert seen > 350


def test_no_argument_is_checked_under_the_name_of_another():
    wrong = [f"{c.where}: {c.value} as {c.name}" for c in checks() if c.value != c.name and c.value in c.arguments]
    assert not wrong, "\n".join(wrong)
