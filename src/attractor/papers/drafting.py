"""The first state of a paper that somebody makes executable: its row, its claim file and its test, which run at once.

They are written into a checkout of the project. What stands in them is an example to be replaced, gradient descent with
and without momentum, so that ``attractor check`` has something to run, and the tests to pass, from the first minute on.
"""

import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from attractor.papers.catalogue import PATH, Paper, catalogue
from attractor.papers.claims import written
from attractor.papers.search import nearest, search
from attractor.places import write_atomically

CLAIM = '''"""{title}: what it does, in one line.

```python
import jax.numpy as jnp
from attractor import Minimization, run
from {module} import update

problem = Minimization(lambda w: jnp.sum((w - 3.0) ** 2), init=jnp.zeros(2))
print(run(problem, update(0.1), steps=200, every=200).last("loss").values)  # near 0
```
"""

import optax

from attractor.papers.words import Evidence, claim, paired_ratio, sizes, tune
from attractor.problems import rotated_quadratic
from attractor.registry import LogUniform

# Papers near to this one, whose files show how: {near}.
RATES = {{"learning_rate": LogUniform(1e-4, 1.0)}}


def update(learning_rate, momentum=0.9):
    """The paper's update. Derive it from the paper, and move it to attractor/{room}/ when it is right."""
    return optax.sgd(learning_rate, momentum)


def _backwards(learning_rate):
    """A mistake that somebody might make; `tune` gives it its own learning rate."""
    return update(learning_rate, momentum=-0.9)


@claim("rotated quadratic, condition 50: a loss of 1e-3 in at most half of gradient descent's steps, both tuned",
       source="ours", broken={{"momentum's sign": {{"update": _backwards}}}})  # fmt: skip
def halves_the_steps(update=update, *, scale):
    problem, how = rotated_quadratic(condition=50.0), sizes(scale, seeds=(8, 32), budget=8, steps=2_000)
    ours, descent = (tune(problem, (method, RATES), target=1e-3, **how) for method in (update, optax.sgd))
    given = {{"gradient descent reaches it": bool(descent.reached.all())}}
    return Evidence(paired_ratio(ours.steps_to_target, descent.steps_to_target), at_most=0.5, given=given)
'''
TEST = '''"""{title}: the update against a loop in NumPy, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from {module} import update


def test_ten_steps_are_those_of_numpy():
    matrix, target = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.5]]), np.array([1.0, -2.0, 0.5])
    with jax.enable_x64(True):
        method, x = update(0.1, momentum=0.8), jnp.zeros(3)
        state = method.init(x)
        y, velocity = np.zeros(3), np.zeros(3)
        for _ in range(10):
            step, state = method.update(matrix @ (x - target), state, x)
            x = optax.apply_updates(x, step)
            velocity = 0.8 * velocity + matrix @ (y - target)
            y = y - 0.1 * velocity
            np.testing.assert_allclose(x, y, atol=1e-12)
'''


@dataclass(frozen=True)
class Draft:
    """What was written: files, the papers whose files to read first, and what is left to do, in order."""

    written: tuple[Path, ...]
    near: tuple[str, ...]
    left: tuple[str, ...]


def checkout() -> Path:
    """The project's folder that this package runs from.

    Raises:
        ValueError: if it runs from an installed copy, which is nothing to add a paper to.
    """
    root = PATH.parents[3]
    if not (root / "tests" / "papers").is_dir():
        raise ValueError("a draft is written into a clone of the project: clone it, `make env`, and run it from there")
    return root


