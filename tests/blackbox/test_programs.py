"""Programs against the Python they print; their derivatives; what mutations keep; which survive; what is found."""

import numpy as np
import pytest

from attractor.blackbox import (
    Instruction,
    Program,
    evolve_program,
    largest_error,
    mutated,
    survivors,
    tune_constants,
)
from attractor.linalg import remez

X = np.linspace(0.3, 1.7, 9)
GENERIC = Program((
    Instruction("*", 0, -1, (0.0, 0.7)),
    Instruction("-", -1, 1, (1.9, 0.0)),
    Instruction("/", 1, 2),
    Instruction("+", 0, 3),
    Instruction("*", 3, 3),
    Instruction("/", -1, 5, (0.4, 0.0)),
))  # fmt: skip


def by_hand(x, c=(0.7, 1.9, 0.4)):
    return c[2] / (c[0] * x / (c[1] - c[0] * x)) ** 2


def printed(program, x):
    scope = {"x": x}
    exec(str(program), scope)
    return scope[f"t{len(program.instructions)}"]


def test_a_program_is_what_it_prints():
    np.testing.assert_allclose(GENERIC(X), by_hand(X), rtol=1e-12)
    np.testing.assert_allclose(printed(GENERIC, X), by_hand(X), rtol=1e-12)
    assert GENERIC.cost == 5  # the fourth is not needed
    assert len(GENERIC.pruned().instructions) == 5
    np.testing.assert_array_equal(GENERIC.pruned()(X), GENERIC(X))
    assert GENERIC(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_array_equal(Program()(X), X)


def test_derivatives_in_the_constants():
    np.testing.assert_array_equal(GENERIC.constants, [0.7, 1.9, 0.4])
    value, slope = GENERIC.jacobian(X)
    np.testing.assert_allclose(value, by_hand(X), rtol=1e-12)
    for i in range(3):
        shift = 1e-6 * np.eye(3)[i]
        ahead, behind = (GENERIC.with_constants(GENERIC.constants + s)(X) for s in (shift, -shift))
        np.testing.assert_allclose(slope[:, i], (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-8)


def test_mutants_are_programs_that_use_what_they_print():
    random, program, kinds = np.random.default_rng(0), GENERIC.pruned(), set()
    for _ in range(400):
        child = mutated(program, "+*/-", random)  # raises where an argument is not there yet
        kinds.add(len(child.instructions) - len(program.instructions))
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(child(X), printed(child, X) if child.instructions else X, rtol=1e-12)
        assert child.pruned().cost == child.cost == len(child.pruned().instructions)
        if 0 < child.cost < 10:
            program = child.pruned()
    assert kinds == {-1, 0, 1}


def test_an_insertion_stands_where_a_value_stood():
    first = Program((Instruction("*", 0, -1, (0.0, 3.0)), Instruction("+", 1, -1, (0.0, 2.0))))
    random = np.random.default_rng(1)
    longer = [c for c in (mutated(first, "*", random) for _ in range(200)) if len(c.instructions) == 3]
    middle = [c for c in longer if c.instructions[0] == first.instructions[0] and c.instructions[2].operation == "+"]
    twice = Program((Instruction("*", 0, -1, (0.0, 3.0)), Instruction("+", 1, 0)))
    at_first = [c for c in (mutated(twice, "-", random) for _ in range(200)) if c.instructions[0].operation == "-"]
    at_first = [c for c in at_first if len(c.instructions) == 3]
    assert at_first
    assert all(c.instructions[2].right == 0 for c in at_first)  # one use of x is replaced, the others stay
    assert middle
    assert all(c.cost == 3 and c.instructions[2].left == 2 for c in middle)


def test_constants_are_fitted_and_evened_out():
    target = np.exp2(X)
    line = Program((Instruction("*", 0, -1, (0.0, 0.1)), Instruction("+", 1, -1, (0.0, -0.5))))
    basis = np.c_[X, np.ones_like(X)] / target[:, None]
    least = np.linalg.lstsq(basis, np.ones_like(X), rcond=None)[0]
    fitted = tune_constants(line, X, target, steps=40)
    np.testing.assert_allclose(fitted.constants, least, rtol=1e-6)
    even = tune_constants(line, X, target, steps=20, exchanges=60)
    best = remez(np.exp2, 1, 0.3, 1.7, relative=True).error
    assert best * 0.9 < largest_error(even, X, target) < best * 1.02 < largest_error(fitted, X, target)
    assert largest_error(Program((Instruction("/", -1, -1, (1.0, 0.0)),)), X, target) == np.inf


def test_survivors_are_the_fronts_of_error_and_cost():
    grow = lambda n: Program(tuple(Instruction("+", i, -1) for i in range(n)))  # noqa: E731
    given = [(grow(n), e) for n, e in ((1, 0.5), (1, 0.4), (2, 0.45), (3, 0.1), (4, 0.1), (5, 1e-6), (6, np.nan))]
    kept = lambda k: [(p.cost, e) for p, e in survivors(given, k)]  # noqa: E731
    assert kept(3) == [(1, 0.4), (3, 0.1), (5, 1e-6)]
    assert kept(2) == [(1, 0.4), (5, 1e-6)]  # the ends have no neighbor, and the largest gaps
    assert set(kept(6)) == {(1, 0.4), (3, 0.1), (5, 1e-6), (1, 0.5), (2, 0.45), (4, 0.1)}


def test_evolution_finds_short_programs():
    found = evolve_program(np.exp2, 0.0, 1.0, max_cost=4, candidates=150, parents=10, points=17)
    few = {"max_cost": 3, "candidates": 20, "parents": 5, "points": 9}
    first, again, other = (evolve_program(np.exp2, 0.0, 1.0, seed=seed, **few).programs for seed in (0, 0, 1))
    assert first == again
    assert first != other
    costs = [p.cost for p in found.programs]
    assert costs == sorted(set(costs))
    assert max(costs) <= 4
    assert (np.diff(found.errors) < 0).all()
    x = np.linspace(0, 1, 1001)
    for program, error in zip(found.programs, found.errors, strict=True):
        np.testing.assert_allclose(np.abs(program(x) / np.exp2(x) - 1).max(), error, rtol=0.1)
    assert found.errors[-1] < remez(np.exp2, 1, 0.0, 1.0, relative=True).error
    sums = evolve_program(np.exp2, 0.0, 1.0, operations="+", **few)
    assert {one.operation for p in sums.programs for one in p.instructions} == {"+"}


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("instructions", lambda: Program((Instruction("^", 0, 0),))),
        ("instructions", lambda: Program((Instruction("+", 0, 1),))),
        ("instructions", lambda: Program((Instruction("+", -2, 0),))),
        ("operations", lambda: evolve_program(np.exp2, 0.0, 1.0, operations="+%")),
        ("max_cost", lambda: evolve_program(np.exp2, 0.0, 1.0, max_cost=0)),
        ("candidates", lambda: evolve_program(np.exp2, 0.0, 1.0, candidates=0)),
        ("parents", lambda: evolve_program(np.exp2, 0.0, 1.0, parents=1)),
        ("points", lambda: evolve_program(np.exp2, 0.0, 1.0, points=1)),
        ("restarts", lambda: evolve_program(np.exp2, 0.0, 1.0, restarts=-1)),
        ("exchanges", lambda: evolve_program(np.exp2, 0.0, 1.0, exchanges=-1)),
        ("high", lambda: evolve_program(np.exp2, 1.0, 1.0)),
        ("f", lambda: evolve_program(np.sin, 0.0, 1.0)),
        ("steps", lambda: tune_constants(GENERIC, X, X, steps=0)),
        ("exchanges", lambda: tune_constants(GENERIC, X, X, exchanges=-1)),
        ("keep", lambda: survivors([], 0)),
    ],
)
def test_errors_name_the_argument(argument, call):
    with pytest.raises(ValueError, match=f"^{argument}"):
        call()
