"""Where an optimizer becomes unstable: sharpness against the threshold of the optimizer in use, and gradient noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.landscape.spectrum import extreme_eigenvalues
from attractor.linalg.curvature import MatVec


def stability_threshold(
    learning_rate: Scalar, *, momentum: Scalar = 0.0, nesterov: bool = False, averaged: bool = False
) -> Float[Array, ""]:
    r"""The largest eigenvalue of the (preconditioned) Hessian at which full-batch descent does not blow up.

    With rate $\eta$ and momentum $\beta$, on a quadratic:

    | | threshold |
    |---|---|
    | gradient descent | $2 / \eta$ |
    | heavy ball | $(2 + 2\beta) / \eta$ |
    | Nesterov | $(2 + 2\beta) / ((1 + 2\beta)\, \eta)$ |
    | momentum as an average (`averaged`), as in Adam | $(2 + 2\beta) / ((1 - \beta)\, \eta)$ |

    Adam at $\beta_1 = 0.9$: 38 / $\eta$, for the Hessian preconditioned as in `preconditioned` (Cohen et al. 2022,
    2207.14484). Minibatches lower it.

    Arguments:
        learning_rate: $\eta$, in (0, inf).
        momentum: $\beta$, in [0, 1).
        nesterov: Whether the gradient is taken ahead.
        averaged: Whether momentum is an exponential average of gradients instead of a sum.

    Raises:
        ValueError: if a number is out of range, or for Nesterov's momentum as an average.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    if nesterov and averaged:
        raise ValueError("nesterov: expected False where momentum is an average, whose threshold is not in closed form")
    lookahead = 1 + 2 * momentum if nesterov else 1 - momentum if averaged else 1.0
    return jnp.asarray((2 + 2 * momentum) / (lookahead * learning_rate))


def preconditioned(matvec: MatVec, scale: PyTree) -> MatVec:
    r"""Products with $P^{-1/2} H P^{-1/2}$ for a diagonal preconditioner P, whose eigenvalues are those of $P^{-1} H$.

    Arguments:
        matvec: ``v -> H v``.
        scale: The diagonal of P, positive, like the parameters: for Adam
            $(1 - \beta_1^t)\,(\sqrt{\nu_t / (1 - \beta_2^t)} + \epsilon)$, for RMSProp $\sqrt{\nu} + \epsilon$.
    """
    root = jax.tree.map(lambda p: 1 / jnp.sqrt(p), scale)

    def product(v: PyTree) -> PyTree:
        return jax.tree.map(jnp.multiply, root, matvec(jax.tree.map(jnp.multiply, root, v)))

    return product


