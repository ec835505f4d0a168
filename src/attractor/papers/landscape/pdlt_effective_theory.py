"""Effective theory of deep networks: criticality by activation, and fluctuations that grow as depth over width.

```python
import numpy as np
from attractor.landscape import RELU, criticality, kernel_recursion

print(criticality(RELU), criticality(np.tanh))
layers = kernel_recursion(np.tanh, 50, weight_variance=1.0)
print(layers.kernel[-1], layers.vertex[-1] / layers.kernel[-1] ** 2)
```
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.special import erf

from attractor.landscape.tangent_kernel import tangent_kernel
from attractor.landscape.wide_limits import RELU, Criticality, PiecewiseLinear, WideMLP, criticality, kernel_recursion
from attractor.papers.words import Evidence, cached, claim, log_slope, mean, seeds, sizes

LINEAR = PiecewiseLinear(1.0, 1.0)
CONSTANTS = {"ReLU": (RELU, 2.0, 0.0), "linear": (LINEAR, 1.0, 0.0), "tanh": (np.tanh, 1.0, 0.0),
             "GELU": (lambda z: z * (1 + erf(z / np.sqrt(2))) / 2, 1.98305826, 0.17292239),
             "SWISH": (lambda z: z / (1 + np.exp(-z)), 1.98800468, 0.55514317)}  # fmt: skip


def _at_unit_variance(quantity):  # a shortcut: one condition alone, at K = 1, without biases

    def find(activation):
        one = kernel_recursion(activation, 2, weight_variance=1.0)
        return Criticality(1 / (one.perpendicular[0] if quantity == "slope" else one.kernel[1]), 0.0, 1.0)

    return find


@claim("critical C_w, C_b: ReLU 2, 0; linear and tanh 1, 0; GELU 1.98305826, 0.17292239; SWISH 1.98800468, 0.55514317",
       source="paper", deterministic=True,
       broken={"keeps gradients at K = 1": {"find": _at_unit_variance("slope")},
               "keeps the variance at K = 1": {"find": _at_unit_variance("variance")}})  # fmt: skip
def critical_constants(find=criticality):
    cases = {}
    for name, (activation, *constants) in CONSTANTS.items():
        cases[name] = float(np.abs(np.array(find(activation)[:2]) - constants).max())
    return Evidence.of_cases(cases, at_most=1e-7)


@claim("at criticality the kernel falls as 1 / (2 l) for tanh and 1 / l for sin: within 2 % at depths 200 and 800",
       source="paper", deterministic=True,
       broken={"C_w 1 % too large": {"factor": 1.01}, "C_w 1 % too small": {"factor": 0.99}})  # fmt: skip
def kernels_fall_as_powers(factor=1.0):
    cases = {}
    for name, activation, power in (("tanh", np.tanh, 2), ("sin", np.sin, 1)):
        kernel = kernel_recursion(activation, 800, weight_variance=factor * criticality(activation)[0]).kernel
        cases |= {f"{name}, layer {l}": float(power * l * kernel[l - 1]) for l in (200, 800)}
    return Evidence.of_cases(cases, within=(0.98, 1.02))


@cached
def _excesses(name, width, depth, n, networks):
    """E z^4 / 3 (E z^2)^2 - 1 in the last layer, one a seed. Given one layer, the next is Gaussian, and drawn as such;
    of the last one its variance v is enough: E z^4 = 3 E v^2, E z^2 = E v."""
    activation, weight_variance, _ = CONSTANTS[name]
    found = []
    for rng in map(np.random.default_rng, seeds(n)):
        variance = np.ones((networks, 1), np.float32)
        for _ in range(depth - 1):
            z = np.sqrt(variance) * rng.standard_normal((networks, width), np.float32)
            variance = weight_variance * np.mean(np.square(activation(z)), 1, keepdims=True)
        found.append(np.mean(np.square(variance, dtype=float)) / np.mean(variance, dtype=float) ** 2 - 1)
    return np.array(found)


@claim("E z^4 / 3 E[z^2]^2: (1 + 5/n)^(L-1) for ReLU, 2/n for linear, the vertex for tanh; excess within 10 %, L to 9",
       source="paper", broken={"fourth moment not connected": {"connected": False}})  # fmt: skip
def excess_grows_as_depth_over_width(connected=True, *, scale):
    size = sizes(scale, n=(8, 16), networks=(8_000, 64_000))
    cases = {}
    for name, width, depth in (("ReLU", 32, 3), ("ReLU", 64, 5), ("ReLU", 128, 9), ("linear", 32, 5), ("linear", 64, 9),
                               ("tanh", 128, 5), ("tanh", 128, 9)):  # fmt: skip
        activation, weight_variance, _ = CONSTANTS[name]
        flow = kernel_recursion(activation, depth, weight_variance=weight_variance)
        gain = flow.vertex / flow.kernel**2 + (0.0 if connected else np.arange(depth))
        predicted = gain[-1] / width if name == "tanh" else (1 + gain[1] / width) ** (depth - 1) - 1
        measured = _excesses(name, width, depth, size["n"], size["networks"])
        cases[f"{name}, width {width}, depth {depth}"] = mean(measured / predicted)
    return Evidence.of_cases(cases, within=(0.9, 1.1))


@cached
def _kernel_spread(width, hidden, n, networks):
    """Of ReLU networks at criticality, the relative variance of the tangent kernel at one input, one a seed."""
    x = jnp.ones((1, 4))

    def one(key):
        model = WideMLP([4, *[width] * hidden, 1], weight_variance=2.0, key=key)
        return tangent_kernel(lambda m, x: m(x), model, x).sum()

    keys = jax.vmap(lambda s: jr.split(jr.key(s), networks))(jnp.asarray(seeds(n)))
    kernels = np.asarray(jax.jit(jax.vmap(lambda k: jax.lax.map(one, k, batch_size=50)))(keys), float)
    return kernels.var(1, ddof=1) / kernels.mean(1) ** 2


@claim("the tangent kernel's relative variance goes as depth over width, slope 0.8 to 1.2: ReLU, 3 or 7 hidden layers",
       source="scaled", broken={"deviation for variance": {"power": 0.5}})  # fmt: skip
def kernel_variance_goes_as_depth_over_width(power=1.0, *, scale):
    size = sizes(scale, n=(8, 16), networks=(250, 4_000))
    shapes = ((128, 3), (64, 3), (32, 3), (64, 7))
    spread = np.stack([_kernel_spread(*shape, size["n"], size["networks"]) ** power for shape in shapes], 1)
    ratio = [hidden / width for width, hidden in shapes]
    return Evidence(log_slope(ratio, spread), within=(0.8, 1.2), note=str(spread.mean(0).round(3)))
