"""Classification of inputs that an adversary may move within a box: data, training under attack, accuracy."""

import itertools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from attractor.checks import Count, Scalar, in_range
from attractor.nn.robust.attacks import pgd_attack
from attractor.problem import Minimization

Layers = tuple[Float[Array, "s m d"], Float[Array, "s m"]]
Classifier = Callable[[Float[Array, "n d"]], Float[Array, " n"]]


def box_clusters(
    count: int, seed: int, inputs: int = 2, fragile: int = 0, nearest: float = 0.15
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Clusters with gaps between them, labelled by the product of the signs of their first two coordinates.

    Coordinates are ``nearest`` to 0.45 away from 0 on either side, which leaves room for boxes of a smaller half width.
    A fragile coordinate is the label times 0.03 to 0.07: it tells the label, and a box of 0.1 turns it around.

    Arguments:
        count: Examples, at least 1.
        seed: Of the draw.
        inputs: Coordinates with clusters, at least 2.
        fragile: Fragile coordinates behind them, at least 0.
        nearest: In [0, 0.45].

    Returns:
        Examples, a constant 0.3 in the last column, and labels, +1 and -1.

    Raises:
        ValueError: for a number out of range.
    """
    in_range("count", count, 1)
    in_range("inputs", inputs, 2)
    in_range("fragile", fragile, 0)
    in_range("nearest", nearest, 0.0, 0.45)
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (count, inputs))
    x, y = signs * rng.uniform(nearest, 0.45, (count, inputs)), signs[:, :2].prod(1)
    weak = y[:, None] * rng.uniform(0.03, 0.07, (count, fragile))
    return jnp.asarray(np.column_stack([x, weak, np.full(count, 0.3)])), jnp.asarray(y)


def attack_training(
    x: Float[Array, "s n d"],
    y: Float[Array, "s n"],
    box: Float[Array, " d"],
    steps: Count = 5,
    step_size: Scalar = 0.25,
    width: int = 32,
    decay: Scalar = 1e-3,
) -> Minimization:
    r"""Train two-layer ReLU networks, one per data set, on the hinge loss of attacked examples, with weight decay.

    $$ \tfrac1n \sum_k \max(0, 1 - y_k f(x'_k)) + \tfrac\beta2 \sum_j (\lVert h_j \rVert^2 + \alpha_j^2), \qquad
       f(x) = \sum_j \alpha_j \max(0, \langle h_j, x \rangle) $$

    with $x'$ found by `pgd_attack`. The loss is the sum over data sets, which a method that treats coordinates apart
    does not notice. What the attack is are numbers, so that one program serves all attacks.

    Arguments:
        x: Examples of each data set.
        y: Labels, +1 and -1.
        box: Half width of the box, per input, at least 0; zeros: no attack.
        steps: Of the attack, at least 1; 1 with ``step_size`` 1 is the fast gradient sign.
        step_size: In units of the half width.
        width: Neurons, at least 1.
        decay: $\beta$, in [0, inf).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("box", box, 0.0)
    in_range("width", width, 1)
    in_range("decay", decay, 0.0)
    sets, _, d = x.shape

    loss = eqx.Partial(_attacked_loss, x, y, box, jnp.asarray(steps), step_size, decay)
    return Minimization(loss, eqx.Partial(_layers, sets, width, d))


def _layers(sets: int, width: int, d: int, key: PRNGKeyArray) -> Layers:
    hidden, output = jr.normal(key, (sets, width, d)), jr.normal(jr.fold_in(key, 1), (sets, width))
    return hidden / 2, output / width**0.5


def _attacked_loss(
    x: Array, y: Array, box: Array, steps: Array, size: Scalar, decay: Scalar, layers: Layers, batch: None = None
) -> Float[Array, ""]:
    def hinge(layers: tuple[Array, Array], x: Array, y: Array) -> Array:
        return jnp.mean(jax.nn.relu(1 - y * (jax.nn.relu(x @ layers[0].T) @ layers[1])))

    def one(layers: tuple[Array, Array], x: Array, y: Array) -> Array:
        fixed = jax.lax.stop_gradient(layers)
        attacked = pgd_attack(lambda x: hinge(fixed, x, y), x, box, steps, size)
        return hinge(layers, attacked, y) + decay / 2 * sum(jnp.sum(w**2) for w in layers)

    return jnp.sum(jax.vmap(one)(layers, x, y))


def right_throughout(
    classifier: Classifier, x: Float[Array, "n d"], y: Float[Array, " n"], box: Float[Array, " d"]
) -> Bool[Array, " n"]:
    """Whether the sign is right at every corner of an example's box, between corners, and in the middle.

    Arguments:
        classifier: Of all examples at once.
        x: Examples.
        y: Labels, +1 and -1.
        box: Half widths; 3 to the power of the number of positive ones is how often the classifier is asked.
    """
    sides = [(-r, 0.0, r) if r > 0 else (0.0,) for r in np.asarray(box).tolist()]
    shifts = jnp.asarray(list(itertools.product(*sides)))
    return jax.vmap(lambda shift: y * classifier(x + shift) > 0)(shifts).all(0)
