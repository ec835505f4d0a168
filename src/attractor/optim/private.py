"""Differential privacy: what noise a budget asks for, and descent along noisy gradients."""

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.gradients import refuse_complex
from attractor.method import Method, hyper
from attractor.problem import Minimization
from attractor.registry import LogUniform, method


def zcdp_budget(epsilon: Scalar, delta: Scalar) -> Float[Array, ""]:
    r"""The zero-concentrated privacy rho that guarantees (epsilon, delta)-differential privacy.

    $$ \rho = \bigl(\sqrt{\ln(1/\delta) + \epsilon} - \sqrt{\ln(1/\delta)}\bigr)^2 $$

    It adds up over releases, which (epsilon, delta) does not. Inverse: `zcdp_epsilon`.

    Arguments:
        epsilon: In (0, inf).
        delta: In (0, 1).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("epsilon", epsilon, 0.0, open_low=True)
    in_range("delta", delta, 0.0, 1.0, open_low=True, open_high=True)
    log = -jnp.log(delta)
    return (epsilon / (jnp.sqrt(log + epsilon) + jnp.sqrt(log))) ** 2  # without the cancellation


def zcdp_epsilon(rho: Scalar, delta: Scalar) -> Float[Array, ""]:
    r"""The epsilon of (epsilon, delta)-differential privacy that zero-concentrated privacy rho guarantees.

    $$ \epsilon = \rho + 2 \sqrt{\rho \ln(1/\delta)} $$

    Arguments:
        rho: In [0, inf).
        delta: In (0, 1).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("rho", rho, 0.0)
    in_range("delta", delta, 0.0, 1.0, open_low=True, open_high=True)
    return rho + 2 * jnp.sqrt(-rho * jnp.log(delta))


def gaussian_noise(sensitivity: Scalar, rho: Scalar, releases: Scalar = 1) -> Float[Array, ""]:
    r"""Standard deviation of the Gaussian mechanism, $\Delta \sqrt{T / (2 \rho)}$, for T releases under one budget.

    Arguments:
        sensitivity: Largest Euclidean change of a release when one sample is replaced, in [0, inf).
        rho: Zero-concentrated privacy of all releases together, in (0, inf); see `zcdp_budget`.
        releases: T, at least 1.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("sensitivity", sensitivity, 0.0)
    in_range("rho", rho, 0.0, open_low=True)
    in_range("releases", releases, 1.0)
    return sensitivity * jnp.sqrt(releases / (2 * rho))


def normalized_mean(gradients: PyTree, bound: Scalar = 1.0) -> PyTree:
    r"""Mean of gradients that are shortened to a norm: $\frac1n \sum_i g_i / \max(1, \lVert g_i \rVert / C)$.

    Replacing one sample changes it by at most 2 C / n.

    Arguments:
        gradients: Leaves ``(n, …)``, the gradient of every sample; norms are over all leaves.
        bound: The norm C, in (0, inf).

    Raises:
        ValueError: for a ``bound`` out of range.

    Paper: Sharper Utility Bounds for Differentially Private Models.
    """
    in_range("bound", bound, 0.0, open_low=True)
    sizes = jax.vmap(optax.tree.norm)(gradients)
    weights = 1 / jnp.maximum(1, sizes / bound)
    return jax.tree.map(lambda g: jnp.tensordot(weights.astype(g.dtype), g, 1) / len(g), gradients)


@method("m-ngp", {"learning_rate": LogUniform(1e-2, 10.0)}, paper="dp-m-ngp")
class PrivateDescent(Method):
    r"""Gradient descent under differential privacy, with gradients normalized sample by sample.

    $$ x_{t+1} = x_t - \eta \Bigl(\frac1n \sum_i \frac{g_i}{\max(1, \lVert g_i \rVert / C)} + b_t\Bigr), \qquad
       b_t \sim N(0, \sigma^2 I), \quad \sigma = \frac{2C}{n} \sqrt{\frac{T}{2\rho}} $$

    over all data of the problem (a minibatch size is ignored), where rho is the `zcdp_budget` of (epsilon, delta).
    With C = 1 this is m-NGP; that it normalizes each sample's gradient, not their mean, is read off its bound of the
    sensitivity. After T steps the budget is spent, and the point stays where it is.

    Arguments:
        learning_rate: The step size eta, in (0, inf).
        epsilon: Privacy of the whole run, in (0, inf).
        delta: Its failure probability, in (0, 1).
        steps: The number T of noisy gradients that the budget is for, at least 1; may be a float, so that horizons can
            be swept in one program.
        bound: Norm C that gradients are shortened to, in (0, inf).
        normalize: If false, gradients are left as they are, and privacy holds only if none is longer than ``bound``.

    Raises:
        ValueError: for an argument out of range.

    Paper: Sharper Utility Bounds for Differentially Private Models.
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    epsilon: Scalar = hyper(1.0, low=0.0, open_low=True)
    delta: Scalar = hyper(1e-5, low=0.0, high=1.0, open_low=True, open_high=True)
    steps: Scalar = hyper(100, low=1)
    bound: Scalar = hyper(1.0, low=0.0, open_low=True)
    normalize: bool = True

    def noise(self, samples: int) -> Float[Array, ""]:
        """Standard deviation of the noise in one gradient of that many samples."""
        return gaussian_noise(2 * self.bound / samples, zcdp_budget(self.epsilon, self.delta), self.steps)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def step(
        self, problem: Minimization, x: PyTree, state: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree, Int[Array, ""]]:
        refuse_complex("this privacy", x)
        oracles = problem.oracles(x, problem.full)
        if jax.tree.leaves(problem.full):
            gradients = oracles["per_example"]()
        else:  # a loss without data counts as one sample
            gradients = jax.tree.map(lambda g: g[None], oracles["grad"])
        samples = len(jax.tree.leaves(gradients)[0])
        mean = normalized_mean(gradients, self.bound) if self.normalize else jax.tree.map(_mean, gradients)
        noise = optax.tree.random_like(jr.fold_in(key, 1), x, sampler=jr.normal)
        rate = jnp.where(state < self.steps, self.learning_rate, 0.0)
        deviation = self.noise(samples)
        moved = jax.tree.map(lambda p, g, b: (p - rate * (g + deviation * b)).astype(p.dtype), x, mean, noise)
        return moved, state + 1


def _mean(gradients: Float[Array, "n ..."]) -> Float[Array, "..."]:
    return gradients.mean(0)
