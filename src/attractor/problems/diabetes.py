"""The diabetes data of scikit-learn as a small regression network: 442 patients, 10 features, standardized."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.problems.held_out import halves, held_out


def diabetes_mlp(width: int = 16, batch_size: int | None = 32) -> Composite:
    """Half the mean squared error of a tanh network; records the loss on validation and test patients.

    331 patients train (a fixed split); of the 111 others one half is for choosing settings, the other for the verdict.

    Arguments:
        width: Units of the hidden layer.
        batch_size: Patients per step; `None`: all.
    """
    x, y = (np.asarray(a, np.float32) for a in load_diabetes(return_X_y=True))
    x, y = (x - x.mean(0)) / x.std(0), ((y - y.mean()) / y.std())[:, None]
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    problem = Composite.of_model(
        lambda key: eqx.nn.MLP(10, 1, width, 1, jnp.tanh, key=key), _half_mean_square, (x, y), batch_size=batch_size
    )
    measures = held_out(halves((x_test, y_test)), {"loss": (problem.loss, "min")})
    return eqx.tree_at(lambda p: p.probes, problem, problem.probes | measures)


def _half_mean_square(outputs: Float[Array, "n 1"], batch: tuple[Array, Array]) -> Float[Array, ""]:
    return 0.5 * jnp.mean((outputs - batch[1]) ** 2)


def diabetes_sample(
    features: Sequence[int], count: int = 40, seed: int = 0
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Disease progression of some patients from a few measurements, both standardized; a constant comes last.

    Arguments:
        features: Columns of the data, such as 2 (body mass) and 3 (blood pressure).
        count: Patients, from 2 to 442.
        seed: Of the draw.

    Raises:
        ValueError: if ``count`` is out of range.
    """
    in_range("count", count, 2, 442)
    x, y = load_diabetes(return_X_y=True)
    rows = np.random.default_rng(seed).choice(len(y), count, replace=False)
    x, y = x[rows][:, list(features)], y[rows]
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    return jnp.asarray(np.column_stack([x, np.ones(count)])), jnp.asarray(y)
