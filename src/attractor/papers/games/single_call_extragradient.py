"""Single-call extragradient: past, reflected and optimistic steps take one field each and keep the rates.

```python
from attractor import games, problems, run
print(run(problems.bilinear_game(5), games.PastExtragradient(0.3), steps=500, seeds=4).summary("distance"))
```
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from optax.projections import projection_simplex

from attractor.games.extragradient import Extragradient, OptimisticGradient, PastExtragradient, ReflectedGradient
from attractor.games.local_convergence import convergence_factors
from attractor.papers.words import Evidence, claim, key, log_slope, seeds, sizes
from attractor.problem import Game
from attractor.problems.linear_fields import turning_matrix

METHODS = {"past": PastExtragradient, "reflected": ReflectedGradient, "optimistic": OptimisticGradient}
HORIZONS = (16, 128, 1_024)
PEG = lambda rate, ahead: PastExtragradient(rate, look_ahead=ahead * rate)  # noqa: E731
EG = lambda rate, ahead: Extragradient(rate)  # noqa: E731


def _path(method, game, z, keys):  # points and leading points, with one key a step
    step = lambda carry, k: (method.step(game, *carry, k),) * 2  # noqa: E731
    moved, after = jax.lax.scan(step, (z, method.init(game, z, keys[0])), keys)[1]
    return moved, after.leading


@claim("a nonlinear game, 200 constant steps, free players: the three go through the same points, apart at most 1e-10",
       source="paper", broken={"reflects half": {"reflection": 0.5}, "twice": {"reflection": 2.0}})  # fmt: skip
def free_of_constraints_all_three_are_one(reflection=1.0):
    with jax.enable_x64(True):
        a, start = jr.normal(key(), (4, 5)), jr.normal(key(1), (9,))
        game = Game.minimax(lambda x, y: x @ a @ y + jnp.sum(x**4) / 4 - jnp.sum(jnp.logaddexp(y, -y)), start)
        ways = PastExtragradient(0.05), ReflectedGradient(0.05, look_ahead=0.05 * reflection), OptimisticGradient(0.05)
        keys, z = jr.split(key(2), 200), (start[:4], start[4:])
        first, *others = jax.jit(lambda: [jnp.concatenate(_path(m, game, z, keys)[0], 1) for m in ways])()
        moved = {"they move": float(jnp.linalg.norm(first[-1] - start)) > 1.0}
        return Evidence(max(float(jnp.abs(o - first).max()) for o in others), at_most=1e-10, given=moved)


@jax.jit
def _gaps(keys, ahead, step):
    def one(own):  # duality gaps of averaged leading points on matrix games, in units of D²/(step T)
        a = jr.normal(own, (8, 10))
        game, z = Game.minimax(lambda x, y: x @ a @ y, jnp.zeros(1)), (jnp.full(8, 1 / 8), jnp.full(10, 1 / 10))
        rate, onto = step / jnp.linalg.norm(a, 2), lambda z: tuple(map(projection_simplex, z))
        paths = [_path(m(rate, rate * ahead, onto), game, z, jr.split(own, max(HORIZONS)))[1] for m in METHODS.values()]
        means = [[tuple(p[:t].mean(0) for p in path) for t in HORIZONS] for path in paths]
        gaps = jnp.array([[(x @ a).max() - (a @ y).min() for x, y in mean] for mean in means])
        return gaps * 0.4 / jnp.linalg.norm(a, 2) * jnp.array(HORIZONS) / (2 - 1 / 8 - 1 / 10)

    return jax.vmap(one)(keys)


@claim("random 8 x 10 matrix games, step 0.4/L, T = 16 to 1,024: averaged leads have gaps of at most D²/(step T)",
       source="scaled", broken={"looks back": {"ahead": -1.0}, "six times the step": {"step": 2.4}})  # fmt: skip
def averages_keep_the_ergodic_rate(ahead=1.0, step=0.4, *, scale):
    with jax.enable_x64(True):
        keys = jax.vmap(jr.key)(jnp.asarray(seeds(**sizes(scale, n=(32, 500)))))
        worst = np.asarray(_gaps(keys, jnp.asarray(ahead), jnp.asarray(step))).max(0)
    cases = {f"{name}, {t}": worst[i, j] for i, name in enumerate(METHODS) for j, t in enumerate(HORIZONS)}
    return Evidence.of_cases(cases, at_most=1.0)


@jax.jit
def _distances(keys, outward, gamma, power):
    def one(own):  # squared, to the equilibrium 0, with steps gamma/(t + 32)^power
        a = jr.normal(jr.fold_in(own, 1), (6, 6))
        turn = (a - a.T) / 3 + jnp.eye(6) / 2
        field = lambda z, noise: (turn @ z[0] - outward * jnp.sum(z[0] ** 2) * z[0] + noise,)  # noqa: E731
        game = Game(field, jnp.zeros(1), noise=lambda k: 0.2 * jr.normal(k, (6,)))
        schedule, z = lambda t: gamma / (t + 32.0) ** power, (jnp.full(6, 0.5 / 6**0.5),)
        paths = [_path(m(schedule), game, z, jr.split(own, 4_096))[0][0] for m in METHODS.values()]
        return jnp.array([jnp.sum(path[2 ** np.arange(8, 13) - 1] ** 2, 1) for path in paths])

    return jax.vmap(one)(keys)


@claim("noise, steps 4/(t+32), monotone everywhere or only nearby: squared distances fall as t^-0.85 to t^-1.15",
       source="paper", broken={"a tenth of the steps": {"gamma": 0.4},
                               "steps fall as the root": {"gamma": 0.5, "power": 0.5}})  # fmt: skip
def last_iterates_under_noise(gamma=4.0, power=1.0, *, scale):
    keys, cases = jax.vmap(jr.key)(jnp.asarray(seeds(**sizes(scale, n=(128, 2_048))))), {}
    for where, outward in {"everywhere": 0.0, "nearby": 0.5}.items():
        squares = np.asarray(_distances(keys, outward, gamma, power)).reshape(8, -1, len(METHODS), 5).mean(1)
        cases |= {f"{name}, {where}": log_slope(2 ** np.arange(8, 13), squares[:, i]) for i, name in enumerate(METHODS)}
    return Evidence.of_cases(cases, within=(-1.15, -0.85))


@claim("turns of 60, 84, 90 degrees and lengths 0.1 to 1, best step: past EG gains at least as much a call as EG",
       source="ours", deterministic=True, broken={"looks half as far": {"ahead": 0.5}},
       reason="0.67 at 90 degrees, 0.84 at 84: past EG bears no steps as long as EG's best")  # fmt: skip
def a_call_gains_as_much(ahead=1.0):
    rates, lengths, cases = np.linspace(0.02, 1.2, 119), np.geomspace(0.1, 1.0, 12), {}
    for angle, cosine in {"60": 0.5, "84": 0.1, "90": 0.0}.items():
        fields = turning_matrix(np.full(12, cosine), lengths)
        with jax.enable_x64(True):
            past, both = (convergence_factors(make, fields, rates, [ahead]).max(0).min() for make in (PEG, EG))
        cases[angle] = float(np.log(past) / (np.log(both) / 2))
    return Evidence.of_cases(cases, at_least=1.0)