def adam_preconditioner(state: PyTree, *, b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> PyTree:
    r"""The diagonal by which Adam divides, read from its optax state, for `preconditioned`.

    $$ P_t = (1 - \beta_1^{t+1}) \Bigl( \sqrt{\nu_t / (1 - \beta_2^t)} + \epsilon \Bigr) $$

    Arguments:
        state: An optax state that holds Adam's, wherever in the tree.
        b1: Decay of the average of gradients.
        b2: Decay of the average of their squares.
        eps: As in the optimizer.

    Raises:
        ValueError: if there is no Adam state, or more than one.
    """
    found = [s for s in jax.tree.leaves(state, is_leaf=_is_adam) if _is_adam(s)]
    if len(found) != 1:
        raise ValueError(f"state: expected one optax.ScaleByAdamState in it, found {len(found)}")
    adam = found[0]
    steps = jnp.maximum(adam.count, 1)
    return jax.tree.map(
        lambda nu: (1 - b1 ** (steps + 1)) * (jnp.sqrt(nu / (1 - b2**steps)) + eps),
        adam.nu,
    )


def _is_adam(node: object) -> bool:
    return isinstance(node, optax.ScaleByAdamState)


class Sharpness(NamedTuple):
    """The largest eigenvalue, the optimizer's threshold, and their ratio: about 1 at the edge of stability."""

    value: Float[Array, ""]
    threshold: Float[Array, ""]
    ratio: Float[Array, ""]


def sharpness(
    matvec: MatVec, params: PyTree, threshold: Scalar, *, key: PRNGKeyArray | None = None, iterations: int = 20
) -> Sharpness:
    """The top eigenvalue against a `stability_threshold`; 20 products with a Hessian cost about 40 gradients.

    Arguments:
        matvec: ``v -> H v``, or `preconditioned`.
        params: Pytree of floating-point arrays.
        threshold: Of the optimizer in use.
        key: Of Lanczos' start.
        iterations: Products.
    """
    top = extreme_eigenvalues(matvec, params, key=key, iterations=iterations)[1]
    limit = jnp.asarray(threshold, top.dtype)
    return Sharpness(top, limit, top / limit)


class NoiseScale(NamedTuple):
    r"""The gradient noise of a batch.

    Attributes:
        batch: $\operatorname{tr}\Sigma / |G|^2$, the batch size at which noise and gradient are equally large: far
            below it steps are limited by noise, far above it examples are wasted. Infinite where no gradient is left.
        noise: $\operatorname{tr}\Sigma$, the summed variance of one example's gradient.
        signal: $|G|^2$, without the noise's part; may be negative by chance.
    """

    batch: Float[Array, ""]
    noise: Float[Array, ""]
    signal: Float[Array, ""]


def gradient_noise_scale(gradients: PyTree, examples: int = 1) -> NoiseScale:
    r"""The simple noise scale from the gradients of several equal batches (McCandlish et al. 2018, 1812.06162).

    With m batches of b examples, $s$ the mean squared length of their gradients and $g$ that of the mean of all:
    $|G|^2 = (m g - s) / (m - 1)$ and $\operatorname{tr}\Sigma = b\, (s - g)\, m / (m - 1)$, both unbiased.

    Arguments:
        gradients: Pytree with the batches along the first axis of every leaf, at least two.
        examples: b, of each.

    Raises:
        ValueError: if there are fewer than two batches, or ``examples < 1``.
    """
    in_range("examples", examples, 1.0)
    leaves = jax.tree.leaves(gradients)
    m = len(leaves[0]) if leaves else 0
    if m < 2:
        raise ValueError(f"gradients: expected at least two batches along the first axis, got {m}")
    wide = [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in leaves]
    single = jnp.sum(jnp.stack([jnp.sum(leaf**2) for leaf in wide])) / m
    joint = jnp.sum(jnp.stack([jnp.sum(leaf.mean(0) ** 2) for leaf in wide]))
    signal, noise = (m * joint - single) / (m - 1), examples * (single - joint) * m / (m - 1)
    return NoiseScale(jnp.where(signal > 0, noise / jnp.where(signal > 0, signal, 1), jnp.inf), noise, signal)


def antisymmetry(field, z: PyTree, *, key: PRNGKeyArray | None = None, probes: int = 8) -> Float[Array, ""]:
    r"""How far a vector field is from a gradient: the antisymmetric share of its Jacobian, in [0, 1].

    $$ \frac{\lVert J - J^\top \rVert_F^2}{2\, (\lVert J \rVert_F^2 + \lVert J^\top \rVert_F^2)}
       = \frac{\mathbb{E}\, \lvert Jv - J^\top v \rvert^2}{4\, \mathbb{E}\, \lvert Jv \rvert^2} $$

    0 for a gradient field, 1/2 on average for a random J, 1 for a rotation, as in a bilinear game.

    Arguments:
        field: ``z -> F(z)``, of the structure of ``z``.
        z: Pytree of floating-point arrays.
        key: Of the random signs v; default: a fixed one.
        probes: How many, at least 1; each costs two products.

    Raises:
        ValueError: if ``probes < 1``.
    """
    in_range("probes", probes, 1.0)
    _, push = jax.linearize(field, z)
    pull = jax.linear_transpose(push, z)

    def lengths(key: PRNGKeyArray) -> tuple[Array, Array]:
        v = optax.tree.random_like(key, z, sampler=jr.rademacher)
        forward, backward = push(v), pull(v)[0]
        apart = jax.tree.map(jnp.subtract, forward, backward)
        both = optax.tree.vdot(forward, forward) + optax.tree.vdot(backward, backward)
        return jnp.asarray(optax.tree.vdot(apart, apart)), jnp.asarray(both)

    apart, both = (a.mean() for a in jax.lax.map(lengths, jr.split(jr.key(0) if key is None else key, probes)))
    return jnp.where(both > 0, apart / jnp.where(both > 0, 2 * both, 1), 0)
