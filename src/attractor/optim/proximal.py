"""Gradient methods that end every step with a proximal map, such as those of `attractor.linalg.proximal`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from attractor.checks import Scalar, in_range
from attractor.linalg.proximal import Prox, lasso
from attractor.registry import LogUniform, method


def apply_prox(prox: Prox, step_size: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    r"""End a chain with a proximal map: $x \leftarrow \operatorname{prox}(x + u, \eta)$ with u the update so far.

    Arguments:
        prox: ``prox(x, step_size)``, of pytrees like the parameters.
        step_size: $\eta$, in (0, inf), or a schedule.

    Raises:
        ValueError: for a ``step_size`` out of range, or an update without ``params``.
    """
    if not callable(step_size):
        in_range("step_size", step_size, 0.0, open_low=True)

    def init(params: PyTree) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        if params is None:
            raise ValueError("params: the proximal map needs the parameters; call update(grads, state, params)")
        moved = prox(optax.apply_updates(params, updates), step_size(state) if callable(step_size) else step_size)  # pyright: ignore[reportArgumentType]
        return jax.tree.map(lambda new, x, u: (new - x).astype(u.dtype), moved, params, updates), state + 1

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def proximal_sgd(
    learning_rate: optax.ScalarOrSchedule, prox: Prox, momentum: Scalar | None = None
) -> optax.GradientTransformation:
    r"""Stochastic gradient step on the smooth part, proximal step on the rest (ISTA, with full gradients).

    $$ x \leftarrow \operatorname{prox}_{\eta r}(x - \eta g) $$

    Arguments:
        learning_rate: $\eta$, in (0, inf), or a schedule.
        prox: ``prox(x, eta)``, the proximal map of $\eta r$, such as `lasso`.
        momentum: In [0, 1); `None`: none.

    Raises:
        ValueError: for a hyper-parameter out of range.
    """
    if momentum is not None:
        in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    return optax.chain(optax.sgd(learning_rate, momentum), apply_prox(prox, learning_rate))


@method(
    "proximal-gradient",
    {"learning_rate": LogUniform(1e-4, 1.0), "l1": LogUniform(1e-5, 0.1)},
    paper="ngdm-vs-gd",
    bad={"learning_rate": -1.0, "l1": -1.0},
)
def proximal_gradient(learning_rate: Scalar, l1: Scalar = 0.0) -> optax.GradientTransformation:
    """Gradient steps with an L1 penalty taken proximally: `proximal_sgd` with `lasso`.

    Arguments:
        learning_rate: In (0, inf).
        l1: Strength of the penalty, in [0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("l1", l1, 0.0)
    return proximal_sgd(learning_rate, lasso(l1))


def exponentiated_gradient(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    r"""Mirror descent with the entropy: multiplicative steps that keep the sum of positive parameters.

    $$ x_i \leftarrow s \, \frac{x_i e^{-\eta g_i}}{\sum_j x_j e^{-\eta g_j}}, \qquad s = \sum_j x_j $$

    leaf by leaf. On the simplex (s = 1) it minimizes $\langle g, y \rangle + \frac1\eta \operatorname{KL}(y, x)$ over
    y; its rates depend on the logarithm of the dimension where those of gradient descent depend on its root. Parameters
    that are not positive stay where they are or leave the domain: start inside it.

    Arguments:
        learning_rate: $\eta$, in (0, inf), or a schedule.

    Raises:
        ValueError: for a ``learning_rate`` out of range, or an update without ``params``.

    Paper: Revisiting the Last-Iterate Convergence of Stochastic Gradient Methods.
    """
    if not callable(learning_rate):
        in_range("learning_rate", learning_rate, 0.0, open_low=True)

    def init(params: PyTree) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        if params is None:
            raise ValueError("params: the steps are multiplicative; call update(grads, state, params)")
        rate = learning_rate(state) if callable(learning_rate) else learning_rate

        def move(g: Array, x: Array) -> Array:
            grown = x * jnp.exp(-rate * (g - g.min()))  # pyright: ignore[reportOperatorIssue]  # factors of at most 1: no overflow
            return (grown * (x.sum() / grown.sum()) - x).astype(x.dtype)

        return jax.tree.map(move, updates, params), state + 1

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]
