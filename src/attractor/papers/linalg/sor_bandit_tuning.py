"""Learning to relax: a bandit sets the parameter of over-relaxation from the iterations that past systems took.

```python
import numpy as np
from attractor.linalg import TsallisInf, learn_to_relax, sor

A, omegas = 2.2 * np.eye(30) - np.eye(30, k=1) - np.eye(30, k=-1), np.linspace(1, 1.9, 10)
systems = np.random.default_rng(0).standard_normal((500, 30))
iterations = lambda t, i: float(sor(A, systems[t], omegas[i]).iterations)
arms = learn_to_relax(TsallisInf(10, 200.0), iterations, np.zeros(500))
print(f"omega {omegas[np.bincount(arms[250:]).argmax()]:.1f} is chosen most")
```
"""

import numpy as np

from attractor.linalg.relaxation import ChebyshevBandit, TsallisInf, learn_to_relax, sor
from attractor.papers.words import Evidence, cached, claim, log_slope, mean, seed, seeds
from attractor.problems.elliptic import poisson_matrix

OMEGAS, LARGEST = np.linspace(1.0, 1.9, 13), 150.0
SHIFTS, SIDES = np.linspace(0.0, 1.0, 31), 24
HORIZONS = np.array([500, 1_000, 2_000, 4_000])


class Unweighted(TsallisInf):
    def learn(self, cost):
        self.losses[self.chosen] += cost / self.largest


class Turned(TsallisInf):
    def learn(self, cost):
        super().learn(self.largest - cost)


class Stale(ChebyshevBandit):
    before = 0.5

    def choose(self, context):
        context, self.before = self.before, context
        return super().choose(context)


@cached
def _iterations():
    """Of 8 x 8 Laplacians plus a shift, to 1e-8: by shift, right-hand side and omega."""
    A, right = poisson_matrix(8).toarray(), np.random.default_rng(seed()).standard_normal((64, SIDES))
    counts = [[sor(A + c * np.eye(64), right, w).iterations for w in OMEGAS] for c in SHIFTS]
    return np.stack(counts).swapaxes(1, 2)


@cached
def _played(learner):
    """Iterations of each of 4,000 systems in 8 sequences, and what every omega would have taken."""
    taken, offered = [], []
    for s in seeds(8):
        shift, side = np.random.default_rng(s).integers((SHIFTS.size, SIDES), size=(HORIZONS[-1], 2)).T
        costs = _iterations()[shift, side]
        own = {"largest": LARGEST, "seed": s} | ({} if issubclass(learner, TsallisInf) else {"low": 0.0, "high": 1.0})
        arms = learn_to_relax(learner(OMEGAS.size, **own), lambda t, i, costs=costs: float(costs[t, i]), SHIFTS[shift])  # pyright: ignore
        taken.append(costs[np.arange(arms.size), arms])
        offered.append(costs)
    return np.stack(taken), np.stack(offered)


def _last(learner, rival, at_most):  # mean iterations of systems 2,001 to 3,000 over a rival's
    taken, offered = (x[:, 2_000:3_000] for x in _played(learner))
    fixed = offered.mean(1)
    rivals = {"fixed": fixed.min(1), "own": offered.min(2).mean(1)}
    given = {"the best omega takes at most half of Gauss-Seidel's iterations": (fixed.min(1) < fixed[:, 0] / 2).all()}
    return Evidence(mean(taken.mean(1) / rivals[rival]), at_most=at_most, given=given)


@claim("64 unknowns, random shifts: systems 2,001 to 3,000 take at most 1.1 times the best fixed omega's iterations",
       source="ours", broken={"not weighted": {"learner": Unweighted}, "turned": {"learner": Turned}},
       reason="1.14: after 2,000 systems trying all 13 omegas still costs a seventh")  # fmt: skip
def tsallis_inf_nears_the_best_omega(learner=TsallisInf):
    return _last(learner, "fixed", at_most=1.1)


@claim("64 unknowns, random shifts: the mean regret to the best omega falls as T^-0.4 or faster, T from 500 to 4,000",
       source="scaled", broken={"not weighted": {"learner": Unweighted}, "turned": {"learner": Turned}},
       reason="-0.39, near the theory's -1/2; the first systems try all omegas alike")  # fmt: skip
def regret_falls_with_the_horizon(learner=TsallisInf):
    taken, offered = _played(learner)
    regret = [taken[:, :T].mean(1) - offered[:, :T].mean(1).min(1) for T in HORIZONS]
    return Evidence(log_slope(HORIZONS, np.stack(regret, 1)), at_most=-0.4, note=str(np.mean(regret, 1).round(1)))


@claim("64 unknowns, shifts told: systems 2,001 to 3,000 take at most as many iterations as the best fixed omega",
       source="paper", broken={"the last shift": {"learner": Stale}})  # fmt: skip
def context_beats_the_best_fixed_omega(learner=ChebyshevBandit):
    return _last(learner, "fixed", at_most=1.0)


@claim("64 unknowns, shifts told: systems 2,001 to 3,000 take at most 1.1 times their own best omegas' iterations",
       source="ours", broken={"the last shift": {"learner": Stale}, "not told": {"learner": TsallisInf}})  # fmt: skip
def context_nears_each_systems_own_best(learner=ChebyshevBandit):
    return _last(learner, "own", at_most=1.1)
