"""A teacher who picks the example with the largest functional gradient teaches a kernel learner in fewer rounds.

```python
import jax, jax.numpy as jnp
from attractor.optim import functional_teaching, gaussian_kernel

x = jnp.linspace(-3, 3, 100)[:, None]
target, kernel = jnp.sin(2 * x[:, 0]) + x[:, 0] / 2, gaussian_kernel(x, x, width=0.3)
for teacher in ("random", "greedy"):
    f, losses = functional_teaching(target, kernel, 0.8, 100, jax.random.key(0), teacher)
    print(teacher, losses[jnp.array([9, 29, 99])])  # the greedy teacher needs fewer examples for the same loss
```
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sklearn.datasets import load_digits

from attractor.optim.functional_teaching import (
    functional_gradient_learner,
    functional_teaching,
    gaussian_kernel,
    iterative_teaching_dimension,
)
from attractor.papers.words import Evidence, bootstrap, cached, claim, key, seeds

RATE = 0.8


@cached
def _targets():
    """A density of two Gaussians on a line, and an image of a digit as a function of the pixel; with their kernels."""
    line = jnp.linspace(-3, 3, 100)[:, None]
    mixture = jnp.exp(-2 * (line[:, 0] + 1) ** 2) + 0.6 * jnp.exp(-4 * (line[:, 0] - 1) ** 2)
    pixels = jnp.stack(jnp.meshgrid(jnp.arange(8.0), jnp.arange(8.0)), -1).reshape(64, 2)
    digit = jnp.asarray(load_digits(return_X_y=True)[0][3] / 16, dtype=float)
    return {"mixture": (mixture, gaussian_kernel(line, line, 0.3)),
            "digit": (digit, gaussian_kernel(pixels, pixels, 0.5))}  # fmt: skip


@claim("curve and digit image: the greedy teacher reaches loss 1e-3 in at most half the random one's median steps",
       source="ours", broken={"the largest signed slope": {"teacher": lambda slopes, key: slopes},
                              "the smallest slope": {"teacher": lambda slopes, key: -jnp.abs(slopes)}})  # fmt: skip
def greedy_halves_the_steps(teacher="greedy"):
    ratios, note = {}, []
    for name, (target, kernel) in _targets().items():

        def teach(draw, teacher, target=target, kernel=kernel):
            return functional_teaching(target, kernel, RATE, 1_000, draw, teacher)[1]

        curves = jax.jit(jax.vmap(lambda draw, teach=teach: teach(draw, "random")))(jr.split(key(), len(seeds(20))))
        random = [iterative_teaching_dimension(curve, 1e-3) for curve in np.asarray(curves)]
        ours = iterative_teaching_dimension(teach(key(1), teacher), 1e-3)
        ratios[name] = bootstrap(lambda r, ours=ours: ours / np.median(r, -1), random)
        note.append(f"{name}: {ours:.0f} steps, random {np.median(random):.0f}")
    return Evidence.of_cases(ratios, at_most=0.5, note="; ".join(note))


@claim("digit, 200 steps: each greedy example lowers the loss at least as much as the mean example (tolerance 1e-7)",
       source="ours", broken={"smallest gradient": {"choose": jnp.argmin}}, deterministic=True)  # fmt: skip
def every_greedy_step_is_better_than_average(choose=jnp.argmax):
    target, kernel = _targets()["digit"]

    def after(values, i):
        return functional_gradient_learner(values, jnp.array([i]), target, kernel, RATE)

    def step(values, _):
        losses = jax.vmap(lambda i: jnp.mean((after(values, i) - target) ** 2) / 2)(jnp.arange(len(target)))
        i = choose(jnp.abs(values - target))
        return after(values, i), losses.mean() - losses[i]

    _, advantage = jax.lax.scan(step, jnp.zeros_like(target), None, 200)
    return Evidence(float(advantage.min()), at_least=-1e-7)


@claim("digit, rate 1 / K(x, x): no step raises the distance in the kernel's norm by over 1e-9; a known target is kept",
       source="ours", broken={"rate 2.5": {"rate": 2.5}})  # fmt: skip
def the_distance_never_grows(rate=1.0):
    rises, digit = [], _targets()["digit"]
    with jax.enable_x64(True):
        target, kernel = (jnp.asarray(part, dtype=float) for part in digit)
        inverse = jnp.linalg.inv(kernel)
        for teacher in ("greedy", "random"):
            teach = jax.jit(lambda f, k, t=teacher: functional_teaching(target, kernel, rate, 1, k, t, start=f)[0])
            f, distances = jnp.zeros_like(target), []
            for draw in jr.split(key(), 200):
                f = teach(f, draw)
                distances.append(float((f - target) @ inverse @ (f - target)))
            rises += [max(np.diff(distances)), float(jnp.abs(teach(target, key(1)) - target).max())]
    return Evidence(max(rises), at_most=1e-9)
