"""Where a problem starts: trees that can be called are trees."""

import dataclasses
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import Bilevel, Composite, Federated, Minimization, run
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


def squares(x, batch):
    return jnp.mean((batch["rows"] @ x - batch["y"]) ** 2)


ROWS = np.ones((4, 2), np.float32)


@pytest.mark.parametrize(
    ("init", "data", "named"),
    [
        (jnp.zeros(2), {"rows": ROWS, "y": np.array(["a"] * 4)}, r"data\['y'\].*strings such as 'a'.*np.unique"),
        (jnp.zeros(2), {"rows": ROWS, "y": ["a"] * 4}, r"data\['y'\]\[0\].*strings"),
        (jnp.zeros(2), {"rows": ROWS, "y": np.array([1, None] * 2, object)}, r"data\['y'\].*objects"),
        (jnp.zeros(2), {"rows": ROWS, "y": np.array(["2026-11-26"] * 4, "datetime64")}, r"data\['y'\].*dates"),
        ({"w": np.array(["a"])}, {"rows": ROWS, "y": ROWS[:, 0]}, r"init\['w'\].*strings"),
        (jnp.zeros(2), {"rows": ROWS[:0], "y": ROWS[:0, 0]}, "data: expected at least one sample"),
    ],
)
def test_what_holds_no_numbers_is_named(init, data, named):
    with pytest.raises(ValueError, match=named):
        Minimization(squares, init, data)


def test_clients_without_samples_are_refused():
    with pytest.raises(ValueError, match="clients: expected at least one sample"):
        Federated(lambda x, b: jnp.sum(x**2), jnp.zeros(2), np.ones((3, 0, 2)))


@pytest.mark.parametrize("init", [np.arange(2), lambda key: jnp.arange(2)])
def test_whole_numbers_are_no_parameters_of_a_gradient(init):
    with pytest.raises(ValueError, match=r"init: expected floating-point parameters.*got int32"):
        run(Minimization(lambda x: jnp.sum(x**2), init), optax.sgd(0.1), steps=2)


@pytest.mark.parametrize("kind", [Minimization, Federated, Composite])
def test_a_probe_gets_the_model(kind):
    def build(key):
        return eqx.nn.MLP(2, 2, 3, 1, key=key)

    def loss(model, batch):
        return jnp.mean(jax.vmap(model)(batch) ** 2)

    rows = np.ones((3, 4, 2), np.float32) if kind is Federated else ROWS
    if kind is Composite:
        problem = Composite.of_model(build, lambda out, batch: jnp.mean(out**2), (rows, rows))
    else:
        problem = kind.of_model(build, loss, rows)
    probes = {"output": lambda problem, x, key: problem.model(x)(jnp.ones(2))}
    trace = run(problem, optax.sgd(0.0), steps=1, probes=probes)
    start = build(jr.split(jr.key(0), 3)[0])
    np.testing.assert_allclose(trace["output"].values[0, 0, -1], start(jnp.ones(2)), rtol=1e-6)


def test_without_a_model_there_is_none():
    with pytest.raises(ValueError, match="not of_model"):
        Minimization(lambda x: jnp.sum(x**2), jnp.zeros(2)).model(jnp.zeros(2))


def test_the_docs_show_a_measurement_of_ones_own_and_dropout():
    text = (Path(__file__).parents[2] / "docs" / "index.md").read_text(encoding="utf-8")
    space = {"__name__": "docs"}
    for block in re.findall(r"```python\n([^`]*problem\.model\(x\)[^`]*)```", text):
        exec(compile(block, "docs/index.md", "exec"), space)
    assert float(space["trace"]["largest weight"].values.min()) > 0
    start, end = space["dropped"]["loss"].values[0, 0, [0, -1]]
    assert end < start / 4
    problem, batches = space["problem"], [space["problem"].sample(jr.key(k)) for k in (1, 1, 2)]
    first, again, other = (np.asarray(jr.key_data(keys)) for _, keys in batches)
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(np.concatenate([first, other]), axis=0)) == 2 * problem.batch_size


def test_two_levels_draw_their_minibatches_apart():
    data = jnp.arange(30.0), jnp.arange(100.0, 112.0)
    problem = Bilevel(
        lambda x, y, b: jnp.mean(b) * x, lambda x, y: y**2, (jnp.ones(()), jnp.ones(())), data, batch_size=5
    )
    upper, lower = problem.sample(jr.key(0))
    assert upper.shape == lower.shape == (5,)
    assert upper.max() < 30 <= 100 <= lower.min()
    assert not np.array_equal(np.asarray(upper) % 12, np.asarray(lower) - 100)
    assert float(problem.upper(2.0, 1.0, jnp.ones(3))) == 2.0
    assert float(problem.lower(1.0, 3.0, None)) == 9.0
    with pytest.raises(ValueError, match="solve"):
        problem.value(1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"init": (jnp.ones(()),)}, "init: expected a pair"),
        ({"data": jnp.ones(3)}, "data: expected a pair"),
        ({"data": ((jnp.ones(3), jnp.ones(2)), None)}, "same leading axis"),
        ({"data": (jnp.ones(3), jnp.ones(2)), "batch_size": 3}, r"1 … 2"),
        ({"batch_size": 1}, "no data"),
    ],
)
def test_two_levels_name_what_is_wrong(given, message):
    whole = {"init": (jnp.ones(()), jnp.ones(()))} | given
    with pytest.raises(ValueError, match=message):
        Bilevel(lambda x, y: y, lambda x, y: y**2, **whole)
