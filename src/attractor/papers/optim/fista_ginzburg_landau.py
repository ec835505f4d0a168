"""Momentum speeds up the convex-concave splitting of the Ginzburg-Landau energy, on a torus and on graphs.

```python
import jax, jax.numpy as jnp
from attractor.optim import GinzburgLandau, fista

domain, u = GinzburgLandau.torus(64, eps=0.05), jax.random.uniform(jax.random.key(0), (64, 64), minval=-0.1, maxval=0.1)
for momentum in (0.0, lambda t: t / (t + 3)):
    _, energy = fista(domain.grad_concave, domain.prox_convex, u, 0.05, 60, momentum, domain.energy)
    print(energy[19::20])  # with momentum, lower after as many steps
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.optim.phase_field import GinzburgLandau
from attractor.optim.splitting import fista
from attractor.papers.words import Evidence, cached, claim, first_step, key, mean, seeds, sizes
from attractor.problems.graphs import digits_graph

EPS = 0.03


class _Explicit(GinzburgLandau):  # all of the double well by its gradient, the Laplacian implicit
    def grad_concave(self, u):
        return (u**3 - u) / self.eps

    def prox_convex(self, v, step):
        return self.synthesize(self.analyze(v) / (1 + step * self.eps * self.eigenvalues))


@claim(
    "64 x 64 torus: without momentum no step of size 1e-3 to 1e3 raises the energy, but for 1e-12 of the initial one",
    source="ours", broken={"double well explicit": {"domain": _Explicit}})  # fmt: skip
def the_splitting_lowers_the_energy(domain=GinzburgLandau):
    with jax.enable_x64(True):
        torus, u = domain.torus(64, EPS), jr.uniform(key(), (64, 64), minval=-1, maxval=1)

        def rise(step):
            energy = fista(torus.grad_concave, torus.prox_convex, u, step, 200, 0.0, torus.energy)[1]
            return jnp.diff(energy).max() / energy[0]

        rises = {f"step {step:g}": float(jax.jit(rise)(step)) for step in (1e-3, 1e-2, 1e-1, 1.0, 1e3)}
    return Evidence.of_cases(rises, at_most=1e-12)


def _nesterov(t):
    return t / (t + 3)


@cached
def _energies(momentum, step, size, fields):
    """After each of 300 steps, ``(fields, steps)``, in double precision: a flow that nearly rests still descends."""
    with jax.enable_x64(True):
        torus = GinzburgLandau.torus(size, EPS)
        starts = jr.uniform(key(), (len(seeds(fields)), size, size), minval=-0.1, maxval=0.1)
        fall = jax.jit(lambda u: fista(torus.grad_concave, torus.prox_convex, u, step, 300, momentum, torus.energy)[1])
        return np.stack([fall(u) for u in starts])


def _shares(momentum, step, at, scale):
    """Of the flow's steps to its energy after so many, what momentum takes; and whether the flow still descends."""
    how = sizes(scale, step=step, size=(128, 512), fields=(8, 20))
    flow, ours = _energies(0.0, **how), _energies(momentum, **how)
    shares = {f"{n} steps": mean(first_step(ours, flow[:, n - 1], np.arange(1, 301)) / n) for n in at}
    return shares, {"the flow still descends": (np.diff(flow[:, : at[-1]]) < 0).all()}


@claim("128² torus, step eps: to the flow's energy after 25, 50 and 100 steps momentum takes at most 0.67 of them",
       source="ours", broken={"the counter stands still": {"momentum": lambda t: 1 / 4}})  # fmt: skip
def momentum_needs_fewer_steps(momentum=_nesterov, *, scale):
    shares, given = _shares(momentum, EPS, (25, 50, 100), scale)  # many fields come to rest, at energy 0, soon after
    return Evidence.of_cases(shares, at_most=0.67, given=given)


@claim(
    "128² torus, a step of 1,000 eps, too large: to the flow's energy after 50 steps momentum takes over 0.9 of them",
    source="ours", broken={"a step of eps": {"step": EPS}}, reason="no step was too large: "
    "the implicit part saturates, and momentum still halves the steps (0.49)")  # fmt: skip
def momentum_needs_a_step_that_is_not_too_large(step=1_000 * EPS, *, scale):
    shares, given = _shares(_nesterov, step, (50,), scale)
    return Evidence.of_cases(shares, at_least=0.9, given=given)


@eqx.filter_jit
def _minimized(graph, momentum):
    return fista(graph.grad_concave, graph.prox_convex, jnp.zeros_like(graph.labels), 0.5, 300, momentum)[0]


@claim("digits 4 and 9, 5 % labeled, 10 draws: accuracy at least 0.90, and at most 1 point below the gradient flow's",
       source="ours", broken={"labels ignored": {"fidelity": 0.0}})  # fmt: skip
def labels_spread_over_the_graph(fidelity=10.0, *, scale):
    (y, weights), accuracies = digits_graph(), []
    for seed in seeds(**sizes(scale, n=(10, 100))):
        labeled = np.random.default_rng(seed).permutation(len(y)) < len(y) // 20
        graph = GinzburgLandau.graph(weights, 0.5, jnp.asarray(np.where(labeled, y, 0.0)), fidelity)
        both = (np.asarray(_minimized(graph, momentum)) for momentum in (_nesterov, 0.0))
        accuracies.append([np.mean((u > 0) == (y > 0), where=~labeled) for u in both])
    ours, flow = np.array(accuracies).T
    margins = {"accuracy less 0.9": mean(ours - 0.9), "accuracy less the flow's, plus 0.01": mean(ours - flow + 0.01)}
    return Evidence.of_cases(margins, at_least=0.0, note=f"momentum {ours.mean():.3f}, flow {flow.mean():.3f}")
