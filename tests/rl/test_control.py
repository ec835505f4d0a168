import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from attractor import problems
from attractor.decision import Categorical, Decision, Gaussian

gymnasium = pytest.importorskip("gymnasium")


@pytest.mark.parametrize(
    ("make", "name", "spread", "draw"),
    [
        (problems.cartpole, "CartPole-v1", [2.0, 2.0, 0.18, 2.0], lambda rng: int(rng.integers(2))),
        (problems.pendulum, "Pendulum-v1", [20.0, 8.0], lambda rng: rng.uniform(-3, 3, 1).astype(np.float32)),
    ],
)
def test_dynamics_are_gymnasiums(make, name, spread, draw):
    problem, theirs, rng = make(), gymnasium.make(name).unwrapped, np.random.default_rng(0)
    step = jax.jit(problem.step)
    theirs.reset(seed=0)
    ended = 0
    for _ in range(200):
        state = rng.uniform(-1.2, 1.2, len(spread)) * spread
        action = draw(rng)
        theirs.state, theirs.steps_beyond_terminated = state.copy(), None
        observation, reward, terminated, _, _ = theirs.step(action)
        ours, our_reward, our_end = step(jnp.asarray(state, jnp.float32), jnp.asarray(action), jr.key(0))
        np.testing.assert_allclose(problem.observe(ours), observation, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(our_reward, reward, atol=1e-5, rtol=1e-5)
        assert bool(our_end) == terminated
        ended += terminated
    assert problem.horizon == gymnasium.spec(name).max_episode_steps
    assert (0 < ended < 200) == (name == "CartPole-v1")


@pytest.mark.parametrize(("make", "name"), [(problems.cartpole, "CartPole-v1"), (problems.pendulum, "Pendulum-v1")])
def test_starts_where_gymnasium_does(make, name):
    ours = np.asarray(jax.vmap(make().reset)(jr.split(jr.key(0), 500)))
    theirs = gymnasium.make(name).unwrapped
    drawn = []
    for seed in range(500):
        theirs.reset(seed=seed)
        drawn.append(theirs.state)
    for mine, other in zip(ours.T, np.stack(drawn).T, strict=True):
        assert stats.ks_2samp(mine, other).pvalue > 1e-3


def test_says_which_extra_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'attractor\[rl\]'"):
        problems.cartpole()


def counter(ends_at, horizon):
    """Counts its steps, pays 1 a step, terminates at ``ends_at``."""
    return Decision(
        reset=lambda key: jnp.zeros(()), step=lambda s, a, key: (s + 1, jnp.ones(()), s + 1 >= ends_at),
        observe=lambda s: s[None], policy=lambda w, o: Categorical(w), value=lambda w, o: w,
        init=(jnp.zeros(2), jnp.zeros(())), horizon=horizon,
    )  # fmt: skip


def test_rollout_tells_ends_from_cuts_and_starts_again():
    problem = counter(ends_at=3, horizon=100)
    episode, seen = problem.rollout(jnp.zeros(2), problem.start(jr.key(0)), jr.key(1), 7)
    np.testing.assert_array_equal(seen.observation[:, 0], [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(seen.next_observation[:, 0], [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(seen.terminated, [0, 0, 1, 0, 0, 1, 0])
    assert not seen.truncated.any()
    assert episode.elapsed == 1

    problem = counter(ends_at=3, horizon=2)
    _, seen = problem.rollout(jnp.zeros(2), problem.start(jr.key(0)), jr.key(1), 4)
    np.testing.assert_array_equal(seen.truncated, [0, 1, 0, 1])
    assert not seen.terminated.any()

    problem = counter(ends_at=3, horizon=3)  # ends at the very step at which it would be cut off
    _, seen = problem.rollout(jnp.zeros(2), problem.start(jr.key(0)), jr.key(1), 3)
    assert seen.terminated[-1]
    assert not seen.truncated[-1]


@pytest.mark.parametrize(("ends_at", "horizon", "total"), [(3, 10, 3), (10, 4, 4), (1, 1, 1)])
def test_return_is_that_of_one_episode(ends_at, horizon, total):
    problem = counter(ends_at, horizon)
    assert problem.probes["return"](problem, problem.init(jr.key(0)), jr.key(0)) == total
    assert problem.probes["return"].goal == "max"


def test_refuses_an_empty_horizon():
    with pytest.raises(ValueError, match="horizon"):
        counter(1, 0)


def test_distributions_agree_with_scipy():
    mean, log_std = jnp.asarray([0.3, -1.0]), jnp.asarray([0.2, -0.4])
    normal = Gaussian(mean, log_std)
    reference = stats.norm(mean, np.exp(log_std))
    np.testing.assert_allclose(normal.log_prob(jnp.asarray([0.1, 0.5])), reference.logpdf([0.1, 0.5]).sum(), rtol=1e-5)
    discrete = Categorical(jnp.asarray([0.2, 1.0, -0.3]))
    weights = np.asarray(jax.nn.softmax(discrete.logits))
    np.testing.assert_allclose(discrete.log_prob(jnp.asarray(1)), np.log(weights[1]), rtol=1e-5)
    other = Categorical(jnp.asarray([0.0, 0.1, 0.2]))
    expected = stats.entropy(weights, np.asarray(jax.nn.softmax(other.logits)))
    np.testing.assert_allclose(discrete.divergence(other), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        (Gaussian(jnp.asarray([0.3]), jnp.asarray([0.2])), Gaussian(jnp.asarray([-0.5]), jnp.asarray([0.5]))),
        (Categorical(jnp.asarray([0.3, 1.0])), Categorical(jnp.asarray([0.0, -1.0]))),
    ],
)
def test_divergence_is_the_mean_log_ratio_of_samples(mine, other):
    draws = jax.vmap(mine.sample)(jr.split(jr.key(0), 20_000))
    ratio = jax.vmap(lambda a: mine.log_prob(a) - other.log_prob(a))(draws)
    assert abs(ratio.mean() - mine.divergence(other)) < 5 * ratio.std() / 20_000**0.5
    assert mine.divergence(mine) == pytest.approx(0.0, abs=1e-6)
