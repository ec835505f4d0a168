"""Natural gradients from a noisy linear system that relaxes to them, as an analog device would."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.gradients import grad
from attractor.method import Method, hyper
from attractor.objectives import Composite
from attractor.registry import LogUniform, method
from attractor.second_order.regularized_newton import gauss_newton_hessian
from attractor.trees import as_vector


def ornstein_uhlenbeck(
    matrix: Float[Array, "n n"],
    forcing: Float[Array, " n"],
    start: Float[Array, " n"],
    time: Scalar,
    temperature: Scalar,
    key: PRNGKeyArray,
) -> Float[Array, " n"]:
    r"""The state of a linear system with thermal noise at a later time, drawn from its exact distribution.

    $$ \mathrm d v = -(F v - g)\, \mathrm d t + \sqrt{2 T}\, \mathrm d W $$

    Its equilibrium is normal with mean $F^{-1} g$ and covariance $T F^{-1}$: the mean of a long run solves a linear
    system. A digital computer pays one eigendecomposition for it, an analog one only the time.

    Arguments:
        matrix: F, symmetric positive definite.
        forcing: g.
        start: v at time 0.
        time: In units in which F is a rate, in [0, inf).
        temperature: T, in [0, inf); 0 gives the mean.
        key: Of the noise.

    Paper: Thermodynamic Natural Gradient Descent.
    """
    eigenvalues, basis = jnp.linalg.eigh(matrix)
    floor = jnp.finfo(matrix.dtype).tiny
    rates = jnp.maximum(eigenvalues, floor)
    decay = jnp.exp(-rates * time)
    mean = decay * (start @ basis) - jnp.expm1(-rates * time) / rates * (forcing @ basis)
    variance = -temperature * jnp.expm1(-2 * rates * time) / rates
    return basis @ (mean + jnp.sqrt(variance) * jr.normal(key, start.shape, start.dtype))


@method(
    "thermodynamic-natural-gradient",
    {"learning_rate": LogUniform(0.03, 3.0), "damping": LogUniform(1e-3, 1.0)},
    paper="thermodynamic-natural-gradient",
)
class ThermodynamicNaturalGradient(Method):
    r"""Natural gradient descent whose linear solve is left to a relaxing noisy system, stopped after a given time.

    $$ x_+ = x - \eta\, v(t), \qquad \mathrm d v = -\big((J^\top \nabla^2 h J + \lambda I) v - g\big)\, \mathrm d t +
    \sqrt{2 T}\, \mathrm d W $$

    for a loss $h(c(x))$, with J the Jacobian of c. A long time and T = 0 give the natural gradient step; a short
    time $t g$, the gradient. With ``warm_start`` v goes on from the last iteration's (which acts like momentum),
    otherwise it starts at 0. The system is simulated exactly (`ornstein_uhlenbeck`), at the cost of an
    eigendecomposition a step: this tells what an analog device would do, and does not make it faster. All parameters
    are taken as one vector.

    Arguments:
        learning_rate: $\eta$, in (0, inf).
        time: t, in (0, inf).
        damping: $\lambda$, in (0, inf).
        temperature: T, in [0, inf).
        warm_start: Whether v is kept between iterations.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Thermodynamic Natural Gradient Descent.
    """

    learning_rate: Scalar = hyper(1.0, low=0.0, open_low=True)
    time: Scalar = hyper(10.0, low=0.0, open_low=True)
    damping: Scalar = hyper(0.1, low=0.0, open_low=True)
    temperature: Scalar = hyper(0.0, low=0.0)
    warm_start: bool = True

    def init(self, problem: Composite, x: PyTree, key: PRNGKeyArray) -> Float[Array, " d"]:
        return jnp.zeros_like(as_vector(x)[0])

    def step(
        self, problem: Composite, x: PyTree, state: Float[Array, " d"], key: PRNGKeyArray
    ) -> tuple[PyTree, Float[Array, " d"]]:
        batch = problem.sample(key)
        flat, unravel = as_vector(x)
        gradient = as_vector(grad(problem.loss)(x, batch))[0]
        matrix = gauss_newton_hessian(problem, x, batch) + self.damping * jnp.eye(flat.size, dtype=flat.dtype)
        start = state if self.warm_start else jnp.zeros_like(state)
        v = ornstein_uhlenbeck(matrix, gradient, start, self.time, self.temperature, jr.fold_in(key, 1))
        return unravel(flat - self.learning_rate * v), v.astype(state.dtype)
