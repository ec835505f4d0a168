"""Linear classification beyond small steps: the perceptron loss, and gradients normalized in output space."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.gradients import refuse_complex
from attractor.method import Method, hyper
from attractor.objectives import Composite
from attractor.registry import LogUniform, method

Examples = tuple[Float[Array, "n d"], Float[Array, " n"]]


def margins(w: Float[Array, " d"], examples: Examples) -> Float[Array, " n"]:
    r"""$y_i \langle w, x_i \rangle$ for examples ``(x (n, d), y (n,))`` with labels +1 and -1; positive is correct."""
    x, y = examples
    return y * (x @ w)


def logistic_loss(margins: Float[Array, " n"], batch: PyTree = None) -> Float[Array, ""]:
    """Mean of $log(1 + exp(-m))$."""
    return jnp.mean(jax.nn.softplus(-margins))


def perceptron_loss(margins: Float[Array, " n"], batch: PyTree = None) -> Float[Array, ""]:
    r"""Mean of $\max(0, -m)$: gradient descent on it is the batch perceptron.

    At a tie, m = 0, the derivative is -1/2, as that of the logistic loss; otherwise w = 0 would be a fixed point.
    """
    return jnp.mean(jnp.maximum(-margins, 0))


@method("output-normalized-gradient", {"learning_rate": LogUniform(1e-3, 100.0)}, paper="normalized-lr-perceptron")
class OutputNormalized(Method):
    r"""Gradient descent on h(c(x)), divided by the size of the gradient that arrives at the outputs.

    $$ x \leftarrow x - \eta\, \frac{\nabla (h \circ c)(x)}{\lVert \nabla h(c(x)) \rVert_1} $$

    For logistic regression the divisor is the mean probability of the wrong label, so that the step is $\eta$ times a
    weighted mean of the examples whatever the loss has fallen to, and the few examples still wrong are not averaged
    away by the many that are right. Where nothing arrives at the outputs, x stays.

    Arguments:
        learning_rate: $\eta$, in (0, inf).

    Raises:
        ValueError: for a ``learning_rate`` out of range.

    Paper: From Logistic Regression to the Perceptron Algorithm: Exploring Gradient Descent with Large Step Sizes.
    """

    learning_rate: float | Float[Array, ""] = hyper(low=0.0, open_low=True)

    def step(self, problem: Composite, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        refuse_complex("the output-normalized gradient", x)
        batch = problem.sample(key)
        outputs, pull = jax.vjp(lambda x: problem.inner(x, batch), x)
        arriving = jax.grad(lambda z: problem.outer(z, batch))(outputs)
        size = jnp.sum(jnp.abs(arriving))
        (direction,) = pull(arriving / jnp.where(size > 0, size, 1))
        return optax.tree.add_scale(x, -self.learning_rate, direction), state
