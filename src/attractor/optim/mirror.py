"""Mirror descent with potentials on the whole space: the geometry decides which of many solutions is found."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, PyTree
from scipy.optimize import root

from attractor.checks import Scalar, in_range
from attractor.registry import LogUniform, method


@method(
    "hypentropy-descent",
    {"learning_rate": LogUniform(1e-3, 1.0), "scale": LogUniform(1e-6, 1.0)},
    paper="optimizer-inductive-bias",
    bad={"learning_rate": -1.0, "scale": 0.0},
)
def hypentropy_descent(learning_rate: optax.ScalarOrSchedule, scale: Scalar = 1e-3) -> optax.GradientTransformation:
    r"""Mirror descent with the hyperbolic entropy: multiplicative where parameters are large, additive near zero.

    $$ \operatorname{arsinh}(x_i / \beta) \leftarrow \operatorname{arsinh}(x_i / \beta) - \eta g_i, \quad
    x_i \leftarrow x_i \cosh \eta g_i - \sqrt{x_i^2 + \beta^2} \sinh \eta g_i $$

    From zero it ends, of all solutions of a linear system, at the one of least
    $\sum_i x_i \operatorname{arsinh}(x_i / \beta) - \sqrt{x_i^2 + \beta^2}$: that of least 1-norm as $\beta \to 0$ and,
    at a rate of $\eta / \beta$, that of least 2-norm as $\beta \to \infty$. No state, no overflow for moderate
    $\eta g$. Exponentiated gradients with signed weights (Ghai, Hazan, Singer 2020, 1902.01903).

    Arguments:
        learning_rate: $\eta$, in [0, inf), or a schedule; near x the steps are those of a rate
            $\eta \sqrt{x^2 + \beta^2}$.
        scale: $\beta$, in (0, inf), in the units of the parameters.

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``params``.

    Paper: Optimizers Qualitatively Alter Solutions And We Should Leverage This.
    """
    if not callable(learning_rate):
        in_range("learning_rate", learning_rate, 0.0)
    in_range("scale", scale, 0.0, open_low=True)

    def init(params: PyTree) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        if params is None:
            raise ValueError("params: the steps depend on the parameters; call update(grads, state, params)")
        rate = learning_rate(state) if callable(learning_rate) else learning_rate

        def move(g: Array, x: Array) -> Array:
            a = rate * g  # pyright: ignore[reportOperatorIssue]
            return (2 * x * jnp.sinh(a / 2) ** 2 - jnp.sqrt(x**2 + scale**2) * jnp.sinh(a)).astype(x.dtype)

        return jax.tree.map(move, updates, params), state + 1

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def least_hypentropy(rows: np.ndarray, values: np.ndarray, scale: float) -> np.ndarray:
    r"""Of a system's solutions the one of least hyperbolic entropy, at which `hypentropy_descent` from 0 ends.

    $x = s \sinh(A^\top \lambda)$ with the multipliers for which $A x = b$, by Newton's method; for a scale of 0 the
    solution of least 2-norm, at which gradient descent ends.

    Arguments:
        rows: A, ``(m, n)``, of full rank with m < n.
        values: b, ``(m,)``.
        scale: s, in [0, inf).

    Raises:
        ValueError: if ``scale`` is out of range.
    """
    in_range("scale", scale, 0.0)
    if not scale:
        return np.linalg.pinv(rows) @ values
    near = np.linalg.lstsq(rows.T, np.arcsinh(np.linalg.pinv(rows) @ values / scale), rcond=None)[0]
    dual = root(lambda dual: rows @ (scale * np.sinh(rows.T @ dual)) - values, near, tol=1e-12).x
    return scale * np.sinh(rows.T @ dual)
