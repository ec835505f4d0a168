"""Surrogates: many cheap steps on a model of the loss for every costly gradient of the loss itself."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.gradients import grad, refuse_complex
from attractor.method import Method, hyper
from attractor.objectives import Composite
from attractor.problem import Minimization
from attractor.registry import LogUniform, method


@method(
    "proxy-proximal",
    {"learning_rate": LogUniform(1e-2, 100.0)},
    paper="proxyprox",
    example={"proxy": lambda x: 0.5 * optax.tree.norm(x, squared=True)},
)
class ProxyProximal(Method):
    r"""Proximal steps on a cheap proxy $\hat f$, corrected by one true gradient each.

    $$ x_{k+1} \approx \arg\min_x \; \langle g_k - \nabla \hat f(x_k), x \rangle + \hat f(x)
       + \frac{1}{2 \eta} \lVert x - x_k \rVert^2, \qquad g_k = \nabla f_B(x_k) $$

    by ``inner_steps`` gradient steps of size ``inner_rate`` on the proxy, from $x_k$; a fixed number of them was chosen
    here. Where the difference of loss and proxy is delta-smooth, eta near 1 / delta works, however curved the loss is.

    Arguments:
        proxy: ``proxy(x) -> scalar``.
        learning_rate: eta, in (0, inf).
        inner_rate: Step size on the proxy, in (0, inf), below 2 over its smoothness plus 1 / eta.
        inner_steps: At least 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: Two Losses Are Better Than One: Faster Optimization Using a Cheaper Proxy.
    """

    proxy: Callable[[PyTree], Float[Array, ""]]
    learning_rate: Scalar = hyper(1.0, low=0.0, open_low=True)
    inner_rate: Scalar = hyper(0.1, low=0.0, open_low=True)
    inner_steps: int = hyper(50, low=1)

    def step(self, problem: Minimization, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        slope = grad(self.proxy)
        shift = optax.tree.sub(grad(problem.loss)(x, problem.sample(key)), slope(x))

        def descend(_: Array, y: PyTree) -> PyTree:
            def move(y: Array, s: Array, g: Array, x: Array) -> Array:
                return (y - self.inner_rate * (s + g + (y - x) / self.learning_rate)).astype(y.dtype)

            return jax.tree.map(move, y, shift, slope(y), x)

        return lax.fori_loop(0, self.inner_steps, descend, x), None


def target_surrogate(problem: Composite, x: PyTree, batch: PyTree, eta: Scalar) -> Callable[[PyTree], Float[Array, ""]]:
    r"""A quadratic model of a composite loss $h(c(y))$ in the space of outputs, from one gradient of h.

    $$ h(z) + \langle \nabla h(z), c(y) - z \rangle + \frac{1}{2 \eta} \lVert c(y) - z \rVert^2, \qquad z = c(x) $$

    It lies above the loss, and touches it at x, if eta is at most one over the smoothness of h.

    Arguments:
        problem: Its ``inner`` is c, its ``outer`` h.
        x: Where the model is made.
        batch: The samples it is made on.
        eta: In (0, inf).

    Raises:
        ValueError: for an ``eta`` out of range.

    Paper: Target-based Surrogates for Stochastic Optimization.
    """
    in_range("eta", eta, 0.0, open_low=True)
    target = problem.inner(x, batch)
    refuse_complex("the target surrogate", target, "outputs")
    value, slope = jax.value_and_grad(lambda z: problem.outer(z, batch))(target)

    def model(y: PyTree) -> Float[Array, ""]:
        move = problem.inner(y, batch) - target
        return value + jnp.sum(slope * move) + jnp.sum(move**2) / (2 * eta)

    return model


@method("target-surrogate", {"inner_rate": LogUniform(1e-3, 10.0)}, paper="sso-target-surrogate")
class TargetSurrogate(Method):
    r"""Several gradient steps on the `target_surrogate` for every gradient of the loss with respect to outputs.

    The outer loss is asked once per step; the model (c, a network or a policy) is run in every inner step. One inner
    step is gradient descent on the loss. On minibatches with decaying steps $\eta_t = \eta / (t + 1)^p$ it is SSO,
    projected stochastic gradient descent in the space of outputs; the inner rate shrinks as much.

    Arguments:
        eta: Step in the space of outputs, in (0, inf).
        inner_rate: Step of the inner gradient descent, in (0, inf), below 2 eta over $\lVert J \rVert^2$.
        inner_steps: At least 1.
        power: The exponent p of the decay, in [0, 1]: 0 for all data, 1/2 for minibatches.

    Raises:
        ValueError: for an argument out of range.

    Paper: Target-based Surrogates for Stochastic Optimization.
    """

    eta: Scalar = hyper(1.0, low=0.0, open_low=True)
    inner_rate: Scalar = hyper(0.1, low=0.0, open_low=True)
    inner_steps: int = hyper(20, low=1)
    power: Scalar = hyper(0.0, low=0.0, high=1.0)

    def init(self, problem: Composite, x: PyTree, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.zeros([], jnp.int32)

    def step(
        self, problem: Composite, x: PyTree, state: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree, Int[Array, ""]]:
        shrink = (state + 1.0) ** -self.power
        slope = grad(target_surrogate(problem, x, problem.sample(key), self.eta * shrink))

        def descend(_: Array, y: PyTree) -> PyTree:
            return jax.tree.map(lambda y, g: (y - self.inner_rate * shrink * g).astype(y.dtype), y, slope(y))

        return lax.fori_loop(0, self.inner_steps, descend, x), state + 1
