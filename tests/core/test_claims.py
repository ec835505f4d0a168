"""Claims and verdicts: a claim can fail, be inconclusive or void; a broken variant must not pass; seeds shift."""

import json
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor import LogUniform, Minimization, papers
from attractor.papers import Evidence, check, claims, claims_of, record, setting, words
from attractor.papers.claims import LONGEST
from attractor.stats import Interval

SLUG = "adahessian"


@pytest.fixture
def declared(monkeypatch):
    """Only the claims a test declares."""
    monkeypatch.setattr(claims, "_claims", {})
    monkeypatch.setattr(claims, "importlib", SimpleNamespace(import_module=lambda name: None))
    monkeypatch.setattr(claims, "written", lambda slug: True)


def declare(value, broken_value, **threshold):
    @claims.claim(
        "a number is small", source="ours", slug=SLUG, deterministic=True, reason="too large here",
        broken={"larger": {"number": broken_value}},
    )  # fmt: skip
    def small(number=value):
        return Evidence(number, **threshold)


@pytest.mark.parametrize(
    ("value", "broken", "outcome", "informative"),
    [
        (1.0, 3.0, "holds", True),
        (Interval(1.0, 0.5, 1.9), Interval(2.0, 1.8, 2.5), "holds", False),  # not passed, and says little
        (2.5, 3.0, "fails", True),
        (2.5, 2.2, "fails", False),
        (Interval(2.5, 1.9, 3.1), 3.0, "inconclusive", False),
        (Interval(2.5, 1.9, 3.1), 3.2, "inconclusive", True),
    ],
)
def test_a_claim_holds_fails_or_is_inconclusive(declared, value, broken, outcome, informative):
    declare(value, broken, at_most=2.0)
    (verdict,) = check(SLUG)
    assert verdict.verdict == outcome
    assert verdict.broken[0]["informative"] is informative
    assert verdict.caught
    assert (verdict.threshold, verdict.direction, verdict.source) == (2.0, "at most", "ours")
    assert verdict.note == ("" if outcome == "holds" else "too large here")


@pytest.mark.parametrize(("value", "broken"), [(1.0, 1.5), (3.0, 1.5)])
def test_a_broken_variant_that_passes_is_an_error(declared, value, broken):
    declare(value, broken, at_most=2.0)
    (verdict,) = check(SLUG)
    assert verdict.verdict == "error"
    assert not verdict.caught
    assert "larger" in verdict.note


@pytest.mark.parametrize(
    ("value", "threshold", "outcome"),
    [
        (Interval(1.0, 0.5, 1.9), {"at_most": 2.0}, "holds"),
        (Interval(1.0, 0.5, 2.1), {"at_most": 2.0}, "inconclusive"),
        (Interval(3.0, 2.1, 4.0), {"at_most": 2.0}, "fails"),
        (Interval(1.0, 0.5, 2.1), {"at_least": 0.5}, "holds"),
        (Interval(1.0, 0.5, 2.1), {"at_least": 0.6}, "inconclusive"),
        (Interval(1.0, 0.5, 2.1), {"at_least": 2.2}, "fails"),
        (Interval(1.0, 0.95, 1.05), {"within": (0.9, 1.1)}, "holds"),
        (Interval(1.0, 0.85, 1.05), {"within": (0.9, 1.1)}, "inconclusive"),
        (Interval(1.3, 1.2, 1.4), {"within": (0.9, 1.1)}, "fails"),
        (Interval(0.3, 0.2, 0.4), {"within": (0.9, 1.1)}, "fails"),
        (math.nan, {"at_most": 2.0}, "fails"),
        (Interval(math.nan, -math.inf, math.inf), {"at_least": 2.0}, "inconclusive"),
        (Interval(3.0, -math.inf, math.inf), {"at_most": 2.0}, "inconclusive"),
        (math.inf, {"at_most": 2.0}, "fails"),
    ],
)
def test_the_whole_interval_must_be_on_one_side(value, threshold, outcome):
    assert Evidence(value, **threshold).outcome == outcome


def test_a_precondition_that_is_not_met_makes_it_void():
    assert Evidence(1.0, at_most=2.0, given={"the baseline solves it": True}).outcome == "holds"
    assert Evidence(1.0, at_most=2.0, given={"a": True, "the baseline solves it": np.False_}).outcome == "void"


