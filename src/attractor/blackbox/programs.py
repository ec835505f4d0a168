"""Straight-line programs of arithmetic, and an evolution that finds short ones that approximate a function."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool, Float

from attractor.checks import in_range
from attractor.registry import part

Values = Float[np.ndarray, " n"]
Number = Values | np.floating | float
OPERATIONS = "+-*/"
FITS = 3  # of one sequence of operations, each time from other constants
CONSTANT = -1  # an argument that is a number of the instruction's own; 0 is x, i the result of instruction i


class Instruction(NamedTuple):
    """One operation on two arguments, each a constant (-1), x (0) or the result of an earlier instruction (from 1)."""

    operation: str
    left: int
    right: int
    numbers: tuple[float, float] = (1.0, 1.0)  # what stands where an argument is a constant


@dataclass(frozen=True)
class Program:
    """Instructions in sequence, the last of which gives the result; none gives x itself.

    Arguments:
        instructions: Each may use x, constants, and what those before it gave.

    Raises:
        ValueError: for an unknown operation, or an argument that is not there yet.
    """

    instructions: tuple[Instruction, ...] = ()

    def __post_init__(self) -> None:
        for i, (operation, left, right, _) in enumerate(self.instructions):
            if operation not in OPERATIONS or not (CONSTANT <= left <= i and CONSTANT <= right <= i):
                raise ValueError(
                    f"instructions: expected one of {OPERATIONS} on -1 … {i} in number {i + 1}, got "
                    f"{operation!r} on {left} and {right}"
                )

    def __call__(self, x: Float[ArrayLike, " n"]) -> Values:
        """The result at some x, in the precision of x."""
        given = np.asarray(x)
        results = [given if given.dtype == np.float32 else given.astype(float)]
        with np.errstate(all="ignore"):
            for operation, left, right, numbers in self.instructions:
                a, b = (
                    results[0].dtype.type(number) if argument == CONSTANT else results[argument]
                    for argument, number in zip((left, right), numbers, strict=True)
                )
                results.append(np.broadcast_to(_apply(operation, a, b), given.shape))
        return results[-1]

    def __str__(self) -> str:
        """Python, a line per instruction."""
        lines = []
        for i, (operation, left, right, numbers) in enumerate(self.instructions):
            a, b = (
                repr(float(number)) if argument == CONSTANT else "x" if argument == 0 else f"t{argument}"
                for argument, number in zip((left, right), numbers, strict=True)
            )
            lines.append(f"t{i + 1} = {a} {operation} {b}")
        return "\n".join(lines)

    @property
    def cost(self) -> int:
        """How many operations the result needs."""
        return int(self._used().sum())

    def pruned(self) -> "Program":
        """Without the instructions that the result does not need."""
        used = self._used()
        new = np.r_[-1, 0, np.cumsum(used)]  # by old argument + 1
        kept = (one for one, needed in zip(self.instructions, used, strict=True) if needed)
        return Program(tuple(i._replace(left=int(new[i.left + 1]), right=int(new[i.right + 1])) for i in kept))

    def _used(self) -> Bool[np.ndarray, " instructions"]:
        used = np.zeros(len(self.instructions) + 1, bool)  # entry 0 is x
        used[-1] = True
        for i in range(len(self.instructions), 0, -1):
            if used[i]:
                for argument in self.instructions[i - 1][1:3]:
                    if argument != CONSTANT:
                        used[argument] = True
        return used[1:]

    @property
    def constants(self) -> Float[np.ndarray, " constants"]:
        """All that stand in it, in sequence."""
        return np.array(
            [one.numbers[side] for one in self.instructions for side in (0, 1) if one[side + 1] == CONSTANT]
        )

    def with_constants(self, constants: Iterable[float]) -> "Program":
        """The same operations on other constants."""
        rest = iter(constants)
        return Program(tuple(
            one._replace(numbers=tuple(
                float(next(rest)) if one[side + 1] == CONSTANT else one.numbers[side] for side in (0, 1)
            ))
            for one in self.instructions
        ))  # fmt: skip

    def jacobian(self, x: Values) -> tuple[Values, Float[np.ndarray, "n constants"]]:
        """The result, and its derivatives in the constants."""
        count = len(self.constants)
        results = [(np.asarray(x, float), np.zeros((1, count)))]
        seen = 0
        with np.errstate(all="ignore"):
            for operation, left, right, numbers in self.instructions:
                pair = []
                for argument, number in zip((left, right), numbers, strict=True):
                    if argument == CONSTANT:
                        pair.append((number, np.eye(count)[seen : seen + 1]))
                        seen += 1
                    else:
                        pair.append(results[argument])
                (a, da), (b, db) = pair
                value = np.broadcast_to(_apply(operation, a, b), len(x))
                column = [np.reshape(v, (-1, 1)) for v in (a, b, value)]
                if operation == "*":
                    slope = da * column[1] + column[0] * db
                elif operation == "/":
                    slope = (da - column[2] * db) / column[1]
                else:
                    slope = da + db if operation == "+" else da - db
                results.append((value, slope))
        return results[-1][0], np.broadcast_to(results[-1][1], (len(x), count))


def _apply(operation: str, a: Number, b: Number) -> Number:
    if operation == "+":
        return np.add(a, b)
    if operation == "-":
        return np.subtract(a, b)
    return np.multiply(a, b) if operation == "*" else np.divide(a, b)


def largest_error(program: Program, x: Values, target: Values) -> float:
    """The largest relative error over some points; infinite where a result is not finite."""
    with np.errstate(all="ignore"):
        error = np.abs(program(x).astype(float) / target - 1).max()
    return float(error) if np.isfinite(error) else np.inf


def tune_constants(program: Program, x: Values, target: Values, *, steps: int = 15, exchanges: int = 0) -> Program:
    r"""Constants that fit a function: Levenberg-Marquardt on relative errors, then weights that even out the largest.

    Steps $c \leftarrow c - (J^\top J + \lambda D)^{-1} J^\top r$ with $r = W (p(x) / f(x) - 1)$, λ a tenth after one
    that helps and ten times as large after one that does not. Lawson's weights, $w \leftarrow w |p / f - 1|$ with
    $W = \sqrt w$, lead from the least squares towards the least largest error.

    Arguments:
        program: Where to start.
        x: Points.
        target: f there, not zero.
        steps: Per fit, at least 1.
        exchanges: How often to weigh anew, at least 0; the best largest error is kept.

    Raises:
        ValueError: for a number out of range.
    """
    in_range("steps", steps, 1)
    in_range("exchanges", exchanges, 0)
    best, least, weights = program, largest_error(program, x, target), np.ones(len(x))
    for exchange in range(exchanges + 1):
        program = _fitted(program, x, target, np.sqrt(weights), steps)
        with np.errstate(all="ignore"):
            errors = np.abs(program(x) / target - 1)
        if not np.isfinite(errors).all():
            break
        if errors.max() < least:
            best, least = program, float(errors.max())
        if exchange < exchanges:
            weights = weights * (errors + 1e-3 * errors.max() + 1e-300)
            weights /= weights.mean()
    return best


def _fitted(program: Program, x: Values, target: Values, scale: Values, steps: int) -> Program:
    if not len(program.constants):
        return program
    constants, damping = program.constants, 1e-3
    value, slope = program.jacobian(x)
    residual = scale * (value / target - 1)
    loss = residual @ residual
    for _ in range(steps):
        J = slope * (scale / target)[:, None]
        gram = J.T @ J
        if not (np.isfinite(loss) and np.isfinite(gram).all()):
            break
        damped = gram + damping * np.diag(np.diag(gram)) + 1e-30 * np.eye(len(gram))
        try:
            moved = constants - np.linalg.solve(damped, J.T @ residual)
        except np.linalg.LinAlgError:
            break
        value, new_slope = program.with_constants(moved).jacobian(x)
        new = scale * (value / target - 1)
        with np.errstate(all="ignore"):
            new_loss = new @ new
        if new_loss < loss:
            done = new_loss > loss * (1 - 1e-6)
            constants, residual, loss, slope, damping = moved, new, new_loss, new_slope, damping / 10
            if done:
                break
        else:
            damping *= 10
            if damping > 1e6:
                break
    return program.with_constants(constants)


class Evolved(NamedTuple):
    """What an evolution found."""

    programs: tuple[Program, ...]  # by operations, each more exact than all shorter ones
    errors: Float[np.ndarray, " programs"]  # largest relative errors on the points
    tried: int


def evolve_program(
    f: Callable[[Values], Values],
    low: float,
    high: float,
    *,
    operations: str = OPERATIONS,
    max_cost: int = 8,
    candidates: int = 5_000,
    parents: int = 40,
    fit: Callable[[Program, Values, Values], Program] = tune_constants,
    restarts: int = 2,
    points: int = 33,
    exchanges: int = 20,
    seed: int = 0,
) -> Evolved:
    r"""Programs that approximate a function with few operations, evolved from $x + c$ by random changes alone.

    A child is a parent of the population after a random change, or more with probability 0.3 each: an instruction
    inserted, removed, or changed in its operation or one argument. Its constants are fitted by `tune_constants`;
    NSGA-II keeps those that are best in the largest relative error and in operations at once. It knows nothing of the
    function but its values.

    The paper fits constants by CMA-ES, 10⁴ generations of 128 for each child; least squares take a thousandth.

    Arguments:
        f: A function of an array, not zero on the interval.
        low: The interval's left end.
        high: Its right end, above ``low``.
        operations: Which may be used, of ``+-*/``.
        max_cost: Operations per program, at least 1.
        candidates: Children in all, at least 1.
        parents: How many are kept, at least 2; as many children are made at a time.
        fit: ``fit(program, x, f(x))`` gives the program other constants.
        restarts: How often the constants of a child are also fitted from normal ones of deviation 3, at least 0.
        points: Chebyshev points on which programs are fitted and compared, at least 2.
        exchanges: How often the constants of what is returned are weighed anew, towards the least largest error.
        seed: Of all draws.

    Raises:
        ValueError: for a number out of range, an unknown operation, or values of f that are zero or not finite.

    Paper: AutoNumerics-Zero: Automated Discovery of State-of-the-Art Mathematical Functions (Real et al., 2023).
    """
    for name, value, least in (
        ("max_cost", max_cost, 1), ("candidates", candidates, 1), ("parents", parents, 2), ("points", points, 2),
        ("exchanges", exchanges, 0), ("restarts", restarts, 0),
    ):  # fmt: skip
        in_range(name, value, least)
    in_range("high - low", high - low, 0.0, open_low=True)
    if not operations or set(operations) - set(OPERATIONS):
        raise ValueError(f"operations: expected some of {OPERATIONS}, got {operations!r}")
    x = low + (high - low) * (1 - np.cos(np.pi * np.arange(points) / (points - 1))) / 2
    target = np.asarray(f(x), float)
    if target.shape != x.shape or not np.isfinite(target).all() or not target.all():
        raise ValueError(f"f: expected {points} finite values other than zero, got {target}")
    random = np.random.default_rng(seed)
    start = fit(Program((Instruction(operations[0], 0, CONSTANT),)), x, target)
    population = [(start, largest_error(start, x, target))]
    best: dict[int, tuple[Program, float]] = {}
    fitted: Counter[tuple] = Counter()
    for begun in range(0, candidates, parents):
        for _ in range(min(parents, candidates - begun)):
            child = population[random.integers(min(len(population), parents))][0]
            for _ in range(random.geometric(0.7)):
                child = mutated(child, operations, random).pruned()
            shape = tuple(one[:3] for one in child.instructions)
            fitted[shape] += 1
            if 0 < child.cost <= max_cost and fitted[shape] <= FITS:
                fits = [fit(c, x, target) for c in (child, *_fresh(child, restarts, random))]
                population.append(min(((c, largest_error(c, x, target)) for c in fits), key=lambda one: one[1]))
        population = survivors(population, parents)
        for program, error in population:
            if error < best.get(program.cost, (program, np.inf))[1]:
                best[program.cost] = (program, error)
    kept: list[tuple[Program, float]] = []
    for cost in sorted(best):
        program = tune_constants(best[cost][0], x, target, exchanges=exchanges) if exchanges else best[cost][0]
        error = largest_error(program, x, target)
        if not kept or error < kept[-1][1]:
            kept.append((program, error))
    return Evolved(tuple(p for p, _ in kept), np.array([e for _, e in kept]), candidates)


def _fresh(program: Program, count: int, random: np.random.Generator) -> list[Program]:
    return [program.with_constants(3 * random.normal(size=len(program.constants))) for _ in range(count)]


def mutated(program: Program, operations: str, random: np.random.Generator) -> Program:
    """A program with one random change: an instruction inserted, removed, or changed in its operation or an argument.

    Arguments:
        program: What to change.
        operations: Which may be drawn.
        random: Draws the change.
    """
    code = list(program.instructions)
    n = len(code)
    kind = random.integers(4) if n else 0
    at = int(random.integers(n + 1 if kind == 0 else n))
    argument = lambda i: int(random.integers(CONSTANT, i + 1))  # noqa: E731
    number = lambda: (float(random.normal()), float(random.normal()))  # noqa: E731
    if kind == 0:  # the new result takes the place of what stood there, so that it is used
        old = at  # the value before the new instruction
        new = [old, argument(at)]
        new = new if random.random() < 0.5 else new[::-1]
        later = [_shifted(one, lambda a: at + 1 if a == old and at > 0 else a + (a > at)) for one in code[at:]]
        inserted = Instruction(operations[random.integers(len(operations))], new[0], new[1], number())
        if at == 0 and later:  # x itself: one use of it becomes the new result
            later[0] = later[0]._replace(**{("left", "right")[random.integers(2)]: 1})
        code = [*code[:at], inserted, *later]
    elif kind == 1:  # its uses take one of its arguments
        stand_in = max(code[at][1:3]) if random.random() < 0.5 else min(code[at][1:3])
        code = code[:at] + [
            _shifted(one, lambda a: stand_in if a == at + 1 else a - (a > at + 1)) for one in code[at + 1 :]
        ]
    elif kind == 2:
        code[at] = code[at]._replace(operation=operations[random.integers(len(operations))])
    else:
        side = int(random.integers(2))
        numbers = list(code[at].numbers)
        numbers[side] = float(random.normal())
        code[at] = code[at]._replace(**{("left", "right")[side]: argument(at)}, numbers=(numbers[0], numbers[1]))
    return Program(tuple(code))


def _shifted(one: Instruction, rename: Callable[[int], int]) -> Instruction:
    return one._replace(left=rename(one.left), right=rename(one.right))


def survivors(population: Sequence[tuple[Program, float]], keep: int) -> list[tuple[Program, float]]:
    """NSGA-II's choice by error and operations: by fronts, the last by its gaps; errors within a percent count once.

    Arguments:
        population: Programs with their errors.
        keep: How many, at least 1.
    """
    in_range("keep", keep, 1)
    # Programs that say the same in other words differ by rounding.
    left = list({(p.cost, round(np.log(max(e, 1e-300)), 2)): (p, e) for p, e in population if np.isfinite(e)}.values())
    chosen: list[tuple[Program, float]] = []
    while left and len(chosen) < keep:
        left.sort(key=lambda one: (one[0].cost, one[1]))
        front, rest, least = [], [], np.inf
        for one in left:
            (front if one[1] < least else rest).append(one)
            least = min(least, one[1])
        if len(chosen) + len(front) > keep:
            logs = np.log([max(e, 1e-300) for _, e in front])
            gaps = np.r_[np.inf, logs[:-2] - logs[2:], np.inf]
            front = [front[i] for i in np.argsort(-gaps, kind="stable")[: keep - len(chosen)]]
        chosen, left = chosen + front, rest
    return chosen


def _example() -> tuple[float, float]:
    """(1 + x)² in two operations."""
    found = evolve_program(lambda x: (1 + x) ** 2, 0.0, 1.0, operations="+*", max_cost=2, candidates=200, parents=10)
    return float(found.errors[-1]), 1e-8


part("solver", "evolve-program", example=lambda: _example)(evolve_program)
