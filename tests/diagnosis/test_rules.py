"""Every rule on signs made for it: it speaks past its threshold, is silent before it, and names what it explains."""

import math

import numpy as np
import pytest

from attractor.diagnosis import RULES, THRESHOLDS, Layer, Signs, judge
from attractor.diagnosis.rules import EVERYTHING, confidence, spikes
from attractor.diagnosis.signs import CURVES, smooth

STEPS = np.arange(100.0)
FALLING = 2 * np.exp(-STEPS / 40) + 0.1


def run(**changes) -> Signs:
    """A healthy run, with curves, layers and numbers changed."""
    ones = np.ones(100)
    curves = {
        "loss": FALLING, "gradient norm": ones, "weight norm": 10 * ones, "update ratio": 1e-3 * ones,
        "input size": ones,
    }  # fmt: skip
    layers = {
        "first": Layer(12, True, True, 0.5, 0.1, 0.1, 1e-3, 1.0),
        "relu": Layer(output=0.7, dead=0.1, first_dead=0.1, saturated=0.0, first_saturated=0.0),
        "second": Layer(12, True, True, 0.5, 0.1, 0.1, 1e-3, 1.0, rank=0.4),
        "last": Layer(12, True, True, 0.5, 0.2, 0.2, 1e-3, 1.0),
    }
    numbers = {"batch size": 32.0, "noise scale": 40.0, "input spread": 2.0, "input level": 1.0}
    signs = Signs("run", STEPS, curves, layers, numbers)
    for name, value in changes.items():
        name = name.replace("_", " ")
        if name in CURVES:
            signs.curves[name] = value
        elif name in layers:
            for field, number in value.items():
                setattr(signs.layers[name], field, number)
        elif name == "kind":
            signs.kind = value
        elif name in ("origin", "operation", "twice"):
            setattr(signs, name, value)
        else:
            signs.numbers[name] = value
    return signs


def with_spike(height: float, size: float = 1.0):
    loss, sizes = FALLING.copy(), np.ones(100)
    loss[60] *= height
    sizes[60] = size
    return {"loss": loss, "input_size": sizes}


RISING = np.where(STEPS < 50, FALLING, FALLING[50] * np.exp((STEPS - 50) / 20))
STUCK = 2.3 + 0.01 * np.sin(STEPS)
VALIDATION = np.where(STEPS % 10 == 0, 0.5 + ((STEPS - 50) / 100) ** 2, np.nan)

PAST = {
    "not finite": {"loss": np.where(STEPS > 70, np.nan, FALLING), "origin": "log in x", "operation": "log"},
    "frozen layer": {"second": {"trained": False}},
    "disconnected layer": {"first": {"reached": False, "gradient": 0.0}},
    "probabilities taken for logits": {"twice": "a softmax before LogSoftmax", "classes": 10.0},
    "gradients never cleared": {"kept_gradients": 1.0},
    "badly scaled inputs": {"input_spread": 250.0},
    "exploding gradients": {"last": {"output": 30.0}},
    "vanishing gradients": {"first": {"first_gradient": 1e-5}},
    "dead units": {"relu": {"dead": 0.9, "first_dead": 0.9}},
    "saturated units": {"relu": {"saturated": 0.9, "first_saturated": 0.9}},
    "step too large": {"loss": RISING},
    "step too small": {"update_ratio": np.full(100, 5e-5)},
    "edge of stability": {"sharpness": 20.0, "threshold": 20.0},
    "spike": with_spike(15.0),
    "suspect labels": {"suspect_labels": 0.1},
    "targets unrelated to inputs": {"loss": STUCK},
    "noisy gradients": {"noise_scale": 1000.0},
    "needlessly large batch": {"noise_scale": 0.5},
    "conflicting losses": {"conflict": -0.6},
    "overfitting": {"validation_loss": VALIDATION},
    "growing weights": {"weight_norm": 10 * np.exp(STEPS / 30)},
    "rank collapse": {"second": {"rank": 0.01}},
    "plateau": {"loss": np.where(STEPS < 15, 3.0, 1.0)},
    "luck of the seed": {"seeds": 5.0, "seed_spread": 0.4},
}
BEFORE = {
    "frozen layer": {"second": {"update": 1e-6}},
    "disconnected layer": {"first": {"gradient": 1e-6}},
    "gradients never cleared": {"kept_gradients": 0.4},
    "badly scaled inputs": {"input_spread": 50.0, "input_level": 9.0},
    "exploding gradients": {"last": {"output": 12.0}},
    "vanishing gradients": {"first": {"first_gradient": 1e-3}},
    "dead units": {"relu": {"dead": 0.4}},
    "saturated units": {"relu": {"saturated": 0.4}},
    "step too large": {"update_ratio": np.full(100, 0.05)},
    "step too small": {"update_ratio": np.full(100, 3e-4)},
    "edge of stability": {"sharpness": 10.0, "threshold": 20.0},
    "spike": with_spike(3.0),
    "suspect labels": {"suspect_labels": 0.01},
    "noisy gradients": {"noise_scale": 200.0},
    "needlessly large batch": {"noise_scale": 2.0},
    "conflicting losses": {"conflict": 0.2},
    "growing weights": {"weight_norm": 10 * np.exp(STEPS / 90)},
    "rank collapse": {"second": {"rank": 0.06}},
    "luck of the seed": {"seeds": 5.0, "seed_spread": 0.05},
}