@pytest.mark.parametrize("thresholds", [{}, {"at_most": 1.0, "at_least": 0.0}, {"at_most": 1.0, "within": (0, 1)}])
def test_exactly_one_threshold(thresholds):
    with pytest.raises(ValueError, match="exactly one"):
        Evidence(1.0, **thresholds)


def test_of_several_cases_the_worst_decides_and_all_are_kept():
    cases = {"a": Interval(1.0, 0.5, 1.9), "b": Interval(1.2, 1.1, 1.3), "c": 0.7}
    assert Evidence.of_cases(cases, at_most=2.0).value == cases["a"]
    assert Evidence.of_cases(cases, at_least=0.4).value == cases["a"]
    assert Evidence.of_cases(cases, within=(0.6, 1.25)).value == cases["a"]  # 0.65 beyond, b only 0.05
    assert Evidence.of_cases({**cases, "d": math.nan}, at_most=2.0).outcome == "fails"
    undecided, failing = Interval(1.0, 0.0, 9.0), Interval(3.0, 2.5, 3.5)
    assert Evidence.of_cases({"a": undecided, "b": failing}, at_most=2.0).value == failing
    assert Evidence.of_cases({"a": undecided, "b": failing}, at_most=4.0).value == undecided
    assert list(Evidence.of_cases(cases, at_most=2.0).cases) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="cases"):
        Evidence.of_cases({}, at_most=1.0)


def test_what_raises_is_an_error_and_not_the_end(declared):
    @claims.claim("raises", source="ours", slug=SLUG, broken={"too": {}})
    def raises(*, scale):
        raise RuntimeError("no convergence")

    (verdict,) = check(SLUG)
    assert verdict.verdict == "error"
    assert verdict.value is None
    json.dumps(verdict.asdict(), allow_nan=False)


def test_a_claim_needs_a_paper_a_source_and_a_broken_variant():
    with pytest.raises(ValueError, match="broken"):
        claims.claim("anything", source="ours", broken={})
    with pytest.raises((ValueError, TypeError), match="source"):
        claims.claim("anything", source="mine", broken={"x": {}})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="did you mean 'adahessian'"):
        claims.claim("anything", source="ours", slug="adahesian", broken={"x": {}})(lambda: Evidence(1, at_most=2))
    with pytest.raises((ValueError, TypeError), match="scale"):  # a TypeError from the type checker of the tests
        check(SLUG, scale="huge")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="replication"):
        check(SLUG, replication=-1)


def statistical(seen, deterministic=False):
    @claims.claim("a mean", source="ours", slug=SLUG, deterministic=deterministic, broken={"more": {"shift": 9.0}})
    def average(shift=0.0, *, scale):
        seeds = words.seeds(3 if scale == "quick" else 5)
        seen.append((scale, tuple(seeds), words.seed(7)))
        return Evidence(np.mean(np.asarray(seeds) < 0) + shift, at_most=1.0)


def test_replications_shift_every_seed_and_more_seeds_add_some(declared):
    seen = []
    statistical(seen)
    (verdict,) = check(SLUG)
    (again,) = check(SLUG, replication=2)
    check(SLUG, more_seeds=True)
    check(SLUG, scale="full")
    assert [s for i, s in enumerate(seen) if i % 2 == 0] == [
        ("quick", (0, 1, 2), 7),
        ("quick", (200_000, 200_001, 200_002), 200_007),
        ("quick", tuple(range(12)), 7),
        ("full", (0, 1, 2, 3, 4), 7),
    ]
    assert (verdict.replication, again.replication) == (0, 2)
    assert not set(words.seeds(5)) & set(words.seeds(5, stream=1))


def test_deterministic_claims_are_not_replicated_and_say_so_truthfully(declared):
    statistical([], deterministic=True)
    (verdict,) = check(SLUG)
    assert verdict.verdict == "error"
    assert "draws seeds" in verdict.note
    declare(1.0, 3.0, at_most=2.0)
    assert [v.claim for v in check(SLUG, replication=1)] == []
    assert [v.claim for v in check(SLUG, scale="full")] == ["average"]  # the other has one size

    @claims.claim("draws nothing", source="ours", slug=SLUG, broken={"x": {"number": 3.0}})
    def silent(number=1.0):
        return Evidence(number, at_most=2.0)

    assert "declare it deterministic" in check(SLUG, names=["silent"])[0].note


