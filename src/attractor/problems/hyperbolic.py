"""Two levels, the upper one of unbounded smoothness."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attractor.bilevel import Bilevel
from attractor.checks import in_range
from attractor.registry import problem


@problem("hyperbolic-levels", metric="value", steps=2_000)
def hyperbolic_levels(
    n: int = 4, m: int = 6, start: float = 8.0, noise: float = 0.5, batch_size: int | None = 8, seed: int = 0
) -> Bilevel:
    r"""An upper level whose curvature is as large as its slope is steep, without a bound, and noise at both levels.

    $$ F = \sum_i \cosh y_i + \xi^\top y, \qquad g = \tfrac12 \lVert y - A x \rVert^2 + \zeta^\top y, \qquad
       \Phi(x) = \sum_i \cosh (A x)_i $$

    A has singular values from 0.5 to 1.5 and is random otherwise. ξ and ζ are means of minibatches of 4,096 rows each,
    whose mean is 0. The best x is 0; y starts at its solution, where the slope is steep.

    Arguments:
        n: Numbers in x, at least 1.
        m: Numbers in y, at least 1.
        start: Largest entry of $A x$ at the start, positive.
        noise: Standard deviation of the rows, at least 0.
        batch_size: As in `Bilevel`; `None`: no noise.
        seed: Of A, the start and the rows.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("n", n, 1)
    in_range("m", m, 1)
    in_range("start", start, 0.0, open_low=True)
    in_range("noise", noise, 0.0)
    rng = np.random.default_rng(seed)
    left, _, right = np.linalg.svd(rng.standard_normal((m, n)), full_matrices=False)
    a, x = left * np.linspace(0.5, 1.5, min(m, n)) @ right, rng.standard_normal(n)
    rows = noise * rng.standard_normal((2, 4_096, m))
    x, rows = start * x / np.abs(a @ x).max(), rows - rows.mean(1, keepdims=True)
    a, x, rows = (jnp.asarray(part, float) for part in (a, x, rows))
    return Bilevel(
        _hyperbolic_upper,
        eqx.Partial(_tracking_lower, a),
        (x, a @ x),
        (rows[0], rows[1]),
        batch_size=batch_size,
        solve=eqx.Partial(jnp.matmul, a),
    )


def _hyperbolic_upper(x: Float[Array, " n"], y: Float[Array, " m"], batch: Float[Array, "b m"]) -> Float[Array, ""]:
    return jnp.sum(jnp.cosh(y)) + batch.mean(0) @ y


def _tracking_lower(
    a: Float[Array, "m n"], x: Float[Array, " n"], y: Float[Array, " m"], batch: Float[Array, "b m"]
) -> Float[Array, ""]:
    return jnp.sum((y - a @ x) ** 2) / 2 + batch.mean(0) @ y
