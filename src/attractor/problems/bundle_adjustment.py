"""Bundle adjustment: camera poses and points in space, from where the cameras saw the points."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.registry import problem

Views = Float[Array, "cameras points 2"]
DEPTH = 4.0  # of the cloud's center in front of every camera, in half widths of the cloud


def rotated(turn: Float[Array, "3"], points: Float[Array, "points 3"]) -> Float[Array, "points 3"]:
    """Points turned by the angle ``|turn|``, in radians, about the axis ``turn`` (Rodrigues' formula)."""
    square = turn @ turn
    angle = jnp.sqrt(jnp.where(square > 0, square, 1))
    # sin(a)/a and (1 - cos a)/a², with their limits where the angle vanishes.
    first = jnp.where(square > 0, jnp.sin(angle) / angle, 1)
    second = jnp.where(square > 0, (1 - jnp.cos(angle)) / angle**2, 0.5)
    across = jnp.cross(turn, points)
    return points + first * across + second * jnp.cross(turn, across)


def views(x: Float[Array, " d"], cameras: int) -> Views:
    """Where pinhole cameras of focal length 1 see points.

    Arguments:
        x: Six numbers per camera (its rotation as in `rotated`, then its translation), three per point.
        cameras: How many of the former there are.
    """
    poses, points = x[: 6 * cameras].reshape(cameras, 6), x[6 * cameras :].reshape(-1, 3)

    def view(pose: Array) -> Array:
        seen = rotated(pose[:3], points) + pose[3:]
        return seen[:, :2] / seen[:, 2:]

    return jax.vmap(view)(poses)


def reprojection_residuals(x: Float[Array, " d"], measured: Views) -> Float[Array, " r"]:
    """`views` less what was measured, as one vector."""
    return (views(x, len(measured)) - measured).ravel()


def random_scene(
    key: PRNGKeyArray,
    cameras: int = 3,
    points: int = 20,
    noise: float = 1e-3,
    error: float | Float[Array, ""] = 1.0,
    arc: float = 0.5,
) -> tuple[Views, Float[Array, " d"]]:
    """Noisy measurements of a random cloud by cameras on an arc, and a wrong guess of poses and points to start from.

    Arguments:
        key: Of everything.
        cameras: At least 1.
        points: At least 1, uniform in a cube from -1 to 1.
        noise: Standard deviation of the measurements, in focal lengths.
        error: Standard deviation of the guessed points, in half widths of the cube; 0.3 of it for rotations (radians)
            and 0.6 of it for translations.
        arc: Where the outer cameras stand on their arc, in radians to both sides: the closer together, the less the
            views say of depths.
    """
    for_pose, for_point, for_noise, for_start = jr.split(key, 4)
    stands = jnp.zeros((cameras, 6)).at[:, 1].set(jnp.linspace(-arc, arc, cameras)).at[:, 5].set(DEPTH)
    spread = jnp.array([0.05] * 3 + [0.1] * 3)
    poses = stands + spread * jr.normal(for_pose, stands.shape)
    cloud = jr.uniform(for_point, (points, 3), minval=-1.0)
    truth = jnp.concatenate([poses.ravel(), cloud.ravel()])
    seen = views(truth, cameras)
    size = jnp.concatenate([jnp.tile(jnp.array([0.3] * 3 + [0.6] * 3), cameras), jnp.ones(3 * points)])
    start = truth + error * size * jr.normal(for_start, truth.shape)
    return seen + noise * jr.normal(for_noise, seen.shape), start


@problem("bundle-adjustment", metric="loss", steps=30, target=1e-3)
def bundle_adjustment(cameras: int = 3, points: int = 20, error: float = 0.5, seed: int = 0) -> Composite:
    """Recover camera poses and points from noisy views of a random scene: half the squared reprojection errors.

    Position, orientation and scale of the whole scene are free: minimizers are not isolated.

    Arguments:
        cameras: At least 2.
        points: At least 4.
        error: Of the start, as in `random_scene`, in [0, inf).
        seed: Of the scene and the start.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("cameras", cameras, 2)
    in_range("points", points, 4)
    in_range("error", error, 0.0)
    measured, start = random_scene(jr.key(seed), cameras, points, error=error)
    return Composite.least_squares(eqx.Partial(_residuals, measured), start)


def _residuals(measured: Views, x: Float[Array, " d"], batch: None = None) -> Float[Array, " r"]:
    return reprojection_residuals(x, measured)
