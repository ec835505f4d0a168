"""How long a training remembers one batch."""

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.problem import Minimization


def batch_gain(
    problem: Minimization, optimizer: optax.GradientTransformation, key: PRNGKeyArray, before: int, after: int
) -> Float[Array, " steps"]:
    """What one extra batch, shown once, gains on itself in the steps after it, against a run that does not see it.

    Both runs see the same batches otherwise, and branch after ``before`` steps: one takes a step on the extra batch,
    the other on the next one.

    Arguments:
        problem: What is trained.
        optimizer: By what.
        key: Of the start and of all batches.
        before: Steps until the batch is shown, at least 1.
        after: Steps from then on, at least 2.

    Returns:
        The batch's loss without it, less that with it, at the ``after - 1`` points after the branch.

    Raises:
        ValueError: for too few steps.

    Paper: The AdEMAMix Optimizer: Better, Faster, Older.
    """
    in_range("before", before, 1)
    in_range("after", after, 2)

    def step(carry: tuple[PyTree, PyTree], t: Array | int, batch: PyTree = None) -> tuple[tuple[PyTree, PyTree], None]:
        x, state = carry
        batch = problem.sample(jr.fold_in(key, t)) if batch is None else batch
        updates, state = optimizer.update(jax.grad(problem.loss)(x, batch), state, x)
        return (optax.apply_updates(x, updates), state), None

    def losses(carry: tuple[PyTree, PyTree]) -> Array:
        at = jnp.arange(before + 1, before + after)
        return jax.lax.scan(lambda c, t: (step(c, t)[0], problem.loss(c[0], shown)), carry, at)[1]

    shown, x = problem.sample(jr.fold_in(key, before + after)), problem.init(key)
    carry, _ = jax.lax.scan(step, (x, optimizer.init(x)), jnp.arange(before))
    both = jax.tree.map(lambda *a: jnp.stack(a), step(carry, before)[0], step(carry, before, shown)[0])
    without, with_it = jax.vmap(losses)(both)
    return without - with_it
