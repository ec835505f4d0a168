"""Physics-informed networks: minimize a differential equation's residual at collocation points."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.physics.taylor import Tangents, laplacian, sparse_tangents
from attractor.probe import Probe
from attractor.problem import Minimization
from attractor.registry import problem

Draw = Callable[[PRNGKeyArray], Tangents]


class Collocation(Minimization):
    r"""Minimize the mean square of a residual over points, with fresh tangents for its operators at every step.

    An oracle call is a minibatch of points and one set of tangents that they share, so its batch is
    ``(points, tangents)``. The residual is squared after the operator was estimated, as is usual; the loss then
    carries the estimate's variance as a bias.

    Arguments:
        residual: ``residual(model, point, tangents) -> scalar``; a point is one row of ``points``.
        build: ``key -> model``, an `equinox.Module`.
        points: Pytree of arrays whose leading axes index the points.
        tangents: ``key -> tangents (n, d)``, called at every step.
        batch_size: Points per step; `None`: all.
        probes: Further measurements by name.

    Raises:
        ValueError: as `Minimization` does.
    """

    tangents: Draw

    def __init__(
        self,
        residual: Callable[[Any, PyTree, Tangents], Array],
        build: Callable[[PRNGKeyArray], Any],
        points: PyTree,
        tangents: Draw,
        *,
        batch_size: int | None = None,
        probes: Mapping[str, Any] | None = None,
    ):
        _, static = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
        loss = eqx.Partial(_mean_square, residual, static)
        init = eqx.Partial(_parameters, build)
        super().__init__(loss, init, points, batch_size=batch_size, probes=probes)
        self.full = (self.full, tangents(jr.key(0)))
        self.tangents = tangents

    def sample(self, key: PRNGKeyArray) -> PyTree:
        """A minibatch of points, uniformly with replacement, and a set of tangents."""
        points, _ = self.full
        if self.batch_size is not None:
            index = jr.randint(key, (self.batch_size,), 0, jax.tree.leaves(points)[0].shape[0])
            points = jax.tree.map(lambda leaf: leaf[index], points)
        return points, self.tangents(jr.fold_in(key, 2))


def _mean_square(residual: Callable, static: Any, params: PyTree, batch: tuple[PyTree, Tangents]) -> Array:
    points, tangents = batch
    model = eqx.combine(params, static)
    return jnp.mean(jax.vmap(lambda point: residual(model, point, tangents))(points) ** 2)


def _parameters(build: Callable, key: PRNGKeyArray) -> PyTree:
    return eqx.filter(build(key), eqx.is_inexact_array)


class BallNetwork(eqx.Module):
    """A tanh network times ``1 - |x|²``: zero on the unit sphere whatever its parameters."""

    network: eqx.nn.MLP

    def __init__(self, dim: int, width: int, depth: int, *, key: PRNGKeyArray):
        self.network = eqx.nn.MLP(dim, "scalar", width, depth, jnp.tanh, key=key)

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return (1 - jnp.sum(x**2)) * self.network(x)


@problem("poisson-pinn", metric="error", steps=1_000)
def poisson_pinn(
    dim: int = 100,
    indices: int | None = 16,
    *,
    width: int = 64,
    depth: int = 2,
    points: int = 1_024,
    batch_size: int | None = 16,
    tangents: Draw | None = None,
    seed: int = 0,
) -> Collocation:
    r"""Solve Poisson's equation in the unit ball with a network, its Laplacian estimated from a few coordinates.

    $\Delta u = g$ with $u = 0$ on the sphere, where g belongs to the solution
    $u = (1 - |x|^2) \sum_i c_i \sin(x_i + \cos x_{i+1} + x_{i+1} \cos x_i)$, $c_i$ standard normal and
    u scaled to root mean square 1 over the points. Records the relative L2 ``error`` on held-out points.

    Arguments:
        dim: Dimension d, at least 2.
        indices: Coordinates per step, 1 … d; `None`: all, which is the full Laplacian.
        width: Units per hidden layer.
        depth: Hidden layers.
        points: Collocation points, uniform in the ball; a quarter as many are held out; at least 4.
        batch_size: Points per step; `None`: all.
        tangents: ``key -> (n, d)``, instead of coordinates.
        seed: Of the points and of c.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("dim", dim, 2)
    in_range("points", points, 4)
    if indices is not None:
        in_range("indices", indices, 1, dim)
    for_c, for_direction, for_radius = jr.split(jr.key(seed), 3)
    c = jr.normal(for_c, (dim - 1,))
    n = points + points // 4
    x = jr.normal(for_direction, (n, dim))
    radius = jr.uniform(for_radius, (n, 1)) ** (1 / dim)
    x = radius * x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def solution(x: Float[Array, " d"]) -> Float[Array, ""]:
        y = x[1:]
        return (1 - jnp.sum(x**2)) * (c @ jnp.sin(x[:-1] + jnp.cos(y) + y * jnp.cos(x[:-1])))

    values = jax.jit(jax.vmap(solution))(x)
    scale = jnp.sqrt(jnp.mean(values**2))
    all_of_them = sparse_tangents(jr.key(0), dim)
    source = jax.jit(lambda x: jax.lax.map(lambda p: laplacian(solution, p, all_of_them), x))(x[:points]) / scale
    return Collocation(
        _poisson_residual,
        eqx.Partial(_ball_network, dim, width, depth),
        (x[:points], source),
        tangents or (lambda key: sparse_tangents(key, dim, indices)),
        batch_size=batch_size,
        probes={"error": Probe.on((x[points:], values[points:] / scale), _Error(dim, width, depth))},
    )


def _ball_network(dim: int, width: int, depth: int, key: PRNGKeyArray) -> BallNetwork:
    return BallNetwork(dim, width, depth, key=key)


def _poisson_residual(model: BallNetwork, point: tuple[Array, Array], tangents: Tangents) -> Array:
    x, source = point
    return laplacian(model, x, tangents) - source


class _Error(eqx.Module):
    """Relative L2 error of a network with these parameters."""

    static: Any

    def __init__(self, dim: int, width: int, depth: int):
        _, self.static = eqx.partition(BallNetwork(dim, width, depth, key=jr.key(0)), eqx.is_inexact_array)

    def __call__(self, params: PyTree, data: tuple[Array, Array]) -> Array:
        x, u = data
        return jnp.linalg.norm(jax.vmap(eqx.combine(params, self.static))(x) - u) / jnp.linalg.norm(u)
