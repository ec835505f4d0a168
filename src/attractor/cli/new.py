"""The commands that begin something of one's own in a clone of the project: ``new method`` and ``new paper``."""

import keyword
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from attractor.cli.common import app, known_rooms, out
from attractor.names import unknown
from attractor.papers import catalogue
from attractor.papers.drafting import checkout

TRANSFORMATION = '''"""{title}: one line on what this family of updates has in common."""

import optax

from attractor.checks import Scalar, in_range
from attractor.registry import LogUniform, method


@method("{name}", {{"learning_rate": LogUniform(1e-4, 1.0)}}, bad={{"learning_rate": -1.0, "momentum": 1.0}})
def {function}(learning_rate: optax.ScalarOrSchedule, momentum: Scalar = 0.9) -> optax.GradientTransformation:
    r"""An example to be replaced, gradient descent with momentum: what it does, in one line.

    $$ m_{{t+1}} = \\mu m_t + g_t, \\qquad x_{{t+1}} = x_t - \\eta m_{{t+1}} $$

    Arguments:
        learning_rate: η ≥ 0, or a schedule.
        momentum: μ in [0, 1).

    Raises:
        ValueError: for an argument out of its range.

    The paper, with its arXiv id.
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    return optax.chain(optax.trace(momentum), optax.scale_by_learning_rate(learning_rate))
'''
METHOD = '''"""{title}: one line on what this family of updates has in common."""

import jax
from jaxtyping import PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.gradients import grad
from attractor.method import Method, hyper
from attractor.problem import Minimization
from attractor.registry import LogUniform, method


@method("{name}", {{"learning_rate": LogUniform(1e-4, 1.0)}}, example={{"learning_rate": 0.1}})
class {function}(Method):
    r"""An example to be replaced, a step with the gradient ahead of it: what it does, in one line.

    $$ y_t = x_t - \\alpha \\eta \\nabla f(x_t), \\qquad x_{{t+1}} = x_t - \\eta \\nabla f(y_t) $$

    Arguments:
        learning_rate: η > 0.
        ahead: α ≥ 0, how far ahead, in steps.

    Raises:
        ValueError: for an argument out of its range.

    The paper, with its arXiv id.
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    ahead: Scalar = hyper(0.5, low=0.0)

    def step(self, problem: Minimization, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        batch, rate = problem.sample(key), self.learning_rate
        ahead = jax.tree.map(lambda p, g: p - self.ahead * rate * g, x, grad(problem.loss)(x, batch))
        return jax.tree.map(lambda p, g: p - rate * g, x, grad(problem.loss)(ahead, batch)), state
'''
TEST = '''"""{title}: the update against a loop in NumPy, step by step, on a generic instance."""

import jax
import jax.numpy as jnp
import numpy as np
{imports}
from {module} import {function}

MATRIX, TARGET = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.5]]), np.array([1.0, -2.0, 0.5])


def test_ten_steps_are_those_of_numpy():
    with jax.enable_x64(True):
{body}
            np.testing.assert_allclose(x, y, atol=1e-12)
'''
BODIES = {
    "transformation": (
        "import optax\n",
        """        method, x = {function}(0.1, momentum=0.8), jnp.zeros(3)
        state = method.init(x)
        y, velocity = np.zeros(3), np.zeros(3)
        for _ in range(10):
            updates, state = method.update(MATRIX @ (x - TARGET), state, x)
            x = optax.apply_updates(x, updates)
            velocity = 0.8 * velocity + MATRIX @ (y - TARGET)
            y = y - 0.1 * velocity""",
    ),
    "method": (
        "\nfrom attractor import Minimization",
        """        problem = Minimization(lambda x: (x - TARGET) @ MATRIX @ (x - TARGET) / 2, init=jnp.zeros(3))
        method, x, y = {function}(0.2, ahead=0.7), jnp.zeros(3), np.zeros(3)
        for _ in range(10):
            x, _ = method.step(problem, x, None, jax.random.key(0))
            ahead = y - 0.7 * 0.2 * MATRIX @ (y - TARGET)
            y = y - 0.2 * MATRIX @ (ahead - TARGET)""",
    ),
}

new = typer.Typer(no_args_is_help=True, help="Begin a method or a paper in a clone of the project.")
app.add_typer(new, name="new")


