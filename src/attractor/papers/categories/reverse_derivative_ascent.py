"""Reverse derivative ascent: Boolean circuits trained over Z2, with no real-valued weight anywhere.

```python
import numpy as np
from attractor import run
from attractor.categories import CircuitLearning, conjunction, parity, reverse_derivative_ascent

masked_parity = lambda theta, x: parity(conjunction(theta, x))[None]  # which inputs count is to be learned
inputs = np.eye(8, dtype=bool)
outputs = inputs[:, [0, 3, 4]].any(axis=1, keepdims=True)
problem = CircuitLearning(masked_parity, np.zeros(8, dtype=bool), (inputs, outputs))
trace = run(problem, reverse_derivative_ascent(), steps=1)
print("error rate", trace["loss"].values.ravel(), "parameters", trace.final.astype(int).ravel())
```
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from attractor.categories import boolean
from attractor.categories.boolean import CircuitLearning, reverse_derivative, reverse_derivative_ascent
from attractor.papers.words import Evidence, claim, mean, run, seed, seeds, sizes
from attractor.probe import Probe
from attractor.problems.binary_features import binary_digits, binary_iris


def shuffled(circuit):
    """The reverse derivative with its bits dealt out at random, always in the same way."""

    def reverse(*inputs_and_change):
        flat, unravel = ravel_pytree(reverse_derivative(circuit)(*inputs_and_change))
        return unravel(flat[np.random.default_rng(0).permutation(flat.size)])

    return reverse


def unselective(circuit):
    """The reverse derivative without the derivative: an error goes back to every bit."""

    def reverse(*inputs_and_change):
        *inputs, change = inputs_and_change
        return jax.tree.map(lambda a: jnp.full(a.shape, change.any()), tuple(inputs))

    return reverse


BROKEN = {"bits shuffled": {"reverse": shuffled}, "every bit flipped": {"reverse": unselective}}


@claim("the reverse derivative obeys the chain rule on 200 random circuits: 0 exceptions", source="paper",
       broken={"bits shuffled": {"reverse": shuffled},
               "brute-force difference": {"reverse": boolean.boolean_difference}})  # fmt: skip
def chain_rule(reverse=reverse_derivative, *, scale):
    def breaks_rule(gates, x, change):
        f, g = (functools.partial(boolean.evaluate_gates, half) for half in (gates[:, :3], gates[:, 3:]))
        middle = f(x.astype(jnp.float32)) > 0
        (whole,) = reverse(lambda bits: g(f(bits)))(x, change)
        (parts,) = reverse(f)(x, *reverse(g)(middle, change))
        return jnp.any(whole ^ parts)

    circuits = 200 if scale == "quick" else 100_000
    random = np.random.default_rng(seed())
    gates = random.integers(0, np.array([3, 8, 8])[:, None, None], (circuits, 3, 6, 8))
    x, change = random.random((2, circuits, 8)) < 0.5
    exceptions = jax.jit(jax.vmap(breaks_rule))(gates, x, change)
    return Evidence(int(exceptions.sum()), at_most=0)


@claim("one pass over all 256 inputs teaches a look-up table any of 20 random functions of 8 bits: error rate 0",
       source="ours", broken=BROKEN)  # fmt: skip
def learns_in_one_pass(reverse=reverse_derivative, *, scale):
    functions, n_in = (20, 8) if scale == "quick" else (200, 12)
    method = reverse_derivative_ascent(reverse)
    tables = [boolean.truth_table(n_in, batch_size=None, seed=s) for s in seeds(functions)]
    return Evidence(max(run(table, method, steps=1).last("loss").item() for table in tables), at_most=0.0)


@claim("on held-out Iris and handwritten digits a table learned in one pass beats the majority class by 30 points",
       source="ours", broken=BROKEN)  # fmt: skip
def learns_from_data(reverse=reverse_derivative, *, scale):
    gains = {}
    for name, load in {"Iris": binary_iris, "digits": binary_digits}.items():
        gain = []
        for split in seeds(**sizes(scale, n=(10, 100))):
            inputs, test_inputs, labels, test_labels = load(split)
            circuit, theta = boolean.lut_circuit(inputs.shape[1], labels.shape[1])
            probe = Probe.on((test_inputs, test_labels), eqx.Partial(boolean.error_rate, circuit))
            problem = CircuitLearning(circuit, theta, (inputs, labels))
            trace = run(problem, reverse_derivative_ascent(reverse), steps=1, probes={"error": probe})
            gain.append(1 - trace.last("error").item() - test_labels.mean(0).max())
        gains[name] = mean(gain)
    return Evidence.of_cases(gains, at_least=0.30)