def test_cached_results_belong_to_their_replication_and_count_as_drawing():
    calls = []

    @words.cached
    def draw(n):
        calls.append(n)
        return words.seeds(n)

    for _ in range(2):
        with setting.under(setting.Setting(3)) as drawn:
            assert draw(2) == [300_000, 300_001]
            assert drawn
    with setting.under(setting.Setting(4)):
        assert draw(2) == [400_000, 400_001]
    assert calls == [2, 2]
    setting.forget()
    with setting.under(setting.Setting(3)):
        draw(2)
    assert calls == [2, 2, 2]


def bowl():
    return Minimization(bowl_loss, jnp.zeros(2))


def bowl_loss(x):
    return jnp.sum((x - 1) ** 2)


def test_tuning_in_a_claim_is_computed_once_and_never_thin(monkeypatch):
    calls = []
    real = words.comparison.tune
    monkeypatch.setattr(words.comparison, "tune", lambda *a, **k: calls.append(k) or real(*a, **k))
    first = words.tune(bowl(), optax.sgd, seeds=2, budget=4, steps=5)
    again = words.tune(bowl(), optax.sgd, seeds=2, budget=4, steps=5)  # another object of the same content
    assert again is first
    words.tune(bowl(), optax.sgd, seeds=2, budget=5, steps=5)
    with setting.under(setting.Setting(1)):
        words.tune(bowl(), optax.sgd, seeds=2, budget=4, steps=5)
    assert [c["seeds"] for c in calls] == [[0, 1], [0, 1], [100_000, 100_001]]
    assert not set(calls[2]["tuning_seeds"]) & {*calls[0]["tuning_seeds"], *calls[2]["seeds"]}
    with pytest.raises(ValueError, match="at least 4 configurations per searched hyper-parameter, which is 8"):
        words.tune(bowl(), optax.adamw, seeds=2, budget=7, steps=5)
    with pytest.raises(ValueError, match="budget"):
        words.tune(bowl(), "adamw", seeds=2, budget=7, steps=5)
    made = words.tune(bowl(), optax.sgd(0.1), seeds=2, budget=1, steps=5)  # nothing to tune
    assert made.winner == {}
    assert words.tune(bowl(), (optax.sgd, {"learning_rate": LogUniform(0.1, 0.2)}), seeds=2, budget=4, steps=5)
    setting.forget()


def test_words_for_curves():
    at = np.array([0, 10, 20, 40])
    curves = np.array([[9.0, 4, 2, 1], [8.0, 8, 8, 8], [np.nan, 1, 5, 5]])
    np.testing.assert_array_equal(words.first_step(curves, 4.0, at), [10, np.inf, 10])
    np.testing.assert_array_equal(words.first_step(curves[0], 4.0), 1)
    np.testing.assert_array_equal(words.first_step(curves, [4.0, 8.0, 0.0], at), [10, 0, np.inf])
    np.testing.assert_array_equal(words.first_step(curves, 8.5, at, rising=True), [0, np.inf, np.inf])
    x = np.arange(1, 200)
    power = np.stack([2.0 * x**-1.5, 3.0 * x**-0.5])
    np.testing.assert_allclose(words.log_slopes(x, power, since=20), [-1.5, -0.5])
    bent = np.where(x < 20, x**-3.0, 20.0**-2 * x**-1.0)
    np.testing.assert_allclose(words.log_slopes(x, bent, since=20), [-1.0])
    np.testing.assert_allclose(words.log_slopes(x, bent, until=19), [-3.0])
    assert words.log_slope(x, power).value == pytest.approx(-1.0)


def test_words_for_sizes_cases_and_time():
    assert words.sizes("quick", seeds=(8, 64), steps=500) == {"seeds": 8, "steps": 500}
    assert words.sizes("full", seeds=(8, 64), steps=500) == {"seeds": 64, "steps": 500}
    cases = [Interval(1.0, 0.0, 5.0), 3.0]
    assert words.worst(cases) == cases[0]
    assert words.worst(cases[1:]) == 3.0
    assert words.worst(cases, largest=False) == cases[0]
    calls = []
    short, long = words.seconds(lambda: calls.append("a"), lambda: calls.append("b"), rounds=2)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert short.shape == long.shape == (2,)
    assert list(words.probes(bowl(), "loss")) == ["loss"]
    assert (jax.random.key_data(words.key(3)) == jax.random.key_data(jax.random.key(3))).all()


