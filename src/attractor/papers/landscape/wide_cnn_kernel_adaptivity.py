"""Wide deep CNNs adapt to the scale of a target: its patches' dimension sets how fast the error falls, not the input's.

```python
import jax, numpy as np
from attractor.landscape import hierarchical_kernels, learning_curve, patch_cosines, sphere_patches

x = np.asarray(sphere_patches(jax.random.key(0), 300, patches=4))
kernel = hierarchical_kernels(patch_cosines(x, x)).tangent
local = np.arctan2(x[:, 0, 0], x[:, 0, 1])[:, None] ** 2  # of the first patch alone
print(learning_curve(kernel, local, [50, 100, 200]))
```
"""

import jax.random as jr
import numpy as np

from attractor.landscape.kernel_regression import hierarchical_kernels, learning_curve, patch_cosines, sphere_patches
from attractor.landscape.wide_limits import infinite_ntk
from attractor.papers.words import Evidence, Interval, cached, claim, log_slopes, mean, paired_ratio, seeds, sizes

TARGETS = ("local", "pair", "global")  # of one patch, of two that are siblings, and of all


def _connected(x):
    """The tangent kernel of a fully connected network, as deep."""
    flat = x.reshape(len(x), -1)
    return infinite_ntk(flat, hidden=1 + int(np.log2(x.shape[1])), weight_variance=2.0).tangent


def _convolutional(x):
    return hierarchical_kernels(patch_cosines(x, x)).tangent


STUDENTS = {"convolutional": _convolutional, "connected": _connected}


def _random_functions(x, rng, number=8):
    """Outputs of infinitely wide random networks (their tangent kernels' Gaussian processes)."""
    root = np.linalg.cholesky(_convolutional(x) + 1e-10 * np.eye(len(x)))
    return root @ rng.standard_normal((len(x), number))


@cached
def _exponents(patches, student, scale):
    """Of tangent kernels, how fast errors fall with the number of examples, -d log error / d log n: (seed, target)."""
    size = sizes(scale, train=((64, 128, 256, 512), (128, 256, 512, 1024, 2048, 4096)), test=(256, 1024), n=(5, 10))
    found = []
    for s in seeds(size["n"]):
        x = np.asarray(sphere_patches(jr.key(s), max(size["train"]) + size["test"], patches), float)
        kernel, rng = STUDENTS[student](x), np.random.default_rng(s)
        functions = np.stack([_random_functions(x[:, :p], rng) for p in (1, 2, patches)], 1)
        errors = learning_curve(kernel, functions.reshape(len(x), -1), size["train"])
        found.append(-log_slopes(size["train"], errors.reshape(len(errors), 3, -1).mean(2).T))
    return np.array(found)


@claim("spectrum, 2 circles: |k|^-2 local, |k|^-3 for both (tangent kernel), -4 and -5 (covariance), exponents to 0.3",
       source="paper", deterministic=True,
       broken={"means without the second ReLU layer": {"top": False},
               "the other kernel's smoothness": {"kinds": ("covariance", "tangent")}})  # fmt: skip
def spectrum_is_hierarchical(top=True, kinds=("tangent", "covariance"), grid=1024):
    circle = np.cos(2 * np.pi * np.arange(grid) / grid)
    cosines = np.stack(np.broadcast_arrays(circle[:, None], circle))
    each = [hierarchical_kernels(u[None]) for u in cosines]
    kernels = hierarchical_kernels(cosines) if top else type(each[0])(*(sum(k) / 2 for k in zip(*each, strict=True)))
    k, cases = np.arange(16, 65, 2), {}
    for kind, smoothness in zip(kinds, (1, 3), strict=True):
        eigenvalues = np.abs(np.fft.fft2(getattr(kernels, kind))) / grid**2
        for name, values, dim in (("local", eigenvalues[k, 0], 1), ("pair", eigenvalues[k, k], 2)):
            cases[f"{kind}, {name}"] = float(log_slopes(k, values)[0]) + smoothness + dim
    return Evidence.of_cases(cases, within=(-0.3, 0.3))


@claim("tangent kernel on 4 patches, n to 512: error exponents within 25 % of 1 (one patch) and 1/2 (two siblings)",
       source="paper", broken={"a fully connected kernel": {"student": "connected"}})  # fmt: skip
def exponent_is_one_over_the_dimension(student="convolutional", *, scale):
    found = _exponents(4, student, scale)
    return Evidence.of_cases({"local": mean(found[:, 0]), "pair": mean(2 * found[:, 1])}, within=(0.75, 1.25))


@claim("the exponent for one patch is at least 1.5 times, for two 1.1 times that for all: 4 and 8 patches, n to 512",
       source="ours", broken={"a fully connected kernel": {"student": "connected"}})  # fmt: skip
def local_targets_are_learned_faster(student="convolutional", *, scale):
    cases = {}
    for patches in (4, 8):
        local, pair, whole = _exponents(patches, student, scale).T
        for name, ratio, bar in (("local", paired_ratio(local, whole), 1.5), ("pair", paired_ratio(pair, whole), 1.1)):
            cases[f"{name}, {patches} patches"] = Interval(ratio.value / bar, ratio.low / bar, ratio.high / bar)
    return Evidence.of_cases(cases, at_least=1.0, note="ratios over their bars")


@claim("twice the patches (8, not 4) move the exponent for one patch by at most 20 %, n to 512",
       source="ours", broken={"a fully connected kernel": {"student": "connected"},
                              "the whole input": {"target": 2}})  # fmt: skip
def input_dimension_does_not_matter(student="convolutional", target=0, *, scale):
    four, eight = (_exponents(patches, student, scale)[:, target] for patches in (4, 8))
    return Evidence(paired_ratio(eight, four), within=(0.8, 1.2), note=f"{four.mean():.2f}, {eight.mean():.2f}")


@claim("what a deep CNN computes of the whole input is cursed: its exponent at 8 patches is at most 0.7 of that at 4",
       source="scaled", broken={"of one patch": {"target": 0}})  # fmt: skip
def whole_targets_stay_cursed(target=2, *, scale):
    four, eight = (_exponents(patches, "convolutional", scale)[:, target] for patches in (4, 8))
    return Evidence(paired_ratio(eight, four), at_most=0.7, note=f"{four.mean():.2f}, {eight.mean():.2f}")
