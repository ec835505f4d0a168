"""Two tasks in one picture: digits that overlap, a label for each."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import in_range
from attractor.objectives import MultiObjective
from attractor.problem import model_init
from attractor.problems.digits import digits
from attractor.problems.held_out import halves, held_out
from attractor.registry import problem

Pairs = tuple[Float[Array, "n 96"], Int[Array, "n 2"]]


class TwoHeads(eqx.Module):
    """A shared hidden layer with ReLU, and a linear readout for each of two tasks."""

    shared: eqx.nn.Linear
    heads: eqx.nn.Linear

    def __init__(self, width: int, *, key: PRNGKeyArray):
        first, second = jr.split(key)
        self.shared, self.heads = eqx.nn.Linear(96, width, key=first), eqx.nn.Linear(width, 20, key=second)

    def __call__(self, pixels: Float[Array, "96"]) -> Float[Array, "2 10"]:
        return self.heads(jax.nn.relu(self.shared(pixels))).reshape(2, 10)


def overlaid(images: np.ndarray, labels: np.ndarray, *, pairs: int, seed: int) -> Pairs:
    """Pictures of 8 x 12 pixels, the maximum of one digit at the left edge and one at the right, and both labels."""
    left, right = np.random.default_rng(seed).integers(len(images), size=(2, pairs))
    canvas = np.zeros((2, pairs, 8, 12), np.float32)
    canvas[0, :, :, :8], canvas[1, :, :, 4:] = images[left].reshape(-1, 8, 8), images[right].reshape(-1, 8, 8)
    return jnp.asarray(canvas.max(0).reshape(pairs, 96)), jnp.asarray(np.stack([labels[left], labels[right]], 1))


@problem("overlaid-digits", metric="test_loss", steps=1_000, target=0.8)
def overlaid_digits(width: int = 48, pairs: int = 4_096, batch_size: int | None = 64, seed: int = 0) -> MultiObjective:
    """Read two handwritten digits that overlap by four of their eight columns, with one shared hidden layer.

    The losses are the cross-entropies of ``left`` and ``right``. Records besides them ``validation_loss``,
    ``test_loss`` and accuracies, means over both tasks on 1,024 pairs each of held-out digits.

    Arguments:
        width: Units of the shared layer.
        pairs: Training pictures.
        batch_size: Pictures per step; `None`: all.
        seed: Of the pairs.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("width", width, 1)
    in_range("pairs", pairs, 1)
    train, test = digits()

    build = eqx.Partial(_build, width)
    _, static = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
    losses, mean_loss, accuracy = (eqx.Partial(f, static) for f in (_losses, _mean_loss, _accuracy))
    parts = {name: overlaid(*data, pairs=1_024, seed=2 * seed + 1) for name, data in halves(test).items()}
    return MultiObjective(
        losses,
        eqx.Partial(model_init, build),
        overlaid(*train, pairs=pairs, seed=2 * seed),
        names=("left", "right"),
        batch_size=batch_size,
        probes=held_out(parts, {"loss": (mean_loss, "min"), "accuracy": (accuracy, "max")}),
    )


def _build(width: int, key: PRNGKeyArray) -> TwoHeads:
    return TwoHeads(width, key=key)


def _logits(static: TwoHeads, params: TwoHeads, batch: Pairs) -> Float[Array, "n 2 10"]:
    return jax.vmap(eqx.combine(params, static))(batch[0])


def _losses(static: TwoHeads, params: TwoHeads, batch: Pairs) -> Float[Array, "2"]:
    return optax.softmax_cross_entropy_with_integer_labels(_logits(static, params, batch), batch[1]).mean(0)


def _mean_loss(static: TwoHeads, params: TwoHeads, batch: Pairs) -> Array:
    return _losses(static, params, batch).mean()


def _accuracy(static: TwoHeads, params: TwoHeads, batch: Pairs) -> Array:
    return jnp.mean(_logits(static, params, batch).argmax(-1) == batch[1])
