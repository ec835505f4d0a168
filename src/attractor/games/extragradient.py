"""Descent-ascent, the proximal point, extragradient and its variants that look at one field a step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.method import Method, hyper
from attractor.problem import Game
from attractor.registry import LogUniform, method
from attractor.trees import as_vector

Projection = Callable[[PyTree], PyTree]

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

    $$ w_k = P(z_k - \gamma F(z_k)), \qquad z_{k+1} = P(z_k - \eta F(w_k)) $$

    On a `Game` with noise both fields see the same sample.

    Arguments:
        learning_rate: Step size η > 0, below 1/L for a field with Lipschitz constant L.
        timescale: τ > 0, as in `TwoTimescaleExtragradient`, whose case 1 this is.
        look_ahead: γ > 0, how far ahead; `None`: η. Where the field is only $\rho$-negatively comonotone,
            $\langle F(z) - F(w), z - w \rangle \ge -\rho \lVert F(z) - F(w) \rVert^2$ with ρ < 1/2L, take γ in
            (2ρ, 1/L) and η at most γ - 2ρ.
        projection: P, ``z -> z``, onto the set of all players' choices; `None`: they are free.

    Raises:
        ValueError: for an argument out of its range.

    Paper: The extragradient method for finding saddle points and other problems (Korpelevich, 1976); Convergence of
    Proximal Point and Extragradient-Based Methods Beyond Monotonicity (Gorbunov, Taylor, Horváth and Gidel, 2023)
    """

    timescale: Scalar = hyper(1.0, low=0.0, open_low=True)
    look_ahead: Scalar | None = hyper(None, low=0.0, open_low=True)
    projection: Projection | None = None

    def step(self, problem: Game, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        batch = problem.sample(key)
        ahead = self.follow(problem.field(x, batch), x)
        if self.look_ahead is not None:
            further = self.look_ahead / self.learning_rate
            ahead = jax.tree.map(lambda p, q: (p + further * (q - p)).astype(p.dtype), x, ahead)
        ahead = _projected(self.projection, ahead)
        return _projected(self.projection, self.follow(problem.field(ahead, batch), x)), state


@method(
    "proximal-point",
    {"learning_rate": LogUniform(1e-2, 100.0)},
    paper="pp-eg-og-negative-comonotone",
    example={"learning_rate": 0.1},
)
class ProximalPoint(Method):
    r"""The implicit step: with the field of where it leads.

    $$ z_{k+1} = z_k - \eta F(z_{k+1}) $$

    by Newton's method from $z_k$, with the dense Jacobian of F: for games of up to some hundred numbers. It converges
    for any η on monotone fields, and for η > 2ρ on ρ-negatively comonotone ones, as then
    $\lVert F(z_N) \rVert^2 \le \lVert z_0 - z_* \rVert^2 / (\eta (\eta - 2 \rho) N)$.

    Arguments:
        learning_rate: Step size η > 0.
        iterations: Of Newton's method, at least 1; 1 is exact where the field is linear.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Convergence of Proximal Point and Extragradient-Based Methods Beyond Monotonicity: the Case of Negative
    Comonotonicity (Gorbunov, Taylor, Horváth and Gidel, 2023)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    iterations: int = hyper(4, low=1)

    def step(self, problem: Game, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        start, restore = as_vector(x)
        batch = problem.sample(key)

        def miss(z: Array) -> Array:
            return z - start + self.learning_rate * as_vector(problem.field(restore(z), batch))[0]

        def newton(_: Any, z: Array) -> Array:
            return z - jnp.linalg.solve(jax.jacfwd(miss)(z), miss(z))

        return restore(jax.lax.fori_loop(0, self.iterations, newton, start)), state


class SingleCallState(NamedTuple):
    """State of the single-call methods."""

    steps: Int[Array, ""]
    leading: PyTree  # where the last field was taken, whose average has the ergodic rate
    memory: PyTree  # what the next leading point is made of: that field, or the point before


@method(
    "past-extragradient",
    {"learning_rate": STEP},
    paper="single-call-extragradient",
    example={"learning_rate": 0.1},
)
class PastExtragradient(Method):
    r"""Extragradient that looks ahead with the last field: one field a step.

    $$ w_k = P(z_k - \gamma F(w_{k-1})), \qquad z_{k+1} = P(z_k - \eta F(w_k)) $$

    from $w_0 = z_0$. Without P and with one step size, `ReflectedGradient` and `OptimisticGradient` go through the same
    points.

    Arguments:
        learning_rate: Step size η > 0, below 1/2L for a field with Lipschitz constant L, or a schedule: γ/(k + b)
            under noise.
        look_ahead: γ > 0, how far ahead; `None`: η. Where the field is only ρ-negatively comonotone, as in
            `Extragradient`, with η at most 1/L - γ too.
        projection: P, ``z -> z``, onto the set of all players' choices; `None`: they are free.

    Raises:
        ValueError: for an argument out of its range.

    Paper: On the convergence of single-call stochastic extra-gradient methods (Hsieh, Iutzeler, Malick and
    Mertikopoulos, 2019)
    """

    learning_rate: optax.ScalarOrSchedule = hyper(low=0.0, open_low=True)
    look_ahead: Scalar | None = hyper(None, low=0.0, open_low=True)
    projection: Projection | None = None

    def init(self, problem: Game, x: PyTree, key: PRNGKeyArray) -> SingleCallState:
        # No field before the first step, which therefore is a plain one.
        return SingleCallState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.array, x), jax.tree.map(jnp.zeros_like, x))

    def step(
        self, problem: Game, x: PyTree, state: SingleCallState, key: PRNGKeyArray
    ) -> tuple[PyTree, SingleCallState]:
        rate: Any = self.learning_rate(state.steps) if callable(self.learning_rate) else self.learning_rate
        leading = self.lead(x, state.memory, rate)
        field = problem.field(leading, problem.sample(key))
        moved, memory = self.follow(x, leading, field, state.memory, rate)
        return moved, SingleCallState(state.steps + 1, leading, memory)

    def lead(self, x: PyTree, memory: PyTree, rate: Scalar) -> PyTree:
        """The leading point."""
        return _projected(self.projection, _against(x, memory, rate if self.look_ahead is None else self.look_ahead))

    def follow(self, x: PyTree, leading: PyTree, field: PyTree, memory: PyTree, rate: Scalar) -> tuple[PyTree, PyTree]:
        """The next point, and what is remembered."""
        return _projected(self.projection, _against(x, field, rate)), field


@method(
    "optimistic-gradient",
    {"learning_rate": STEP},
    paper="single-call-extragradient",
    example={"learning_rate": 0.1},
)
class OptimisticGradient(PastExtragradient):
    r"""As `PastExtragradient`, and from its leading point the last field is taken back: one projection a step.

    $$ w_k = P(z_k - \gamma F(w_{k-1})), \qquad z_{k+1} = w_k + \gamma F(w_{k-1}) - \eta F(w_k) $$

    from $w_0 = z_0$. The points $w_k$, and not the $z_k$, lie in the set.

    Arguments:
        learning_rate: Step size η > 0, below 1/2L, or a schedule.
        look_ahead: γ > 0, how far ahead; `None`: η.
        projection: P, ``z -> z``, onto the set of all players' choices; `None`: they are free.

    Raises:
        ValueError: for an argument out of its range.

    Paper: On the convergence of single-call stochastic extra-gradient methods (Hsieh, Iutzeler, Malick and
    Mertikopoulos, 2019)
    """

    def follow(self, x: PyTree, leading: PyTree, field: PyTree, memory: PyTree, rate: Scalar) -> tuple[PyTree, PyTree]:
        back = rate if self.look_ahead is None else self.look_ahead
        return _against(_against(leading, field, rate), memory, -back), field


@method(
    "reflected-gradient",
    {"learning_rate": STEP},
    paper="single-call-extragradient",
    example={"learning_rate": 0.1},
)
class ReflectedGradient(PastExtragradient):
    r"""Step with the field of the point that the last step, made once more, would lead to.

    $$ w_k = z_k + s (z_k - z_{k-1}), \qquad z_{k+1} = P(z_k - \eta F(w_k)) $$

    from $w_0 = z_0$, with s = 1, or γ/η where a look-ahead is given. The points $z_k$, and not the $w_k$, lie in the
    set.

    Arguments:
        learning_rate: Step size η > 0, below $(\sqrt 2 - 1)/L$, or a schedule.
        look_ahead: γ > 0, how far ahead; `None`: η.
        projection: P, ``z -> z``, onto the set of all players' choices; `None`: they are free.

    Raises:
        ValueError: for an argument out of its range.

    Paper: On the convergence of single-call stochastic extra-gradient methods (Hsieh, Iutzeler, Malick and
    Mertikopoulos, 2019)
    """

    def init(self, problem: Game, x: PyTree, key: PRNGKeyArray) -> SingleCallState:
        leading, before = (jax.tree.map(jnp.array, x) for _ in range(2))
        return SingleCallState(jnp.zeros([], jnp.int32), leading, before)

    def lead(self, x: PyTree, memory: PyTree, rate: Scalar) -> PyTree:
        further = 1.0 if self.look_ahead is None else self.look_ahead / rate
        return _against(x, jax.tree.map(jnp.subtract, memory, x), further)

    def follow(self, x: PyTree, leading: PyTree, field: PyTree, memory: PyTree, rate: Scalar) -> tuple[PyTree, PyTree]:
        return super().follow(x, leading, field, memory, rate)[0], x


def _against(start: PyTree, field: PyTree, rate: Scalar) -> PyTree:
    """``start - rate * field`` in the dtypes of ``start``, whatever a schedule's is."""
    return jax.tree.map(lambda p, g: (p - rate * g).astype(p.dtype), start, field)


def _projected(projection: Projection | None, z: PyTree) -> PyTree:
    return z if projection is None else projection(z)
