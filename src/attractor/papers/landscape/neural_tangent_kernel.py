"""Neural tangent kernel: a wide network trains as kernel regression with a kernel that width makes explicit and fixed.

```python
import jax, jax.numpy as jnp
from attractor.landscape import WideMLP, infinite_ntk, tangent_kernel

inputs = jnp.array([[1.0, 0.0], [0.0, 1.0], [-0.6, 0.8]])
network = WideMLP([2, 256, 1], weight_variance=2.0, key=jax.random.key(0))
print(tangent_kernel(lambda model, x: model(x), network, inputs)[..., 0, 0])
print(infinite_ntk(inputs, hidden=1, weight_variance=2.0).tangent)
```
"""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.landscape.tangent_kernel import tangent_kernel
from attractor.landscape.wide_limits import RELU, WideMLP, infinite_ntk, linearized_dynamics, recorded_descent
from attractor.papers.words import Evidence, cached, claim, log_slope, mean, seeds, sizes

ANGLES = 2.4 * np.arange(20)  # spread over the circle without symmetry
INPUTS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)
SCALING: dict[str, Any] = {"weight_variance": 2.0, "bias_variance": 0.01}
RECORDS, STEPS = 21, 40  # of gradient descent, at a rate of STEPS^-1 over the top eigenvalue
MODES = 3


@cache
def _limit(hidden):
    return infinite_ntk(INPUTS, hidden=hidden, **SCALING)


def _kernel(model, inputs, scale):
    return tangent_kernel(lambda m, x: scale * m(x), model, inputs)[..., 0, 0]


@cached
def _at_start(width, n):  # of networks with two hidden layers, the tangent kernels (seed, 20, 20)

    def one(seed):
        return _kernel(WideMLP([2, width, width, 1], **SCALING, key=jr.key(seed)), jnp.asarray(INPUTS), 1.0)

    return np.asarray(jax.jit(partial(jax.lax.map, one))(jnp.asarray(seeds(n))), float)


@cache
def _targets():
    """The top eigenvectors of the limiting kernel, equally, and larger than outputs are at the start."""
    return 2 * np.sqrt(len(INPUTS)) * np.linalg.eigh(_limit(1).tangent)[1][:, -MODES:].sum(1)


@cached
def _both_trained(width, n):
    """One hidden layer: per record the outputs, and the kernels at both ends, arrays (scaling, seed, ...). The second
    scaling is that of the mean field: outputs over another root of the width, and as many times the rate."""
    inputs, targets = jnp.asarray(INPUTS), jnp.asarray(_targets())

    def one(scale, seed):
        model = WideMLP([2, width, 1], **SCALING, key=jr.key(seed))
        rate = _unit() / STEPS / scale**2
        values, end = recorded_descent(model, inputs, targets, rate, RECORDS, STEPS, scale)
        return values, _kernel(model, inputs, scale), _kernel(end, inputs, scale)

    scales = jnp.array([1.0, width**-0.5])
    found = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(scales, jnp.asarray(seeds(n)))
    return [np.asarray(part, float) for part in found]


def _unit():
    """The time in which the limiting dynamics divide the largest eigenvector's residual by e."""
    return 1 / float(np.linalg.eigvalsh(_limit(1).tangent)[-1])


def _trained(width, n, mean_field=False):
    return _unit() * np.arange(RECORDS), *(part[int(mean_field)] for part in _both_trained(width, n))


def _distances(a, b):
    return np.linalg.norm(a - b, axis=(-2, -1)) / np.linalg.norm(b, axis=(-2, -1))


@claim("two hidden ReLU layers, width 32 to 512: the kernel nears its limit as width^-1/2 (slope -0.65 to -0.35)",
       source="scaled", broken={"gradients of the last layer only": {"kernel": "covariance"}})  # fmt: skip
def kernel_converges(kernel="tangent", *, scale):
    size = sizes(scale, widths=((32, 128, 512), (32, 128, 512, 2048)), n=(48, 64))
    limit = getattr(_limit(2), kernel)
    distances = np.stack([_distances(_at_start(width, size["n"]), limit) for width in size["widths"]], 1)
    return Evidence(log_slope(size["widths"], distances), within=(-0.65, -0.35), note=str(distances.mean(0).round(3)))


@claim("one hidden ReLU layer, trained: the kernel's relative change falls with width from 128 to 2048, slope <= -0.35",
       source="scaled", broken={"outputs over the width, not its root": {"mean_field": True}})  # fmt: skip
def kernel_stays_fixed(mean_field=False, *, scale):
    size = sizes(scale, widths=((128, 512, 2048), (128, 512, 2048, 8192)), n=(8, 16))
    runs = [_trained(width, size["n"], mean_field) for width in size["widths"]]
    drift = np.stack([_distances(end, start) for _, _, start, end in runs], 1)
    residual = [np.linalg.norm(f[:, -1] - _targets()) / np.linalg.norm(f[:, 0] - _targets()) for _, f, _, _ in runs]
    given = {"trained to a fifth of the residual": max(residual) < 0.2}
    return Evidence(log_slope(size["widths"], drift), at_most=-0.35, given=given, note=str(drift.mean(0).round(3)))


@claim("width 2048: outputs follow y + exp(-Kt)(f0 - y), K the limiting kernel, within 5 % of the first residual",
       source="scaled", broken={"a loss without its half": {"factor": 2.0},
                                "gradients of the last layer only": {"kernel": "covariance"}})  # fmt: skip
def outputs_follow_the_linear_ode(factor=1.0, kernel="tangent", *, scale):
    size = sizes(scale, width=(2048, 8192), n=(8, 16))
    times, outputs, *_ = _trained(size["width"], size["n"])
    targets, K = _targets(), factor * getattr(_limit(1), kernel)
    far = [np.linalg.norm(f - linearized_dynamics(K, f[0], targets, times), axis=1).max() for f in outputs]
    return Evidence(mean(far / np.linalg.norm(outputs[:, 0] - targets, axis=1)), at_most=0.05)


@claim("width 2048: along each of the top 3 eigenvectors the residual decays at the kernel's eigenvalue, within 10 %",
       source="ours", broken={"eigenvalues of the covariance": {"kernel": "covariance"}})  # fmt: skip
def decays_at_the_eigenvalues(kernel="tangent", *, scale):
    size = sizes(scale, width=(2048, 8192), n=(8, 16))
    times, outputs, *_ = _trained(size["width"], size["n"])
    values, vectors = np.linalg.eigh(getattr(_limit(1), kernel))
    ratios = {}
    for i in range(1, MODES + 1):
        residual = np.abs((outputs - _targets()) @ vectors[:, -i])
        at = max(1, int(np.argmin(np.abs(times * values[-i] - 1))))  # when theory has it at 1/e
        ratios[f"eigenvalue {i}"] = mean(-np.log(residual[:, at] / residual[:, 0]) / times[at] / values[-i])
    return Evidence.of_cases(ratios, within=(0.9, 1.1))


@claim("12 points on the circle: smallest over largest eigenvalue of the limiting kernel is over 1e-9, ReLU and tanh",
       source="ours", deterministic=True,
       broken={"polynomial activations": {"activations": (np.square, lambda z: z**3 + z)}})  # fmt: skip
def limit_is_positive_definite(activations=(RELU, np.tanh)):
    kernels = [infinite_ntk(INPUTS[:12], hidden=1, activation=f, **SCALING).tangent for f in activations]
    values = [np.linalg.eigvalsh(kernel) for kernel in kernels]
    return Evidence.of_cases({f"activation {i}": float(v[0] / v[-1]) for i, v in enumerate(values)}, at_least=1e-9)
