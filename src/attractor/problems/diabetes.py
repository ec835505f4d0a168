"""The diabetes data of scikit-learn, 442 patients, 10 features: a small network, an exact posterior, a sample."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.probe import Probe
from attractor.problem import Federated
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
    """A few patients' measurements, standardized among themselves, with a constant last, and how their disease went on.

    Arguments:
        features: Columns of the ten: age, sex, body mass, blood pressure, six blood values.
        count: n, patients drawn without replacement, 2 … 442.
        seed: Of the draw.

    Raises:
        ValueError: for ``count`` out of its range.
    """
    in_range("count", count, 2, 442)
    x, y = (np.asarray(a) for a in load_diabetes(return_X_y=True))
    rows = np.random.default_rng(seed).choice(len(y), count, replace=False)
    x, y = x[rows][:, list(features)], y[rows]
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    return jnp.asarray(np.column_stack([x, np.ones(count)])), jnp.asarray(y)


def diabetes_posterior(clients: int = 10, batch_size: int | None = None, noise: float = 0.5) -> Federated:
    r"""Bayesian linear regression on four features, patients sorted by severity over clients: a known posterior.

    N f is the posterior's energy, with N the number of patients, noise of a known variance and a standard normal prior.
    Records ``moment``, the mean over coordinates of $(x - \mu)^2 / \sigma^2$ with the posterior's mean and variance,
    which is 1 on average over samples of it; ``solution`` is that mean.

    Arguments:
        clients: How many equal parts the 442 patients are cut into (a rest is left out), 1 … 442.
        batch_size: Patients per client and step; `None`: all of its own.
        noise: Variance of the observations, > 0.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("clients", clients, 1, 442)
    in_range("noise", noise, 0.0, open_low=True)
    x, y = (np.asarray(a) for a in load_diabetes(return_X_y=True))
    x, y = ((x - x.mean(0)) / x.std(0))[:, [2, 3, 6, 8]], (y - y.mean()) / y.std()  # mass, pressure, two of the blood
    order = np.argsort(y, kind="stable")[: len(y) // clients * clients]
    x, y = x[order], y[order]
    precision = x.T @ x / noise + np.eye(4)
    mean, covariance = np.linalg.solve(precision, x.T @ y / noise), np.linalg.inv(precision)
    scale = jnp.asarray(np.sqrt(np.diag(covariance)))
    return Federated(
        eqx.Partial(_negative_log_posterior, noise, len(y)),
        jnp.asarray(mean),
        (x.reshape(clients, -1, 4), y.reshape(clients, -1)),
        batch_size=batch_size,
        solution=mean,
        probes={"moment": Probe(eqx.Partial(_moment, jnp.asarray(mean), scale))},
    )


def _negative_log_posterior(
    noise: float, samples: int, x: Float[Array, " 4"], batch: tuple[Array, Array]
) -> Float[Array, ""]:
    features, targets = batch
    return jnp.mean((features @ x - targets) ** 2) / (2 * noise) + x @ x / (2 * samples)


def _moment(mean: Array, scale: Array, problem: Federated, x: Array, key: PRNGKeyArray) -> Float[Array, ""]:
    return jnp.mean(((x - mean) / scale) ** 2)
