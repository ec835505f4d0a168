"""Two-timescale extragradient: a slow minimizer finds local minimax points, degenerate ones included.

```python
import attractor
from attractor import games, problems

game = problems.degenerate_minimax()  # min over x, max over y of -x²/10 + xy
trace = attractor.run(game, games.TwoTimescaleExtragradient(0.5, timescale=10.0), steps=500, seeds=4)
print(trace.summary("distance"))
print(games.local_minimax_curvatures(game.payoff, *game.solution))
```
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree

from attractor.games.extragradient import GradientDescentAscent, TwoTimescaleExtragradient
from attractor.games.local_minimax import local_minimax_curvatures
from attractor.papers.words import Evidence, cached, claim, key, proportion, seeds, sizes
from attractor.problems.minimax_quadratics import degenerate_minimax, minimax_quadratic


class _Backward(TwoTimescaleExtragradient):  # extrapolates the wrong way
    def step(self, problem, x, state, key):
        ahead = self.follow(problem.field(x, None), x)
        behind = jax.tree.map(lambda z, w: 2 * z - w, x, ahead)
        return self.follow(problem.field(behind, None), x), state


def _unrestricted(payoff, x, y, tolerance):
    """The classical condition, with a pseudo-inverse where it asks for an inverse."""
    (f_xx, f_xy), (f_yx, f_yy) = jax.hessian(payoff, (0, 1))(x, y)
    schur = f_xx - f_xy @ jnp.linalg.pinv(f_yy, rtol=tolerance) @ f_yx
    return jnp.linalg.eigvalsh(f_yy)[-1], jnp.linalg.eigvalsh(schur)[0]


@claim("local minimax point of -x²/10 + xy, one step size for all timescales 1 … 100: spectral radius at most 0.9999",
       source="ours", deterministic=True,
       broken={"no extrapolation (descent-ascent)": {"method": GradientDescentAscent},
               "extrapolates backward": {"method": _Backward}})  # fmt: skip
def converges_where_the_maximizer_has_no_curvature(method=TwoTimescaleExtragradient, *, scale):
    timescales = np.geomspace(1, 100, 1_000 if scale == "full" else 50)
    steps = np.geomspace(1e-3, 0.9 / np.linalg.norm([[-0.2, 1.0], [-1.0, 0.0]], 2), 40)
    with jax.enable_x64(True):
        game = degenerate_minimax(bend=0.2, coupling=1.0)

        def jacobian(eta, tau):
            return _jacobian(game, method(eta, tau))

        radius = _radius(jax.jit(jax.vmap(jax.vmap(jacobian, (None, 0)), (0, None)))(steps, timescales)).max(1)
    return Evidence(radius.min(), at_most=0.9999, note=f"at step {steps[radius.argmin()]:.2g}, best of 40 below 1/L")


@claim("timescale 1e4, step 0.9/L, random quadratics: 0 attracting points violate the second-order necessary condition",
       source="paper", broken={"one timescale": {"timescale": 1.0},
                               "Schur complement not restricted": {"curvatures": _unrestricted}})  # fmt: skip
def settles_only_where_the_necessary_condition_holds(timescale=1e4, curvatures=local_minimax_curvatures, *, scale):
    attracts, minimax = _random_quadratics(TwoTimescaleExtragradient, timescale, curvatures, scale)
    note = f"{attracts.sum()} attracting among {attracts.size} clear cases"
    return Evidence(int((attracts & ~minimax).sum()), at_most=0, given={"some attract": attracts.any()}, note=note)


@claim("timescale 1e4, step 0.9/L, quadratics with singular f_yy: at least 90 % of the local minimax points attract",
       source="ours", broken={"no extrapolation (descent-ascent)": {"method": GradientDescentAscent}})  # fmt: skip
def attracted_to_local_minimax_points(method=TwoTimescaleExtragradient, *, scale):
    attracts, minimax = _random_quadratics(method, 1e4, local_minimax_curvatures, scale)
    return Evidence(proportion(int((attracts & minimax).sum()), int(minimax.sum())), at_least=0.9)


@cached
def _random_quadratics(method, timescale, curvatures, scale):
    """Whether 0 attracts, and whether it is a local minimax point, leaving out cases nearer than 0.05 to the border."""
    count, n, rank = len(seeds(**sizes(scale, n=(2_000, 50_000)))), 4, 2

    def one(own):
        for_xx, for_xy, for_yy, for_sign = jr.split(own, 4)
        f_xx, f_xy, root = jr.normal(for_xx, (n, n)), jr.normal(for_xy, (n, n)), jr.normal(for_yy, (n, rank))
        f_yy = root * jnp.where(jr.uniform(for_sign, (rank,)) < 0.9, -1.0, 1.0) @ root.T
        game = minimax_quadratic(0.15 * (f_xx + f_xx.T), f_xy, f_yy)
        field = jax.jacfwd(lambda z: jnp.concatenate(game.field((z[:n], z[n:]), None)))(jnp.zeros(2 * n))
        step = _jacobian(game, method(0.9 / jnp.linalg.norm(field, 2), timescale))
        return step, *curvatures(game.payoff, *game.solution, tolerance=1e-9)

    with jax.enable_x64(True):
        step, maximizer, minimizer = map(np.asarray, jax.jit(jax.vmap(one))(jr.split(key(), count)))
    concave, saddle = maximizer <= 1e-9, maximizer >= 0.05
    clear = saddle | (concave & (np.abs(minimizer) >= 0.05))
    return (_radius(step) < 1)[clear], (concave & (minimizer > 0))[clear]


def _jacobian(game, method):  # of one step, at the stationary point 0
    start, restore = ravel_pytree(game.solution)
    return jax.jacfwd(lambda z: ravel_pytree(method.step(game, restore(z), None, jr.key(0))[0])[0])(start)


def _radius(step):
    """Spectral radius: below 1 the method converges to the point from nearby, above 1 it is repelled."""
    return np.abs(np.linalg.eigvals(np.asarray(step))).max(-1)
