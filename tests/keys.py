"""Whether a program uses a random key twice."""

from collections.abc import Iterator

import jax
from jax import lax
from jax.experimental.key_reuse import _core as rules
from jax.extend.core import ClosedJaxpr, Jaxpr

# What JAX has no rule for yet counts as use: `vmap` moves the axes of an array of keys, and that uses none.
rules.key_reuse_signatures.setdefault(lax.transpose_p, rules.KeyReuseSignature(rules.Forward(0, 0)))


def uses_no_key_twice(program: Jaxpr) -> None:
    """By the rules of JAX, drawing from a key and splitting it use it up; by ours, copying it to an array does too.

    Of keys folded from one key no two may have the same number.
    """
    rules.check_key_reuse_jaxpr(program)
    for part in _parts(program):
        folded = []
        for equation in part.eqns:
            name, inputs = equation.primitive.name, equation.invars
            if name == "random_fold_in":
                folded.append(tuple(map(str, inputs)))
            if name == "broadcast_in_dim" and jax.dtypes.issubdtype(inputs[0].aval.dtype, jax.dtypes.prng_key):
                assert equation.outvars[0].aval.size == inputs[0].aval.size, f"copies of one key: {equation}"
        assert len(set(folded)) == len(folded), f"folded twice with the same number: {folded}"


def _parts(program: Jaxpr) -> Iterator[Jaxpr]:
    yield program
    for equation in program.eqns:
        for part in jax.tree.leaves(equation.params, is_leaf=lambda p: isinstance(p, Jaxpr | ClosedJaxpr)):
            if isinstance(part, Jaxpr | ClosedJaxpr):
                yield from _parts(part.jaxpr if isinstance(part, ClosedJaxpr) else part)
