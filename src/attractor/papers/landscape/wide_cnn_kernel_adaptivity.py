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


@cached
def _errors(patches, student, scale):
    """Of regression with tangent kernels, (seed, size, target), on outputs of random infinitely wide networks: Gaussian
    processes whose covariances are their tangent kernels. With the sizes."""
    size = sizes(scale, train=((128, 256, 512), (256, 512, 1024, 2048, 4096)), test=(256, 1024), n=(8, 10))
    found = []
    for s in seeds(size["n"]):
        x = np.asarray(sphere_patches(jr.key(s), max(size["train"]) + size["test"], patches), float)
        kernels = [hierarchical_kernels(patch_cosines(x[:, :p], x[:, :p])).tangent for p in (1, 2, patches)]
        normals = np.random.default_rng(s).standard_normal((3, len(x), 32))
        drawn = [np.linalg.cholesky(k + 1e-6 * np.eye(len(x))) @ z for k, z in zip(kernels, normals, strict=True)]
        if student == "connected":  # as deep
            depth = 1 + int(np.log2(patches))
            kernels.append(infinite_ntk(x.reshape(len(x), -1), hidden=depth, weight_variance=2.0).tangent)
        errors = learning_curve(kernels[-1], np.concatenate(drawn, 1), size["train"])
        found.append(errors.reshape(len(errors), 3, -1).mean(2))
    return np.array(found), size["train"]


def _exponents(patches, student, scale):  # -d log error / d log n, (seed, target)
    errors, train = _errors(patches, student, scale)
    return np.stack([-log_slopes(train, errors[:, :, i]) for i in range(3)], 1)


@claim("spectrum, 2 circles: |k|^-2 local, |k|^-3 for both (tangent kernel), -4 and -5 (covariance), exponents to 0.3",
       source="paper", deterministic=True,
       broken={"means without the second ReLU layer": {"top": False},
               "the other kernel's smoothness": {"kinds": ("covariance", "tangent")}})  # fmt: skip
def spectrum_is_hierarchical(top=True, kinds=("tangent", "covariance"), grid=1024):
    circle = np.cos(2 * np.pi * np.arange(grid) / grid)
    cosines = np.stack(np.broadcast_arrays(circle[:, None], circle))
    kernels, *each = (hierarchical_kernels(u) for u in (cosines, cosines[:1], cosines[1:]))
    kernels = kernels if top else type(kernels)(*((a + b) / 2 for a, b in zip(*each, strict=True)))
    k, cases = np.arange(16, 65, 2), {}
    for kind, smoothness in zip(kinds, (1, 3), strict=True):
        eigenvalues = np.abs(np.fft.fft2(getattr(kernels, kind))) / grid**2
        for name, values, dim in (("local", eigenvalues[k, 0], 1), ("pair", eigenvalues[k, k], 2)):
            cases[f"{kind}, {name}"] = float(log_slopes(k, values)[0]) + smoothness + dim
    return Evidence.of_cases(cases, within=(-0.3, 0.3))


@claim("tangent kernel, 4 circles, n to 512: error exponents within 25 % of (1 + 1/4) / (1 + d), d = 1 and 2 patches",
       source="ours", broken={"eigenvalues of the patches alone": {"predicted": lambda d, whole: 1 / d}})  # fmt: skip
def exponents_follow_from_the_spectrum(predicted=lambda d, whole: (1 + 1 / whole) / (1 + d), *, scale):
    """The n-th eigenvalue goes as n^-(1 + 1/D), for those of the whole input are the most; the d-dimensional ones go as
    k^-(1 + d), and what is left of the target beyond k as 1/k."""
    found = _exponents(4, "convolutional", scale)
    cases = {name: mean(found[:, d - 1] / predicted(d, 4)) for d, name in ((1, "local"), (2, "pair"))}
    return Evidence.of_cases(cases, within=(0.75, 1.25), note=f"exponents {found.mean(0).round(2)}")


@claim("the exponent for one patch is at least 1.5 times, for two 1.1 times that for all: 4 and 8 patches, n to 512",
       source="ours", broken={"functions of the whole input": {"targets": (2, 2, 2)}})  # fmt: skip
def local_targets_are_learned_faster(targets=(0, 1, 2), *, scale):
    cases = {}
    for patches in (4, 8):
        local, pair, whole = _exponents(patches, "convolutional", scale)[:, targets].T
        for name, ratio, bar in (("local", paired_ratio(local, whole), 1.5), ("pair", paired_ratio(pair, whole), 1.1)):
            cases[f"{name}, {patches} patches"] = Interval(ratio.value / bar, ratio.low / bar, ratio.high / bar)
    return Evidence.of_cases(cases, at_least=1.0, note="ratios over their bars")


@claim("4 patches, 512 examples: a fully connected kernel has at least twice the convolutional error on one patch",
       source="ours", broken={"functions of the whole input": {"target": 2}})  # fmt: skip
def architecture_adapts(target=0, *, scale):
    ours, connected = (_errors(4, student, scale)[0][:, -1, target] for student in ("convolutional", "connected"))
    return Evidence(paired_ratio(connected, ours), at_least=2.0)


@claim("twice the patches (8, not 4) move the exponent for one patch by at most 20 %, n to 512",
       source="ours", broken={"functions of the whole input": {"target": 2}},
       reason="0.61 and 0.73: at 8 patches and so few examples the error still falls faster than it will")  # fmt: skip
def input_dimension_does_not_matter(target=0, *, scale):
    four, eight = (_exponents(patches, "convolutional", scale)[:, target] for patches in (4, 8))
    return Evidence(paired_ratio(eight, four), within=(0.8, 1.2), note=f"{four.mean():.2f}, {eight.mean():.2f}")


@claim("what a deep CNN computes of the whole input is cursed: its exponent at 8 patches is at most 0.7 of that at 4",
       source="scaled", broken={"functions of one patch": {"target": 0}})  # fmt: skip
def whole_targets_stay_cursed(target=2, *, scale):
    four, eight = (_exponents(patches, "convolutional", scale)[:, target] for patches in (4, 8))
    return Evidence(paired_ratio(eight, four), at_most=0.7, note=f"{four.mean():.2f}, {eight.mean():.2f}")
