"""Maximum margin alone says which features solve modular addition (single frequencies) and parities (the subset).

```python
from attractor.landscape import frequency_share, largest_modular_margin, max_margin_modular_addition, normalized_margin

net = max_margin_modular_addition(7)  # or QuadraticNet(a, b, c) with your own weights
print(normalized_margin(net), largest_modular_margin(7))
print(frequency_share(net.c))
```
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.landscape import algebraic_tasks as tasks
from attractor.papers.words import Evidence, cached, claim, descend, mean, seeds, sizes


def _phases_off(d):
    net = tasks.max_margin_modular_addition(d)
    return net._replace(c=jnp.roll(net.c[:, ::-1], 1, 1))


def _unequal(d):
    net = tasks.max_margin_modular_addition(d)
    return net._replace(c=2 * net.c)


@claim("p = 5, 7, 11 and 23: cosines with matched phases have the margin sqrt(2/27) / (sqrt(p) (p - 1)), within 1e-9",
       source="paper", deterministic=True, broken={"the sum's phase has the wrong sign": {"net": _phases_off},
                                                   "layers of unequal norm": {"net": _unequal}})  # fmt: skip
def cosines_have_the_largest_margin(net=tasks.max_margin_modular_addition):
    with jax.enable_x64(True):
        margins = {p: float(tasks.normalized_margin(net(p))) for p in (5, 7, 11, 23)}
    ratios = {f"p = {p}": margin / tasks.largest_modular_margin(p) - 1 for p, margin in margins.items()}
    return Evidence.of_cases(ratios, within=(-1e-9, 1e-9))


@claim("parity of k = 2, 3 and 4 of 6 bits: 2^(k-1) nodes have the margin k! sqrt(2 (k + 1)^-(k + 1)), within 1e-9",
       source="paper", deterministic=True,
       broken={"half of the sign patterns": {"keep": 2}, "equal norm of both layers": {"balance": True}})  # fmt: skip
def parity_has_the_largest_margin(keep=1, balance=False):
    ratios = {}
    for subset in ([1, 4], [0, 2, 5], [0, 1, 3, 4]):
        first, second, largest = tasks.max_margin_parity(6, subset)
        stretch = len(subset) ** 0.5 if balance else 1.0
        margin = tasks.parity_margin(first[::keep], stretch * second[::keep], subset)
        ratios[f"k = {len(subset)}"] = margin / largest - 1
    return Evidence.of_cases(ratios, within=(-1e-9, 1e-9))


@cached
def _trained(p, scale):
    """Nets (penalty or none, seed) by Adam on cross-entropy + 1e-4 times the 2,3-norm cubed; margins over the best."""
    size = sizes(scale, steps=(3_000, 20_000), seeds=(8, 20), nodes=(6 * p, 30 * p))
    labels = jnp.asarray(tasks.sums_modulo(p))

    def loss(net, penalty):
        entropy = optax.softmax_cross_entropy_with_integer_labels(net.outputs(), labels).mean()
        return entropy + penalty * tasks.group_norm(jnp.concatenate(net, 1), 3.0) ** 3

    @jax.jit
    @lambda f: jax.vmap(jax.vmap(f, (None, 0)), (0, None))
    def train(penalty, key):
        optimizer = optax.adam(optax.cosine_decay_schedule(0.02, size["steps"]))
        start = tasks.QuadraticNet(*(0.3 * jr.normal(key, (3, size["nodes"], p))))
        net = descend(optimizer, lambda net, _: jax.grad(loss)(net, penalty), start, size["steps"])
        return net, tasks.normalized_margin(net) / tasks.largest_modular_margin(p)

    return jax.tree.map(np.asarray, train(jnp.array([1e-4, 0.0]), jnp.stack([jr.key(s) for s in seeds(size["seeds"])])))


def _nodes(p, which, scale):
    """Per run, of live nodes: least share of power in one frequency, of a, b and c; frequencies; their coefficients."""
    for tables in zip(*(table[which] for table in _trained(p, scale)[0]), strict=True):
        shares, frequencies = zip(*map(tasks.frequency_share, tables), strict=True)
        waves = [np.fft.fft(t, axis=1)[np.arange(len(t)), f] for t, f in zip(tables, frequencies, strict=True)]
        size = np.linalg.norm(np.concatenate(tables, 1), axis=1)
        live = size > 0.1 * size.max()
        yield np.min(shares, 0)[live], np.stack(frequencies)[:, live], [w[live] for w in waves]


def _given(p, which, scale):
    return {"all sums are right": bool((_trained(p, scale)[1][which] > 0).all())}


@claim("p = 7, 42 nodes, 8 runs with a small 2,3-norm penalty: the margin is at least 90 % of the largest",
       source="scaled", broken={"no penalty": {"which": 1}})  # fmt: skip
def training_finds_the_margin(which=0, *, scale):
    return Evidence(mean(_trained(7, scale)[1][which]), at_least=0.9, given=_given(7, which, scale))


@claim("p = 7, 42 nodes, 8 runs: 95 % of nodes have 90 % of their power in one frequency, the same in a, b and c",
       source="scaled", broken={"no penalty": {"which": 1}})  # fmt: skip
def nodes_have_one_frequency(which=0, *, scale):
    pure = [np.mean((share >= 0.9) & (f == f[0]).all(0)) for share, f, _ in _nodes(7, which, scale)]
    return Evidence(mean(pure), at_least=0.95, given=_given(7, which, scale))


@claim("p = 7, 42 nodes, 8 runs: all 3 frequencies occur, and phases add up, off by at most 0.1 rad on average",
       source="scaled", broken={"the sum's phase has the wrong sign": {"sign": -1}})  # fmt: skip
def phases_add_up(which=0, sign=1, *, scale):
    found = list(_nodes(7, which, scale))
    off = [np.abs(np.angle(a * b * (c.conj() if sign > 0 else c))).mean() for _, _, (a, b, c) in found]
    given = _given(7, which, scale) | {"all frequencies occur": all(set(f[0]) == {1, 2, 3} for _, f, _ in found)}
    return Evidence(mean(off), at_most=0.1, given=given)
