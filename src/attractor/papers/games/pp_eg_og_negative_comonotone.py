"""Beyond monotonicity: up to which step sizes and constants the proximal point and extragradient methods work.

```python
from attractor import games, problems, run

game = problems.comonotone_rotation(lipschitz=1.0, comonotonicity=0.45)
for method in (games.ProximalPoint(1.0), games.Extragradient(0.02, look_ahead=0.98), games.Extragradient(0.5)):
    print(run(game, method, steps=2_000).summary("residual"))
```
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.games.extragradient import Extragradient, PastExtragradient, ProximalPoint
from attractor.games.local_convergence import convergence_factor
from attractor.papers.words import Evidence, cached, claim, seeds, sizes
from attractor.problems.linear_fields import comonotone_matrix, linear_game

HORIZONS = (4, 32, 256)


def _turn(cosine, length=1.0):
    return length * np.array([[cosine, -np.sqrt(1 - cosine**2)], [np.sqrt(1 - cosine**2), cosine]])


def _factors(method, *grids):
    """Convergence factors of ``method(*steps)`` over the grids of step sizes and, last, of fields in the plane."""
    factor = lambda *given: convergence_factor(method(*given[:-1]), linear_game(given[-1]))  # noqa: E731
    for axis in reversed(range(len(grids))):
        factor = jax.vmap(factor, [0 if i == axis else None for i in range(len(grids))])
    with jax.enable_x64(True):
        return np.asarray(jax.jit(factor)(*map(jnp.asarray, grids)))


@claim("rotations of rho L = 0.1 to 0.9: the proximal point converges from a step of 1.98 to 2.02 rho on, not below",
       source="paper", deterministic=True,
       broken={"twice the step": {"factor": 2.0}, "half the step": {"factor": 0.5}})  # fmt: skip
def proximal_point_needs_steps_above_two_rho(factor=1.0):
    multiples, cases = np.arange(0.5, 3.0, 0.01) + 0.005, {}
    for rho in (0.1, 0.3, 0.6, 0.9):
        stable = _factors(lambda rate: ProximalPoint(factor * rate, 1), multiples * rho, [_turn(-rho)])[:, 0] < 1
        cases[f"rho L = {rho}"] = multiples[stable].min() if stable[-1] and (np.diff(stable) > 0).sum() == 1 else np.nan
    return Evidence.of_cases(cases, within=(1.98, 2.02))


@claim("of all pairs of steps, some make EG and OG converge on both extreme fields just up to rho L in 0.48 to 0.52",
       source="paper", deterministic=True,
       broken={"looks back": {"sign": -1.0}, "one step size for both": {"equal": True}})  # fmt: skip
def two_step_sizes_reach_one_half(sign=1.0, equal=False):
    ahead, share, products = np.linspace(0.4, 1.1, 71), np.geomspace(1e-3, 1.0, 13), np.arange(0.05, 0.65, 0.02)
    fields, cases = np.array([_turn(1.0), *map(_turn, -products)]), {}
    for name, method in {"EG": Extragradient, "OG": PastExtragradient}.items():
        pair = lambda a, s, method=method: method(s * a, look_ahead=sign * a)  # noqa: E731
        factors = _factors(pair, ahead, share[-1:] if equal else share, fields)
        both = np.maximum(factors[..., :1], factors[..., 1:]).min((0, 1)) < 1  # the best pair of all for each rho
        cases[name] = products[both].max() + 0.01 if both.any() else 0.0
    return Evidence.of_cases(cases, within=(0.48, 0.52))


@cached
def _squares(method, rho, count):
    """Squared lengths of random fields along a run from distance 1, one row a field."""

    def one(own):
        game, z = linear_game(comonotone_matrix(own, 6, rho)), jr.normal(jr.fold_in(own, 1), (6,))
        step = lambda z, _: (method.step(game, z, None, own)[0], game.field(z, None))  # noqa: E731
        fields = jax.lax.scan(step, tuple(jnp.split(z / jnp.linalg.norm(z), 2)), None, max(HORIZONS) + 1)[1]
        return jnp.sum(jnp.concatenate(fields, 1) ** 2, 1)

    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.vmap(one))(jax.vmap(jr.key)(jnp.asarray(seeds(count)))))


@claim("random fields, rho L = 0.4, N = 4 to 256: best of EG, last of PP, in units of the O(1/N) bounds, at most 1",
       source="paper", broken={"EG with one step size": {"share": 1.0}, "PP at 1.9 rho": {"times": 1.9}})  # fmt: skip
def residuals_stay_below_the_bounds(share=0.15, times=2.5, *, scale):
    rho, ahead, size = 0.4, 0.95, sizes(scale, count=(64, 1_000))
    eg = _squares(Extragradient(share * ahead, look_ahead=ahead), rho, **size)
    pp = _squares(ProximalPoint(times * rho, 1), rho, **size)
    cases = {f"EG, {n}": eg[:, : n + 1].min(1).max() * share * ahead**2 * (1 - ahead**2) * (n + 1) for n in HORIZONS}
    cases |= {f"PP, {n}": pp[:, n].max() * 2.5 * (2.5 - 2) * rho**2 * n for n in HORIZONS}  # the bound of 2.5 rho
    return Evidence.of_cases(cases, at_most=1.0)


@claim("the worst rotation for N = 4 to 256 steps of PP attains between 1/e and 1 of the last iterate's bound",
       source="paper", deterministic=True,
       broken={"3/4 of the step": {"factor": 0.75}, "a monotone field's bound": {"bound_rho": 0.0}})  # fmt: skip
def the_bound_of_the_proximal_point_is_tight(factor=1.0, bound_rho=0.3):
    lengths = np.geomspace(1e-2, 1.0, 2_000)
    fields = np.array([_turn(-0.3 * length, length) for length in lengths])
    factors = _factors(lambda rate: ProximalPoint(rate, 1), np.array([factor]), fields)[0]
    worst = {str(n): (lengths**2 * factors ** (2 * n)).max() * (1 - 2 * bound_rho) * n for n in HORIZONS}
    return Evidence.of_cases(worst, within=(np.exp(-1), 1.0))


@claim("random fields, rho L = 1/8: along EG with steps 1/2L the field never grows, ratio at most 1 + 1e-12",
       source="paper", broken={"rho L = 3/8": {"rho": 0.375}, "three times the step": {"step": 1.5}})  # fmt: skip
def the_field_never_grows_along_extragradient(rho=0.125, step=0.5, *, scale):
    squares = _squares(Extragradient(step), rho, **sizes(scale, count=(64, 1_000)))
    return Evidence((squares[:, 1:] / squares[:, :-1]).max(), at_most=1 + 1e-12)
