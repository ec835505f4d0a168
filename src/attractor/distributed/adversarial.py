"""Federated learning against inputs that an adversary moves: clients train on attacked data, a server averages."""

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray, PyTree

from attractor.checks import Count, Scalar
from attractor.distributed.federated_averaging import fedavg
from attractor.distributed.local import shift
from attractor.method import Method, hyper
from attractor.nn.robust.attacks import attacked
from attractor.problem import Federated
from attractor.registry import LogUniform, method


@method(
    "adversarial-averaging",
    {"learning_rate": LogUniform(1e-3, 1.0)},
    paper="federated-adversarial-learning",
    example={"local_steps": 3, "attack_steps": 2, "server_rate": 0.7},
)
class AdversarialAveraging(Method):
    r"""Federated adversarial learning: before each local step clients attack their inputs, at the models of the moment.

    From the server's x, every client takes K steps on minibatches b of its own,

    $$
    y \leftarrow y - \eta \nabla f_i(y; a(y)), \qquad a(y) \approx \arg\max_{|a - b|_\infty \le r} f_i(y; a), \qquad
    x \leftarrow x + \eta_g\, \mathrm{mean}(y - x).
    $$

    The attack is projected gradient ascent. One client, one step and η_g = 1 are adversarial training. For any other
    federated method, make the problem of `attractor.nn.robust.attacks.attacked` losses.

    Arguments:
        learning_rate: Local step size η > 0.
        server_rate: η_g > 0.
        radius: Half width r of the box around the inputs, the first leaf of a batch; ≥ 0, and 0 is `fedavg`.
        attack_steps: Of the ascent, at least 1.
        attack_size: Of an ascent step, in units of r, > 0.
        local_steps: K, at least 1.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Federated Adversarial Learning: A Framework with Convergence Analysis (Li, Song and Yang, 2022)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    server_rate: Scalar = hyper(1.0, low=0.0, open_low=True)
    radius: Scalar = hyper(0.1, low=0.0)
    attack_steps: Count = hyper(5, low=1)
    attack_size: Scalar = hyper(0.25, low=0.0, open_low=True)
    local_steps: int = hyper(5, low=1, static=True)

    def step(self, problem: Federated, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        loss = attacked(problem.client_loss, self.radius, self.attack_steps, self.attack_size)
        robust = eqx.tree_at(lambda p: p.client_loss, problem, loss)
        at_home = fedavg(self.learning_rate, self.local_steps)
        averaged, _ = at_home.step(robust, x, at_home.init(robust, x, key), key)
        return shift(x, self.server_rate, jax.tree.map(lambda new, old: new - old, averaged, x)), state
