"""Evaluate a function equation by equation, with a look at each: how to see inside a loss that nobody rewrote."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax._src import source_info_util  # the public API has no way from an equation to a line
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

# Equations that only hold another function: what is inside is looked at. Loops and branches are taken as they are.
_HOLDERS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "checkpoint": "jaxpr",
    "remat2": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}  # fmt: skip


class Equation(NamedTuple):
    """An equation where it stands.

    Attributes:
        eqn: The equation.
        shown: The equation whose line of source names it: a function of JAX's own is named by its caller.
        blocks: Names of the functions around it, the outermost first.
        consumers: Of the same function, the equations that take its first output.
        inner: Whether it holds a function that was looked into already, so that its outputs have tags.
    """

    eqn: JaxprEqn
    shown: JaxprEqn
    blocks: tuple[str, ...]
    consumers: tuple[JaxprEqn, ...]
    inner: bool

    @property
    def name(self) -> str:
        """Of the function it holds, or of its operation."""
        return str(self.eqn.params.get("name", "")) or self.eqn.primitive.name

    @property
    def place(self) -> str:
        """File, line and function of the user's code, such as ``model.py:31 (loss)``; empty where it is not known."""
        return place(self.shown)


Rule = Callable[[Equation, Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any] | None], Sequence[Any]]


def interpret(
    closed: ClosedJaxpr,
    args: Sequence[Any],
    tags: Sequence[Any],
    rule: Rule,
    *,
    unroll: bool = False,
    blocks: tuple[str, ...] = (),
    caller: JaxprEqn | None = None,
) -> tuple[list[Any], list[Any]]:
    """Outputs of a function, and their tags.

    Arguments:
        closed: The function, as `jax.make_jaxpr` gives it.
        args: Its inputs: arrays, or tracers.
        tags: One for each, anything; constants have `None`.
        rule: ``(equation, inputs, their tags, outputs, their tags or None) -> tags of the outputs``, called after each
            equation; tags of outputs are known where the equation held a function.
        unroll: Whether a scan is taken apart, turn by turn; only with arrays, not with tracers.
        blocks: Names of the functions around.
        caller: An equation to name in place of those inside.
    """
    jaxpr: Jaxpr = closed.jaxpr
    values: dict[Any, tuple[Any, Any]] = {}
    values.update(zip(jaxpr.constvars, ((c, None) for c in closed.consts), strict=True))
    values.update(zip(jaxpr.invars, zip(args, tags, strict=True), strict=True))
    last, consumers = _uses(jaxpr)

    def read(atom: Any) -> tuple[Any, Any]:
        return (atom.val, None) if isinstance(atom, Literal) else values[atom]

    for i, eqn in enumerate(jaxpr.eqns):
        pairs = [read(atom) for atom in eqn.invars]
        inputs, known = [p[0] for p in pairs], [p[1] for p in pairs]
        shown = eqn if caller is None else caller
        inner = _held(eqn)
        around = (*blocks, str(eqn.params.get("name", "")))
        found: Sequence[Any] | None = None
        if inner is not None:
            below = shown if caller is not None or _of_jax(inner) else None
            outputs, found = interpret(inner, inputs, known, rule, unroll=unroll, blocks=around, caller=below)
        elif unroll and eqn.primitive.name == "scan" and eqn.params["length"]:
            outputs, found = _turns(eqn, inputs, known, rule, blocks, caller)
        else:
            bound = eqn.primitive.get_bind_params(eqn.params)
            functions, settings = bound if isinstance(bound, tuple) else ((), bound)  # the pair is that of older JAX
            outputs = eqn.primitive.bind(*functions, *inputs, **settings)
            outputs = list(outputs) if eqn.primitive.multiple_results else [outputs]
        next_to = tuple(consumers.get(eqn.outvars[0], ())) if eqn.outvars else ()
        new = rule(Equation(eqn, shown, blocks, next_to, found is not None), inputs, known, outputs, found)
        values.update(zip(eqn.outvars, zip(outputs, new, strict=True), strict=True))
        for atom in {a for a in eqn.invars if not isinstance(a, Literal)}:
            if last.get(atom) == i:  # nobody needs it again: memory stays that of the function itself
                del values[atom]
    results = [read(atom) for atom in jaxpr.outvars]
    return [r[0] for r in results], [r[1] for r in results]


def _uses(jaxpr: Jaxpr) -> tuple[dict[Any, int], dict[Any, list[JaxprEqn]]]:
    last: dict[Any, int] = {}
    consumers: dict[Any, list[JaxprEqn]] = {}
    for i, eqn in enumerate(jaxpr.eqns):
        for atom in eqn.invars:
            if not isinstance(atom, Literal):
                last[atom] = i
                consumers.setdefault(atom, []).append(eqn)
    for atom in jaxpr.outvars:
        if not isinstance(atom, Literal):
            last[atom] = len(jaxpr.eqns)
    return last, consumers


def _held(eqn: JaxprEqn) -> ClosedJaxpr | None:
    inner = eqn.params.get(_HOLDERS.get(eqn.primitive.name, ""))
    return ClosedJaxpr(inner, ()) if isinstance(inner, Jaxpr) else inner


def _of_jax(inner: ClosedJaxpr) -> bool:
    """Whether a held function is JAX's own: traced once and kept, so that its lines are those of its first caller."""
    info = getattr(inner.jaxpr, "debug_info", None)
    return bool(re.search(r"[/\\]jax[/\\]", str(getattr(info, "func_src_info", ""))))


def _turns(
    eqn: JaxprEqn, inputs: Sequence[Any], tags: Sequence[Any], rule: Rule, blocks: tuple[str, ...], caller: Any
) -> tuple[list[Any], list[Any]]:
    """A scan, one turn after the other; a stacked output has the first tag that one of its turns had."""
    p = eqn.params  # from JAX 0.11 on the counts are lengths of trees
    fixed, carried = map(len, p["ft_in"].unpack()[:2]) if "ft_in" in p else (p["num_consts"], p["num_carry"])
    length = p["length"]
    constants, carry, rows = inputs[:fixed], list(inputs[fixed : fixed + carried]), inputs[fixed + carried :]
    tags_c, tags_y = list(tags[fixed : fixed + carried]), [None] * (len(eqn.outvars) - carried)
    stacked: list[Any] = [[None] * length for _ in tags_y]
    for turn in reversed(range(length)) if p["reverse"] else range(length):
        given = [*constants, *carry, *(row[turn] for row in rows)]
        known = [*tags[:fixed], *tags_c, *tags[fixed + carried :]]
        out, found = interpret(p["jaxpr"], given, known, rule, unroll=True, blocks=blocks, caller=caller)
        carry, tags_c = out[:carried], found[:carried]
        for k, (value, tag) in enumerate(zip(out[carried:], found[carried:], strict=True)):
            stacked[k][turn], tags_y[k] = value, tags_y[k] if tags_y[k] is not None else tag
    return [*carry, *(jnp.stack(s) for s in stacked)], [*tags_c, *tags_y]


def place(eqn: JaxprEqn) -> str:
    """File, line and function of the user's code that made an equation; empty where it is not known."""
    info = eqn.source_info
    frames = list(source_info_util.user_frames(info.traceback)) if info.traceback is not None else []
    if not frames:
        return ""
    own = [f for f in frames if "site-packages" not in f.file_name and "attractor/diagnosis" not in f.file_name]
    frame = (own or frames)[0]
    return f"{Path(frame.file_name).name}:{frame.start_line} ({frame.function_name.split('.')[-1]})"
