"""Neural signature kernels: what random networks driven by paths become as width and depth grow.

```python
import jax, numpy as np
from attractor.landscape import controlled_resnet, signature_kernel

t = np.linspace(0, 1, 21)
paths = np.stack([np.stack([t, np.sin(3 * t)], 1), np.stack([np.cos(3 * t), t], 1)])
states = controlled_resnet(jax.random.key(0), jax.numpy.asarray(paths), 200)
print((states[0] * states[1]).mean(), signature_kernel(*paths)[-1, -1])
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape.deep_limits import controlled_resnet, neural_signature_kernel, signature_kernel
from attractor.landscape.wide_limits import RELU, PiecewiseLinear
from attractor.papers.words import Evidence, Interval, bootstrap, cached, claim, log_slope, seeds, sizes

IDENTITY = PiecewiseLinear(1.0, 1.0)
STEPS = 40
WIDTHS = (40, 80, 160)
BIASES = {"activation": RELU, "bias_variance": 0.3}
NETS = {"identity": {"activation": IDENTITY}, "identity, drawn anew": {"activation": IDENTITY, "shared": False},
        "ReLU": BIASES, "ReLU, drawn anew": BIASES | {"shared": False}}  # fmt: skip


def _paths(steps):  # two smooth paths in the plane, of a length near 2
    t = np.linspace(0, 1, steps + 1)
    return np.stack([np.stack([t, np.sin(2 * t)], 1), np.stack([np.sin(3 * t) / 2, 1.5 * t], 1)])


def _exact():
    return signature_kernel(*_paths(320))[-1, -1]


@cached
def _products(net, width, draws):
    """Of random networks, the mean of the two states' product over units, one a draw."""
    call = jax.vmap(partial(controlled_resnet, width=width, **NETS[net]), (0, None))
    states = jax.jit(lambda keys, paths: jax.lax.map(lambda k: call(k, paths), keys.reshape(-1, 8)))(
        jax.vmap(jr.key)(jnp.asarray(seeds(draws, stream=WIDTHS.index(width)))), jnp.asarray(_paths(STEPS), jnp.float32)
    )
    states = np.asarray(states, float).reshape(-1, 2, width)
    return (states[:, 0] * states[:, 1]).mean(1)


def _over(sample, kernel):  # the mean's interval in units of a kernel's value
    found = bootstrap(lambda draws: draws.mean(-1), sample)
    return Interval(found.value / kernel, found.low / kernel, found.high / kernel)


@claim("two smooth paths: the kernel of shared linear weights nears the signature kernel as depth^-1 (slope <= -0.9)",
       source="paper", deterministic=True, broken={"weights drawn at every step": {"net": "identity, drawn anew"},
                                                   "fields of twice the variance": {"factor": 2.0}})  # fmt: skip
def linear_kernel_is_the_signature_kernel(net="identity", factor=1.0):
    depths = (20, 40, 80, 160)
    values = [neural_signature_kernel(*_paths(n), **NETS[net], weight_variance=factor) for n in depths]
    error = np.abs(np.array(values) / _exact() - 1)
    return Evidence(log_slope(depths, error).value, at_most=-0.9, note=str(error.round(4)))


@claim("shared linear weights, width 160, 40 steps: the mean product of two states is the signature kernel within 5 %",
       source="scaled", broken={"kernel of weights drawn anew": {"kernel": "identity, drawn anew"}})  # fmt: skip
def shared_weights_give_the_signature_kernel(kernel=None, *, scale):
    sample = _products("identity", 160, **sizes(scale, draws=(1_600, 8_000)))
    value = neural_signature_kernel(*_paths(320), **NETS[kernel]) if kernel else _exact()
    return Evidence(_over(sample, value), within=(0.95, 1.05))


@claim("ReLU and biases, 40 steps: the mean product is the kernel's within 5 %, shared (width 160) and drawn anew (80)",
       source="scaled", broken={"the two kernels exchanged": {"exchanged": True},
                                "the linear kernel": {"activation": IDENTITY}})  # fmt: skip
def nonlinear_networks_follow_the_equation(exchanged=False, activation=None, *, scale):
    names, cases = ("ReLU", "ReLU, drawn anew"), {}
    for net, of in zip(names, names[:: -1 if exchanged else 1], strict=True):
        how = NETS[of] | ({"activation": activation} if activation else {})
        width, draws = (160, (800, 8_000)) if net == "ReLU" else (80, (400, 4_000))
        sample = _products(net, width, **sizes(scale, draws=draws))
        cases[net] = _over(sample, neural_signature_kernel(*_paths(STEPS), **how))
    return Evidence.of_cases(cases, within=(0.95, 1.05))


@claim("shared linear weights: the product's deviation over draws falls as width^-1/2, slope -0.6 to -0.4, 40 to 160",
       source="scaled", broken={"variance for deviation": {"power": 2.0}},
       reason="-0.55 to -0.57, with an interval that reaches beyond -0.6: width 40 has heavier tails")  # fmt: skip
def fluctuations_fall_as_the_root_of_width(power=1.0, *, scale):
    size = sizes(scale, draws=(1_600, 8_000))
    groups = np.stack([_products("identity", width, **size).reshape(8, -1).std(1, ddof=1) for width in WIDTHS], 1)
    return Evidence(log_slope(WIDTHS, groups**power), within=(-0.6, -0.4), note=str(groups.mean(0).round(3)))
