"""What theory promises: upper bounds on how far a gradient method is from the minimum after k steps."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from attractor.checks import Scalar, in_range
from attractor.names import unknown
from attractor.registry import LogUniform, method

Steps = Int[np.ndarray, " records"]
Bound = Float[np.ndarray, " records"]
Values = Float[np.ndarray, "..."] | Float[Array, "..."]


def _geometric(c: Mapping[str, float], k: Steps, start: float, floor: float = 0.0) -> Bound:
    return (1 - c["step"] * c["mu"]) ** k * start + floor


def _averaged(c: Mapping[str, float], k: Steps) -> Bound:
    return c["distance"] ** 2 / (2 * c["step"] * k)


def _noise(c: Mapping[str, float]) -> float:
    return 2 * c["step"] * c["noise"] / c["mu"]


# What is bounded: "gap", f at the iterate; "mean gap", f at the average of iterates 0 … k-1; "square", the squared
# distance from the solution; all of them expectations. Each with the largest step allowed.
_BOUNDS = {
    ("gradient-descent", "convex"): ("gap", lambda c: 1 / c["L"], _averaged),
    ("gradient-descent", "strongly-convex"): (
        "square", lambda c: 1 / c["L"], lambda c, k: _geometric(c, k, c["distance"] ** 2)
    ),
    ("gradient-descent", "pl"): ("gap", lambda c: 1 / c["L"], lambda c, k: _geometric(c, k, c["gap"])),
    ("gradient-descent", "nonconvex"): (
        "square gradient", lambda c: 1 / c["L"], lambda c, k: 2 * c["gap"] / (c["step"] * k)
    ),
    ("nesterov", "convex"): (
        "gap", lambda c: 1 / c["L"], lambda c, k: 2 * c["distance"] ** 2 / (c["step"] * (k + 1) ** 2)
    ),
    ("svrg", "strongly-convex"): (
        "gap", lambda c: 1 / (4 * c["L_max"]), lambda c, k: svrg_contraction(c) ** k * c["gap"]
    ),
    ("sgd", "convex"): (
        "mean gap", lambda c: 1 / (4 * c["L_max"]),
        lambda c, k: (_averaged(c, k) + c["step"] * c["noise"]) / (1 - 2 * c["step"] * c["L_max"]),
    ),
    ("sgd", "strongly-convex"): (
        "square", lambda c: 1 / (2 * c["L_max"]), lambda c, k: _geometric(c, k, c["distance"] ** 2, _noise(c))
    ),
    ("sgd", "pl"): (
        "gap", lambda c: c["mu"] / (c["L"] * c["L_max"]),
        lambda c, k: _geometric(c, k, c["gap"], c["step"] * c["L"] * c["L_max"] / c["mu"] * c["misfit"]),
    ),
    ("momentum", "convex"): (
        "gap", lambda c: 1 / (4 * c["L_max"]),
        lambda c, k: c["distance"] ** 2 / (c["step"] * (k + 1)) + 2 * c["step"] * c["noise"],
    ),
    ("subgradient", "convex"): (
        "mean gap", lambda c: np.inf, lambda c, k: _averaged(c, k) + c["step"] * c["G"] ** 2 / 2
    ),
    ("proximal-gradient", "convex"): ("gap", lambda c: 1 / c["L"], _averaged),
    ("proximal-gradient", "strongly-convex"): (
        "square", lambda c: 1 / c["L"], lambda c, k: _geometric(c, k, c["distance"] ** 2)
    ),
    ("proximal-sgd", "strongly-convex"): (
        "square", lambda c: 1 / (2 * c["L_max"]), lambda c, k: _geometric(c, k, c["distance"] ** 2, _noise(c))
    ),
}  # fmt: skip


def _entry(method: str, assumption: str) -> tuple:
    known = {f"{m}, {a}": entry for (m, a), entry in _BOUNDS.items()}
    name = f"{method}, {assumption}"
    if name not in known:
        raise unknown("theorem", name, known, "known: " + "; ".join(known))
    return known[name]


def largest_step(method: str, assumption: str, constants: Mapping[str, float]) -> float:
    """The largest learning rate for which `convergence_bound` is proven; arguments and errors as there."""
    return float(_entry(method, assumption)[1](constants))


def bounded_quantity(method: str, assumption: str) -> str:
    """What `convergence_bound` bounds, in expectation.

    Returns:
        "gap": $f(x_k) - f^*$; "mean gap": the same at the mean of $x_0, \\dots, x_{k-1}$; "square":
        $\\lVert x_k - x^* \\rVert^2$; "square gradient": the smallest $\\lVert \\nabla f \\rVert^2$ so far.
    """
    return _entry(method, assumption)[0]


def convergence_bound(method: str, assumption: str, constants: Mapping[str, float], k: Steps) -> Bound:
    r"""A global bound on a gradient method's error after k = 1, 2, … steps of one size.

    With $\gamma$ the step, $D$ the distance from the solution and $F$ the gap at the start,

    | method | assumption | bound | step at most |
    |---|---|---|---|
    | gradient-descent, proximal-gradient | convex | $D^2 / (2 \gamma k)$ | $1/L$ |
    | gradient-descent, proximal-gradient | strongly-convex | $(1 - \gamma\mu)^k D^2$ | $1/L$ |
    | gradient-descent | nonconvex | $2 F / (\gamma k)$ | $1/L$ |
    | nesterov | convex | $2 D^2 / (\gamma (k+1)^2)$ | $1/L$ |
    | gradient-descent | pl | $(1 - \gamma\mu)^k F$ | $1/L$ |
    | sgd | convex | $(D^2 / (2 \gamma k) + \gamma\sigma^2) / (1 - 2 \gamma L_{\max})$ | $1/(4 L_{\max})$ |
    | sgd, proximal-sgd | strongly-convex | $(1 - \gamma\mu)^k D^2 + 2 \gamma \sigma^2 / \mu$ | $1/(2 L_{\max})$ |
    | sgd | pl | $(1 - \gamma\mu)^k F + \gamma L L_{\max} \Delta / \mu$ | $\mu / (L L_{\max})$ |
    | svrg | strongly-convex | $\rho^k F$ after k snapshots (`svrg_contraction`) | $1/(4 L_{\max})$ |
    | momentum | convex | $D^2 / (\gamma (k+1)) + 2 \gamma \sigma^2$ | $1/(4 L_{\max})$ |
    | subgradient | convex | $D^2 / (2 \gamma k) + \gamma G^2 / 2$ | |

    Nesterov's method, with a proximal map or without, is `fista`.

    Of minibatches of b examples drawn with replacement, $L_{\max}$ is $(1 - 1/b) L + L_{\max}/b$ and $\sigma^2$ is
    $\sigma^2 / b$ (`minibatch_constants`). Momentum is `averaging_momentum`.

    Arguments:
        method: As in the table.
        assumption: As in the table; pl is the inequality of Polyak and Łojasiewicz,
            $\lVert \nabla f \rVert^2 \ge 2 \mu (f - f^*)$.
        constants: Those the bound asks for: ``step``; ``L``, ``mu`` of f; ``L_max``, the largest L of one example;
            ``distance``, ``gap`` at the start; ``noise``, $\sigma^2$, the variance of one example's gradient at the
            solution; ``misfit``, $\Delta$, the mean over examples of how far each is from its own minimum there; ``G``,
            the largest norm of a subgradient.
        k: Numbers of steps, at least 1.

    Raises:
        ValueError: for a pair that is not in the table.
        KeyError: for a missing constant.

    Paper: Handbook of Convergence Theorems for (Stochastic) Gradient Methods.
    """
    return _entry(method, assumption)[2](constants, np.asarray(k))


def svrg_contraction(constants: Mapping[str, float]) -> float:
    r"""By how much a snapshot of `Svrg` at least lowers the expected gap.

    $$ \rho = \frac{1}{\mu \gamma (1 - 2 L_{\max} \gamma) m} + \frac{2 L_{\max} \gamma}{1 - 2 L_{\max} \gamma} $$

    Arguments:
        constants: ``step`` $\gamma$, ``mu``, ``L_max``, and ``period`` m.
    """
    noise = 2 * constants["L_max"] * constants["step"]
    return 1 / (constants["mu"] * constants["step"] * (1 - noise) * constants["period"]) + noise / (1 - noise)


def recursion_slack(
    after: Values, progress: Values | float, before: Values, contraction: float = 1.0, error: float = 0.0
) -> Values:
    r"""What is left in the recursion from which rates follow: $\omega D_{k-1} + E - (D_k + \Delta_k)$, at least 0.

    Summed, with $\omega = 1$, it bounds the mean progress by $D_0 / k$; unrolled, with $\omega < 1$, it bounds $D_k$ by
    $\omega^k D_0 + E / (1 - \omega)$. What D and $\Delta$ are makes the method's theorem.

    Arguments:
        after: $D_k$.
        progress: $\Delta_k$, at least 0.
        before: $D_{k-1}$.
        contraction: $\omega$, in (0, 1].
        error: E, at least 0.

    Raises:
        ValueError: for ``contraction`` or ``error`` out of range.

    Paper: Gradient Descent-Type Methods: Background and Simple Unified Convergence Analysis.
    """
    in_range("contraction", contraction, 0.0, 1.0, open_low=True)
    in_range("error", error, 0.0)
    return contraction * before + error - after - progress


def minibatch_constants(constants: Mapping[str, float], batch_size: int) -> dict[str, float]:
    """The constants of means over ``batch_size`` examples, drawn with replacement, from those of single examples."""
    share = 1 / batch_size
    new = {"L_max": (1 - share) * constants["L"] + share * constants["L_max"]}
    return {**constants, **new, "noise": share * constants["noise"]}


class AveragingMomentumState(NamedTuple):
    """State of `averaging_momentum`."""

    steps: Int[Array, ""]
    z: PyTree


def averaging_momentum(learning_rate: Scalar) -> optax.GradientTransformation:
    r"""Momentum as an average of iterates, with the weights for which the last iterate has the best known rate.

    $$ z_{k+1} = z_k - \eta g_k, \qquad x_{k+1} = \frac{\lambda_{k+1} x_k + z_{k+1}}{\lambda_{k+1} + 1}, \qquad
    \lambda_k = k / 2 $$

    from $z_0 = x_0$. This is heavy-ball momentum with weights that grow to 1.

    Arguments:
        learning_rate: $\eta$, in [0, inf).

    Raises:
        ValueError: for ``learning_rate`` out of range, or an update without ``params``.

    Paper: Handbook of Convergence Theorems for (Stochastic) Gradient Methods.
    """
    in_range("learning_rate", learning_rate, 0.0)

    def init(params: PyTree) -> AveragingMomentumState:
        # A copy, so that a loop may donate parameters and state.
        return AveragingMomentumState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.array, params))

    def update(
        updates: PyTree, state: AveragingMomentumState, params: PyTree = None
    ) -> tuple[PyTree, AveragingMomentumState]:
        if params is None:
            raise ValueError("params: the average needs the parameters; call update(grads, state, params)")
        z = jax.tree.map(lambda z, g: (z - learning_rate * g).astype(z.dtype), state.z, updates)
        weight = (state.steps + 1) / 2
        steps = jax.tree.map(lambda z, x: ((z - x) / (weight + 1)).astype(x.dtype), z, params)
        return steps, AveragingMomentumState(state.steps + 1, z)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


method(
    "averaging-momentum",
    {"learning_rate": LogUniform(1e-4, 1.0)},
    paper="convergence-handbook-gradient-methods",
    bad={"learning_rate": -1.0},
)(averaging_momentum)
