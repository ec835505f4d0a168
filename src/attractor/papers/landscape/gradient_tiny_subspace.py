"""Tiny subspace: the gradient soon lies in the span of the few top Hessian eigenvectors, about one per class.

```python
import jax
from attractor import run
from attractor.landscape import gradient_subspace_fraction, top_hessian_eigs
from attractor.problems import digits_mlp
import optax

def fraction(problem, x, key):  # a probe: how much of the full gradient the top ten eigenvectors hold
    loss = lambda params: problem.loss(params, problem.full)
    return gradient_subspace_fraction(jax.grad(loss)(x), top_hessian_eigs(loss, x, 10, iterations=40).vectors)

trace = run(digits_mlp(width=16), optax.sgd(0.1), steps=300, every=100, probes={"fraction": fraction})
print(trace["fraction"].values)
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from attractor.landscape.spectrum import gradient_subspace_fraction, subspace_overlap, top_hessian_eigs
from attractor.papers.words import Evidence, cached, claim, key, mean, run, seeds, sizes
from attractor.problem import Minimization
from attractor.problems.digits import cross_entropy, digits

WARM_UP = 500  # steps of 64 images, a quarter of the quick run


def _random_subspace(loss, x, k):
    flat, _ = ravel_pytree(x)
    return jnp.linalg.qr(jr.normal(jr.key(jax.lax.bitcast_convert_type(flat.sum(), jnp.int32)), (flat.size, k)))[0]


def _top(loss, x, k):
    return top_hessian_eigs(loss, x, k, iterations=6 * k + 20).vectors


def _bottom(loss, x, k):
    """The most negative eigenvalues: their order got wrong."""
    return _top(lambda y: -loss(y), x, k)


def _point(problem, x, key):
    return ravel_pytree(x)[0]


@cached
def _trained(classes, scale):
    """SGD on the first ``classes`` digits: the problem, and its points from the warm-up on (seed, record, p)."""
    size = sizes(scale, width=(32, 256), depth=(1, 2), steps=(2_000, 20_000), seeds=(3, 10))
    (images, labels), _ = digits()
    chosen = labels < classes
    problem = Minimization.of_model(
        lambda key: eqx.nn.MLP(64, classes, size["width"], size["depth"], key=key), cross_entropy,
        (images[chosen], labels[chosen]), batch_size=64,
    )  # fmt: skip
    how = {"steps": size["steps"], "every": WARM_UP, "seeds": seeds(size["seeds"]), "probes": {"point": _point}}
    return problem, run(problem, optax.sgd(0.1), **how)["point"].values[0][:, 1:]


def _at_each(points, problem, function):
    """``function(loss, x)`` at points ``(n, p)``, one after another in one program."""
    _, unravel = ravel_pytree(problem.init(jr.key(0)))  # only its structure counts

    def at(point):
        return function(lambda params: problem.loss(params, problem.full), unravel(point))

    return jax.tree.map(np.asarray, jax.jit(lambda points: jax.lax.map(at, points))(jnp.asarray(points)))


@cached
def _measured(classes, subspace, scale):
    """From the warm-up on: the gradient's fraction (seed, record), and the subspaces (seed, record, p, k)."""
    problem, points = _trained(classes, scale)

    def measure(loss, x):
        vectors = subspace(loss, x, classes)
        return gradient_subspace_fraction(jax.grad(loss)(x), vectors), vectors

    found = _at_each(points.reshape(-1, points.shape[-1]), problem, measure)
    return tuple(part.reshape(*points.shape[:2], *part.shape[1:]) for part in found)


RANDOM = {"random subspace": {"subspace": _random_subspace}}
BROKEN = RANDOM | {"smallest eigenvalues": {"subspace": _bottom}}


@claim(
    "softmax regression on k = 5 Gaussians: by symmetry the gradient is all but inside the top k eigenvectors (95 %)",
    source="ours",
    broken=BROKEN,
)
def solvable_model_has_it(subspace=_top):
    k, dim, n, noise = 5, 50, 1_000, 0.1
    labels = jnp.arange(n) % k
    inputs = jnp.eye(dim)[labels] + noise * jr.normal(key(), (n, dim))  # orthogonal class means of length one

    def loss(weight):
        return optax.softmax_cross_entropy_with_integer_labels(inputs @ weight, labels).mean()

    # As noise vanishes, gradient and Hessian are sums over classes c of (p_c - e_c) m_c' and of
    # (diag p_c - p_c p_c') x m_c m_c', and p_c - e_c is by symmetry an eigenvector of diag p_c - p_c p_c'.
    weight = jax.lax.fori_loop(0, 50, lambda _, w: w - jax.grad(loss)(w), jnp.zeros((dim, k)))
    return Evidence(float(gradient_subspace_fraction(jax.grad(loss)(weight), subspace(loss, weight, k))), at_least=0.95)


def _fraction(classes, subspace, scale):
    averages = {f"k = {k}": mean(_measured(k, subspace, scale)[0].mean(1)) for k in classes}
    return Evidence.of_cases(averages, at_least=0.7)


HOLDS_MOST = "from the warm-up on, the top k Hessian eigenvectors hold 70 % of the gradient's square, k = {} digits"


@claim(HOLDS_MOST.format("10"), source="ours", broken=BROKEN)
def gradient_lies_in_the_top_subspace(subspace=_top, *, scale):
    return _fraction([10], subspace, scale)


@claim(
    HOLDS_MOST.format("3 and 5"),
    source="ours",
    broken=RANDOM,
    reason="few classes are separated within 100 steps (loss below 0.1 for three); what gradient is left wanders",
)
def holds_for_fewer_classes(subspace=_top, *, scale):
    return _fraction([3, 5], subspace, scale)


@claim(
    "the top ten-dimensional eigenspaces in the middle and at the end of training overlap by at least 0.6",
    source="ours",
    broken=BROKEN,
)
def subspace_persists(subspace=_top, *, scale):
    _, bases = _measured(10, subspace, scale)
    middle = bases.shape[1] // 2 - 1  # the records are at 1/4, 1/2, 3/4 and 4/4 of the quick run
    return Evidence(mean([float(subspace_overlap(b[middle], b[-1])) for b in bases]), at_least=0.6)


def _no_curvature(loss, x, k):
    """Eigenvalues of the Hessian of a loss whose curvature was lost: the identity's."""
    return jnp.ones(k)


def _eigenvalues(loss, x, k):
    return top_hessian_eigs(loss, x, k, iterations=6 * k + 20).values


@claim(
    "the spectrum has a gap: the 10th Hessian eigenvalue is over twice the 20th at the end of training (10 classes)",
    source="ours",
    broken={"flat spectrum": {"eigenvalues": _no_curvature}},
)
def spectrum_has_a_gap(eigenvalues=_eigenvalues, *, scale):
    problem, points = _trained(10, scale)
    values = _at_each(points[:, -1], problem, lambda loss, x: eigenvalues(loss, x, 20))
    return Evidence(mean(values[:, 9] / values[:, 19]), at_least=2.0)
