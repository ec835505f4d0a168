"""A transformation's step on parameters that lie end to end, as one program of few arrays and few kernels.

What a step costs beside its arithmetic goes with the number of arrays: each is passed, compiled for and computed by
itself. Most of what optimizers do to a parameter is done to each of its entries, and to all parameters alike; of those
that lie end to end it is done at once. What is not (a norm, a product of matrices, a mask) is done to each parameter,
on its piece of the array. Results are those of the transformation on the tree.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal
from jaxtyping import PyTree

SMALL = 262_144  # numbers; the copy of fewer costs less than passing one array more
LONGEST = 524_288  # numbers that lie end to end: as many as a processor's cache keeps from one pass to the next

ELEMENTWISE = {
    "abs", "add", "add_any", "and", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos", "div",
    "eq", "erf", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p",
    "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow", "reduce_precision", "rem", "round",
    "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "sub", "tan", "tanh", "xor",
}  # fmt: skip
CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr", "custom_vmap_call": "call",
}  # fmt: skip


class Layout:
    """Which leaves of a tree lie end to end: the small ones of each dtype. The others come after, as they are.

    Arguments:
        tree: Arrays, or their shapes and dtypes.
    """

    def __init__(self, tree: PyTree):
        leaves, self.structure = jax.tree.flatten(tree)
        self.like = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        open_parts: dict[Any, tuple[list[int], int]] = {}
        self.parts: list[list[int]] = []
        for i, leaf in enumerate(leaves):
            if leaf.size > SMALL:
                continue
            part, size = open_parts.get(leaf.dtype, ([], 0))
            if not part or size + leaf.size > LONGEST:
                part, size = [], 0
                self.parts.append(part)
            part.append(i)
            open_parts[leaf.dtype] = part, size + leaf.size
        self.alone = [i for i in range(len(leaves)) if not any(i in part for part in self.parts)]
        self._places = {  # of each leaf: its part, and where it begins there
            i: (k, int(start))
            for k, part in enumerate(self.parts)
            for i, start in zip(part, np.cumsum([0, *(self.like[i].size for i in part)]), strict=False)
        }

    @property
    def number(self) -> int:
        """Of arrays."""
        return len(self.parts) + len(self.alone)

    def arrays(self) -> list[jax.ShapeDtypeStruct]:
        """Their shapes and dtypes."""
        flat = [jax.ShapeDtypeStruct((sum(self.like[i].size for i in p),), self.like[p[0]].dtype) for p in self.parts]
        return [*flat, *(self.like[i] for i in self.alone)]

    def fits(self, tree: PyTree) -> bool:
        """Whether a tree has these shapes in this structure, and can lie the same way in dtypes of its own."""
        if jax.tree.structure(tree) != self.structure:
            return False
        leaves = jax.tree.leaves(tree)
        shapes = all(leaf.shape == like.shape for leaf, like in zip(leaves, self.like, strict=True))
        return shapes and all(len({leaves[i].dtype for i in part}) == 1 for part in self.parts)

    def pack(self, tree: PyTree) -> list[jax.Array]:
        """The arrays of a tree that `fits`."""
        leaves = jax.tree.leaves(tree)
        return [
            *(jnp.concatenate([leaves[i].ravel() for i in part]) for part in self.parts),
            *(leaves[i] for i in self.alone),
        ]

    def unpack(self, arrays: Sequence[jax.Array]) -> PyTree:
        """The tree again."""
        leaves = dict(zip(self.alone, arrays[len(self.parts) :], strict=True))
        leaves |= {i: self.piece(arrays[k], i) for i, (k, _) in self._places.items()}
        return jax.tree.unflatten(self.structure, [leaves[i] for i in range(len(self.like))])

    def part(self, leaf: int) -> int:
        """Where a leaf lies that is not alone."""
        return self._places[leaf][0]

    def piece(self, flat: jax.Array, leaf: int) -> jax.Array:
        """A leaf of its part's array."""
        start, like = self._places[leaf][1], self.like[leaf]
        return jax.lax.slice(flat, (start,), (start + like.size,)).reshape(like.shape)


@dataclass(eq=False)
class Node:
    """What is done to each entry of the leaves: an operation on nodes and scalars, or (with arrays) a tree's leaves."""

    primitive: Any = None
    params: dict[str, Any] = field(default_factory=dict)
    operands: Sequence[Any] = ()
    arrays: Sequence[jax.Array] = ()  # one a part


@dataclass
class Piece:
    """A leaf that is not alone, of a node."""

    node: Node
    leaf: int


@dataclass
class Uniform:
    """An array that holds one number."""

    scalar: Any