def draft(paper: Paper, abstract: str = "", root: Path | None = None) -> Draft:
    """Write a paper's row, claim file and test into a checkout; existing files are never touched.

    Arguments:
        paper: Its row; written into the catalogue unless it is there.
        abstract: What else is known of it, to find papers like it; not kept.
        root: The checkout; default: the one this package runs from.

    Raises:
        ValueError: if somebody has written its claim file or its test already; nothing is changed then.
    """
    root = root or checkout()
    module, name = f"attractor.papers.{paper.room}.{paper.slug.replace('-', '_')}", paper.slug.replace("-", "_")
    package = root / "src" / "attractor" / "papers"
    claims, test = package / paper.room / f"{name}.py", root / "tests" / "papers" / paper.room / f"test_{name}.py"
    for path in (claims, test):
        if path.exists():
            raise ValueError(f"{path} exists: paper {paper.slug!r} has been begun; nothing was changed")
    everything = len(catalogue())  # of one that the catalogue tells of, more is known than its title
    told = paper.slug in catalogue()
    hits = nearest(paper.slug, everything) if told else search(f"{paper.title} {abstract}"[:1000], everything)
    near = tuple(p.slug for p, _ in hits if written(p.slug) and p.slug != paper.slug)[:3]
    fields = {"title": paper.title, "room": paper.room, "module": module, "near": ", ".join(near) or "none yet"}
    files = {claims: CLAIM.format(**fields), test: TEST.format(**fields)}
    known = _rows(package / "catalogue.jsonl")
    if paper.slug not in known:
        files |= _row(package, known, paper)
    for path, text in files.items():
        write_atomically(path, lambda file, text=text: file.write(text.encode()))
    if paper.slug not in known:
        subprocess.run([sys.executable, "-m", "attractor.papers.build_index"], check=True, cwd=root, stdout=sys.stderr)
    left = [
        f"say in your own words what it does and claims: the row {paper.slug!r} of {package / 'catalogue.jsonl'}",
        f"read how the nearest papers do it: {', '.join(f'attractor show {slug}' for slug in near)}",
        f"write its update, its claims and thresholds, before the first run: {claims}",
        f"attractor check {paper.slug}",
        f"pytest {test}",
        f"attractor check {paper.slug} --record",
    ]
    return Draft(tuple(files), near, tuple(left if paper.slug not in known else left[1:]))


def new_paper(title: str, room: str, **known: object) -> Paper:
    """A row for a paper that is not in the catalogue; its slug is made of the title.

    Raises:
        ValueError: for a room that is none.
    """
    words = re.findall(r"[a-z0-9]+", title.split(":")[0].lower())
    slug = "-".join(words[:5]) or "paper"
    empty = {
        "year": None,
        "arxiv": None,
        "authors": (),
        "kind": "method",
        "gist": title,
        "claim": title,
        "headline": "",
    }
    row = {**empty, **known}
    if row["arxiv"] and re.match(r"\d{4}\.", str(row["arxiv"])):  # the year of its first version, whatever was read
        row["year"] = 2000 + int(str(row["arxiv"])[:2])
    parts = (f"papers.{room}.{slug.replace('-', '_')}.update",)
    return Paper(slug=slug, title=title, room=room, parts=parts, **row)  # pyright: ignore[reportArgumentType]


def _rows(path: Path) -> dict[str, str]:
    return {json.loads(line)["slug"]: line for line in path.read_text(encoding="utf-8").splitlines()}


def _row(package: Path, known: dict[str, str], paper: Paper) -> dict[Path, str]:
    """Catalogue and keywords with the paper's line, where it belongs."""
    row = {**asdict(paper), "authors": list(paper.authors) or None, "parts": list(paper.parts)}
    lines = [*known.values(), json.dumps(row, ensure_ascii=False)]
    lines.sort(key=lambda line: (json.loads(line)["room"], json.loads(line)["slug"]))
    keywords = (package / "keywords.txt").read_text(encoding="utf-8")
    words = "; ".join(dict.fromkeys(re.findall(r"[A-Za-z][\w-]{3,}", paper.title)))
    heading = f"# {paper.room}\n"
    entry = f"{paper.slug}: {words}\n"
    keywords = keywords.replace(heading, heading + entry, 1) if heading in keywords else keywords + heading + entry
    return {package / "catalogue.jsonl": "\n".join(lines) + "\n", package / "keywords.txt": keywords}
