"""Comparisons: equal budgets, fresh paired seeds, honest statistics, a report that works offline."""

import functools
import json
import re

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attractor import Choice, LogUniform, Minimization, Probe, Uniform, compare, problems, registry
from attractor.comparison import TUNING_SEEDS, Interrupted
from attractor.report import render, sentence


def bowl():
    return Minimization(lambda x: jnp.sum(jnp.asarray([1.0, 30.0]) * x**2), init=lambda key: jr.normal(key, (2,)))


@pytest.fixture(scope="module")
def found():
    methods = {"sgd": "sgd", "heavy ball": functools.partial(optax.sgd, momentum=0.9), "frozen": optax.sgd(0.0)}
    return compare(bowl(), methods, steps=200, seeds=5, budget=8, target=1e-3)


def test_every_method_gets_the_same_budget_and_fresh_shared_seeds(found):
    assert found["sgd"].tuning.dataset.sizes["config"] == 8
    assert found["heavy ball"].tuning.dataset.sizes["config"] == 8
    assert found["frozen"].tuning.dataset.sizes["config"] == 1  # nothing to tune
    for entry in found.entries.values():
        assert entry.trace.dataset["seed"].values.tolist() == [0, 1, 2, 3, 4]
        assert not set(TUNING_SEEDS) & set(entry.trace.dataset["seed"].values.tolist())
        np.testing.assert_array_equal(entry.trace["loss"].values[0, :, 0], found["sgd"].trace["loss"].values[0, :, 0])


def test_the_winner_is_the_best_tuned_configuration(found):
    tuning = found["sgd"].tuning
    hits = [
        np.mean(
            [
                next((s for s, v in zip(tuning.dataset["step"].values, seed, strict=True) if v <= 1e-3), np.inf)
                for seed in c
            ]
        )
        for c in tuning["loss"].values
    ]
    assert hits[found["sgd"].chosen] == min(hits)
    assert found["sgd"].winner == tuning.configuration(found["sgd"].chosen)


def test_statistics_and_their_units(found):
    steps = found.statistic("steps_to_target", "sgd")
    np.testing.assert_allclose(found.statistic("flops_to_target", "sgd"), steps * found["sgd"].flops_per_step)
    assert np.isinf(found.statistic("steps_to_target", "frozen")).all()
    assert found.ratio("steps_to_target", "sgd", "frozen").high == 0
    assert found.ratio("steps_to_target", "sgd", "sgd").value == 1
    assert found.difference("frozen", "sgd").low > 0
    assert found.ranking[-1] == "frozen"
    assert sum(found.probability_best().values()) == pytest.approx(1)
    assert found.probability_best()["frozen"] == 0
    assert "never" not in sentence(found)
    with pytest.raises(ValueError, match="did you mean 'sgd'"):
        found["sdg"]


def test_the_report_is_one_offline_page_with_everything_to_do_it_again(found, tmp_path):
    page = render(found)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.split("</script>", 1)[1])
    assert '<script src="http' not in page
    for text in ("heavy ball", "Convergence", "Tuning", "learning_rate", "compare(problem", "LogUniform(low=0.001"):
        assert text in page
    settings = re.findall(r"<pre>(\{.*?\})</pre>", page, re.S)[0].replace("&quot;", '"').replace("&#x27;", "'")
    assert json.loads(settings)["winners"]["sgd"] == found["sgd"].winner
    assert (tmp_path / "r.html").samefile(found.report(str(tmp_path / "r.html")))


def test_a_metric_to_maximize():
    methods = {"sgd": optax.sgd, "frozen": optax.sgd(0.0)}
    how = {"steps": 60, "seeds": 2, "budget": 4}
    c = compare(problems.digits_logistic(32), methods, metric="test_accuracy", target=0.8, **how)
    assert c.goal == "max"
    assert c.ranking == ["sgd", "frozen"]
    assert c["sgd"].final.mean() > 0.8
    assert np.isfinite(c["sgd"].steps_to_target).all()
    assert render(c)


def test_structural_choices_and_diverging_methods():
    space = {"learning_rate": LogUniform(1e-2, 1e3), "nesterov": Choice([False, True])}
    c = compare(bowl(), {"sgd": (functools.partial(optax.sgd, momentum=0.5), space)}, steps=30, seeds=2, budget=6)
    assert c["sgd"].tuning.diverged.any()
    assert not c["sgd"].trace.diverged.any()
    assert isinstance(c["sgd"].winner["nesterov"], bool)
    assert "nesterov" in render(c)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds"),
        ({"budget": 0}, "budget"),
        ({"metric": "accuracy"}, "metric: expected one of loss"),
        ({"methods": ["adamm"]}, "did you mean 'adam"),
        ({"methods": []}, "methods"),
        ({"methods": "adam"}, "methods"),
        ({"methods": {"x": lambda a, b: None}}, "no search space"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        compare(bowl(), **({"methods": ["sgd"], "steps": 3} | change))


def test_goal_of_a_probe():
    with pytest.raises((ValueError, TypeError), match="goal"):  # a TypeError from the type checker of the tests
        Probe(lambda p, x, key: x, goal="up")  # pyright: ignore[reportArgumentType]


@given(st.integers(1, 40), st.integers(0, 5))
def test_samples_stay_in_their_ranges_and_repeat(n, seed):
    space = {"a": LogUniform(1e-4, 1.0), "b": Uniform(-2.0, 3.0), "c": Choice(["x", "y"])}
    configs = registry.sample(space, n, seed)
    assert len(configs) == n
    assert configs == registry.sample(space, n, seed)
    for c in configs:
        assert 1e-4 <= c["a"] <= 1
        assert -2 <= c["b"] <= 3
        assert c["c"] in "xy"


@pytest.mark.parametrize(
    "build", [lambda: LogUniform(0, 1), lambda: LogUniform(2, 1), lambda: Uniform(1, 1), lambda: Choice([])]
)
def test_impossible_ranges_are_refused(build):
    with pytest.raises(ValueError, match="expected"):
        build()


def test_registered_partials_lose_what_they_fix():
    assert set(registry.space_of(optax.adamw)) == {"learning_rate", "weight_decay"}
    assert set(registry.space_of(functools.partial(optax.adamw, weight_decay=0.1))) == {"learning_rate"}
    assert registry.space_of(functools.partial(optax.adam, 0.1)) == {}


def test_an_interruption_keeps_what_was_measured():
    def stopped(learning_rate):
        raise KeyboardInterrupt

    methods = {"first": optax.sgd, "second": stopped, "third": optax.adam}
    with pytest.raises(Interrupted, match="third") as caught:
        compare(bowl(), methods, steps=5, seeds=2, budget=2)
    assert list(caught.value.comparison.entries) == ["first"]
    assert caught.value.missing == ["second", "third"]
    with pytest.raises(KeyboardInterrupt):
        compare(bowl(), {"only": stopped}, steps=5, seeds=2, budget=2)