def test_every_rule_is_tried():
    assert set(PAST) == set(RULES)


def test_a_healthy_run_has_no_finding():
    assert judge(run()).names == []


@pytest.mark.parametrize("name", PAST)
def test_past_its_threshold_a_rule_speaks_first(name):
    found = judge(run(**PAST[name]))
    assert found.names[0] == name
    assert found[name].confidence >= 0.5
    assert str(found[name].sentence)[-1] == "."


@pytest.mark.parametrize("name", BEFORE)
def test_before_it_a_rule_is_silent(name):
    assert name not in judge(run(**BEFORE[name])).names


def test_confidence_is_one_half_at_the_threshold_and_grows():
    assert confidence(1.0) == 0.5
    assert confidence(2.0) == pytest.approx(0.8)
    assert confidence(1e9) == confidence(math.inf) == 0.99
    assert confidence(math.nan) == 0.0


def test_explained_findings_come_after_what_explains_them():
    found = judge(run(loss=STUCK, second={"trained": False}, relu={"dead": 0.99, "first_dead": 0.0}))
    assert found.names[:2] == ["frozen layer", "dead units"]
    assert "frozen layer" in found["plateau"].follows


def test_a_layer_is_frozen_that_gets_gradients_and_stands_still_not_one_whose_gradient_has_become_zero():
    held = judge(run(first={"update": 0.0}))
    assert held["frozen layer"].where == "first"
    large = np.concatenate([np.full(4, 3.0), np.zeros(96)])
    died = {"update": 0.0, "gradient": 0.0, "first_gradient": 5.0}
    found = judge(run(first=died, second=died, relu={"dead": 1.0, "first_dead": 0.1}, update_ratio=large, loss=STUCK))
    assert "frozen layer" not in found.names
    assert found.names[0] == "step too large"
    assert found["dead units"].follows == ["step too large"]


def test_units_that_died_later_follow_from_a_step_and_those_dead_from_the_start_do_not():
    large = np.concatenate([np.full(4, 3.0), np.full(96, 1e-3)])
    later = judge(run(update_ratio=large, relu={"dead": 0.99, "first_dead": 0.1}))
    assert later.names[0] == "step too large"
    assert later["dead units"].follows == ["step too large"]
    first = judge(run(update_ratio=large, relu={"dead": 0.99, "first_dead": 0.99}))
    assert first.names[0] == "dead units"


