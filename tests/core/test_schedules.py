"""Schedules as a tuned choice: what they are, which methods take them, how `compare` tunes them."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import Minimization, compare, registry, run, scheduled
from attractor.method import kind
from attractor.registry import Choice, LogUniform, Scheduled, find_method, space_of
from attractor.schedules import SCHEDULES, warmup_stable_decay_schedule

T = 20
SCHEDULABLE = [
    name for name, entry in registry.methods().items()
    if "learning_rate" in entry.space and not isinstance(entry.factory, type)
    and "Callable" in str(registry.inspect.signature(entry.factory).parameters["learning_rate"].annotation)
]  # fmt: skip


def rates(schedule):
    return np.asarray(jax.vmap(schedule)(jnp.arange(T + 3)))


def test_warmup_stable_decay_goes_up_stays_and_goes_down():
    t = np.arange(1, T + 1)
    expected = 0.3 * np.minimum(1, np.minimum(t / (0.2 * T), (T - t + 1) / (0.5 * T)))
    found = rates(warmup_stable_decay_schedule(0.3, T, decay_share=0.5, warmup_share=0.2))
    np.testing.assert_allclose(found, [*expected, 0, 0, 0], rtol=1e-6)
    line = rates(warmup_stable_decay_schedule(0.3, T, decay_share=1.0, warmup_share=0.0))
    np.testing.assert_allclose(line[:T], 0.3 * (T - t + 1) / T, rtol=1e-6)


@pytest.mark.parametrize("bad", [{"learning_rate": -1.0}, {"steps": 0}, {"decay_share": 0.0}, {"warmup_share": 1.5}])
def test_warmup_stable_decay_names_the_bad_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        warmup_stable_decay_schedule(**{"learning_rate": 0.1, "steps": 10, **bad})


def test_every_optimizer_that_takes_a_schedule_is_found():
    assert len(SCHEDULABLE) >= 60
    assert {"adamw", "sgd", "lion", "muon", "soap", "shampoo", "kron", "prodigy", "adahessian"} <= set(SCHEDULABLE)


@pytest.mark.parametrize("name", SCHEDULABLE)
def test_every_one_of_them_runs_under_a_traced_schedule(name):
    """Its numbers are traced; nothing is compiled."""
    entry = find_method(f"{name}+wsd")
    problem = kind(entry.make()).example()
    given = {k: d.at(0.5) for k, d in entry.space.items()} | dict(entry.example)
    traced = {k: v for k, v in given.items() if isinstance(v, float)}
    rest = {k: v for k, v in given.items() if k not in traced}

    def step(values):
        method = registry.as_method(entry.factory(**values, **rest))
        x = problem.init(jr.key(0))
        return method.step(problem, x, method.init(problem, x, jr.key(0)), jr.key(1))[0]

    assert jax.tree.structure(jax.eval_shape(step, traced)) == jax.tree.structure(problem.init(jr.key(0)))


def losses(factory, **config):
    problem = Minimization(lambda x: jnp.sum((x - 1) ** 2), init=jnp.asarray([3.0, -2.0]))
    return run(problem, factory, steps=T, every=1, sweep=[config])["loss"].values[0, 0]


@pytest.mark.parametrize("shape", SCHEDULES)
def test_a_scheduled_method_is_the_method_under_that_schedule(shape):
    share = {"decay_share": 0.4} if shape == "wsd" else {}
    by_name = losses(find_method(f"sgd+{shape}").factory, learning_rate=0.1, steps=T, **share)
    by_hand = losses(lambda: optax.sgd(SCHEDULES[shape](0.1, T, **share)))
    np.testing.assert_allclose(by_name, by_hand, rtol=1e-6)


def test_shapes_and_shares_are_searched_beside_the_methods_own():
    space = space_of(scheduled(optax.adamw, "constant", "cosine", "wsd"))
    assert list(space) == ["learning_rate", "weight_decay", "schedule", "decay_share"]
    assert space["schedule"] == Choice(("constant", "cosine", "wsd"))
    assert list(space_of(scheduled(functools.partial(optax.adamw, weight_decay=0.1), "cosine"))) == ["learning_rate"]
    assert find_method("adamw+constant+cosine+wsd").space == space
    assert scheduled(optax.adamw, "wsd").__name__ == "adamw+wsd"


def test_compare_gives_its_steps_and_compiles_once_for_all_values():
    traces = []

    def descent(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        traces.append(learning_rate(0))
        return optax.sgd(learning_rate)

    problem = Minimization(lambda x: jnp.sum((x - 1) ** 2), init=jnp.asarray([3.0, -2.0]))
    methods = {"ours": scheduled(descent, "wsd"), "sgd+cosine": "sgd+cosine", "adam": "adam"}
    found = compare(problem, methods, steps=T, seeds=2, budget=8, progress=False)
    assert set(found["ours"].winner) == {"learning_rate", "decay_share"}
    compiled = [r for r in traces if isinstance(r, jax.core.Tracer)]
    assert len(compiled) <= 4  # tuning, the winner, and the counts of operations; not one for each of 8 values
    again = losses(find_method("sgd+cosine").factory, steps=T, **found["sgd+cosine"].winner)
    np.testing.assert_allclose(found["sgd+cosine"].final, again[-1], rtol=1e-5)


def test_steps_that_are_given_stay():
    made = scheduled(optax.sgd, "cosine", steps=7)
    assert registry.with_horizon(made, 100).steps == 7
    assert registry.with_horizon(scheduled(optax.sgd, "cosine"), 100).steps == 100
    assert registry.with_horizon(optax.sgd, 100) is optax.sgd


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: find_method("adamw+cosinus"), "did you mean 'cosine'"),
        (lambda: find_method("adamv+cosine"), "did you mean 'adam"),
        (lambda: find_method("schedule-free-adamw+cosine"), "takes no schedule"),
        (lambda: scheduled(optax.adamw), "shapes: expected"),
        (lambda: scheduled(optax.adamw, "wsd", steps=0), "steps"),
        (lambda: scheduled(optax.adamw, "wsd")(learning_rate=0.1), "steps: a schedule needs"),
        (lambda: scheduled(optax.adamw, "wsd", steps=9)(learning_rate=-0.1), "learning_rate"),
        (lambda: scheduled(optax.adamw, "wsd", steps=9)(learning_rate=0.1, decay_share=2.0), "decay_share"),
        (lambda: scheduled(lambda step: optax.sgd(step), "wsd"), "takes no schedule"),
    ],
)
def test_says_what_is_wrong(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_factory_without_annotations_is_taken_at_its_word():
    made = scheduled(lambda learning_rate: optax.sgd(learning_rate), "cosine", steps=9)
    assert isinstance(made, Scheduled)
    assert space_of(made)["learning_rate"] == registry.LEARNING_RATE == LogUniform(1e-4, 1.0)


def test_a_schedule_drives_a_loop_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")
    from attractor.torch import Optimizer

    x = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = Optimizer([x], scheduled(optax.sgd, "wsd", steps=T)(learning_rate=0.1, decay_share=0.4))
    for _ in range(T):
        optimizer.zero_grad()
        (x - 1).square().sum().backward()
        optimizer.step()
    found = float((x - 1).square().sum())
    expected = losses(find_method("sgd+wsd").factory, learning_rate=0.1, steps=T, decay_share=0.4)[-1]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
