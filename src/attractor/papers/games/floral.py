"""A kernel machine trained while an adversary keeps flipping labels of its most influential points.

```python
import attractor
from attractor import games, problems

problem = problems.poisoned_labels("digits", flipped=0.25)  # a quarter of the labels is wrong
trace = attractor.run(problem, games.AdversarialLabels(0.02, budget=10), steps=200, seeds=4)
print(trace.summary("test_accuracy"))
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sklearn.svm import SVC

from attractor.games import AdversarialLabels
from attractor.papers.words import Evidence, cached, claim, mean, seeds
from attractor.problems import poisoned_labels

COSTS, BUDGETS = (0.1, 1.0, 10.0, 100.0), (5.0, 10.0, 20.0, 40.0)
# The adversary's width, which the method has, too, as it searches budgets; and those of the other machines.
WIDTHS = {"moons": (2.0, (0.5, 2.0, 8.0, 32.0)), "digits": (0.03, (0.01, 0.03, 0.1, 0.3))}


class _AddUp(AdversarialLabels):  # flips that start from the labels of the last round
    def step(self, problem, x, state, key):
        return super().step(eqx.tree_at(lambda p: p.labels, problem, x[1]), x, state, key)


@eqx.filter_jit
def _rounds(problem, costs, starts, budgets, key, method):
    """Accuracies after 200 rounds, at a step of 1 / L, by cost and budget."""
    rate = 1 / jnp.linalg.eigvalsh(problem.gram)[-1]

    def one(cost, start, budget):
        own, game = method(rate, budget), eqx.tree_at(lambda p: p.cost, problem, cost)
        given = start, game.labels
        x = jax.lax.fori_loop(0, 200, lambda k, x: own.step(game, x, None, jr.fold_in(key, k))[0], given)
        return jnp.stack([game.probes[f"{of}_accuracy"](game, x, key) for of in ("validation", "test")])

    return jax.vmap(lambda *of: jax.vmap(lambda budget: one(*of, budget))(budgets))(costs, starts)  # pyright: ignore


@cached
def _machines(data, flipped, attack, seed):
    """Validation and test accuracies of 16 machines, by width and cost, and weights of the four of the usual width."""
    problem, (usual, widths) = poisoned_labels(data, flipped=flipped, attack=attack, seed=seed), WIDTHS[data]
    labels, accuracies, weights = np.asarray(problem.labels), [], np.zeros((4, len(problem.labels)))
    held_out = [problem.probes[f"{of}_accuracy"].measure.args for of in ("validation", "test")]
    for width in widths:
        gram, *others = (np.asarray(g, float) ** (width / usual) for g in (problem.gram, *(g for g, _ in held_out)))
        for i, cost in enumerate(COSTS):
            machine = SVC(C=cost, kernel="precomputed").fit(gram, labels)
            accuracies.append([machine.score(g, np.asarray(y)) for g, (_, y) in zip(others, held_out, strict=True)])
            if width == usual:
                weights[i, machine.support_] = np.abs(machine.dual_coef_[0])
    return problem, accuracies, weights


@cached
def _gain(data, flipped, attack, method):
    """By how much the method is better than the best machine on 8 splits, both the best of 16 on validation points."""
    gains = []
    for seed in seeds(8):
        problem, machines, weights = _machines(data, flipped, attack, seed)
        lanes = jnp.array(COSTS), jnp.asarray(weights, float), jnp.array(BUDGETS)
        found = np.asarray(_rounds(problem, *lanes, jr.key(seed), method)).reshape(-1, 2).tolist()
        gains.append(max(found)[1] - max(machines)[1])
    return np.array(gains)


@claim("a quarter flipped where labels are surest, moons and digits: 2 points above the best of 16 machines",
       source="scaled", broken={"flips add up, tuned anew": {"method": _AddUp}},
       reason="4.8 points on moons, none on digits, where the best machine hardly suffers")  # fmt: skip
def stands_sure_points_that_are_wrong(method=AdversarialLabels):
    cases = {data: mean(_gain(data, 0.25, "confident", method)) for data in ("moons", "digits")}
    return Evidence.of_cases(cases, at_least=0.02)


@claim("moons, 5, 10 and 25 % flipped where they are surest: at least as accurate as the best of 16 machines",
       source="paper", broken={"flips add up, tuned anew": {"method": _AddUp}},
       reason="4.8 points above at 25 %, but 1.4 below at 10 and 2.7 below at 5 %")  # fmt: skip
def leads_at_every_budget(method=AdversarialLabels):
    cases = {f"{flipped:.0%}": mean(_gain("moons", flipped, "confident", method)) for flipped in (0.05, 0.1, 0.25)}
    return Evidence.of_cases(cases, at_least=0.0)


@claim("moons, a quarter of the labels flipped where the weights are largest: 2 points above the best of 16 machines",
       source="ours", broken={"flips add up, tuned anew": {"method": _AddUp}},
       reason="2 points below: these flips look like noise, which a small cost bears as well")  # fmt: skip
def stands_flipped_support_vectors(method=AdversarialLabels):
    return Evidence(mean(_gain("moons", 0.25, "influential", method)), at_least=0.02)


@claim("moons with true labels: within 1.5 points of the best of 16 machines, at the best of 16 settings",
       source="ours", broken={"flips add up, tuned anew": {"method": _AddUp}},
       reason="1.7 points below on average: the last round's flips stay in the answer")  # fmt: skip
def costs_little_where_labels_are_true(method=AdversarialLabels):
    return Evidence(mean(_gain("moons", 0.0, "confident", method)), within=(-0.015, 0.015))
