"""Parameters by layer: a pytree's leaves grouped by the module they belong to, and their sizes."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey
from jaxtyping import Array, Float, PyTree


def dotted(path: Sequence[Any]) -> str:
    """A path into a pytree as one would write it: ``encoder.layers[0].weight``."""
    name = ""
    for key in path:
        if isinstance(key, SequenceKey | FlattenedIndexKey):
            name += f"[{key.idx if isinstance(key, SequenceKey) else key.key}]"
        else:
            name += f".{key.name if isinstance(key, GetAttrKey) else key.key if isinstance(key, DictKey) else key}"
    return name.removeprefix(".")


def layer_names(params: PyTree) -> list[str]:
    """The name of the layer of each leaf, in the order of `jax.tree.leaves`.

    The leaves of one module are one layer, named by the module, where at most one of them is a matrix or more; where
    several are (a flat dictionary of weights), each is a layer of its own, and a vector belongs to the matrix whose
    name has the same number (``b1`` to ``w1``).
    """
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    siblings: dict[Any, list[tuple[str, bool]]] = {}
    for path, leaf in leaves:
        siblings.setdefault(tuple(path[:-1]), []).append((dotted(path), _is_matrix(path, leaf)))
    names = []
    for path, leaf in leaves:
        own, parent = dotted(path), tuple(path[:-1])
        matrices = [name for name, matrix in siblings[parent] if matrix]
        if len(matrices) <= 1 and parent:
            names.append(dotted(parent))
        elif len(matrices) == 1:
            names.append(matrices[0])
        elif _is_matrix(path, leaf) or not matrices:
            names.append(own or "params")
        else:
            near = [name for name in matrices if _number(name) == _number(own)]
            names.append(near[0] if len(near) == 1 else own)
    return names


def _is_matrix(path: Sequence[Any], leaf: Any) -> bool:
    """Whether a leaf is a weight; a bias may have several axes, for places of an image."""
    return jnp.ndim(leaf) >= 2 and not re.match(r"b\d*$|.*bias", dotted(path[-1:]).lower())


def _number(name: str) -> str:
    return "".join(re.findall(r"\d+", name.split(".")[-1]))


def groups(names: Sequence[str]) -> dict[str, list[int]]:
    """Indices of leaves by layer, in order."""
    found: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        found.setdefault(name, []).append(i)
    return found


def squares(tree: PyTree, names: Sequence[str]) -> Float[Array, " layers"]:
    """Per layer, the sum of the squares of its leaves, in the order of `groups`."""
    sums = [jnp.sum(jnp.abs(_wide(leaf)) ** 2) for leaf in jax.tree.leaves(tree)]
    return jnp.stack([sum((sums[i] for i in leaves), start=jnp.zeros(())) for leaves in groups(names).values()])


def _wide(leaf: Array) -> Array:
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
