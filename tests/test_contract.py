"""What every registered method promises; a new one is held to it the day it is registered.

Methods are collected by name and built inside the test. One program per method, a sweep of two configurations, serves
all that is said about its numbers.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax._src import core
from jax.extend.core import jaxpr_as_fun
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree
from keys import uses_no_key_twice
from ranges import SOURCES, UNKNOWN, checks_in

from attractor import Decision, Method, Minimization, Problem, registry, run
from attractor.engine import _keys
from attractor.method import as_method, kind, ranges

METHODS = registry.methods()
KEY = jr.key(0)


@functools.cache
def example(needed: type[Problem]) -> Problem:
    """One instance for all methods of a kind, so that what is compiled of it is compiled once."""
    return needed.example()


@functools.cache
def metric(needed: type[Problem]) -> tuple[str, Callable]:
    name, probe = next(iter(example(needed).probes.items()))
    return name, jax.jit(lambda x: probe(example(needed), x, KEY))


@dataclass(eq=False)
class Counted:
    """A factory that counts how often it is called inside a program that is being compiled."""

    factory: Callable[..., Any]
    traces: int = 0

    def __call__(self, **hyper: Any) -> Any:
        self.traces += any(isinstance(value, jax.core.Tracer) for value in hyper.values())
        return self.factory(**hyper)


def rerunnable(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """A function as its operations, one after another: no jit and no vmap of the whole, as if called in Python.

    It is traced once, so that a loop inside of it, which Python would build anew at each call, is compiled once.
    """
    program, static, rest = eqx.filter_make_jaxpr(function)(*arguments)
    tree = jax.tree.structure(static)

    def evaluate(*arguments: Any) -> Any:
        leaves = [a for a in jax.tree.leaves(arguments) if eqx.is_array(a)]
        outputs = map(jnp.asarray, jaxpr_as_fun(program)(*leaves))  # constants come out as NumPy's
        return eqx.combine(jax.tree.unflatten(tree, outputs), rest)

    evaluate.program = program
    return evaluate


def by_hand(method: Method, problem: Problem, steps: int, off: float = 0.0) -> tuple[list[PyTree], Any]:
    """The points that ``run`` measures under seed 0, one operation after another, and the program of a step.

    The start may be off by a share of its length.
    """
    init_key, step_key, _ = _keys(jnp.asarray(0))
    x = jax.tree.map(lambda a: a * (1 + off) if off else a, problem.init(init_key))
    state = arrays(method.init(problem, x, jr.fold_in(init_key, 1)))
    points = [method.readout(x, state)]
    step = rerunnable(method.step, problem, x, state, step_key)
    for t in range(steps):
        x, state = step(problem, x, state, jr.fold_in(step_key, t))
        points.append(method.readout(x, state))
    return points, step.program


def rounded(problem: Problem, share: jax.Array) -> Problem:
    """The problem with a loss that is off by a share of its value, up at some points and down at others."""
    if not isinstance(problem, Minimization):
        return problem
    loss: Callable[..., jax.Array] = problem.loss

    def off(x: PyTree, *batch: Any) -> jax.Array:
        return loss(x, *batch) * (1 + share * jnp.sign(jnp.sin(1e6 * jnp.sum(ravel_pytree(x)[0]))))

    return eqx.tree_at(lambda p: p.loss, problem, off)


def rounding_moves(method: Method, problem: Problem) -> float:
    """How far the first step goes astray when the start, or the loss, is off by its rounding."""
    init_key, step_key, _ = _keys(jnp.asarray(0))
    x, key = problem.init(init_key), jr.fold_in(step_key, 0)
    state = arrays(method.init(problem, x, jr.fold_in(init_key, 1)))

    @jax.jit
    def step(start: jax.Array, values: jax.Array) -> jax.Array:
        moved = jax.tree.map(lambda a: a * (1 + start), x)
        return flat(problem, method.step(rounded(problem, values), moved, state, key)[0], key)

    there, off = step(jnp.asarray(0.0), jnp.asarray(0.0)), jnp.asarray([1.2e-7, -1.2e-7])
    return max(float(jnp.abs(step(*pair) - there).max()) for e in off for pair in ((e, 0 * e), (0 * e, e)))


def written_out(program: core.Jaxpr) -> str:
    return core.pp_jaxpr(program, core.JaxprPpContext(), core.JaxprPpSettings()).format(use_color=False)


def same_program(a: Any, b: Any) -> None:
    """Two traced functions have the same operations and the same constants."""
    # Not `str`, which names what occurs twice: whether it is one object depends on what JAX still remembers.
    assert written_out(a.jaxpr) == written_out(b.jaxpr)
    for left, right in zip(a.consts, b.consts, strict=True):
        raw = [jr.key_data(c) if jnp.issubdtype(c.dtype, jax.dtypes.prng_key) else c for c in (left, right)]
        np.testing.assert_array_equal(*raw)


def configurations(entry: registry.MethodEntry) -> list[dict[str, Any]]:
    """Two that differ in their continuous hyper-parameters alone; the same twice where there are none."""
    one, *rest = registry.sample(entry.space, 2)
    two = {k: v if isinstance(v, float) else one[k] for k, v in rest[0].items()} if rest else one
    return [{**config, **entry.example} for config in (one, two)]


def arrays(state: PyTree) -> PyTree:
    return jax.tree.map(lambda a: jnp.asarray(a) if eqx.is_array_like(a) else a, state)


def flat(problem: Problem, x: PyTree, key: jax.Array) -> jax.Array:
    return ravel_pytree(x)[0]


def shapes(tree: PyTree) -> list[tuple[tuple[int, ...], Any]]:
    return [(jnp.shape(a), jnp.result_type(a)) for a in jax.tree.leaves(tree) if hasattr(a, "shape") or np.isscalar(a)]


def close(a: PyTree, b: PyTree, rtol: float = 2e-4, atol: float = 1e-6) -> None:
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(left, float), np.asarray(right, float), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", METHODS)
def test_keeps_structure_and_dtype(name: str, subtests: pytest.Subtests):
    method = METHODS[name].make()
    for dtype in (jnp.float32, jnp.bfloat16):
        with subtests.test(dtype=dtype.__name__):
            problem = kind(method).example(dtype)
            assert isinstance(problem, kind(method))
            x = problem.init(KEY)
            start, *outputs = eqx.filter_make_jaxpr(method.init)(problem, x, KEY)
            state = eqx.combine(*outputs)
            program, *outputs = eqx.filter_make_jaxpr(method.step)(problem, x, state, KEY)
            new, after = eqx.combine(*outputs)
            assert jax.tree.structure(new) == jax.tree.structure(x)
            assert shapes(new) == shapes(x)
            assert shapes(after) == shapes(state)
    with subtests.test("no key is used twice"):
        uses_no_key_twice(start.jaxpr)
        uses_no_key_twice(program.jaxpr)


@pytest.mark.parametrize("name", METHODS)
def test_steps_alike_however_it_is_run(name: str, subtests: pytest.Subtests):
    entry = METHODS[name]
    needed = kind(entry.make())
    problem, (recorded, measure) = example(needed), metric(needed)
    first, config = configurations(entry)
    factory = Counted(entry.factory)
    both = run(problem, factory, steps=3, every=1, sweep=[first, config], probes=problem.probes | {"point": flat})
    compiled = factory.traces
    points, program = by_hand(as_method(entry.factory(**config)), problem, 3)

    with subtests.test("a configuration that is compiled, looped and swept beside another gives what it gives alone"):
        # The metric of a Decision draws fresh episodes, and its later steps draw actions, where rounding may tip a
        # draw: of it the first step is compared, below.
        if needed is not Decision:
            found, expected = both[recorded].values[1, 0], np.array(list(map(measure, points)))
            near = np.isclose(found, expected, rtol=1e-3, atol=1e-5, equal_nan=True)  # a diverged run is one, too
            for off in () if near.all() else (1.2e-7, -1.2e-7):  # then the steps may be such that amplify rounding
                moved = list(map(measure, by_hand(as_method(entry.factory(**config)), problem, 3, off)[0]))
                near |= np.abs(found - expected) <= 4 * np.abs(moved - expected)  # steps round more often than starts
            assert near.all(), (found, expected)
    with subtests.test("and its first step, parameter by parameter"):
        expected = [np.asarray(flat(problem, x, KEY)) for x in points[:2]]
        # Rounding goes with the size of the whole vector, of which some entries are small.
        found, atol = list(both["point"].values[1, 0, :2]), 2e-6 * float(np.linalg.norm(expected[0]))
        if not np.allclose(found[1], expected[1], rtol=2e-4, atol=atol):  # then the step may be one that amplifies it
            atol += 2 * rounding_moves(as_method(entry.factory(**config)), problem)
        close(found, expected, atol=atol)
    with subtests.test("the same key gives the same step"):
        again, anew = by_hand(as_method(entry.factory(**config)), problem, 0)
        close(points[:1], again, rtol=0, atol=0)
        same_program(program, anew)
    with subtests.test("a new value of a continuous hyper-parameter, or a new seed, compiles nothing"):
        other = [{k: 0.9 * v if isinstance(v, float) else v for k, v in config.items()}, first]
        run(problem, factory, steps=3, every=1, seeds=[5], sweep=other, probes=problem.probes | {"point": flat})
        assert factory.traces == compiled


@pytest.mark.parametrize("name", METHODS)
def test_survives_a_zero_gradient_and_a_scalar_parameter(name: str):
    method = METHODS[name].make()
    if kind(method) is not Minimization:
        return  # the others have no flat problem
    flat = Minimization(lambda x: jnp.asarray(0.0) * jnp.sum(x), init=jnp.asarray(2.0))
    x = flat.init(KEY)
    state = arrays(method.init(flat, x, KEY))
    step = eqx.filter_jit(method.step)
    for t in range(3):
        x, state = step(flat, x, state, jr.fold_in(KEY, t))
    assert x.shape == ()
    assert math.isfinite(float(x))


@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if entry.bad])
def test_rejects_bad_hyperparameters_by_name(name: str, subtests: pytest.Subtests):
    entry = METHODS[name]
    good = {**{k: d.at(0.5) for k, d in entry.space.items()}, **entry.example}
    as_method(entry.factory(**good))
    for hyper, value in entry.bad.items():
        with subtests.test(hyper=hyper), pytest.raises(ValueError, match=hyper):
            entry.factory(**{**good, hyper: value})


def limits(entry: registry.MethodEntry) -> dict[str, tuple[float, float, bool, bool]]:
    """The ends of what a factory accepts, by hyper-parameter, as it declares them or checks them itself."""
    if isinstance(entry.factory, type) and issubclass(entry.factory, Method):
        declared = ranges(entry.factory).items()
        return {name: (r.low, r.high, r.open_low, r.open_high) for name, r in declared if r.choices is None}
    factory = inspect.unwrap(entry.factory)
    source = SOURCES.joinpath(*factory.__module__.split(".")[1:]).with_suffix(".py")
    found = checks_in(source) if factory.__module__.startswith("attractor.") and source.exists() else ()
    own = [c for c in found if c.function == factory.__name__ and c.name in c.arguments]
    return {c.name: c.limits for c in own if UNKNOWN not in c.limits}


@pytest.mark.parametrize("name", METHODS)
def test_ranges_hold_at_their_ends(name: str, subtests: pytest.Subtests):
    """What is closed is accepted at its end, what is open refused there; a little outside is refused anyhow."""
    entry = METHODS[name]
    good = {**{k: d.at(0.5) for k, d in entry.space.items()}, **entry.example}
    parameters = inspect.signature(entry.factory).parameters
    for hyper, (low, high, open_low, open_high) in limits(entry).items():
        whole = "float" not in str(parameters[hyper].annotation) or isinstance(good.get(hyper), int)
        for end, is_open, outward in ((low, open_low, -1), (high, open_high, 1)):
            if math.isinf(end):
                continue
            if whole:
                inside, outside = int(end), int(end) + outward
            else:
                inside, outside = float(end), float(np.nextafter(end, outward * math.inf))
            if is_open:
                inside, outside = end - outward * 1e-6, end
            with subtests.test(hyper=hyper, accepted=inside):
                as_method(entry.factory(**{**good, hyper: inside}))
            with subtests.test(hyper=hyper, refused=outside), pytest.raises(ValueError, match=hyper):
                entry.factory(**{**good, hyper: outside})


def test_our_own_methods_all_say_what_they_reject():
    ours = [n for n, m in METHODS.items() if m.factory.__module__.startswith("attractor")]
    assert ours
    for name in ours:
        assert METHODS[name].bad or not METHODS[name].space, name


@pytest.mark.parametrize("name", METHODS)
def test_no_two_buffers_of_its_start_are_one(name):
    """So that a training loop may donate them."""
    method = METHODS[name].make()
    problems = [example(kind(method))]
    if kind(method) is Minimization:  # where flattening changes nothing
        problems.append(Minimization(lambda x: jnp.sum(x**2), jnp.ones(3)))
    for problem in problems:
        x = problem.init(KEY)
        leaves = jax.tree.leaves((x, method.init(problem, x, jr.key(1))))
        arrays = [a for a in leaves if isinstance(a, jax.Array) and a.size]
        raw = [jr.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a for a in arrays]
        assert len({a.unsafe_buffer_pointer() for a in raw}) == len(raw)
