"""Consensus-based optimization: particles that agree on a minimizer, from function values alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.method import Method, hyper
from attractor.problem import Minimization
from attractor.registry import LogUniform, Uniform, method


def consensus_point(
    positions: PyTree[Float[Array, "n ..."]], values: Float[Array, " n"], alpha: Scalar
) -> PyTree[Float[Array, "..."]]:
    r"""Average of particles that weighs those with small values more.

    $$ x_\alpha = \sum_i w_i x_i, \qquad w_i \propto e^{-\alpha f(x_i)} $$

    For large α it is close to the best particle. A particle whose value is not a number has no weight.

    Arguments:
        positions: Pytree whose leaves have the particles as leading axis.
        values: f at each of them.
        alpha: Inverse temperature, > 0.
    """
    weights = jax.nn.softmax(jnp.where(jnp.isnan(values), -jnp.inf, -alpha * values))
    return jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1).astype(leaf.dtype), positions)


class _Particles(Method):
    """What the methods below share: how many particles, how they agree, and how far around x they are drawn."""

    alpha: eqx.AbstractVar[Scalar]
    spread: eqx.AbstractVar[Scalar]
    particles: eqx.AbstractVar[int]

    def cloud(self, x: PyTree, key: PRNGKeyArray) -> PyTree:
        """Particles drawn from $N(x, spread^2 I)$."""
        copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.particles, *leaf.shape)), x)
        return jax.tree.map(lambda c, xi: c + self.spread * xi, copies, optax.tree.random_like(key, copies))

    def consensus(self, problem: Minimization, positions: PyTree, key: PRNGKeyArray) -> PyTree:
        """The consensus point on one minibatch."""
        values = jax.vmap(problem.loss, (0, None))(positions, problem.sample(key))
        return consensus_point(positions, values, self.alpha)


@method(
    "consensus-based-optimization",
    {"alpha": LogUniform(1.0, 1e4), "noise": Uniform(0.1, 2.0), "spread": LogUniform(0.1, 10.0)},
    paper="cbo-as-stochastic-gd",
)
class ConsensusBasedOptimization(_Particles):
    r"""Particles drift to their consensus point and diffuse the more, the further they are from it.

    $$
    x_\alpha = \sum_i w_i X^i,\ w_i \propto e^{-\alpha f(X^i)}, \qquad
    X^i \leftarrow X^i - \lambda\,\Delta t\,(X^i - x_\alpha) + \sigma\sqrt{\Delta t}\, D(X^i - x_\alpha)\, \xi^i
    $$

    with $\xi^i \sim N(0, I)$, and D(v) the diagonal matrix of v (componentwise) or $\|v\| I$ (isotropic).
    Function values only. The particles are the state; the iterate is the consensus point they were last drawn to.

    Arguments:
        alpha: Inverse temperature α > 0 of the consensus point, in 1 / units of f.
        noise: σ >= 0. The particles contract while 2λ > σ² (componentwise) or 2λ > σ² dim (isotropic).
        spread: The particles start from $N(x_0, spread^2 I)$; > 0.
        particles: How many, at least 1; each step evaluates f once per particle.
        drift: λ > 0.
        time_step: Δt > 0.
        diffusion: ``"componentwise"``, which scales to many dimensions, or ``"isotropic"``.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Gradient is All You Need? (Riedl, Klock, Geldhauser and Fornasier, 2023)
    """

    alpha: Scalar = hyper(100.0, low=0.0, open_low=True)
    noise: Scalar = hyper(1.4, low=0.0)
    spread: Scalar = hyper(3.0, low=0.0, open_low=True)
    particles: int = hyper(200, low=1, kw_only=True)
    drift: Scalar = hyper(1.0, low=0.0, open_low=True, kw_only=True)
    time_step: Scalar = hyper(0.1, low=0.0, open_low=True, kw_only=True)
    diffusion: str = hyper("componentwise", choices=("componentwise", "isotropic"), kw_only=True)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> PyTree:
        return self.cloud(x, key)

    def step(self, problem: Minimization, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        agreed = self.consensus(problem, state, key)
        away = jax.tree.map(jnp.subtract, state, agreed)
        size = jax.tree.map(jnp.abs, away)
        if self.diffusion == "isotropic":
            length = jax.vmap(optax.tree.norm)(away)
            size = jax.tree.map(lambda a: length.reshape(-1, *[1] * (a.ndim - 1)).astype(a.dtype), away)
        normal = optax.tree.random_like(jr.fold_in(key, 1), state)
        pull, shake = self.drift * self.time_step, self.noise * self.time_step**0.5
        moved = jax.tree.map(lambda p, a, s, xi: p - pull * a + shake * s * xi, state, away, size, normal)
        return agreed, moved


@method(
    "consensus-hopping",
    {"alpha": LogUniform(1.0, 1e4), "spread": LogUniform(0.01, 10.0)},
    paper="cbo-as-stochastic-gd",
)
class ConsensusHopping(_Particles):
    r"""Hop to the consensus point of a fresh Gaussian cloud: a stochastic gradient step that sees no gradient.

    $$
    x_{k+1} = x_\alpha(X^1, …, X^n), \quad X^i \sim N(x_k, s^2 I), \qquad
    E\,[x_{k+1}] - x_k \to s^2 \nabla_x \log E\, e^{-\alpha f(x_k + s\xi)}
    $$

    which is about $-\alpha s^2 \nabla f$ for small s, and for large α at fixed $\tau = \alpha s^2$ the
    proximal (implicit gradient) step $x_{k+1} = x_k - \tau \nabla f(x_{k+1})$.

    Arguments:
        alpha: Inverse temperature α > 0, in 1 / units of f.
        spread: Standard deviation s > 0 of the cloud, in units of x.
        particles: How many, at least 1; each step evaluates f once per particle.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Gradient is All You Need? (Riedl, Klock, Geldhauser and Fornasier, 2023)
    """

    alpha: Scalar = hyper(100.0, low=0.0, open_low=True)
    spread: Scalar = hyper(0.1, low=0.0, open_low=True)
    particles: int = hyper(100, low=1, kw_only=True)

    def step(self, problem: Minimization, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        return self.consensus(problem, self.cloud(x, jr.fold_in(key, 1)), key), state
