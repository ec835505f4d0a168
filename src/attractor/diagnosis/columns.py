"""What a column of a log is: names as people and trackers write them, and the curve each is taken for."""

import re

from attractor.diagnosis.signs import CURVES

# What can be named with ``columns={role: name}``: the curves, where they are recorded, and of which run they are.
ROLES = ("step", "run", *CURVES)

# The first of these that a log has counts its steps.
STEPS = (
    "step", "global step", "train global step", "trainer global step", "iteration", "iterations", "iter", "iters",
    "steps", "num updates", "update", "epoch", "epochs",
)  # fmt: skip
RUNS = ("seed", "run", "run id", "run name", "trial", "experiment")

TRAIN = {"train", "training"}
VALIDATION = {"val", "valid", "validation", "eval", "evaluation", "dev", "test", "holdout"}
# Words that say how a number was averaged or where it is shown, not what it is.
FILLERS = {"epoch", "step", "avg", "average", "mean", "total", "running", "batch", "metrics", "metric", "scalars", "2"}

KINDS = {
    frozenset({"loss"}): "loss",
    frozenset({"objective"}): "loss",
    frozenset({"acc"}): "accuracy",
    frozenset({"accuracy"}): "accuracy",
    frozenset({"top1"}): "accuracy",
    frozenset({"gnorm"}): "gradient norm",
    frozenset({"grad", "norm"}): "gradient norm",
    frozenset({"gradient", "norm"}): "gradient norm",
    frozenset({"gradients", "norm"}): "gradient norm",
    frozenset({"global", "grad", "norm"}): "gradient norm",
    frozenset({"pnorm"}): "weight norm",
    frozenset({"param", "norm"}): "weight norm",
    frozenset({"params", "norm"}): "weight norm",
    frozenset({"weight", "norm"}): "weight norm",
    frozenset({"weights", "norm"}): "weight norm",
    frozenset({"update", "ratio"}): "update ratio",
    frozenset({"update", "weight", "ratio"}): "update ratio",
    frozenset({"update", "to", "weight", "ratio"}): "update ratio",
    frozenset({"learning", "rate"}): "learning rate",
    frozenset({"input", "size"}): "input size",
}


def words(name: str) -> list[str]:
    """A name's words in lower case: separators, CamelCase and ``valloss`` taken apart."""
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    name = re.sub(r"\b(train|training|val|valid|validation|test|eval)(loss|acc|accuracy)\b", r"\1 \2", name.lower())
    return [w for w in re.split(r"[^0-9a-z]+", name) if w]


def plain(name: str) -> str:
    """A name without case and separators, for comparing names."""
    return " ".join(words(name))


def split_of(name: str) -> str:
    """``"train"`` or ``"validation"`` where a folder or file is named for such a part of the data, else ``""``."""
    said = set(words(name))
    return "train" if said and said <= TRAIN else "validation" if said and said <= VALIDATION else ""


def curve_of(name: str, split: str = "") -> str:
    """The curve of `CURVES` that a column is taken for, ``""`` for none.

    Arguments:
        name: The column's.
        split: The part of the data its file is about, where its own name does not say.
    """
    said = words(name)
    if "lr" in (said[:1] + said[-1:]):
        return "learning rate"
    kind = set(said) - FILLERS - {"0"}
    own = "validation" if kind & VALIDATION else "train" if kind & TRAIN else split
    curve = KINDS.get(frozenset(kind - VALIDATION - TRAIN), "")
    if own != "validation":
        return curve
    # Learning rates and norms are the same whichever data are looked at.
    return f"validation {curve}" if curve in ("loss", "accuracy") else ""


def preference(name: str) -> int:
    """Of several columns for one curve with as many values, the one with the least is taken."""
    said = words(name)
    return ("test" in said) * 10 + len(said)
