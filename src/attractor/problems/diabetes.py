"""The diabetes data of scikit-learn as a small regression network: 442 patients, 10 features, standardized."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

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
