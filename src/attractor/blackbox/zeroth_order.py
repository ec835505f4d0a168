"""Zeroth-order descent: gradients of a smoothed objective, estimated from pairs of function values."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, DTypeLike, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.method import Method, hyper
from attractor.problem import Minimization
from attractor.registry import LogUniform, method

Objective = Callable[[PyTree], Float[Array, ""]]
LAWS = ("sphere", "normal")


def directions(key: PRNGKeyArray, pairs: int, d: int, law: str, dtype: DTypeLike) -> Float[Array, "pairs d"]:
    """Independent directions with $E\\,zz^\\top = I$: normal, or uniform on the sphere of radius √d."""
    z = jr.normal(key, (pairs, d), dtype)
    return z if law == "normal" else d**0.5 * z / jnp.linalg.norm(z, axis=1, keepdims=True)


def in_ball(key: PRNGKeyArray, n: int, d: int, dtype: DTypeLike) -> Float[Array, "n d"]:
    """Independent points, uniform in the unit ball; compiled in a tenth of `jax.random.ball`'s time."""
    length = jr.uniform(jr.fold_in(key, 1), (n, 1), dtype) ** (1 / d)
    return length / d**0.5 * directions(key, n, d, "sphere", dtype)


def two_point_gradient(
    f: Objective, x: PyTree, key: PRNGKeyArray, radius: Scalar, pairs: int = 1, law: str = "sphere"
) -> PyTree:
    r"""Estimate of a gradient from 2m function values, in one batch.

    $$ g = \frac1m \sum_{i=1}^m \frac{f(x + u z_i) - f(x - u z_i)}{2u}\, z_i $$

    With $z = \sqrt d\, e$, e uniform on the unit sphere, and $\gamma = \sqrt d\, u$, this is
    $\frac{d}{2\gamma}(f(x + \gamma e) - f(x - \gamma e))\, e$: unbiased for the gradient of
    $f_\gamma(x) = E f(x + \gamma v)$, v uniform in the unit ball, with $E\|g\|^2 = O(d M^2)$ where f is M-Lipschitz.
    A pair with a value that is not finite says nothing and counts as zero.

    Arguments:
        f: Function of a pytree with a scalar value.
        x: Where: a pytree of floating-point arrays, d numbers in all.
        key: Draws the directions.
        radius: How far f is asked, in units of x, > 0: γ on the sphere, u for normal directions.
        pairs: m ≥ 1.
        law: ``"sphere"`` or ``"normal"``.

    Raises:
        ValueError: for an argument out of its range.

    Paper: The Power of First-Order Smooth Optimization for Black-Box Non-Smooth Problems (arXiv 2201.12289).
    """
    in_range("radius", radius, 0.0, open_low=True)
    in_range("pairs", pairs, 1)
    if law not in LAWS:
        raise ValueError(f"law: expected one of {', '.join(LAWS)}, got {law!r}")
    flat, unravel = ravel_pytree(x)
    z = directions(key, pairs, flat.size, law, flat.dtype)
    u = radius if law == "normal" else radius / flat.size**0.5
    points = jnp.concatenate([flat + u * z, flat - u * z])
    ahead, behind = jnp.split(jax.vmap(lambda p: f(unravel(p)))(points), 2)
    slopes = (ahead - behind) / (2 * u)
    return unravel((jnp.where(jnp.isfinite(slopes), slopes, 0.0) @ z / pairs).astype(flat.dtype))


def ball_smoothing(f: Objective, x: PyTree, key: PRNGKeyArray, radius: Scalar, samples: int = 1000) -> Array:
    r"""The smoothed objective $f_\gamma(x) = E f(x + \gamma v)$, v uniform in the unit ball, by plain sampling.

    For a convex M-Lipschitz f, $f(x) \le f_\gamma(x) \le f(x) + \gamma M$, and the gradient of $f_\gamma$ is Lipschitz
    with a constant of $O(\sqrt d M/\gamma)$.

    Arguments:
        f: Function of a pytree with a scalar value.
        x: Where: a pytree of d numbers.
        key: Draws the samples.
        radius: γ > 0, in units of x.
        samples: How many, at least 1.

    Raises:
        ValueError: for an argument out of its range.

    Paper: The Power of First-Order Smooth Optimization for Black-Box Non-Smooth Problems (arXiv 2201.12289).
    """
    in_range("radius", radius, 0.0, open_low=True)
    in_range("samples", samples, 1)
    flat, unravel = ravel_pytree(x)
    points = flat + radius * in_ball(key, samples, flat.size, flat.dtype)
    return jax.vmap(lambda p: f(unravel(p)))(points).mean()