def test_an_odd_batch_explains_everything_and_a_usual_one_nothing():
    odd = judge(run(**with_spike(15.0, size=900.0), relu={"dead": 0.99, "first_dead": 0.1}))
    assert odd.names[0] == "spike"
    assert odd["dead units"].follows == ["spike"]
    assert "900 times the usual size" in odd["spike"].sentence
    assert "usual size" in judge(run(**with_spike(15.0)))["spike"].sentence
    grown = np.where((STEPS > 55) & (STEPS < 60), 8.0, 1.0)
    assert (
        "had grown to 8 times its usual size, so that it is an instability"
        in judge(run(**with_spike(15.0), gradient_norm=grown))["spike"].sentence
    )
    hidden = judge(run(**with_spike(1.0, size=900.0)))["spike"]
    assert hidden.where == "step 60"


def test_a_sum_that_overflows_is_where_growth_ended():
    loss = np.where(STEPS > 90, np.inf, RISING)
    found = judge(run(loss=loss, origin="addmm in x", operation="addmm"))
    assert found.names[0] == "step too large"
    assert judge(run(loss=loss, origin="log in x", operation="log")).names[0] == "not finite"


def test_dead_units_behind_a_layer_are_why_no_gradient_arrives():
    found = judge(run(first={"reached": False, "gradient": 0.0}, relu={"dead": 1.0, "first_dead": 1.0}))
    assert "disconnected layer" not in found.names
    assert found.names[0] == "dead units"


def test_curves_alone_do_not_say_that_targets_are_unrelated():
    assert "targets unrelated to inputs" not in judge(run(loss=STUCK, kind="log")).names


def test_a_state_beyond_what_the_optimizer_bears():
    signs = Signs("state", STEPS[:1], {"loss": np.ones(1)}, {}, {"sharpness": 60.0, "threshold": 20.0})
    found = judge(signs)
    assert found.names == ["step too large"]
    assert found["step too large"].number == pytest.approx(3.0)


def test_spikes_are_told_from_scatter_and_from_a_rise():
    random = np.random.default_rng(0)
    assert spikes(np.exp(random.normal(0, 0.3, 400))) == []
    assert [s.at for s in spikes(np.where(STEPS == 30, 50.0, 1.0))] == [30]
    step = spikes(np.where(STEPS < 50, 1.0, 50.0))
    assert [(s.at, s.returns) for s in step] == [(50, False)]


def test_high_steps_of_a_loss_with_a_heavy_tail_are_its_own():
    """Of losses whose logarithms have an exponential tail, one run in ten at most has a spike; a jump of 1e5 is one."""
    random, found = np.random.default_rng(4), 0
    for _ in range(50):
        loss = np.exp(random.exponential(0.8, 500))
        found += bool(spikes(loss))
        loss[250] = 1e5 * np.median(loss)
        assert 250 in [s.at for s in spikes(loss)]
    assert found <= 5


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("noisy gradients", {"noise_scale": math.inf}),
        ("dead units", {"relu": {"dead": 0.8, "first_dead": 0.8}}),
        ("saturated units", {"relu": {"saturated": 0.8, "first_saturated": 0.8}}),
        ("step too large", {"update_ratio": np.full(100, 0.8)}),
        ("step too small", {"update_ratio": np.full(100, 1e-5)}),
        ("growing weights", {"weight_norm": 10 * np.exp(STEPS / 20)}),
        ("rank collapse", {"second": {"rank": 0.001}}),
    ],
)
def test_what_does_not_keep_a_run_from_learning_is_possible_only(name, changes):
    assert judge(run(**changes))[name].sure == "possible"
    flat = np.where(STEPS < 15, 3.0, 2.0)  # a third is lost, and no more
    assert judge(run(loss=flat, **changes))[name].sure != "possible"


def test_a_layer_that_sleeps_nearly_all_is_no_less_sure_where_the_loss_falls():
    assert judge(run(relu={"dead": 0.95, "first_dead": 0.95}))["dead units"].sure == "sure"


def test_steps_longer_than_the_weights_are_no_less_sure_where_the_loss_falls():
    assert judge(run(update_ratio=np.full(100, 1.5)))["step too large"].sure == "sure"


