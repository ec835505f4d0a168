"""Wide networks with polynomial activations: how correlations of derivatives scale with width, by counting clusters.

```python
import jax, jax.numpy as jnp
from attractor.landscape import WideMLP, correlation_exponent, derivative_contractions

network = WideMLP([2, 64, 1], lambda z: z**2 + z, key=jax.random.key(0))
print(correlation_exponent(4, [(1, 3), (2, 3)]))  # of the tangent kernel's drift: width^-1
print(derivative_contractions(lambda m: m(jnp.ones(2))[0], network, jax.random.key(1)).drift)
```
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape.wide_limits import correlation_exponent, derivative_contractions
from attractor.papers.words import Evidence, cached, claim, log_slope, seeds, sizes

WIDTHS = (8, 16, 32, 64)
NETS = {  # coefficients of z, z^2, z^3 and ReLU, at E s^2 = 1 for a normal z; and whether a second layer
    "z^2 + z, two hidden layers": ((0.5, 0.5, 0.0, 0.0), True),
    "z^3 + z, one hidden layer": ((22**-0.5, 0.0, 22**-0.5, 0.0), False),
    "ReLU, two hidden layers": ((0.0, 0.0, 0.0, 2**0.5), True),
}
POLYNOMIALS = tuple(NETS)[:2]
CLUSTERS = {"square": (2, []), "tangent": (2, [(0, 1)]), "drift": (4, [(1, 3), (2, 3)])}


def _output(params, coefficients, deep, width, factor):
    """Of a network whose units beyond its width are masked; ``factor`` stands before each sum over units."""
    first, second, last = params
    mask = jnp.arange(last.size) < width

    def activation(z):
        return mask * (jnp.stack([z, z**2, z**3, jax.nn.relu(z)], -1) @ coefficients)

    hidden = activation(first @ jnp.ones(first.shape[1]) * first.shape[1] ** -0.5)
    return factor * last @ jnp.where(deep, activation(factor * second @ hidden), hidden)


def _contractions(key, coefficients, deep, width, standard):
    """In the tangent-kernel parametrization, or in the standard one, whose weights themselves shrink with width."""
    keys, root = jr.split(key, 4), width**-0.5
    inner, factor = jnp.where(standard, root, 1.0), jnp.where(standard, 1.0, root)
    top = WIDTHS[-1]
    params = jr.normal(keys[0], (top, 3)), inner * jr.normal(keys[1], (top, top)), inner * jr.normal(keys[2], (top,))
    return derivative_contractions(lambda p: _output(p, coefficients, deep, width, factor), params, keys[3])


@jax.jit
def _all(keys, *rest):
    call = jax.vmap(jax.vmap(_contractions, (None, None, None, 0, None)), (None, 0, 0, None, None))
    return jax.lax.map(lambda key: call(key, *rest), keys, batch_size=8)


@cached
def _measured(standard, scale):
    """Contractions (seed, network, net of `NETS`, width), the same random numbers for all nets and widths."""
    size = sizes(scale, n=(8, 16), networks=(1_000, 4_000))  # cubes have heavy tails; the standard one is far off
    networks = size["networks"] // (4 if standard else 1)
    coefficients, deep = (jnp.array(part) for part in zip(*NETS.values(), strict=True))
    keys = jnp.stack([jr.split(jr.key(s), networks) for s in seeds(size["n"])]).reshape(-1, 2_000)
    parts = [_all(some, coefficients, deep, jnp.array(WIDTHS), standard)._asdict() for some in keys]
    shape = -1, networks, len(NETS), len(WIDTHS)
    return {name: np.concatenate([part[name] for part in parts]).astype(float).reshape(shape) for name in parts[0]}


def _parity_ignored(tensors, contractions):
    clusters = {i: i for i in range(tensors)}
    for a, b in contractions:
        clusters = {i: clusters[b] if c == clusters[a] else c for i, c in clusters.items()}
    return (len(set(clusters.values())) - tensors) / 2


@claim("E ff, the tangent kernel, its drift: at most width^(s + 0.15), s from clusters; polynomials, width 8 to 64",
       source="paper", broken={"even clusters as odd": {"exponent": _parity_ignored},
                               "the standard parametrization": {"standard": True}})  # fmt: skip
def correlations_obey_the_bound(exponent=correlation_exponent, standard=False, *, scale):
    found, cases = _measured(standard, scale), {}
    for number, net in enumerate(POLYNOMIALS):
        for name, spec in CLUSTERS.items():
            slope = log_slope(WIDTHS, np.abs(found[name][:, :, number].mean(1)))
            above = exponent(*spec)
            cases[f"{net}, {name}"] = type(slope)(slope.value - above, slope.low - above, slope.high - above)
    return Evidence.of_cases(cases, at_most=0.15)


@claim("the tangent kernel's relative variance falls as width^-1: slope at most -0.85, polynomials, width 8 to 64",
       source="paper", broken={"deviation for variance": {"power": 0.5}})  # fmt: skip
def kernel_fluctuations_fall(power=1.0, *, scale):
    kernels = _measured(False, scale)["tangent"]
    relative = kernels.var(1, ddof=1) / kernels.mean(1) ** 2
    return Evidence.of_cases({net: log_slope(WIDTHS, relative[:, i] ** power) for i, net in enumerate(POLYNOMIALS)},
                             at_most=-0.85)  # fmt: skip


@claim("ReLU differs: E f f_mm / E ff is 0 (to 1e-5) at widths 8 to 64, where z^2 + z has at least 0.1",
       source="ours", broken={"a smooth activation": {"net": 1}})  # fmt: skip
def kinks_have_no_trace(net=2, *, scale):
    found = _measured(False, scale)
    share = np.abs(found["trace"].mean((0, 1))) / found["square"].mean((0, 1))  # (net, width)
    given = {"z^2 + z has at least 0.1": share[0].min() >= 0.1}
    note = f"z^2 + z: {share[0].round(2)}"
    return Evidence.of_cases({f"width {w}": float(s) for w, s in zip(WIDTHS, share[net], strict=True)},
                             at_most=1e-5, given=given, note=note)  # fmt: skip
