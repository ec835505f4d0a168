"""Deep hedging: a network trades a stock to cover an option it has sold, and pays for every trade."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.problem import Minimization
from attractor.problems.held_out import held_out
from attractor.registry import problem

SPOT = STRIKE = 100.0
VARIANCE = 0.04  # a year, where paths start and what they return to
HORIZON = 20 / 252  # years

Paths = tuple[Float[Array, "n times"], Float[Array, "n times"]]


def heston_paths(
    key: PRNGKeyArray,
    paths: int,
    steps: int = 20,
    *,
    horizon: float = HORIZON,
    reversion: float = 2.0,
    volatility: float = 0.3,
    correlation: float = -0.7,
) -> Paths:
    r"""Prices S and their variances v in Heston's model, without drift.

    $$ dS = \sqrt{v}\, S\, dW, \qquad dv = \kappa (\theta - v)\, dt + \xi \sqrt{v}\, dW', \qquad \langle dW, dW'
    \rangle = \rho\, dt $$

    by Euler steps of $\log S$ and v, with $\max(v, 0)$ wherever v is used (full truncation). S starts at 100, and v at
    $\theta = 0.04$.

    Arguments:
        key: Of the noise.
        paths: n, at least 1.
        steps: Of time, at least 1; the arrays have one entry more.
        horizon: Years, in (0, inf).
        reversion: $\kappa$ per year, in [0, inf).
        volatility: $\xi$, in [0, inf).
        correlation: $\rho$, in [-1, 1].

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("paths", paths, 1)
    in_range("steps", steps, 1)
    in_range("horizon", horizon, 0.0, open_low=True)
    in_range("reversion", reversion, 0.0)
    in_range("volatility", volatility, 0.0)
    in_range("correlation", correlation, -1.0, 1.0)
    dt = horizon / steps
    first, second = jr.normal(key, (2, steps, paths))
    other = correlation * first + (1 - correlation**2) ** 0.5 * second

    def advance(state: tuple[Array, Array], noise: tuple[Array, Array]) -> tuple:
        log_price, v = state
        present = jnp.maximum(v, 0)
        spread = jnp.sqrt(present * dt)
        new = log_price - present * dt / 2 + spread * noise[0]
        return (new, v + reversion * (VARIANCE - present) * dt + volatility * spread * noise[1]), state

    start = (jnp.zeros(paths), jnp.full(paths, VARIANCE))
    last, before = lax.scan(advance, start, (first, other))
    log_price, v = (jnp.vstack([b, end]).T for b, end in zip(before, last, strict=True))
    return SPOT * jnp.exp(log_price), jnp.maximum(v, 0)


class Hedger(eqx.Module):
    """An LSTM that sees price, variance, time and its last position, and says how many shares to hold.

    The four gates are one `equinox.nn.Linear` layer of the input and the hidden state together, which methods with
    factors per layer, such as K-FAC, can see.

    Arguments:
        width: Of the hidden state.
        key: Of the weights.
    """

    gates: eqx.nn.Linear
    head: eqx.nn.Linear
    width: int = eqx.field(static=True)

    def __init__(self, width: int, *, key: PRNGKeyArray):
        for_gates, for_head = jr.split(key)
        self.gates = eqx.nn.Linear(4 + width, 4 * width, key=for_gates)
        self.head = eqx.nn.Linear(width, 1, key=for_head)
        self.width = width

    def __call__(self, prices: Float[Array, " times"], variances: Float[Array, " times"]) -> Float[Array, " steps"]:
        """The positions from each time to the next."""
        steps = len(prices) - 1
        seen = jnp.stack([20 * jnp.log(prices / STRIKE), variances / VARIANCE - 1, jnp.linspace(1, 0, steps + 1)], 1)

        def step(state: tuple[Array, Array, Array], x: Array) -> tuple:
            hidden, cell, position = state
            enter, keep, new, leave = jnp.split(self.gates(jnp.concatenate([x, position, hidden])), 4)
            cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
            hidden = jax.nn.sigmoid(leave) * jnp.tanh(cell)
            position = self.head(hidden)
            return (hidden, cell, position), position[0]

        zero = jnp.zeros(self.width, prices.dtype)
        return lax.scan(step, (zero, zero, zero[:1]), seen[:-1])[1]


def hedge(
    positions: Float[Array, " steps"], prices: Float[Array, " times"], cost: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Profit of a sold call option and its hedge, and what of it went into trading.

    $$ \sum_t d_t (S_{t+1} - S_t) - \max(S_T - 100, 0) - c \sum_t S_t |d_t - d_{t-1}|, \qquad d_{-1} = 0 $$

    Arguments:
        positions: d, shares held from each time to the next.
        prices: S.
        cost: c, share of the value traded.
    """
    paid = cost * prices[:-1] @ jnp.abs(jnp.diff(positions, prepend=jnp.zeros_like(positions[:1])))
    return positions @ jnp.diff(prices) - jnp.maximum(prices[-1] - STRIKE, 0) - paid, paid


def _hedged(cost: float, model: Hedger, batch: Paths) -> tuple[Array, Array]:
    return jax.vmap(lambda s, v: hedge(model(s, v), s, cost))(*batch)


def _entropic_risk(cost: float, model: Hedger, batch: Paths) -> Float[Array, ""]:
    loss = -_hedged(cost, model, batch)[0]
    return jax.nn.logsumexp(loss) - jnp.log(len(loss))


def _variance(cost: float, model: Hedger, batch: Paths) -> Float[Array, ""]:
    return jnp.var(_hedged(cost, model, batch)[0])


def _cost(cost: float, model: Hedger, batch: Paths) -> Float[Array, ""]:
    return jnp.mean(_hedged(cost, model, batch)[1])


def _build(width: int, key: PRNGKeyArray) -> Hedger:
    return Hedger(width, key=key)


@problem("deep-hedging", metric="loss", steps=200, target=2.7)
def deep_hedging(
    cost: float = 1e-3, width: int = 16, paths: int = 500, batch_size: int | None = 50, seed: int = 0
) -> Minimization:
    r"""Hedge a call option in Heston's model, with trading costs, by an LSTM; loss: the entropic risk of the profit.

    $$ f = \log \operatorname{mean} e^{-\text{profit}} $$

    which is the least price to ask for the option at unit risk aversion. The stock is worth 100, the option expires at
    the same price in 20 trading days, and every day the position may change: see `heston_paths` and `hedge`. On as
    many paths that are not trained on, ``test_loss``, ``test_variance`` of the profit and mean ``test_cost`` are
    recorded, and the same as ``validation_…`` on as many others.

    Arguments:
        cost: Share of the value traded, in [0, 1].
        width: Of the LSTM's hidden state, at least 1.
        paths: For training, at least 1.
        batch_size: Paths per step; `None`: all.
        seed: Of the paths.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("cost", cost, 0.0, 1.0)
    in_range("width", width, 1)
    draw = jax.jit(lambda key: heston_paths(key, paths))
    train, test = map(draw, jr.split(jr.key(2 * seed)))
    parts = {"validation": draw(jr.key(2 * seed + 1)), "test": test}
    measures = {"loss": _entropic_risk, "variance": _variance, "cost": _cost}

    def of(measure, **options) -> Minimization:
        build, loss = eqx.Partial(_build, width), eqx.Partial(measure, cost)
        return Minimization.of_model(build, loss, train, batch_size=batch_size, **options)

    return of(_entropic_risk, probes=held_out(parts, {n: (of(measure).loss, "min") for n, measure in measures.items()}))
