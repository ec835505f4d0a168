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
from attractor.games.local_convergence import convergence_factors
from attractor.papers.words import Evidence, claim, seeds, sizes
from attractor.problems.linear_fields import comonotone_matrix, linear_game, turning_matrix

HORIZONS, SHARES = (4, 64, 1_024), np.geomspace(1e-3, 1.0, 13)
PP = lambda rate: ProximalPoint(rate, 1)  # noqa: E731
EG = lambda ahead, share: Extragradient(share * ahead, look_ahead=ahead)  # noqa: E731
OG = lambda ahead, share: PastExtragradient(share * ahead, look_ahead=ahead)  # noqa: E731


@claim("rotations of rho L = 0.1 to 0.9: the proximal point converges from a step of 1.98 to 2.02 rho on, not below",
       source="paper", deterministic=True, broken={"twice the step": {"factor": 2.0}})  # fmt: skip
def proximal_point_needs_steps_above_two_rho(factor=1.0):
    products, multiples, cases = (0.1, 0.3, 0.6, 0.9), np.arange(0.5, 3.0, 0.01) + 0.005, {}
    with jax.enable_x64(True):  # a step of m rho on a field is one of m on rho times the field
        factors = convergence_factors(PP, turning_matrix(-np.array(products), np.array(products)), factor * multiples)
    for rho, stable in zip(products, np.asarray(factors) < 1, strict=True):
        cases[f"rho L = {rho}"] = multiples[stable].min() if stable[-1] and (np.diff(stable) > 0).sum() == 1 else np.nan
    return Evidence.of_cases(cases, within=(1.98, 2.02))


def _reach(method, shares):
    products = np.arange(0.05, 0.95, 0.02)
    fields = turning_matrix(np.array([1.0, *-products]))  # the identity, and the farthest turns
    with jax.enable_x64(True):
        factors = np.asarray(convergence_factors(method, fields, np.linspace(0.4, 1.1, 71), shares))
    both = np.maximum(factors[:1], factors[1:]).min((1, 2)) < 1  # the best pair of all for each rho
    return Evidence(products[both].max() + 0.01 if both.any() else 0.0, within=(0.48, 0.52))


@claim("of all pairs of steps, some make EG converge on both extreme fields up to rho L in 0.48 to 0.52, none beyond",
       source="paper", deterministic=True, broken={"one step size for both": {"shares": np.ones(13)}})  # fmt: skip
def extragradient_reaches_one_half(shares=SHARES):
    return _reach(EG, shares)


@claim("of all pairs of steps, some make OG converge on both extreme fields up to rho L in 0.48 to 0.52, none beyond",
       source="paper", deterministic=True, broken={"one step size for both": {"shares": np.ones(13)}},
       reason="0.94, the end of the grid: with a tiny second step OG follows F / (1 + gamma F) on a linear F, which is "
              "monotone for gamma in (rho, 1/L); what ends OG's guarantee at 1/2 is no linear field")  # fmt: skip
def optimistic_gradient_reaches_one_half(shares=SHARES):
    return _reach(OG, shares)


@jax.jit
def _fields(keys, rho, ahead, share):  # squared lengths along a run of EG from distance 1, one row a field
    def squares(own):
        game, z = linear_game(comonotone_matrix(own, 6, rho)), jr.normal(jr.fold_in(own, 1), (6,))
        step = lambda z, _: (EG(ahead, share).step(game, z, None, own)[0], game.field(z, None))  # noqa: E731
        fields = jax.lax.scan(step, tuple(jnp.split(z / jnp.linalg.norm(z), 2)), None, max(HORIZONS) + 1)[1]
        return jnp.sum(jnp.concatenate(fields, 1) ** 2, 1)

    return jax.vmap(squares)(keys)


def _squares(scale, *given):
    with jax.enable_x64(True):
        keys = jax.vmap(jr.key)(jnp.asarray(seeds(**sizes(scale, n=(64, 1_000)))))
        return np.asarray(_fields(keys, *map(jnp.asarray, given)))


@claim("random fields, rho L = 0.4, N = 4 to 1,024: EG's shortest field is at most 1, in units of the O(1/N) bound",
       source="paper", broken={"one step size for both": {"share": 1.0}})  # fmt: skip
def the_best_of_extragradient_stays_below_its_bound(share=0.15, ahead=0.95, *, scale):
    squares, unit = _squares(scale, 0.4, ahead, share), 0.15 * ahead**2 * (1 - ahead**2)
    cases = {str(n): squares[:, : n + 1].min(1).max() * unit * (n + 1) for n in HORIZONS}
    return Evidence.of_cases(cases, at_most=1.0)


@claim("the worst rotation for N = 4 to 1,024 steps of PP attains between 1/e and 1 of the last iterate's bound",
       source="paper", deterministic=True,
       broken={"3/4 of the step": {"factor": 0.75}, "a monotone field's bound": {"bound_rho": 0.0}})  # fmt: skip
def the_bound_of_the_proximal_point_is_tight(factor=1.0, bound_rho=0.3):
    lengths = np.geomspace(1e-2, 1.0, 2_000)
    with jax.enable_x64(True):
        factors = convergence_factors(PP, turning_matrix(-0.3 * lengths, lengths), [factor])[:, 0]
    worst = {str(n): (lengths**2 * factors ** (2 * n)).max() * (1 - 2 * bound_rho) * n for n in HORIZONS}
    return Evidence.of_cases(worst, within=(np.exp(-1), 1.0))


@claim("random fields, rho L = 1/8: along EG with steps 1/2L the field never grows, ratio at most 1 + 1e-12",
       source="paper", broken={"rho L = 3/8": {"rho": 0.375}, "three times the step": {"step": 1.5}})  # fmt: skip
def the_field_never_grows_along_extragradient(rho=0.125, step=0.5, *, scale):
    squares = _squares(scale, rho, step, 1.0)
    return Evidence((squares[:, 1:] / squares[:, :-1]).max(), at_most=1 + 1e-12)