@new.command("paper", epilog="Examples: attractor new paper polycom · attractor new paper 2411.03884 --room nn")
def paper_command(
    paper: Annotated[str, typer.Argument(help="A slug of the catalogue, or the arXiv number of a paper that came in.")],
    room: Annotated[
        str | None, typer.Option(help="Where its method belongs; default: that of the nearest paper.")
    ] = None,
) -> None:
    """Begin to make a paper executable: its row, claim file and test, which run at once, after the nearest papers.

    For a clone of the project; what is left to do is printed, in order.
    """
    from attractor.feed.entry import ARXIV
    from attractor.feed.library import Library
    from attractor.papers.catalogue import find
    from attractor.papers.drafting import draft, new_paper
    from attractor.papers.search import search

    root = checkout()
    known_rooms([room] if room else [])
    number = ARXIV.fullmatch(paper.strip())
    known = {p.arxiv: p for p in catalogue().values()}
    row, abstract = known.get(number["id"]) if number else find(paper), ""
    if row is None:
        with Library() as library:
            came_in = library.by_uid(f"arxiv:{number['id'] if number else ''}")
        if came_in is None:
            otherwise = "`attractor feed sync` or `attractor import` brings papers in"
            raise unknown("paper", paper, (), otherwise)
        entry, abstract = came_in.entry, came_in.entry.abstract
        nearest = search(f"{entry.title} {abstract}"[:1000], limit=1)
        year = int(entry.published[:4]) if entry.published else None
        row = new_paper(entry.title, room or nearest[0][0].room, year=year, arxiv=entry.arxiv, authors=entry.authors)
    done = draft(row, abstract, root)
    for path in done.written:
        out.print(f"wrote {path.relative_to(root)}", highlight=False)
    out.print("\n[bold]Next[/]")
    for i, step in enumerate(done.left, start=1):
        out.print(f"{i}. {step.replace(f'{root}/', '')}", highlight=False, markup=False, soft_wrap=True)


@new.command("method", epilog="Example: attractor new method sign-momentum --room optim --family sign_momentum")
def method_command(
    name: Annotated[str, typer.Argument(help="What `compare` will call it: lower case, words joined by hyphens.")],
    room: Annotated[str, typer.Option(help="The folder it belongs to.")] = "optim",
    family: Annotated[
        str | None, typer.Option(help="Its module, named by the field's term for the family; default: the name's.")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="transformation (of gradients, for optax) or method (when gradients are not enough).")
    ] = "transformation",
) -> None:
    """Begin a method: its module, its registration and its test, which run at once."""
    root = checkout()
    known_rooms([room])
    if kind not in BODIES:
        raise unknown("kind", kind, BODIES, f"kinds: {', '.join(BODIES)}")
    for path in begin_method(root, name, room, family, kind):  # pyright: ignore[reportArgumentType]
        out.print(f"wrote {path.relative_to(root)}", highlight=False)
    out.print("\n[bold]Next[/]")
    module, test = _places(root, name, room, family)
    steps = (
        f"write the paper's update, its ranges and its docstring: {module.relative_to(root)}",
        f"follow the paper, or an implementation that is not yours, step by step: {test.relative_to(root)}",
        f"pytest {test.relative_to(root)}",
        f"pytest tests/test_contract.py tests/test_contract_optax.py -k {name}",
        "pytest tests/core/test_hyper.py  # whether docstrings say the ranges that are checked",
        f"attractor compare digits-mlp {name} adam",
        "say what is new in CHANGELOG.md",
    )
    for i, step in enumerate(steps, start=1):
        out.print(f"{i}. {step}", highlight=False, markup=False, soft_wrap=True)


def begin_method(
    root: Path, name: str, room: str, family: str | None, kind: Literal["transformation", "method"]
) -> tuple[Path, ...]:
    """Write a method's module and test, and list it in its room; returns the files. Those that exist are not touched.

    Raises:
        ValueError: for a name that is none or taken, or if its module or test exists; nothing is changed then.
    """
    from attractor import registry
    from attractor.places import write_atomically

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError(f"NAME: expected lower-case words joined by hyphens, such as sign-momentum, got {name!r}")
    if name in registry.methods():
        raise ValueError(f"NAME: {name!r} is registered already; `attractor methods` lists all")
    module, test = _places(root, name, room, family)
    for path in (module, test):
        if path.exists():
            raise ValueError(f"{path.relative_to(root)} exists; name another --family, or add to it by hand")
    function = name.replace("-", "_")
    if kind == "method":
        function = "".join(word.capitalize() for word in name.split("-"))
    elif keyword.iskeyword(function):
        raise ValueError(f"NAME: {name!r} is a word of Python's; choose another")
    dotted = ".".join(module.relative_to(root / "src").with_suffix("").parts)
    fields = {"name": name, "function": function, "module": dotted, "title": module.stem.replace("_", " ").capitalize()}
    imports, body = BODIES[kind]
    text = (TRANSFORMATION if kind == "transformation" else METHOD).format(**fields)
    checked = TEST.format(**fields, imports=imports, body=body.format(**fields))
    contents = root / "src" / "attractor" / room / "__init__.py"
    listed = _listed(contents.read_text(encoding="utf-8"), f"from {dotted} import {function}\n")
    files = {module: text, test: checked, contents: listed}
    for path, content in files.items():
        write_atomically(path, lambda file, content=content: file.write(content.encode()))
    return tuple(files)


def _places(root: Path, name: str, room: str, family: str | None) -> tuple[Path, Path]:
    """Where a method's module and its test go."""
    family = family or name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)?", family):
        raise ValueError(f"--family: expected a module's name, such as sign_momentum, got {family!r}")
    return root / "src" / "attractor" / room / f"{family}.py", root / "tests" / room / f"test_{Path(family).name}.py"


def _listed(contents: str, line: str) -> str:
    """A table of contents with one import more, before the first that sorts behind it."""
    lines = contents.splitlines(keepends=True)
    behind = (i for i, known in enumerate(lines) if known.startswith("from ") and known > line)
    place = next(behind, len(lines))
    return "".join([*lines[:place], line, *lines[place:]])
