"""What a batch shown once gains on itself, against two runs step by step."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import Minimization
from attractor.landscape import batch_gain


def test_the_gain_is_the_difference_of_two_runs():
    with jax.enable_x64(True):
        rows = jnp.asarray(np.random.default_rng(0).standard_normal((30, 3)))
        problem = Minimization(lambda x, b: jnp.mean(jnp.sum((x - b) ** 4, 1)), jnp.ones(3), rows, batch_size=2)
        optimizer, key, before, after = optax.sgd(0.01, momentum=0.5), jr.key(4), 3, 6
        found = jax.jit(lambda key: batch_gain(problem, optimizer, key, before, after))(key)
        shown = problem.sample(jr.fold_in(key, before + after))

        def losses(extra):
            x, losses = jnp.ones(3), []
            state = optimizer.init(x)
            for t in range(before + after):
                if t > before:
                    losses.append(problem.loss(x, shown))
                batch = shown if extra and t == before else problem.sample(jr.fold_in(key, t))
                updates, state = optimizer.update(jax.grad(problem.loss)(x, batch), state, x)
                x = optax.apply_updates(x, updates)
            return np.array(losses)

        np.testing.assert_allclose(found, losses(False) - losses(True), rtol=1e-8)
    assert found[0] > 0
    for bad in ((0, 5), (5, 1)):
        with pytest.raises(ValueError, match="before" if not bad[0] else "after"):
            batch_gain(problem, optimizer, key, *bad)
