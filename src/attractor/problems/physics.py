"""Physics-informed networks as what they are: an equation, initial and boundary values, each a loss of its own."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.objectives import MultiObjective
from attractor.probe import Probe
from attractor.problem import model_init
from attractor.registry import problem

Points = dict[str, Float[Array, "n ..."]]


def burgers_wave(t: Float[np.ndarray, " n"], x: Float[np.ndarray, " n"], viscosity: float) -> Float[np.ndarray, " n"]:
    r"""The solution of Burgers' equation from $-\sin \pi x$ on [-1, 1], by the Cole-Hopf transform and quadrature.

    Arguments:
        t: Times, greater than 0.
        x: Places in [-1, 1].
        viscosity: $\nu$, at least 0.01: below, the exponentials overflow.
    """
    nodes, weights = np.polynomial.hermite.hermgauss(100)
    at = x[:, None] - 2 * np.sqrt(viscosity * t[:, None]) * nodes
    density = weights * np.exp(-np.cos(np.pi * at) / (2 * np.pi * viscosity))
    return -(np.sin(np.pi * at) * density).sum(1) / density.sum(1)


@problem("burgers-pinn", metric="error", steps=2_000, target=0.05)
def burgers_pinn(
    viscosity: float = 0.02,
    width: int = 24,
    depth: int = 3,
    points: int = 2_048,
    batch_size: int | None = 128,
    seed: int = 0,
) -> MultiObjective:
    r"""Burgers' equation with a network: the residual, the initial values and the boundary values are three losses.

    $u_t + u u_x = \nu u_{xx}$ on $[0, 1] \times [-1, 1]$ from $u(0, x) = -\sin \pi x$ with $u = 0$ at both ends; the
    losses are mean squares, ``equation``, ``initial`` and ``boundary``. Records the relative L2 ``error`` of u on 1,000
    points against `burgers_wave`.

    Arguments:
        viscosity: $\nu$, at least 0.01.
        width: Units per hidden layer, with tanh.
        depth: Hidden layers.
        points: Of each of the three kinds, uniform at random.
        batch_size: Points of each kind per step; `None`: all.
        seed: Of the points.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("viscosity", viscosity, 0.01)
    in_range("points", points, 1)
    rng = np.random.default_rng(seed)
    draws = rng.uniform(size=(points, 2))
    data = {
        "inside": np.stack([draws[:, 0], 2 * draws[:, 1] - 1], 1),
        "place": rng.uniform(-1, 1, points),
        "time": rng.uniform(size=points),
        "side": rng.choice([-1.0, 1.0], points),
    }

    build = eqx.Partial(_build, width, depth)
    _, static = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
    held_out = np.stack([rng.uniform(0.01, 1, 1_000), rng.uniform(-1, 1, 1_000)], 1)
    truth = burgers_wave(held_out[:, 0], held_out[:, 1], viscosity)

    test = (jnp.asarray(held_out, jnp.float32), jnp.asarray(truth, jnp.float32))
    return MultiObjective(
        eqx.Partial(_losses, static, viscosity),
        eqx.Partial(model_init, build),
        jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), data),
        names=("equation", "initial", "boundary"),
        batch_size=batch_size,
        probes={"error": Probe.on(test, eqx.Partial(_error, static))},
    )


def _build(width: int, depth: int, key: Array) -> eqx.nn.MLP:
    return eqx.nn.MLP(2, "scalar", width, depth, jnp.tanh, key=key)


def _losses(static: eqx.nn.MLP, viscosity: float, params: eqx.nn.MLP, batch: Points) -> tuple[Array, Array, Array]:
    model = eqx.combine(params, static)

    def residual(z: Float[Array, "2"]) -> Array:
        def u_and_slope(x: Array) -> tuple[Array, Array]:
            return jax.jvp(lambda x: model(jnp.stack([z[0], x])), (x,), (jnp.ones_like(x),))

        (u, u_x), (_, u_xx) = jax.jvp(u_and_slope, (z[1],), (jnp.ones_like(z[1]),))
        u_t = jax.jvp(lambda t: model(jnp.stack([t, z[1]])), (z[0],), (jnp.ones_like(z[0]),))[1]
        return u_t + u * u_x - viscosity * u_xx

    place, time, side = batch["place"], batch["time"], batch["side"]
    initial = jax.vmap(model)(jnp.stack([jnp.zeros_like(place), place], 1)) + jnp.sin(jnp.pi * place)
    boundary = jax.vmap(model)(jnp.stack([time, side], 1))
    return jnp.mean(jax.vmap(residual)(batch["inside"]) ** 2), jnp.mean(initial**2), jnp.mean(boundary**2)


def _error(static: eqx.nn.MLP, params: eqx.nn.MLP, batch: tuple[Array, Array]) -> Array:
    z, u = batch
    return jnp.linalg.norm(jax.vmap(eqx.combine(params, static))(z) - u) / jnp.linalg.norm(u)
