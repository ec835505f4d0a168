"""Sampling a posterior whose data stay with the clients: Langevin steps that are taken at one client after another."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Count, Scalar, in_range
from attractor.gradients import grad
from attractor.method import Method, hyper
from attractor.problem import Federated
from attractor.registry import LogUniform, method


class Surrogates(NamedTuple):
    """Normal approximations of the clients' likelihoods, of x as one vector."""

    mean: Float[Array, "n d"]
    precision: Float[Array, "n d d"]


class Chain(NamedTuple):
    """Where the chain is, how many steps it took, and what it knows of all clients."""

    client: Int[Array, ""]
    taken: Int[Array, ""]
    surrogates: Surrogates | None


def laplace_surrogates(problem: Federated, x: PyTree, newton_steps: int = 5) -> Surrogates:
    """Normal approximations at the minimum of each client's loss, by Newton steps from x on its own data.

    Curvature counts by its size, and as at least a millionth of the largest: local data may leave directions open.

    Arguments:
        problem: A client's likelihood is exp(-N f_i / n), N samples in all.
        x: Where Newton's method begins.
        newton_steps: At least 1; one is exact for quadratics.

    Raises:
        ValueError: if ``newton_steps`` is out of range.
    """
    in_range("newton_steps", newton_steps, 1)
    start, restore = ravel_pytree(jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), x))
    size = jax.tree.leaves(problem.full)[0].shape[1]

    def fitted(data: PyTree) -> tuple[Array, Array]:
        def energy(z: Array) -> Array:
            like = jax.tree.map(lambda leaf, own: leaf.astype(own.dtype), restore(z), x)
            return size * problem.client_loss(like, data).astype(z.dtype)

        def curvature(z: Array) -> tuple[Array, Array]:
            values, vectors = jnp.linalg.eigh(jax.hessian(energy)(z))
            values = jnp.abs(values)
            return jnp.maximum(values, 1e-6 * values.max()), vectors

        def newton(z: Array, _: None) -> tuple[Array, None]:
            values, vectors = curvature(z)
            return z - vectors @ (vectors.T @ jax.grad(energy)(z) / values), None

        z, _ = jax.lax.scan(newton, start, None, newton_steps)
        values, vectors = curvature(z)
        return z, (vectors * values) @ vectors.T

    return Surrogates(*jax.vmap(fitted)(problem.full))


@method(
    "fsgld",
    {"step_size": LogUniform(1e-6, 1e-3)},
    paper="fsgld",
    example={"local_steps": 2},
)
class FederatedLangevin(Method):
    r"""Langevin steps at one client for a while, then at another, corrected by what all clients' likelihoods look like.

    Samples exp(-U) with $U = N f$, N the number of samples in all: with a mean loss per sample of $-\log p(\xi | x)
    - \log p(x) / N$, that is the posterior. At client i, with $\zeta$ standard normal,

    $$
    x \leftarrow x - \frac h2 \Big(N \nabla f_i(x; \xi) + \sum_j \nabla E_j(x) - n \nabla E_i(x)\Big) + \sqrt h\, \zeta
    $$

    where $E_i(x) = (x - \mu_i)^\top P_i (x - \mu_i) / 2$ approximates $N f_i / n$. The correction, called conducive
    gradient, is 0 on average over clients, and makes all of them see the same drift where the approximations are exact.
    The chain moves to a client drawn uniformly after every few steps: without the correction (DSGLD) it drifts to that
    client's own likelihood meanwhile.

    Arguments:
        step_size: h > 0.
        local_steps: Steps at a client before the chain moves, at least 1.
        surrogates: The approximations, or a function ``(problem, x)`` that makes them at the start; `None`: DSGLD.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Federated Stochastic Gradient Langevin Dynamics (El Mekkaoui, Mesquita, Blomstedt and Kaski, 2021)
    """

    step_size: Scalar = hyper(low=0.0, open_low=True)
    local_steps: Count = hyper(1, low=1)
    surrogates: Surrogates | Callable[[Federated, PyTree], Surrogates] | None = eqx.field(default=laplace_surrogates)

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Chain:
        made = self.surrogates(problem, x) if callable(self.surrogates) else self.surrogates
        return Chain(jnp.asarray(0), jnp.asarray(0), made)

    def step(self, problem: Federated, x: PyTree, state: Chain, key: PRNGKeyArray) -> tuple[PyTree, Chain]:
        for_noise, for_client = jr.split(jr.fold_in(key, 1))
        moved = jr.randint(for_client, (), 0, problem.n_clients)
        client = jnp.where(state.taken % self.local_steps == 0, moved, state.client)
        batch = jax.tree.map(lambda leaf: leaf[client], problem.sample(key))
        z, restore = ravel_pytree(x)
        noise = jr.normal(for_noise, z.shape, z.dtype)
        z = (
            z
            - self.step_size / 2 * self.drift(problem, x, state.surrogates, client, batch)
            + self.step_size**0.5 * noise
        )
        return restore(z.astype(noise.dtype)), Chain(client, state.taken + 1, state.surrogates)

    def drift(
        self, problem: Federated, x: PyTree, surrogates: Surrogates | None, client: Int[Array, ""], batch: PyTree
    ) -> Float[Array, " d"]:
        """The estimate of the gradient of U at one client."""
        n, size = jax.tree.leaves(problem.full)[0].shape[:2]
        slope = n * size * ravel_pytree(grad(problem.client_loss)(x, batch))[0]
        if surrogates is None:
            return slope
        pulls = jnp.einsum("nij,nj->ni", surrogates.precision, ravel_pytree(x)[0] - surrogates.mean)
        return slope + pulls.sum(0) - n * pulls[client]


@method("dsgld", {"step_size": LogUniform(1e-6, 1e-3)}, example={"local_steps": 2}, bad={"step_size": 0.0})
def dsgld(step_size: Scalar, local_steps: Count = 1) -> FederatedLangevin:
    r"""Distributed stochastic gradient Langevin dynamics: $x \leftarrow x - \frac h2 N \nabla f_i(x; \xi) + \sqrt h\,
    \zeta$ at one client i for a while, then at another.

    Arguments:
        step_size: h > 0.
        local_steps: Steps at a client before the chain moves, at least 1.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Distributed Stochastic Gradient MCMC (Ahn, Shahbaba and Welling, 2014)
    """
    return FederatedLangevin(step_size, local_steps, None)
