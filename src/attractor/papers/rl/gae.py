"""Generalized advantage estimation: discounted sums of TD residuals, with a trust region for policy and critic.

```python
import attractor
from attractor import problems, rl

trace = attractor.run(problems.cartpole(), rl.TRPO, sweep={"lam": [0.0, 0.96]}, steps=8, seeds=2)
print(trace["return"].mean("seed"))  # episode return of every lam along the iterations
```
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from attractor.papers.words import (
    Evidence,
    bootstrap,
    cached,
    claim,
    first_step,
    ratio_of_means,
    run,
    seed,
    seeds,
    sizes,
)
from attractor.problems.control import cartpole
from attractor.rl.online.advantages import gae
from attractor.rl.online.trust_region import TRPO

LAMBDAS = (0.0, 0.5, 0.9, 1.0)
PAIRS = [f"lam {less} to {more}" for less, more in itertools.pairwise(LAMBDAS)]
GAMMA = 0.95
SOLVED = 475.0  # the return at which gymnasium calls CartPole-v1 solved
SEEDS_USED_BEFORE = 8  # for choosing the size of the experiment; the claim is measured on others


def cut_is_the_end(*args, terminated, truncated, **kwargs):
    return gae(*args, terminated=terminated | truncated, **kwargs)


def end_is_a_cut(*args, terminated, truncated, **kwargs):
    return gae(*args, truncated=terminated | truncated, **kwargs)


def runs_on_across_episodes(*args, terminated, truncated, **kwargs):
    return gae(*args, terminated=terminated, **kwargs)


def without_lambda(rewards, values, next_values, gamma, lam):
    return gae(rewards, values, next_values, gamma, 1.0)


def lambda_reversed(rewards, values, next_values, gamma, lam):
    return gae(rewards, values, next_values, gamma, 1.0 - lam)


LAMBDA = {"lam ignored": {"gae": without_lambda}, "lam reversed": {"gae": lambda_reversed}}


@claim(
    "lam=0 is the TD residual and lam=1 the discounted return minus the value, to 1e-6, across episode ends and cuts",
    source="ours",
    broken={
        "a cut taken for an end": {"gae": cut_is_the_end},
        "an end taken for a cut": {"gae": end_is_a_cut},
        "sum runs on into the next episode": {"gae": runs_on_across_episodes},
    },
)
def limits(gae=gae, *, scale):
    rng, shape = np.random.default_rng(seed()), (200, sizes(scale, episodes=(8, 1_000))["episodes"])
    rewards, values, next_values = rng.standard_normal((3, *shape))
    terminated, truncated = rng.random(shape) < 0.1, rng.random(shape) < 0.1
    ended = terminated | truncated
    next_values[:-1] = np.where(ended[:-1], next_values[:-1], values[1:])  # within an episode, the next state's own
    future = np.where(terminated, 0.0, next_values)
    residual = rewards + GAMMA * future - values
    returns, rest = np.zeros(shape), next_values[-1]
    for t in reversed(range(len(rewards))):
        rest = np.where(ended[t], future[t], rest)
        returns[t] = rest = rewards[t] + GAMMA * rest
    with jax.enable_x64(True):
        data = map(jnp.asarray, (rewards, values, next_values))
        at = partial(gae, *data, GAMMA, terminated=jnp.asarray(terminated), truncated=jnp.asarray(truncated))
        pairs = {"lam=0": (at(lam=0.0), residual), "lam=1": (at(lam=1.0), returns - values)}
        errors = {name: float(np.abs(np.asarray(found) - wanted).max()) for name, (found, wanted) in pairs.items()}
    return Evidence.of_cases(errors, at_most=1e-6)


def random_mdp(number, states=6, actions=3):
    """Transitions P(s'|s,a), rewards r(s,a), a policy, its value and one that is off by a tenth of its spread."""
    rng = np.random.default_rng(number)
    transition = rng.dirichlet(np.full(states, 0.3), (states, actions))
    reward = rng.standard_normal((states, actions))
    policy = rng.dirichlet(np.ones(actions), states)
    mixed = np.einsum("sa,sat->st", policy, transition)
    value = np.linalg.solve(np.eye(states) - GAMMA * mixed, (policy * reward).sum(1))
    return transition, reward, policy, value, value + 0.1 * value.std() * rng.standard_normal(states)


@claim(
    "random MDPs, slightly wrong critic: the policy gradient's exact bias falls by 1 % at each lam of 0, 0.5, 0.9, 1",
    source="scaled",
    broken=LAMBDA,
)
def bias_falls(gae=gae, *, scale):
    ratios, at = [], jax.jit(gae)
    for number in seeds(sizes(scale, mdps=(8, 100))["mdps"]):
        transition, reward, policy, value, wrong = random_mdp(number)
        pairs = reward.size
        onward = (transition[..., None] * policy).reshape(pairs, pairs)  # (s, a) -> (s', a')
        visits = [np.eye(pairs)]  # where one is after t steps from each (s, a)
        for _ in range(300):
            visits.append(visits[-1] @ onward)
        expected = np.stack(visits)  # gae is linear in rewards and values, so it maps expectations to expectations
        rewards = expected[:-1] @ reward.ravel()
        values = expected @ np.repeat(wrong, policy.shape[1])
        advantage = reward + GAMMA * transition @ value - value[:, None]

        def gradient(advantage, policy=policy):
            """For logits and uniformly drawn states."""
            return policy * (advantage - (policy * advantage).sum(1, keepdims=True)) / len(policy)

        with jax.enable_x64(True):
            data = [jnp.asarray(a) for a in (rewards, values[:-1], values[1:])]
            estimates = [np.asarray(at(*data, GAMMA, lam)[0]).reshape(policy.shape) for lam in LAMBDAS]
        bias = np.array([np.linalg.norm(gradient(e) - gradient(advantage)) for e in estimates])
        ratios.append(bias[1:] / bias[:-1])
    return Evidence.of_cases(dict(zip(PAIRS, np.max(ratios, 0).tolist(), strict=True)), at_most=0.99)


@cached
def _rollouts(number, count, steps=200):
    """Of a random MDP under its policy: rewards and wrong values along the way, and the first action's score."""
    transition, reward, policy, _, wrong = random_mdp(number)
    rng = np.random.default_rng(1_000 + number)

    def draw(probabilities):
        below = np.cumsum(probabilities, -1)[:, :-1] < rng.random((count, 1))
        return below.sum(-1)

    states, actions = [rng.integers(0, len(policy), count)], []
    for _ in range(steps):
        actions.append(draw(policy[states[-1]]))
        states.append(draw(transition[states[-1], actions[-1]]))
    seen, taken = np.stack(states), np.stack(actions)
    data = [jnp.asarray(a, float) for a in (reward[seen[:-1], taken], wrong[seen[:-1]], wrong[seen[1:]])]
    score = np.zeros((count, *policy.shape))  # the gradient of log pi by the logits
    score[np.arange(count), seen[0]] = np.eye(policy.shape[1])[taken[0]] - policy[seen[0]]
    return data, score


@claim(
    "random MDPs, slightly wrong critic: the policy gradient's variance rises by 1 % at each lam of 0, 0.5, 0.9, 1",
    source="scaled",
    broken=LAMBDA,
)
def variance_rises(gae=gae, *, scale):
    ratios, at, size = {}, jax.jit(gae), sizes(scale, mdps=(4, 20), count=(2_000, 20_000))
    for number in seeds(size["mdps"]):
        data, score = _rollouts(number, size["count"])
        spread = []
        for lam in LAMBDAS:
            gradients = np.asarray(at(*data, GAMMA, lam)[0])[:, None, None] * score
            spread.append(((gradients - gradients.mean(0)) ** 2).sum((1, 2)))
        for pair, less, more in zip(PAIRS, spread, spread[1:], strict=False):
            ratio = bootstrap(lambda a, b: b.mean(-1) / a.mean(-1), less, more, draws=1_000)
            ratios[f"MDP {number}, {pair}"] = ratio
    return Evidence.of_cases(ratios, at_least=1.01)


@cached
def iterations_to_solve(lam, eps, scale):
    """Per seed, the first recorded iteration with a return of at least `SOLVED`; the last one if there is none."""
    size = sizes(scale, seeds=(8, 32), steps=(32, 100))
    fresh = [SEEDS_USED_BEFORE + s for s in seeds(size["seeds"])]
    how = {"steps": size["steps"], "every": 2, "seeds": fresh, "lanes": size["seeds"], "progress": False}
    trace = run(cartpole(), TRPO, sweep={"lam": [lam], "eps": [eps]}, **how)
    first = first_step(trace["return"].values[0], SOLVED, trace.dataset["step"].values, rising=True)
    return np.minimum(first, size["steps"]), int(np.isfinite(first).sum())


def _cost(lam, eps, other, scale):
    """Mean iterations with ``lam`` over those with the other lam, on the same seeds."""
    (ours, solved), (theirs, known) = iterations_to_solve(lam, eps, scale), iterations_to_solve(other, 0.1, scale)
    # Where lam=0 is cut off unsolved, it would have taken even longer.
    given = {"lam=1 solves it": known > 0} if other == 1.0 else {}
    note = f"of {len(ours)} seeds, lam={lam:g} solves it on {solved}, lam={other:g} on {known}"
    return Evidence(ratio_of_means(ours, theirs), at_most=0.99, given=given, note=note)


FASTER = "TRPO with lam=0.96 solves CartPole in at most 0.99 of lam={}'s samples (mean; 32 iterations of 2,048 at most)"


@claim(FASTER.format(0), source="scaled", broken={"residuals not summed": {"lam": 0.0}})
def learns_faster_than_one_step(lam=0.96, eps=0.1, *, scale):
    return _cost(lam, eps, 0.0, scale)


@claim(
    FASTER.format(1),
    source="scaled",
    broken={"lam ignored": {"lam": 1.0}, "critic never fitted": {"eps": 1e-9}},
    reason="with 8 seeds, lam=1 is not measurably slower on CartPole: 1.25 [0.91, 1.95]; why was not examined",
)
def learns_faster_than_returns(lam=0.96, eps=0.1, *, scale):
    return _cost(lam, eps, 1.0, scale)
