"""Linear models behind a sigmoid, whose losses are smooth and not convex, with data drawn from a known truth."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.problem import Minimization


def sigmoid_loss(x: Float[Array, " d"], batch: tuple[Float[Array, "n d"], Float[Array, " n"]]) -> Float[Array, ""]:
    r"""Mean of $1 / (1 + e^{y_i \langle r_i, x \rangle})$ over rows and labels of $\pm 1$: a smooth count of errors."""
    rows, labels = batch
    return jnp.mean(jax.nn.sigmoid(-labels * (rows @ x)))


def sigmoid_classification(
    samples: int = 1_000, dim: int = 20, decay: float = 1.0, margin: float = 6.0, penalty: float = 1e-3, seed: int = 0
) -> Minimization:
    r"""A linear classifier under `sigmoid_loss`, on rows of length 1 whose directions matter more or less.

    $$ f(x) = \frac1n \sum_i \frac{1}{1 + e^{y_i \langle r_i, x \rangle}} + \frac{\lambda}{2} \lVert x \rVert^2 $$

    The rows are normal with standard deviation $j^{-a}$ in direction j, then scaled to length 1; a label is 1 with
    probability $1 / (1 + e^{-m \sum_j r_{ij}})$. So $L_0 = 1/4$ bounds the gradient of every sample's loss and
    $L_1 = 0.0963$ its Lipschitz constant, exactly, both without the penalty; the curvature ranges over $d^{2a}$, which
    makes descent slow. Without a penalty gradients vanish far out, where the sigmoid is flat.

    Arguments:
        samples: Rows, at least 1.
        dim: Variables d, at least 1; the start is the origin.
        decay: a, in [0, inf).
        margin: m, in [0, inf): how sure the labels are.
        penalty: lambda, in [0, inf).
        seed: Of rows and labels.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("samples", samples, 1)
    in_range("dim", dim, 1)
    in_range("decay", decay, 0.0)
    in_range("margin", margin, 0.0)
    in_range("penalty", penalty, 0.0)
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((samples, dim)) * np.arange(1.0, dim + 1) ** -decay
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = np.where(rng.random(samples) < 1 / (1 + np.exp(-margin * rows.sum(1))), 1.0, -1.0)
    data = jnp.asarray(rows, float), jnp.asarray(labels, float)
    loss = eqx.Partial(_penalized, jnp.asarray(penalty, float))
    return Minimization(loss, jnp.zeros(dim), data, constants={"L0": 0.25, "L1": 0.0963})


def _penalized(penalty: Float[Array, ""], x: Float[Array, " d"], batch: tuple[Array, Array]) -> Float[Array, ""]:
    return sigmoid_loss(x, batch) + penalty / 2 * jnp.sum(x**2)


def imitated_neuron(
    samples: int = 1_000,
    dim: int = 20,
    spread: float = 1e3,
    link: Callable[[Array], Array] = jax.nn.sigmoid,
    batch_size: int | None = 32,
    seed: int = 0,
) -> Minimization:
    r"""One neuron that imitates another, $f(w) = \frac{1}{2n} \sum_i (s(\langle x_i, w \rangle) - s(\langle x_i,
    w^* \rangle))^2$, from the origin; minimum 0.

    With a link that rises everywhere it is quasar-convex, and not convex. Input j is normal, the variances fall by the
    factor ``spread`` from the first to the last; $w^*$ is standard normal.

    Arguments:
        samples: Inputs, at least 1.
        dim: Variables, at least 1.
        spread: Largest over smallest variance, at least 1.
        link: The activation s.
        batch_size: Inputs per step; `None`: all.
        seed: Of inputs and solution.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("dim", dim, 1)
    in_range("spread", spread, 1.0)
    rng = np.random.default_rng(seed)
    inputs = jnp.asarray(rng.standard_normal((samples, dim)) * np.geomspace(1, spread**-0.5, dim), float)
    solution = jnp.asarray(rng.standard_normal(dim), float)
    data = inputs, link(inputs @ solution)
    loss = eqx.Partial(_imitation, link)
    return Minimization(loss, jnp.zeros(dim), data, batch_size=batch_size, optimum=0.0, solution=solution)


def _imitation(link: Callable, w: Float[Array, " d"], batch: tuple[Array, Array]) -> Float[Array, ""]:
    inputs, outputs = batch
    return jnp.mean((link(inputs @ w) - outputs) ** 2) / 2