WRITTEN = [slug for slug in papers.catalogue() if papers.written(slug)]


# What takes longer than 30 s cold, most of it compiling. No other paper may, and each that is mended leaves the list.
SLOW = {
    "adahessian", "bcd-proximal-wasserstein-cpdl", "cyclic-bcd-variance-reduced", "egn-exact-gauss-newton",
    "federated-adversarial-learning", "finite-difference-gradient-regularization", "fno", "forward-gradient",
    "kfac-deep-hedging", "learned-damping-ba",
    "ep-jacobian-homeostasis",
    "bcd-dnn-kl", "pjax-projection-training",
    # Recorded on a machine half as fast as the others were: 19 to 30 s there, 37 to 58 here.
    "config-constrained-bo", "convex-adversarial-relu-training", "directional-attack-dfo", "lv-hba",
    "newton-compressor-matching", "saddle-free-newton",
    "muon-mla-moe", "nau-nmu", "optimal-input-gain", "rising-tomography",
    "stde", "thermodynamic-natural-gradient", "unified-likelihood-ratio",
    "l2o-pa", "smoothing-zeroth-order-parallel",
    "floral",
}  # fmt: skip


@pytest.mark.parametrize("slug", WRITTEN)
def test_a_written_paper_reads_well_and_is_quick(slug):
    listed, known = claims_of(slug), record.read(slug)
    assert known is not None
    assert [c.name for c in listed] == list(known.quick)
    for claim in listed:
        assert 10 < len(claim.statement) <= LONGEST, claim.statement
        assert claim.statement[0] != "…"
        assert known.quick[claim.name].verdict not in ("void", "error"), claim.name
        assert (known.quick[claim.name].verdict != "holds") <= bool(claim.reason), claim.name
    # Records are made two papers at a time; a paper that needs 30 s of processors takes no longer on idle ones.
    taken = min(sum(v.seconds for v in known.quick.values()), sum(v.cpu_seconds for v in known.quick.values()))
    assert (taken > 30) == (slug in SLOW), taken


def test_every_written_paper_has_an_up_to_date_record_without_errors():
    assert len(WRITTEN) >= 79
    assert {slug: record.status(slug) for slug in WRITTEN if record.status(slug) in ("stale", "missing", "error")} == {}


def test_descend_takes_the_steps_of_the_optimizer():
    adam, target = optax.adam(0.1), {"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}

    def slope(x, given):
        return jax.tree.map(lambda a, t: a - t * (1 if given is None else given), x, target)

    x = start = jax.tree.map(jnp.zeros_like, target)
    for steps in (7, jnp.array([1.0, 0.5, 2.0])):
        x, state = start, adam.init(start)
        for given in range(steps) if isinstance(steps, int) else steps:
            updates, state = adam.update(slope(x, None if isinstance(steps, int) else given), state, x)
            x = optax.apply_updates(x, updates)
        found = jax.jit(lambda x, steps=steps: words.descend(adam, slope, x, steps))(start)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(x), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_tune_splits_tunes_on_each_split_with_seeds_of_its_own(monkeypatch):
    asked = []

    def tune(problem, method, *, seeds, tuning_seeds, **how):
        asked.append((problem, seeds, tuning_seeds, how))
        return SimpleNamespace(final=np.array([1.0, 3.0]) + problem)

    monkeypatch.setattr(words.comparison, "tune", tune)
    found = words.tune_splits(lambda seed: 10 * seed, "sgd", 3, tuning=2, runs=4, budget=8)
    np.testing.assert_array_equal(found, [2, 12, 22])
    assert all(how == {"budget": 8} for *_, how in asked)
    assert [(len(own), len(tuned)) for _, own, tuned, _ in asked] == [(4, 2)] * 3
    assert len({s for _, own, tuned, _ in asked for s in (*own, *tuned)}) == 18
    with setting.under(setting.Setting(1)):
        assert not np.isin(words.tune_splits(lambda seed: seed, "sgd", 3, tuning=2, runs=4), found).any()
