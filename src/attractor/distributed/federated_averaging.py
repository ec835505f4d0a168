"""Federated averaging: clients take several steps at home from the server's model, and the server averages."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.distributed.local import center, gradients_at, keys_of_local_steps, shift, spread
from attractor.method import Method, hyper
from attractor.problem import Federated
from attractor.registry import LogUniform, method


class Corrections(NamedTuple):
    """What each client adds to its gradients; a pytree like x with the clients as first axis, or `None` if nothing."""

    correction: PyTree


@method(
    "fedspeed",
    {"learning_rate": LogUniform(1e-3, 1.0), "prox": LogUniform(0.1, 100.0)},
    paper="fedspeed",
    example={"local_steps": 3},
)
class FedSpeed(Method):
    r"""Local steps held near the server's model by a penalty, whose bias a running correction takes away.

    From the server's x, every client takes K steps on minibatches of its own,

    $$
    y \leftarrow y - \eta\Big(\tilde g(y) - c_i + \frac{y - x}{\lambda}\Big), \qquad
    \tilde g(y) = (1 - \alpha) \nabla f_i(y) + \alpha \nabla f_i\big(y + \rho \nabla f_i(y)\big),
    $$

    then $c_i \leftarrow c_i - (y - x)/\lambda$ and $x \leftarrow \mathrm{mean}(y - \lambda c_i)$ with the new c. We
    start from c = 0. With full gradients it ends at the solution for any K, where averages of uncorrected steps do not,
    except for what αρ moves: at a fixed point c_i is the client's $\tilde g$. All clients take part in every round.

    Arguments:
        learning_rate: Local step size η > 0.
        prox: λ > 0: large holds loosely, and η < λ is stable; `None`: not at all, as in `fedavg`.
        radius: ρ ≥ 0. The gradient is not normalized, as in the paper; the authors' program does it.
        share: α in [0, 1], weight of the gradient taken uphill.
        local_steps: K, at least 1.
        corrected: Whether clients keep c; without it and α this is `fedprox`.

    Raises:
        ValueError: for an argument out of its range.

    Paper: FedSpeed: Larger Local Interval, Less Communication Round, and Higher Generalization Accuracy (Sun, Shen,
    Huang, Ding and Tao, 2023)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    prox: Scalar | None = hyper(10.0, low=0.0, open_low=True, optional=True)
    radius: Scalar = hyper(1e-3, low=0.0)
    share: Scalar = hyper(1.0, low=0.0, high=1.0)
    local_steps: int = hyper(5, low=1, static=True)
    corrected: bool = True

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Corrections:
        return Corrections(jax.tree.map(jnp.zeros_like, spread(x, problem.n_clients)) if self.corrected else None)

    def step(self, problem: Federated, x: PyTree, state: Corrections, key: PRNGKeyArray) -> tuple[PyTree, Corrections]:
        start, correction = spread(x, problem.n_clients), state.correction

        def local(models: PyTree, key: PRNGKeyArray) -> tuple[PyTree, None]:
            batches = problem.sample(key)
            slopes = gradients_at(problem, models, batches)
            if not (isinstance(self.share, float | int) and self.share == 0):
                uphill = gradients_at(problem, shift(models, self.radius, slopes), batches)
                slopes = shift(slopes, self.share, jax.tree.map(jnp.subtract, uphill, slopes))
            if correction is not None:
                slopes = jax.tree.map(jnp.subtract, slopes, correction)
            if self.prox is not None:
                slopes = shift(slopes, 1 / self.prox, jax.tree.map(jnp.subtract, models, start))
            return shift(models, -self.learning_rate, slopes), None

        models, _ = jax.lax.scan(local, start, keys_of_local_steps(key, self.local_steps))
        if correction is None or self.prox is None:
            return center(models), state
        correction = shift(correction, -1 / self.prox, jax.tree.map(jnp.subtract, models, start))
        return center(shift(models, -self.prox, correction)), Corrections(correction)


@method("fedavg", {"learning_rate": LogUniform(1e-3, 1.0)}, example={"local_steps": 3}, bad={"learning_rate": 0.0})
def fedavg(learning_rate: Scalar, local_steps: int = 5) -> FedSpeed:
    r"""Federated averaging: K local steps of gradient descent, then the mean of the models.

    Where clients differ, a constant step converges to another point than the solution for K > 1.

    Arguments:
        learning_rate: Local step size η > 0.
        local_steps: K, at least 1.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Communication-Efficient Learning of Deep Networks from Decentralized Data (McMahan, Moore, Ramage, Hampson
    and Agüera y Arcas, 2017)
    """
    return FedSpeed(learning_rate, None, 0.0, 0.0, local_steps, corrected=False)


@method(
    "fedprox",
    {"learning_rate": LogUniform(1e-3, 1.0), "prox": LogUniform(0.1, 100.0)},
    example={"local_steps": 3},
    bad={"learning_rate": 0.0, "prox": 0.0},
)
def fedprox(learning_rate: Scalar, prox: Scalar, local_steps: int = 5) -> FedSpeed:
    r"""Federated averaging whose local losses have $|y - x|^2 / (2\lambda)$ added, x the server's model.

    Arguments:
        learning_rate: Local step size η > 0.
        prox: λ > 0: large holds loosely.
        local_steps: K, at least 1.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Federated Optimization in Heterogeneous Networks (Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith, 2020)
    """
    return FedSpeed(learning_rate, prox, 0.0, 0.0, local_steps, corrected=False)
