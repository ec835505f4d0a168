"""Momentum speeds up the convex-concave splitting of the Ginzburg-Landau energy, on a torus and on graphs.

```python
import jax
import jax.numpy as jnp
from attractor.optim import GinzburgLandau, fista

domain = GinzburgLandau.torus(64, eps=0.05)
u = jax.random.uniform(jax.random.key(0), (64, 64), minval=-0.1, maxval=0.1)
for momentum in (0.0, lambda t: t / (t + 3)):
    _, energy = fista(domain.grad_concave, domain.prox_convex, u, 0.05, 60, momentum, domain.energy)
    print(energy[19::20])  # with momentum, lower after as many steps
```
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph

from attractor.optim.phase_field import GinzburgLandau
from attractor.optim.splitting import fista
from attractor.papers import Evidence, claim
from attractor.stats import Interval, mean

SLUG = "fista-ginzburg-landau"
EPS = 0.03


class _Explicit(GinzburgLandau):
    """All of the double well by its gradient, the Laplacian implicit."""

    def grad_concave(self, u):
        return (u**3 - u) / self.eps

    def prox_convex(self, v, step):
        return self.synthesize(self.analyze(v) / (1 + step * self.eps * self.eigenvalues))


@claim(
    SLUG,
    "64 x 64 torus: without momentum no step of size 1e-3 to 1e3 raises the energy, but for 1e-12 of the initial one",
    broken={"double well explicit": {"domain": _Explicit}},
)
def the_splitting_lowers_the_energy(domain=GinzburgLandau, *, scale):
    with jax.enable_x64(True):
        torus, u = domain.torus(64, EPS), jr.uniform(jr.key(0), (64, 64), minval=-1, maxval=1)
        flow = eqx.filter_jit(
            lambda u, step: fista(torus.grad_concave, torus.prox_convex, u, step, 200, 0.0, torus.energy)
        )
        energies = [np.asarray(flow(u, jnp.asarray(step))[1]) for step in (1e-3, 1e-2, 1e-1, 1.0, 1e3)]
    rises = [np.max(np.diff(e) / e[0]) if np.isfinite(e).all() else np.inf for e in energies]
    return Evidence(max(rises), at_most=1e-12)


@claim(
    SLUG,
    "128 x 128 torus, 5 fields, step size eps: momentum needs at most 0.67 of the 500 steps of the gradient flow "
    "to the same energy",
    broken={"no momentum": {"momentum": 0.0}},
)
def momentum_needs_fewer_steps(momentum=lambda t: t / (t + 3), *, scale):
    size, fields = (128, 5) if scale == "quick" else (512, 20)
    torus = GinzburgLandau.torus(size, EPS)
    starts = jr.uniform(jr.key(0), (fields, size, size), minval=-0.1, maxval=0.1)

    @functools.partial(jax.jit, static_argnums=1)
    def energies(u, momentum):
        return fista(torus.grad_concave, torus.prox_convex, u, EPS, 500, momentum, torus.energy)[1]

    flow, ours = (np.stack([energies(u, m) for u in starts]) for m in (0.0, momentum))
    reached = ours <= flow[:, -1:]
    share = np.where(reached.any(1), (reached.argmax(1) + 1) / 500, np.inf)
    note = f"energy {flow[:, -1].mean():.0f} of the flow, {ours[:, -1].mean():.0f} with momentum"
    return Evidence(mean(share), at_most=0.67, note=note)


@functools.cache
def _fours_and_nines():
    """Images of two digits that look alike: labels, and the weights of their 10-nearest-neighbor graph."""
    x, y = load_digits(return_X_y=True)
    x, y = x[np.isin(y, [4, 9])], y[np.isin(y, [4, 9])]
    distances = kneighbors_graph(x, 10, mode="distance").toarray()
    weights = np.where(distances > 0, np.exp(-((distances / distances[distances > 0].mean()) ** 2)), 0)
    return np.where(y == 9, 1.0, -1.0), np.maximum(weights, weights.T)


def _nesterov(t):
    return t / (t + 3)


@eqx.filter_jit
def _minimized(graph, momentum):
    return fista(graph.grad_concave, graph.prox_convex, jnp.zeros_like(graph.labels), 0.5, 300, momentum)[0]


@claim(
    SLUG,
    "digits 4 and 9, 5 % labeled, 10 draws: accuracy on the rest at least 0.90, and at most 1 point below the gradient "
    "flow's (the smaller margin)",
    broken={"labels ignored": {"fidelity": 0.0}},
)
def labels_spread_over_the_graph(fidelity=10.0, *, scale):
    y, weights = _fours_and_nines()
    accuracy = {"momentum": [], "flow": []}
    for seed in range(10 if scale == "quick" else 100):
        labeled = np.random.default_rng(seed).permutation(len(y)) < len(y) // 20
        graph = GinzburgLandau.graph(weights, 0.5, jnp.asarray(np.where(labeled, y, 0.0)), fidelity)
        for name, momentum in (("momentum", _nesterov), ("flow", 0.0)):
            u = np.asarray(_minimized(graph, momentum))
            accuracy[name].append(np.mean((u > 0) == (y > 0), where=~labeled))
    ours, flow = np.array(accuracy["momentum"]), np.array(accuracy["flow"])
    margins: list[Interval] = [mean(ours - 0.9), mean(ours - flow + 0.01)]
    note = f"momentum {ours.mean():.3f}, flow {flow.mean():.3f}"
    return Evidence(min(margins, key=lambda margin: margin.low), at_least=0.0, note=note)
