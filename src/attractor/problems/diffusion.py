"""A small generative model of images: the velocity that carries noise to handwritten digits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.problems.digits import digits
from attractor.problems.held_out import halves, held_out
from attractor.registry import problem

# Points on the lines from noise to images with their times, and the velocities there.
Lines = tuple[tuple[Float[Array, "n 64"], Float[Array, " n"]], Float[Array, "n 64"]]
FREQUENCIES = 8
VARIANCE = 0.5  # of a pixel in [-1, 1], about


class FlowMatching(Composite):
    """Regression of velocities on lines from noise to images: another noise and another time at every step.

    The full data are lines at fixed noise and times, one per image.
    """

    def sample(self, key: PRNGKeyArray) -> Lines:
        """Fresh lines to a minibatch of images, drawn uniformly with replacement; to all where there are no batches."""
        (points, times), velocities = super().sample(key)
        images = points + (1 - times)[:, None] * velocities  # where the lines of the full data end
        return lines_to(images, jr.fold_in(key, 1), jr.uniform(jr.fold_in(key, 2), times.shape, times.dtype))


def lines_to(images: Float[Array, "n 64"], key: PRNGKeyArray, times: Float[Array, " n"]) -> Lines:
    r"""Points $x_t = (1 - t)\, \epsilon + t\, x$ with $\epsilon \sim N(0, I)$, and the velocities $x - \epsilon$.

    Arguments:
        images: x.
        key: Of the noise.
        times: t, in [0, 1].
    """
    noise, share = jr.normal(key, images.shape, images.dtype), times[:, None]
    return ((1 - share) * noise + share * images, times), images - noise


class FlowNetwork(eqx.Module):
    """A velocity from a point and a time: what it would be were pixels Gaussian and unrelated, and a network's share.

    The network has blocks of two layers, each added to what comes in, after a norm of it.

    Arguments:
        width: Inside, at least 1.
        depth: Blocks, at least 1.
        key: Of the weights.
    """

    point: eqx.nn.Linear
    time: eqx.nn.Linear
    blocks: list[eqx.nn.MLP]
    norms: list[eqx.nn.LayerNorm]
    velocity: eqx.nn.Linear

    def __init__(self, width: int, depth: int, *, key: PRNGKeyArray):
        point, time, velocity, *blocks = jr.split(key, 3 + depth)
        self.point = eqx.nn.Linear(64, width, key=point)
        self.time = eqx.nn.Linear(FREQUENCIES, width, key=time)
        self.blocks = [eqx.nn.MLP(width, width, 2 * width, 1, jax.nn.silu, key=k) for k in blocks]
        self.norms = [eqx.nn.LayerNorm(width) for _ in blocks]
        self.velocity = eqx.nn.Linear(width, 64, key=velocity)

    def __call__(self, at: tuple[Float[Array, "64"], Float[Array, ""]]) -> Float[Array, "64"]:
        point, time = at
        x = self.point(point) + self.time(jnp.cos(jnp.pi * jnp.arange(1, 1 + FREQUENCIES) * time))
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        gain = (VARIANCE * time - (1 - time)) / (VARIANCE * time**2 + (1 - time) ** 2)
        return gain * point + self.velocity(x)


@problem("digits-diffusion", metric="test_loss", steps=500, target=0.72)
def digits_diffusion(width: int = 64, depth: int = 2, batch_size: int | None = 64, seed: int = 0) -> FlowMatching:
    r"""Learn to draw digits: a diffusion model in its flow form, on handwritten digits with pixels in [-1, 1].

    $$ f(\theta) = \tfrac1{64}\, E\, \| v_\theta(x_t, t) - (x - \epsilon) \|^2, \qquad x_t = (1 - t)\,\epsilon + t\,x $$

    with images x, noise ε ~ N(0, I) and times t uniform in [0, 1]. What solves dx/dt = v from noise at time 0 is a
    digit at time 1. Even the best velocity leaves a loss, as many lines go through a point: 0.72, the target, is that
    of the best one for Gaussian pixels that are unrelated, and 0.60 that of the best for Gaussian images.

    Recorded are the losses on images held out for validation and test, two lines to each, at fixed noise and times.
    The default has 42,000 parameters; ``width=512, depth=4`` has 4.3 million.

    Arguments:
        width: Inside, at least 1.
        depth: Blocks, at least 1.
        batch_size: Images per step, each at a fresh noise and time; `None`: all 1,437.
        seed: Of the split, as in `digits`, and of the fixed noise.

    Raises:
        ValueError: for an argument out of range.

    Paper: Flow Matching for Generative Modeling (2210.02747).
    """
    in_range("width", width, 1)
    in_range("depth", depth, 1)
    (train, _), (others, _) = digits(seed=seed)
    for_train, *for_parts = jr.split(jr.key(seed), 3)
    parts = {
        name: _fixed_lines(jnp.tile(images, (2, 1)), key)
        for (name, images), key in zip(halves(others).items(), for_parts, strict=True)
    }
    build = eqx.Partial(_flow_network, width, depth)
    lines = _fixed_lines(jnp.asarray(train), for_train)
    blank = FlowMatching.of_model(build, _velocity_error, lines, batch_size=batch_size)
    return eqx.tree_at(lambda p: p.probes, blank, held_out(parts, {"loss": (blank.loss, "min")}))


def _fixed_lines(pixels: Float[Array, "n 64"], key: PRNGKeyArray) -> Lines:
    # Golden-ratio steps spread the times evenly over any run of consecutive images.
    times = (jnp.arange(len(pixels)) * 0.61803399 % 1.0).astype(pixels.dtype)
    return lines_to(2 * pixels - 1, key, times)


def _flow_network(width: int, depth: int, key: PRNGKeyArray) -> FlowNetwork:
    return FlowNetwork(width, depth, key=key)


def _velocity_error(velocities: Float[Array, "n 64"], batch: Lines) -> Float[Array, ""]:
    return jnp.mean((velocities - batch[1]) ** 2)
