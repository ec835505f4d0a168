"""What optax's own contract asks of a transformation, asked of every registered one; and that methods converge.

Structure is decided while a program is traced, so nothing but convergence is compiled here.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jaxtyping import PyTree
from ranges import structure

from attractor import Minimization, registry, run
from attractor.method import kind

METHODS = registry.methods()
KEY = jr.key(0)
PRIVACY = {"dp-spider": {"epsilon": 1e8}, "m-ngp": {"epsilon": 1e8}}


def typical(entry: registry.MethodEntry) -> dict[str, Any]:
    return {**{k: d.at(0.5) for k, d in entry.space.items()}, **entry.example}


def update(transformation: optax.GradientTransformation, problem: Minimization, **foreign: Any) -> tuple:
    """One update under `jax.eval_shape`, and the parameters it belongs to."""
    transformation = optax.with_extra_args_support(transformation)

    def step(x: PyTree) -> PyTree:
        oracles = problem.oracles(x, problem.sample(KEY))
        state = transformation.init(x)
        return transformation.update(oracles["grad"], state, x, **oracles, key=KEY, **foreign)[0]

    x = problem.init(KEY)
    return jax.eval_shape(step, x), x


def same(updates: PyTree, x: PyTree) -> None:
    assert jax.tree.structure(updates) == jax.tree.structure(x)
    assert [(a.shape, a.dtype) for a in jax.tree.leaves(updates)] == [(a.shape, a.dtype) for a in jax.tree.leaves(x)]


def with_none() -> Minimization:
    """A parameter that is absent, beside one that is there."""
    data = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    start = {"w": jnp.full((3, 2), 0.5), "absent": None}
    return Minimization(lambda x, batch: jnp.mean((batch @ x["w"] - 1) ** 2), start, data, batch_size=4)


def without_parameters() -> Minimization:
    return Minimization(lambda x, batch: jnp.mean(batch**2), {}, np.ones((6, 3), np.float32), batch_size=4)


@pytest.mark.parametrize("name", METHODS)
def test_is_a_citizen_of_optax(name: str, subtests: pytest.Subtests):
    entry = METHODS[name]
    transformation = entry.factory(**typical(entry))
    if not isinstance(transformation, optax.GradientTransformation):
        return
    problem = Minimization.example()
    labels = {"w": "ours", "b": "still", "scale": "ours"}
    parts = {"ours": transformation, "still": optax.set_to_zero()}
    cases = {
        "alone": transformation,
        "optax.chain": optax.chain(optax.identity(), transformation),
        "optax.masked": optax.masked(transformation, {"w": True, "b": False, "scale": True}),
        "optax.partition": optax.partition(parts, labels),
    }
    for case, wrapped in cases.items():
        with subtests.test(case):
            same(*update(wrapped, problem))
    with subtests.test("foreign extra arguments"):
        same(*update(transformation, problem, foreign=jnp.ones(3)))
    with subtests.test("optax.inject_hyperparams"):
        # optax takes a function for a schedule, and a whole number for a traced one, unless it is told otherwise.
        fixed = [k for k, v in typical(entry).items() if not isinstance(v, float)]
        fixed += structure(entry.factory)
        same(*update(optax.inject_hyperparams(entry.factory, static_args=fixed)(**typical(entry)), problem))
    with subtests.test("a leaf that is None"):
        same(*update(transformation, with_none()))
    with subtests.test("no parameters"):
        same(*update(transformation, without_parameters()))


@pytest.mark.parametrize("name", METHODS)
def test_converges_on_a_quadratic(name: str):
    """One of 16 configurations of its registered space, within 300 steps, is below 1 % of where it started.

    Private methods get a budget that asks for next to no noise, which would keep them away on purpose.
    """
    entry = METHODS[name]
    if kind(entry.make()) is not Minimization:
        return
    curvature = jnp.asarray([1.0, 4.0, 2.0])

    def loss(x: PyTree, batch: PyTree) -> jax.Array:
        return jnp.mean((x["w"] - batch) ** 2 @ curvature) / 2

    # All samples are alike: the gradient is exact, and still there is one for each example.
    problem = Minimization(loss, {"w": jnp.asarray([3.0, -2.0, 0.5])}, jnp.ones((8, 3)), batch_size=4)
    configs = registry.sample(entry.space, 16)
    # Structural ones are as in the first, so that there is one program.
    fixed = {**entry.example, **configs[0], **PRIVACY.get(name, {})}
    configs = [{**fixed, **{k: v for k, v in c.items() if isinstance(v, float)}} for c in configs]
    trace = run(problem, entry.factory, steps=300, sweep=configs)
    losses = trace["loss"].values[:, 0]
    assert np.nanmin(losses[:, -1]) <= 0.01 * losses[0, 0]