class Interpreter:
    """Runs a program on leaves, and finds out which of its operations are the same for many of them.

    Nothing that is elementwise is computed at once. Equal operations on pieces are one node, and only a result
    that is the same node for all leaves of a part is computed on the part's array; else on the pieces.
    """

    def __init__(self, layout: Layout):
        self.layout = layout
        self._known: dict[Any, Any] = {}  # keys hold ids of what the values keep alive
        self._computed: dict[tuple[Node, bool, int], jax.Array] = {}

    def spread(self, arrays: Sequence[jax.Array]) -> list[Any]:
        """The leaves of a tree that lies in these arrays, as `run` takes them."""
        n = len(self.layout.parts)
        node, alone = Node(arrays=arrays[:n]), dict(zip(self.layout.alone, arrays[n:], strict=True))
        return [alone[i] if i in alone else Piece(node, i) for i in range(len(self.layout.like))]

    def join(self, leaves: Sequence[Any], like: Sequence[Any]) -> list[jax.Array]:
        """The arrays of a tree, from leaves as `run` gives them, in these dtypes."""
        flat = [self._together(leaves, k).astype(like[part[0]].dtype) for k, part in enumerate(self.layout.parts)]
        alone = [self.value(leaves[i], like[i].shape).astype(like[i].dtype) for i in self.layout.alone]
        return [*flat, *alone]

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        env: dict[Any, Any] = {
            **dict(zip(jaxpr.constvars, consts, strict=True)),
            **dict(zip(jaxpr.invars, args, strict=True)),
        }

        def read(v: Any) -> Any:
            if isinstance(v, Literal):
                aval: Any = v.aval
                return self._known.setdefault((str(aval.dtype), repr(v.val)), np.asarray(v.val, aval.dtype))
            return env[v]

        for eqn in jaxpr.eqns:
            env.update(zip(eqn.outvars, self._equation(eqn, [read(v) for v in eqn.invars]), strict=True))
        return [read(v) for v in jaxpr.outvars]

    def _equation(self, eqn: Any, values: list[Any]) -> Sequence[Any]:
        name = eqn.primitive.name
        if name in CALLS:
            inner: Any = eqn.params[CALLS[name]]
            return self.run(inner.jaxpr, inner.consts, values)
        shapes = [np.shape(v) if not isinstance(v, Piece | Uniform) else None for v in values]
        if name == "broadcast_in_dim" and shapes == [()]:
            return [Uniform(values[0])]
        leaves = {v.leaf for v in values if isinstance(v, Piece)}
        lazily = name in ELEMENTWISE and len(leaves) <= 1 and all(s in ((), None) for s in shapes)
        if lazily and any(s is None for s in shapes):
            operands = [v.scalar if isinstance(v, Uniform) else v.node if isinstance(v, Piece) else v for v in values]
            if leaves:
                return [Piece(self._once(eqn, operands, Node), leaves.pop())]
            return [Uniform(self._once(eqn, operands, _bind)[0])]
        whole = [self.value(v, var.aval.shape) for v, var in zip(values, eqn.invars, strict=True)]
        if all(v.aval.shape == () for v in (*eqn.invars, *eqn.outvars)) and not eqn.effects:
            return self._once(eqn, whole, _bind)
        return _bind(eqn.primitive, eqn.params, whole)

    def _once(self, eqn: Any, operands: list[Any], make: Callable[..., Any]) -> Any:
        key = (make, eqn.primitive, tuple((k, str(v)) for k, v in eqn.params.items()), *map(id, operands))
        if key not in self._known:
            self._known[key] = make(eqn.primitive, eqn.params, operands), operands
        return self._known[key][0]

    def value(self, value: Any, shape: tuple[int, ...]) -> Any:
        """An array, of what the program has in its place."""
        if isinstance(value, Uniform):
            return jnp.broadcast_to(value.scalar, shape)
        return self._compute(value.node, False, value.leaf) if isinstance(value, Piece) else value

    def _together(self, leaves: Sequence[Any], part: int) -> jax.Array:
        """One array, of the leaves of a part."""
        here = self.layout.parts[part]
        nodes = [v.node for i in here if isinstance(v := leaves[i], Piece) and v.leaf == i]
        if len(nodes) == len(here) and len(set(nodes)) == 1:
            return self._compute(nodes[0], True, part)
        return jnp.concatenate([self.value(leaves[i], self.layout.like[i].shape).ravel() for i in here])

    def _compute(self, node: Node, whole: bool, index: int) -> jax.Array:
        """A node on the array of a part, or on a leaf alone."""
        if (node, whole, index) in self._computed:
            return self._computed[node, whole, index]
        if node.arrays:
            found = node.arrays[index] if whole else self.layout.piece(node.arrays[self.layout.part(index)], index)
        else:
            like = self.layout.like
            shape = (sum(like[i].size for i in self.layout.parts[index]),) if whole else like[index].shape
            operands = [
                self._compute(o, whole, index) if isinstance(o, Node) else jnp.broadcast_to(o, shape)
                for o in node.operands
            ]
            (found,) = _bind(node.primitive, node.params, operands)
        self._computed[node, whole, index] = found
        return found


def _bind(primitive: Any, params: dict[str, Any], operands: Sequence[Any]) -> Sequence[Any]:
    found = primitive.bind(*operands, **params)
    return found if primitive.multiple_results else [found]