@method(
    "zeroth-order-descent",
    {"learning_rate": LogUniform(1e-5, 1.0), "noise": LogUniform(1e-6, 1.0)},
    paper="two-point-zo-saddle-escape",
)
class ZerothOrderDescent(Method):
    r"""Descent along `two_point_gradient` with an isotropic perturbation at every step, which leaves saddle points.

    $$ x_{t+1} = x_t - \eta\,(g_t + y_t), \qquad y_t \sim N(0, (r^2/d)\, I) $$

    At a saddle of a function that is symmetric about it, $f(x + uz) = f(x - uz)$ and the estimate is zero: without
    the perturbation the iterate never moves. 2m function values a step, no gradient.

    Arguments:
        learning_rate: η ≥ 0; about m/(d L) for an L-smooth f.
        noise: r ≥ 0, the root mean square length of the perturbation, in units of the gradient.
        radius: How far f is asked, in units of x, > 0; small.
        pairs: m ≥ 1, from one pair of values a step to d of them.
        law: Directions: ``"normal"`` or ``"sphere"``.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Escaping saddle points in zeroth-order optimization: the power of two-point estimators (arXiv 2209.13555).
    """

    learning_rate: Scalar = hyper(1e-2, low=0.0)
    noise: Scalar = hyper(1e-2, low=0.0)
    radius: Scalar = hyper(1e-3, low=0.0, open_low=True, kw_only=True)
    pairs: int = hyper(1, low=1, kw_only=True)
    law: str = hyper("normal", choices=LAWS, kw_only=True)

    def step(self, problem: Minimization, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        batch, (along, shake) = problem.sample(key), jr.split(jr.fold_in(key, 1))
        g = two_point_gradient(lambda p: problem.loss(p, batch), x, along, self.radius, self.pairs, self.law)
        flat, unravel = ravel_pytree(g)
        y = self.noise / flat.size**0.5 * jr.normal(shake, flat.shape, flat.dtype)
        return jax.tree.map(lambda p, s: (p - self.learning_rate * s).astype(p.dtype), x, unravel(flat + y)), state


@method(
    "accelerated-zeroth-order",
    {"learning_rate": LogUniform(1e-5, 1.0), "radius": LogUniform(1e-4, 1.0)},
    paper="smoothing-zeroth-order-parallel",
)
class AcceleratedZerothOrder(Method):
    r"""The method of similar triangles, fed with a batch of two-point gradients of the smoothed objective.

    $$
    a = \tfrac12 (1 + \sqrt{1 + 4 A}), \quad
    y = \frac{A x + a z}{A + a}, \quad z \leftarrow z - \eta\, a\, g(y), \quad
    x \leftarrow \frac{A x + a z}{A + a}, \quad A \leftarrow A + a = a^2
    $$

    from A = 0 and z = x. For a convex M-Lipschitz f with $\gamma = \varepsilon/(2M)$ and
    $\eta = \gamma/(\sqrt d M)$ it takes $O(d^{1/4} M R/\varepsilon)$ steps, each of one parallel batch, where
    descent takes $O(M^2R^2/\varepsilon^2)$; the function values are $O(d M^2 R^2/\varepsilon^2)$ for both.

    Arguments:
        learning_rate: η ≥ 0, one over the Lipschitz constant $\sqrt d M/\gamma$ of the smoothed gradient.
        radius: γ > 0 of `two_point_gradient`, in units of x.
        pairs: B ≥ 1, the batch: 2B function values a step, at once.

    Raises:
        ValueError: for an argument out of its range.

    Paper: The Power of First-Order Smooth Optimization for Black-Box Non-Smooth Problems (arXiv 2201.12289), whose
    text leaves the accelerated method open; this is the usual one for an unconstrained domain.
    """

    learning_rate: Scalar = hyper(1e-2, low=0.0)
    radius: Scalar = hyper(1e-2, low=0.0, open_low=True)
    pairs: int = hyper(10, low=1, kw_only=True)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> PyTree:
        return jax.tree.map(jnp.array, x), jnp.zeros((), ravel_pytree(x)[0].dtype)

    def step(self, problem: Minimization, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        z, total = state
        batch = problem.sample(key)
        gain = (1 + jnp.sqrt(1 + 4 * total)) / 2
        share = gain / (total + gain)

        def towards(a: PyTree, b: PyTree) -> PyTree:
            return jax.tree.map(lambda p, q: ((1 - share) * p + share * q).astype(p.dtype), a, b)

        g = two_point_gradient(
            lambda p: problem.loss(p, batch), towards(x, z), jr.fold_in(key, 1), self.radius, self.pairs
        )
        step = self.learning_rate * gain
        z = jax.tree.map(lambda p, s: (p - step * s).astype(p.dtype), z, g)
        return towards(x, z), (z, (total + gain).astype(total.dtype))
