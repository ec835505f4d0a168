"""Regression by a diagonal linear network, whose implicit bias is known: small starts favor sparse solutions."""

from collections.abc import Callable

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import Scalar, in_range
from attractor.problem import Minimization


def diagonal_network(
    key: PRNGKeyArray, center: Scalar = 0.0, examples: int = 40, features: int = 100, nonzero: int = 5
) -> tuple[Minimization, Callable[[Float[Array, "2 d"]], Float[Array, ""]]]:
    r"""A diagonal linear network $u^2 - v^2$ on fewer examples than features, of which a few count.

    $$ f(u, v) = \tfrac{1}{2n} \lVert A (u^2 - v^2 - w) \rVert^2 $$

    The first entries of w are 1, the others 0; the rows of A are normal around ``center``. It starts at 0.1.

    Arguments:
        key: Of A.
        center: The common mean of the features.
        examples: n, at least 1.
        features: d, at least 1.
        nonzero: Entries of w that are 1, at least 0.

    Returns:
        The problem, whose variable holds u and v, and its test error: the squared distance to w.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("examples", examples, 1)
    in_range("features", features, 1)
    in_range("nonzero", nonzero, 0)
    truth = jnp.where(jnp.arange(features) < nonzero, 1.0, 0.0)
    a = center + jr.normal(key, (examples, features))

    def weights(x: Float[Array, "2 d"]) -> Float[Array, " d"]:
        return x[0] ** 2 - x[1] ** 2

    problem = Minimization(lambda x: 0.5 * jnp.mean((a @ (weights(x) - truth)) ** 2), jnp.full((2, features), 0.1))
    return problem, lambda x: jnp.sum((weights(x) - truth) ** 2)
