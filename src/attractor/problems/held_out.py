"""Data that are held out of training: a validation part to choose by, and a test part for the verdict."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from attractor.probe import Goal, Probe


def held_out(
    parts: Mapping[str, PyTree], measures: Mapping[str, tuple[Callable[[PyTree, PyTree], Array], Goal]]
) -> dict[str, Probe]:
    """A probe per part and measure, such as ``validation_loss`` and ``test_loss``.

    `attractor.compare` chooses hyper-parameters by ``validation_…`` where the metric is ``test_…``.

    Arguments:
        parts: Data by name, ``{"validation": …, "test": …}``.
        measures: ``{"loss": (function(x, data) -> scalar, "min"), …}``.
    """
    return {
        f"{part}_{name}": Probe.on(jax.tree.map(jnp.asarray, data), function, goal)
        for part, data in parts.items()
        for name, (function, goal) in measures.items()
    }


def halves(data: PyTree) -> dict[str, PyTree]:
    """Held-out data as two parts of equal size, ``validation`` and ``test``."""
    cut = jax.tree.leaves(data)[0].shape[0] // 2
    return {
        "validation": jax.tree.map(lambda a: a[:cut], data),
        "test": jax.tree.map(lambda a: a[cut:], data),
    }
