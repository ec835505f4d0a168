"""Descent-ascent and extragradient, with one step size or with a slow first player."""

import jax
from jaxtyping import PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.method import Method, hyper
from attractor.problem import Game
from attractor.registry import LogUniform, method

STEP = LogUniform(1e-3, 1.0)
TIMESCALE = LogUniform(1.0, 100.0)


@method("gradient-descent-ascent", {"learning_rate": STEP, "timescale": TIMESCALE}, example={"learning_rate": 0.1})
class GradientDescentAscent(Method):
    r"""All players take a gradient step at once.

    $$ z_{k+1} = z_k - \eta \Lambda_\tau F(z_k), \qquad \Lambda_\tau = \mathrm{diag}(I/\tau, I, …) $$

    for the joint field F of a `Game`, which is $(\nabla_x f, -\nabla_y f)$ when min over x, max over y of f.

    Arguments:
        learning_rate: Step size η > 0 of every player but the first.
        timescale: τ > 0: the first player's step is η/τ. 1: all alike.

    Raises:
        ValueError: for an argument out of its range.
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    timescale: Scalar = hyper(1.0, low=0.0, open_low=True)

    def step(self, problem: Game, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        return self.follow(problem.field(x, problem.sample(key)), x), state

    def follow(self, field: PyTree, start: PyTree) -> PyTree:
        """Each player against its part of the field, the first one ``timescale`` times slower."""
        rates = (self.learning_rate / self.timescale, *[self.learning_rate] * (len(start) - 1))
        return tuple(
            jax.tree.map(lambda p, g, rate=rate: p - rate * g, player, part)
            for rate, player, part in zip(rates, start, field, strict=True)
        )


@method(
    "two-timescale-extragradient",
    {"learning_rate": STEP, "timescale": TIMESCALE},
    paper="two-timescale-extragradient-minimax",
    example={"learning_rate": 0.1},
)
class TwoTimescaleExtragradient(GradientDescentAscent):
    r"""Extragradient whose first (minimizing) player is slow, so that it sees nearly a best response.

    $$
    w_k = z_k - \eta \Lambda_\tau F(z_k), \qquad z_{k+1} = z_k - \eta \Lambda_\tau F(w_k), \qquad
    \Lambda_\tau = \mathrm{diag}(I/\tau, I, …)
    $$

    An eigenvalue λ of $\Lambda_\tau DF$ is damped by $1 - \eta\lambda + \eta^2\lambda^2$: unlike a plain
    step, this contracts modes that rotate. Where $f_{yy}$ is singular these have
    $\lambda \approx \pm i\sigma/\sqrt\tau + \iota/\tau$, and η must exceed $-2\iota/\sigma^2$.
    On a `Game` with noise both fields see the same sample.

    Arguments:
        learning_rate: Step size η > 0 of every player but the first; large, but below 1/L.
        timescale: τ > 0: the first player's step is η/τ. In the limit of large τ only points that meet the
            second-order necessary condition of a local minimax point attract, see `local_minimax_curvatures`.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Two-timescale Extragradient for Finding Local Minimax Points (Chae, Kim and Kim, 2024)
    """

    timescale: Scalar = hyper(10.0, low=0.0, open_low=True)

    def step(self, problem: Game, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        batch = problem.sample(key)
        ahead = self.follow(problem.field(x, batch), x)
        return self.follow(problem.field(ahead, batch), x), state


@method("extragradient", {"learning_rate": STEP}, example={"learning_rate": 0.1})
class Extragradient(TwoTimescaleExtragradient):
    r"""Step from where you are with the field of where a plain step would lead.

    $$ w_k = z_k - \eta F(z_k), \qquad z_{k+1} = z_k - \eta F(w_k) $$

    On a `Game` with noise both fields see the same sample.

    Arguments:
        learning_rate: Step size η > 0, below 1/L for a field with Lipschitz constant L.
        timescale: τ > 0, as in `TwoTimescaleExtragradient`, whose case 1 this is.

    Raises:
        ValueError: for an argument out of its range.

    Paper: The extragradient method for finding saddle points and other problems (Korpelevich, 1976)
    """

    timescale: Scalar = hyper(1.0, low=0.0, open_low=True)
