"""Minimize the largest of many losses: the softmax instead of the max, in balls where its weights hardly change."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.linalg.amplification import amplified_sampling
from attractor.method import Method, hyper
from attractor.problem import Minimization
from attractor.registry import LogUniform, method
from attractor.trees import as_vector

Sampler = Callable[[PRNGKeyArray, Float[Array, " n"], int], Int[Array, " draws"]]


def soft_maximum(values: Float[Array, "... n"], smoothing: Scalar) -> Float[Array, "..."]:
    r"""$\mu \log \sum_i e^{v_i / \mu}$: above the largest value, by at most $\mu \log n$, and $1/\mu$-smooth.

    Arguments:
        values: $v$, along the last axis.
        smoothing: $\mu$, in (0, inf).

    Raises:
        ValueError: for a ``smoothing`` out of range.
    """
    in_range("smoothing", smoothing, 0.0, open_low=True)
    return smoothing * jax.scipy.special.logsumexp(values / smoothing, axis=-1)


def categorical(key: PRNGKeyArray, logits: Float[Array, " n"], draws: int) -> Int[Array, " draws"]:
    """Indices with probability proportional to ``exp(logits)``; it looks at all n of them."""
    return jr.categorical(key, logits, shape=(draws,))


def amplified_categorical(key: PRNGKeyArray, logits: Float[Array, " n"], draws: int) -> Int[Array, " draws"]:
    """The same by (simulated) `amplified_sampling`: of order sqrt(n) oracle calls a draw, at worst."""
    found = amplified_sampling(jnp.exp((logits - logits.max()) / 2))
    return jr.categorical(key, jnp.log(found.probabilities), shape=(draws,))


@method(
    "ball-descent",
    {"smoothing": LogUniform(1e-3, 1.0), "radius": LogUniform(1e-3, 1.0)},
    paper="quantum-minimize-maximal-loss",
)
class BallDescent(Method):
    r"""Minimize $\max_i f_i(x)$ over the problem's examples by stochastic steps that see one example each.

    Around a center $\bar x$, where all losses are looked at once,

    $$
    i \sim p_i \propto e^{f_i(\bar x) / \mu}, \qquad
    x \leftarrow \Pi_{\lVert x - \bar x \rVert \le r}\Big[ x - \tfrac{r^2}{\mu \sqrt T}\,
    e^{(f_i(x) - f_i(\bar x)) / \mu}\, \nabla f_i(x) \Big]
    $$

    T times; then the last x is the next center. The factor makes the step unbiased for $\sum_i p_i\, e^{(f_i(x) -
    f_i(\bar x)) / \mu}$, which grows with the `soft_maximum` of the losses. With losses of Lipschitz constant
    $\mu / r$ it stays between 1/e and e in the ball. The paper finds accelerated sequences of such balls, with a
    regularized solve in each; here one ball follows the other. For an error of $\epsilon$ take $\mu = \epsilon / (2
    \log n)$.

    Arguments:
        smoothing: $\mu$, in (0, inf), in units of the losses.
        radius: r, in (0, inf), in units of the parameters.
        draws: T, steps per ball, at least 1.
        sampler: ``(key, logits, draws) -> indices``: `categorical` or `amplified_categorical`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Near-Optimal Quantum Algorithm for Minimizing the Maximal Loss.
    """

    smoothing: Scalar = hyper(1e-2, low=0.0, open_low=True)
    radius: Scalar = hyper(1e-2, low=0.0, open_low=True)
    draws: int = hyper(64, low=1)
    sampler: Sampler = hyper(categorical)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> None:
        return None

    def step(self, problem: Minimization, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        center, unravel = as_vector(x)
        examples = jax.tree.map(lambda leaf: leaf[:, None], problem.full)

        def loss(z: Array, example: PyTree) -> Array:
            return problem.loss(unravel(z), example).astype(center.dtype)

        several = bool(jax.tree.leaves(examples))
        values = jax.vmap(loss, (None, 0))(center, examples) if several else loss(center, None)[None]
        rate = self.radius**2 / (self.smoothing * self.draws**0.5)

        def descend(z: Array, i: Array) -> tuple[Array, None]:
            value, gradient = jax.value_and_grad(loss)(z, jax.tree.map(lambda leaf: leaf[i], examples))
            z = z - rate * jnp.exp((value - values[i]) / self.smoothing) * gradient
            length = jnp.linalg.norm(z - center)
            return center + (z - center) * jnp.where(length > self.radius, self.radius / length, 1.0), None

        chosen = self.sampler(key, values / self.smoothing, self.draws)
        return unravel(lax.scan(descend, center, chosen)[0]), None
