"""Robust training of two-layer ReLU classifiers is a convex program over sampled activation patterns.

```python
import jax, jax.numpy as jnp
from attractor.optim import convex_adversarial_relu, recover_relu_network, sample_relu_arrangements
from attractor.problems import box_clusters, right_throughout

x, y = box_clusters(40, seed=0)  # four clusters, opposite ones of one class, and a constant
box = jnp.array([0.1, 0.1, 0.0])  # in which an example may be moved
patterns = sample_relu_arrangements(jax.random.key(0), x, 100)[:30]
network = recover_relu_network(jax.jit(convex_adversarial_relu)(x, y, patterns, box, beta=1e-3, rho=0.1)[0])
print(right_throughout(network, x, y, box).mean())
```
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor.optim import convex_networks as net
from attractor.papers.words import Evidence, cached, claim, mean, paired_difference, run, seed, seeds, sizes
from attractor.problems.robust import attack_training, box_clusters, right_throughout

BETA, BOX = 1e-3, np.array([0.1, 0.1, 0.1, 0.1, 0.0])  # half widths: two coordinates, two fragile, a constant
ATTACKS = {"standard": (0.0, 1, 1.0), "FGSM": (1.0, 1, 1.0), "PGD": (1.0, 5, 0.25)}  # share of the box, steps, size
ADAM = optax.adam(optax.cosine_decay_schedule(0.02, 1_000))  # one object for all attacks: one program
HARD = (2, 2, 0.12)  # coordinates with clusters, fragile ones, distance of the clusters from 0
BROKEN = {"fragile inputs not in the box": {"share": (1.0, 1.0, 0.0, 0.0, 1.0)}}


_solve = jax.jit(partial(net.convex_adversarial_relu, beta=BETA, rho=0.1, steps=2_000))
_admm = jax.jit(partial(net.convex_relu_admm, beta=0.1, rho=0.1, steps=2_000))


@jax.jit
def _chosen(patterns, known, x, box):
    """14 of the patterns, first those that a robust neuron can have."""
    first = jnp.argsort(~(net.robust_arrangements(patterns, x, box) & known), stable=True)
    return patterns[first[jnp.minimum(jnp.arange(14), len(patterns) - 1)]]


@cached
def _trained(number, share, data=(2, 0, 0.15), count=2_000):
    """60 examples, weights and bounds, with 14 of so many patterns."""
    x, y = box_clusters(60, number, *data)
    box = jnp.full(x.shape[1], 0.1).at[-1].set(0)
    patterns = np.asarray(net.sample_relu_arrangements(jr.key(number), x, max(count, 200)))
    at = np.arange(count)  # of one shape for all data sets, so that it is compiled once
    chosen = _chosen(patterns[np.minimum(at, len(patterns) - 1)], at < len(patterns), x, box)
    return x, y, *_solve(x, y, chosen, jnp.asarray(share) * box)


@claim("2-D and 5-D: an example's hinge loss is at most 1e-3 below its worst at corners and 200 points of the box",
       source="ours", broken={"half the box": {"share": 0.5}})  # fmt: skip
def the_bound_holds(share=1.0, *, scale):
    violations = {}
    with jax.enable_x64(True):
        for d in (2, 5):
            x, y, weights, bound = _trained(seed(), share, (d, 0, 0.15))
            inside = np.random.default_rng(seed()).uniform(-1, 1, (sizes(scale, n=(200, 20_000))["n"], d))
            corners = np.array(list(itertools.product([-1.0, 1.0], repeat=d)))
            moved = x + jnp.asarray(np.pad(0.1 * np.concatenate([corners, inside]), ((0, 0), (0, 1))))[:, None]
            worst = jnp.max(jax.nn.relu(1 - y * jax.vmap(net.recover_relu_network(weights))(moved)), 0)
            violations[f"{d} inputs"] = float((worst - bound).max())
    return Evidence.of_cases(violations, at_most=1e-3)


@cached
def _accuracies(training, scale):
    """Shares of 1,000 fresh examples right where they are, and throughout their boxes, by data set; the training is the
    convex program's with a share of the box, or Adam's on a network as wide."""
    with jax.enable_x64(True):
        numbers = seeds(**sizes(scale, n=(8, 64)))
        if training in ATTACKS:
            x, y = (jnp.stack(part) for part in zip(*(box_clusters(60, i, *HARD) for i in numbers), strict=True))
            share, *attack = ATTACKS[training]
            problem = attack_training(x, y, jnp.asarray(share * BOX), *map(jnp.asarray, attack), width=28, decay=BETA)
            layers = run(problem, ADAM, steps=1_000, every=1_000, seeds=[seed()]).final
            networks = [net.ReluNetwork(*(w[0, 0, i] for w in layers)) for i in range(len(numbers))]
        else:
            networks = [net.recover_relu_network(_trained(i, training, HARD)[2]) for i in numbers]
        pairs = [(f, *box_clusters(1_000, 1_000 + i, *HARD)) for f, i in zip(networks, numbers, strict=True)]
        return np.array([_right(*pair) for pair in pairs]).T


@jax.jit
def _right(*pair):
    return jnp.stack([right_throughout(*pair, box).mean() for box in (np.zeros(5), BOX)])  # pyright: ignore[reportCallIssue]


def _margins(share, scale, margins):
    (_, ours), found = _accuracies(share, scale), {name: _accuracies(name, scale) for name in ATTACKS}
    clean, standard = found["standard"].mean(1)
    given = {"standard training is right, but not under attack": clean > 0.95 and standard < 0.9}
    cases = {f"over {name}": paired_difference(ours, found[name][1] + by) for name, by in margins.items()}
    note = f"ours {ours.mean():.3f}, " + ", ".join(f"{name} {a[1].mean():.3f}" for name, a in found.items())
    return Evidence.of_cases(cases, at_least=0.0, given=given, note=note)


@claim("XOR, fragile inputs: accuracy under attack is that of FGSM and PGD less 1 point, of standard training plus 5",
       source="ours", broken=BROKEN, reason="0.985 on 8 data sets, "
       "against 0.498 of standard training, but 0.989 of FGSM and 0.995 of PGD")  # fmt: skip
def is_robust(share=1.0, *, scale):
    return _margins(share, scale, {"standard": 0.05, "FGSM": -0.01, "PGD": -0.01})


@claim("XOR, fragile inputs: the accuracy under attack is at least that of FGSM training, and of PGD training",
       source="paper", broken=BROKEN, reason="every neuron keeps its kink out of all boxes, "
       "which costs norm and so margin: 0.985 against PGD's 0.995")  # fmt: skip
def is_more_robust_than_attack_training(share=1.0, *, scale):
    return _margins(share, scale, {"FGSM": 0.0, "PGD": 0.0})


@claim("XOR clusters, robust: from 20 sampled patterns to 40 the optimum falls by at most 1 %, mean of 8 data sets",
       source="ours", broken={"from 10 patterns to 20": {"counts": (10, 20)}}, reason="a robust neuron has one of few "
       "patterns, rarely drawn: 2 of 8 data sets gain 45 and 53 % when one comes")  # fmt: skip
def few_patterns_are_enough(counts=(20, 40), *, scale):
    with jax.enable_x64(True):
        numbers = seeds(**sizes(scale, n=(8, 64)))
        found = [[_trained(i, 1.0, count=count)[2:] for i in numbers] for count in counts]
        few, more = (np.array([np.mean(hinges) + BETA * np.linalg.norm(w, axis=-1).sum() for w, hinges in row])
                     for row in found)  # fmt: skip
    return Evidence(mean(1 - more / few), at_most=0.01, note=f"falls: {np.round(1 - more / few, 3).tolist()}")


@cached
def _line(n, number, sample):
    """The least regularized squared loss of n points on a line with the patterns of 4 n hyperplanes."""
    rng = np.random.default_rng(number)
    x = jnp.asarray(np.stack([np.sort(rng.uniform(-1, 1, n)), np.ones(n)], 1))
    y, patterns = jnp.sin(4 * x[:, 0]) + 0.3 * rng.standard_normal(n), np.asarray(sample(jr.key(number), x, 4 * n))
    solution = _admm(x, y, patterns[np.minimum(np.arange(2 * n), len(patterns) - 1)])
    return float(net.relu_training_loss(net.recover_relu_network(solution.z[0]), x, y, 0.1))


def _all(key, x, count):
    return jnp.concatenate([jnp.tri(len(x), dtype=bool), ~jnp.tri(len(x), dtype=bool)])


@claim("a line, 8 and 24 points: 4 hyperplanes a point bring the optimum to within 1 % of that with all patterns",
       source="scaled", broken={"through the origin": {
           "sample": lambda key, x, n: net.sample_relu_arrangements(key, x.at[:, 1].set(0), n)}},
       reason="0.0096 [-0.006, 0.025] on 8 sets of 24 points do not decide it")  # fmt: skip
def linearly_many_patterns_are_enough(sample=net.sample_relu_arrangements, *, scale):
    excesses, numbers = {}, seeds(**sizes(scale, n=(8, 64)))
    with jax.enable_x64(True):
        for n in (8, 24):
            some, every = (np.array([_line(n, i, rule) for i in numbers]) for rule in (sample, _all))
            excesses[f"{n} points"] = mean(some / every - 1)
    return Evidence.of_cases(excesses, at_most=0.01)
