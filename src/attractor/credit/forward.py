"""Forward gradients: gradient estimates from directional derivatives, without a backward pass."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.method import Method
from attractor.problem import Minimization
from attractor.registry import LogUniform, method

Loss = Callable[[PyTree], Float[Array, ""]]
Estimator = Callable[[Loss, PyTree, PRNGKeyArray], tuple[Float[Array, ""], PyTree]]


def directional_gradient(f: Loss, params: PyTree, direction: PyTree) -> tuple[Float[Array, ""], PyTree]:
    r"""The value of ``f`` and $(\nabla f(\theta)^\top v)\, v$, from one forward-mode evaluation.

    Nothing is stored for a backward pass, so ``f`` may contain what reverse mode cannot differentiate, such as
    `jax.lax.while_loop`.

    Arguments:
        f: Function of a pytree with a scalar value.
        params: Where to differentiate: a pytree of floating-point arrays.
        direction: v, with the structure, shapes and dtypes of ``params``.

    Paper: Gradients without Backpropagation.
    """
    value, slope = jax.jvp(f, (params,), (direction,))
    return value, jax.tree.map(lambda v: slope.astype(v.dtype) * v, direction)


def value_and_forward_gradient(f: Loss, params: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], PyTree]:
    r"""The value and an unbiased estimate of the gradient of ``f``: `directional_gradient` along a random direction.

    With $v \sim \mathcal N(0, I_d)$ the estimate is $g = (\nabla f(\theta)^\top v)\, v$, for which
    $E[g] = \nabla f$ and $E\|g\|^2 = (d + 2)\|\nabla f\|^2$.

    Arguments:
        f: Function of a pytree with a scalar value.
        params: Where to differentiate: a pytree of floating-point arrays with d numbers in all.
        key: Draws the direction.

    Returns:
        ``f(params)``, and the estimate with the structure, shapes and dtypes of ``params``.

    Paper: Gradients without Backpropagation.
    """
    return directional_gradient(f, params, optax.tree.random_like(key, params, jr.normal))


def forward_gradient(f: Loss, params: PyTree, key: PRNGKeyArray) -> PyTree:
    """The estimate of `value_and_forward_gradient` alone."""
    return value_and_forward_gradient(f, params, key)[1]


class EstimatorStats(NamedTuple):
    """How a gradient estimator does, from n independent estimates; see `estimator_stats`."""

    error: Float[Array, ""]  # |mean - gradient|, in standard errors of that mean
    second_moment: Float[Array, ""]  # E|g|² / |gradient|²
    second_moment_error: Float[Array, ""]  # its standard error


def estimator_stats(estimates: PyTree, gradient: PyTree) -> EstimatorStats:
    r"""Bias and second moment of a gradient estimator.

    Arguments:
        estimates: Independent estimates, a pytree like ``gradient`` with a leading axis of n ≥ 2.
        gradient: The true gradient, not zero.

    Returns:
        ``error``: $\|\bar g - \nabla f\|$ over the square root of the summed variances of $\bar g$'s
        coordinates (about 1 for an unbiased estimator); ``second_moment``: the mean of $\|g\|^2$ over
        $\|\nabla f\|^2$, with its standard error.
    """
    true = ravel_pytree(gradient)[0]
    drawn = jax.vmap(lambda g: ravel_pytree(g)[0])(estimates)
    n = drawn.shape[0]
    standard_error = jnp.sqrt(drawn.var(0, ddof=1).sum() / n)
    ratio = (drawn**2).sum(1) / (true**2).sum()
    bias = jnp.linalg.norm(drawn.mean(0) - true)
    return EstimatorStats(bias / standard_error, ratio.mean(), ratio.std(ddof=1) / jnp.sqrt(n))


class ForwardGradient(Method):
    """Any optax transformation, fed with forward gradients: one Jacobian-vector product per step, no backward pass.

    As in `attractor.method.Gradient`, a transformation with extra arguments is offered ``value``, ``grad`` (the
    estimate), ``value_fn`` and ``obj_fn`` (the minibatch loss) and ``key``; what would need reverse mode is not.

    Arguments:
        transformation: What to do with the estimate, such as ``optax.sgd(1e-3)`` or ``optax.adam(1e-3)``.
        estimator: ``(f, params, key) -> (value, estimate)``; another one for other directions than Gaussian ones.

    Paper: Gradients without Backpropagation.
    """

    transformation: optax.GradientTransformationExtraArgs
    estimator: Estimator = eqx.field(static=True)

    def __init__(
        self,
        transformation: optax.GradientTransformation,
        estimator: Estimator = value_and_forward_gradient,
    ):
        self.transformation = optax.with_extra_args_support(transformation)
        self.estimator = estimator

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> PyTree:
        return self.transformation.init(x)

    def step(self, problem: Minimization, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        batch = problem.sample(key)

        def loss(params: PyTree) -> Array:
            return problem.loss(params, batch)

        for_direction, for_transformation = jr.split(jr.fold_in(key, 1))
        value, grad = self.estimator(loss, x, for_direction)
        updates, state = self.transformation.update(
            grad, state, x, value=value, grad=grad, value_fn=loss, obj_fn=loss, key=for_transformation
        )
        return optax.apply_updates(x, updates), state


@method(
    "forward-gradient-descent",
    {"learning_rate": LogUniform(1e-5, 0.1)},
    paper="forward-gradient",
    example={"learning_rate": 1e-3},
    bad={"learning_rate": -1.0},
)
def forward_gradient_descent(learning_rate: optax.ScalarOrSchedule) -> ForwardGradient:
    r"""Gradient descent with forward gradients: no backward pass.

    $\theta_{t+1} = \theta_t - \eta_t (\nabla f(\theta_t)^\top v_t)\, v_t$ with
    $v_t \sim \mathcal N(0, I_d)$. The estimate is d + 2 times longer (squared) than the gradient, so expect
    step sizes about d + 2 times smaller than for gradient descent.

    Arguments:
        learning_rate: Step size, at least 0, or an optax schedule; the paper lets it decay as
            $\eta_0 e^{-kt}$, which is ``optax.exponential_decay(eta_0, 1, exp(-k))``.

    Raises:
        ValueError: if ``learning_rate`` is negative or not finite.

    Paper: Gradients without Backpropagation.
    """
    in_range("learning_rate", learning_rate, 0.0)
    return ForwardGradient(optax.sgd(learning_rate))