def test_a_loss_that_fell_from_where_the_first_step_had_thrown_it_has_not_learned():
    thrown = np.where(STEPS < 1, 2.0, 1e4 * np.exp(-STEPS / 10) + 1.5)
    assert judge(run(loss=thrown, second={"rank": 0.001}))["rank collapse"].sure != "possible"


def test_a_noise_scale_from_few_pairs_of_gradients_is_possible_only():
    flat = np.where(STEPS < 15, 3.0, 2.0)
    found = [judge(run(loss=flat, noise_scale=1e5, least_noise_scale=x)) for x in (32 * 9.9, 32 * 10.1)]
    assert [d["noisy gradients"].sure for d in found] == ["possible", "likely"]


def test_smooth_is_the_median_of_windows_and_skips_what_is_not_finite():
    np.testing.assert_allclose(smooth(np.arange(40.0), 4), [4.5, 14.5, 24.5, 34.5])
    np.testing.assert_allclose(smooth(np.asarray([1.0, np.nan, 3.0, 5.0]), 2), [1.0, 4.0])


def test_a_normalization_forgets_the_size_of_what_came_before():
    layers = {"embed": Layer(output=0.006), "norm": Layer(output=1.0, normalized=True), "next": Layer(output=3.0)}
    assert judge(Signs("run", STEPS, {}, layers)).names == []
    layers["norm"].normalized = False
    assert judge(Signs("run", STEPS, {}, layers)).names == ["exploding gradients"]


def test_a_validation_loss_that_is_best_at_its_end_is_no_overfitting():
    falling = np.where(STEPS % 10 == 0, 10.0 * np.exp(-STEPS / 12), np.nan)
    assert "overfitting" not in judge(run(validation_loss=falling)).names


def test_spikes_are_those_of_a_loop():
    random = np.random.default_rng(3)
    loss = np.exp(random.normal(0, 0.4, 300)) * np.where(random.random(300) < 0.03, 40, 1)
    loss[[90, 200]] = np.nan, np.inf
    heights, limits = {}, {}
    for i in range(5, 300):
        before = loss[max(i - 20, 0) : i]
        if np.isfinite(loss[i]) and np.isfinite(before).all():
            usual = np.median(before)
            heights[i], limits[i] = loss[i] / usual, THRESHOLDS["spike"] * max(1, before.max() / usual / 2)
    logs = np.sort([math.log(h) for h in heights.values()])
    # Above the median there are half of them, above the upper quartile half of those: an exponential tail loses log 2.
    middle, high = np.quantile(logs, 0.5), np.quantile(logs, 0.75)
    fence = middle + (high - middle) * (math.log(len(logs)) + 2) / math.log(2)
    expected = []
    for i, height in heights.items():
        if i < 297 and height > max(limits[i], math.exp(fence)) and not (expected and i - expected[-1] <= 20):
            expected.append(i)
    assert len(expected) > 3
    assert [s.at for s in spikes(loss)] == expected


@pytest.mark.parametrize("name", PAST)
def test_a_number_is_past_its_threshold_in_its_direction(name):
    found = judge(run(**PAST[name]))[name]
    facts = ("not finite", "frozen layer", "disconnected layer", "probabilities taken for logits")
    below = ("step too small", "vanishing gradients", "rank collapse", "plateau", "targets unrelated to inputs")
    assert math.isnan(found.number) == math.isnan(found.threshold) == (name in facts)
    if name not in facts:
        assert (found.number < found.threshold) == (name in below)


def test_what_rules_name_exists():
    from attractor.papers import record

    for rule in RULES.values():
        assert rule.explains == EVERYTHING or set(rule.explains) <= set(RULES)
        assert rule.remedy
        if rule.paper:
            known = record.read(rule.paper)
            assert known is not None
            assert rule.claim in known.quick
    assert all(t > 0 for t in THRESHOLDS.values())


def test_a_spike_of_a_loss_that_has_become_small_is_none():
    for height, there in ((0.2, False), (2.0, True)):
        loss = np.where(STEPS == 60, height, 2 * np.exp(-STEPS / 8) + 1e-3)
        assert ("spike" in judge(run(loss=loss)).names) == there
