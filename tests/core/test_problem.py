"""Where a problem starts: trees that can be called are trees."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import Minimization
from attractor.problem import as_init


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Line:
    """A model of another library: a tree of arrays, called with an input."""

    slope: jax.Array
    offset: jax.Array

    def __call__(self, x):
        return self.slope * x + self.offset


def test_a_callable_tree_is_a_start():
    line = Line(jnp.asarray(2.0), jnp.asarray(1.0))
    problem = Minimization(lambda model, batch: (model(batch) ** 2).mean(), line, np.arange(3.0))
    start = problem.init(jr.key(0))
    assert isinstance(start, Line)
    assert (float(start.slope), float(start.offset)) == (2.0, 1.0)


@pytest.mark.parametrize("wrap", [eqx.Partial, jax.tree_util.Partial, lambda f, *a: lambda key: f(*a, key), jax.jit])
def test_a_function_that_keeps_arrays_is_a_function(wrap):
    def draw(*args):
        return sum(args[:-1], jr.normal(args[-1], (2,)))

    init = as_init(wrap(draw) if wrap is jax.jit else wrap(draw, jnp.ones(2)))
    np.testing.assert_array_equal(init(jr.key(1)), draw(jr.key(1)) if wrap is jax.jit else draw(jnp.ones(2), jr.key(1)))
