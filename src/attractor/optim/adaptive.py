"""Adaptive moment methods: relatives of Adam, and the schedules that they need."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from attractor.checks import Scalar, in_range
from attractor.optim.kept import DECAY
from attractor.registry import LEARNING_RATE, method
from attractor.trees import wide_dtype


def half_life_schedule(start: Scalar, end: Scalar, steps: int) -> optax.Schedule:
    r"""Warm up the decay of an exponential average so that its half-life grows linearly, not its decay.

    $$
    \frac{1}{\ln \beta_t} = \Bigl(1 - \frac tT\Bigr) \frac{1}{\ln \beta_{\rm start}}
                            + \frac tT \frac{1}{\ln \beta_{\rm end}}, \qquad t \le T
    $$

    and $\beta_{\rm end}$ from then on. Near 1 a small change of the decay is a large change of what is remembered: a
    decay that grows linearly from 0.9 to 0.9999 would spend nearly all its time with a short memory.

    Papers count updates from t = 1, optax's schedules from 0: `ademamix` with a ``warmup`` asks for the value at
    count + 1; passed to `optax.contrib.ademamix` as it is, the schedule comes one update late.

    Arguments:
        start: Decay at t = 0, in (0, 1).
        end: Decay from t = ``steps`` on, in (0, 1).
        steps: The length T of the warm-up, at least 1; AdEMAMix takes that of the whole run.

    Raises:
        ValueError: for an argument out of range.

    Paper: The AdEMAMix Optimizer: Better, Faster, Older (arXiv 2409.03137).
    """
    in_range("start", start, 0.0, 1.0, open_low=True, open_high=True)
    in_range("end", end, 0.0, 1.0, open_low=True, open_high=True)
    in_range("steps", steps, 1.0)

    def schedule(count: ArrayLike) -> Array:
        share = jnp.clip(jnp.asarray(count, float) / steps, 0.0, 1.0)
        return jnp.exp(1 / ((1 - share) / jnp.log(start) + share / jnp.log(end)))

    return schedule


@method(
    "ademamix",
    {"learning_rate": LEARNING_RATE, "weight_decay": DECAY},
    paper="ademamix",
    bad={"learning_rate": -1.0, "warmup": 0},
)
def ademamix(
    learning_rate: optax.ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9999,
    alpha: Scalar = 6.0,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    *,
    warmup: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""AdEMAMix as optax keeps it, and its two warm-ups: of the slow average's decay and of its weight.

    $\beta_3$ goes from $\beta_1$ to ``b3`` by `half_life_schedule`, and $\alpha_t = \alpha \min(t / T, 1)$, with t = 1
    at the first update.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        b1: Decay of the fast mean, in [0, 1); in (0, 1) with ``warmup``.
        b2: Decay of the mean square, in [0, 1).
        b3: Decay of the slow mean, in [0, 1); in (0, 1) with ``warmup``.
        alpha: Weight of the slow mean, in [0, inf).
        eps: Added to the denominator, in (0, inf).
        weight_decay: Times the learning rate and the weights, in [0, inf).
        mask: Which leaves are decayed: a pytree of bools, or a function of the parameters that gives one; `None`: all.
        warmup: T, in updates, at least 1; the paper takes the whole run. `None`: none.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: The AdEMAMix Optimizer: Better, Faster, Older (arXiv 2409.03137).
    """
    in_range("learning_rate", learning_rate, 0.0)
    _check(b1, b2, eps)
    in_range("b3", b3, 0.0, 1.0, open_high=True)
    in_range("alpha", alpha, 0.0)
    in_range("weight_decay", weight_decay, 0.0)
    slow: Any = (b3, alpha)
    if warmup is not None:
        in_range("warmup", warmup, 1)
        decay = half_life_schedule(b1, b3, warmup)
        # In the default precision: an int32 by an integer is a float32, whatever the parameters are.
        slow = (
            lambda count: decay(count + 1),
            lambda count: alpha * jnp.minimum(jnp.asarray(count + 1, float) / warmup, 1),
        )
    return optax.contrib.ademamix(learning_rate, b1, b2, slow[0], slow[1], eps, weight_decay=weight_decay, mask=mask)  # pyright: ignore[reportReturnType]


class MomentsState(NamedTuple):
    """Two running averages of the gradients so far."""

    steps: Int[Array, ""]
    mu: PyTree  # first moment, like the parameters
    nu: PyTree  # second moment, like the parameters


def _no_moments(params: PyTree) -> MomentsState:
    return MomentsState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), optax.tree.zeros_like(params))


def _check(b1: Scalar, b2: Scalar, eps: Scalar) -> None:
    in_range("b1", b1, 0.0, 1.0, open_high=True)
    in_range("b2", b2, 0.0, 1.0, open_high=True)
    in_range("eps", eps, 0.0, open_low=True)


def scale_by_adamomentum(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-16) -> optax.GradientTransformation:
    r"""Momentum divided by the root mean square of the momentum itself, where Adam takes that of the gradient.

    $$
    \begin{aligned}
    m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) m_t^2 + \epsilon \\
    u_t &= \hat m_t / \sqrt{\hat v_t}
    \end{aligned}
    $$

    with hats for the bias corrections ``/ (1 - b^t)``. Epsilon is added up inside the average, as in the paper, and
    nowhere else. Where gradients are noise u is about $\sqrt{(1 + \beta_1) / (1 - \beta_1)}$ times Adam's (4.4 for
    0.9), and so it is in the first steps; where they are steady both are the same.

    Arguments:
        b1: Decay of the mean of gradients, in [0, 1).
        b2: Decay of the mean of squared momenta, in [0, 1).
        eps: Added to the second moment in every step, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Rethinking Adam: A Twofold Exponential Moving Average Approach.
    """
    _check(b1, b2, eps)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, MomentsState]:
        steps = jnp.asarray(optax.safe_increment(state.steps))
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = jax.tree.map(lambda v, m: b2 * v + (1 - b2) * jnp.abs(m) ** 2 + eps, state.nu, mu)
        m_hat, v_hat = optax.tree.bias_correction(mu, b1, steps), optax.tree.bias_correction(nu, b2, steps)
        return jax.tree.map(lambda m, v: m / jnp.sqrt(v), m_hat, v_hat), MomentsState(steps, mu, nu)

    return optax.GradientTransformation(_no_moments, update)


@method(
    "adamomentum",
    {"learning_rate": LEARNING_RATE},
    paper="adamomentum",
    bad={"learning_rate": -1.0, "b1": 1.0, "b2": 1.5, "eps": 0.0},
)
def adamomentum(
    learning_rate: optax.ScalarOrSchedule, b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-16
) -> optax.GradientTransformation:
    """Adam with the second moment of the momentum: `scale_by_adamomentum` and a learning rate.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule.
        b1: As in `scale_by_adamomentum`.
        b2: As in `scale_by_adamomentum`.
        eps: As in `scale_by_adamomentum`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Rethinking Adam: A Twofold Exponential Moving Average Approach.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    return optax.chain(scale_by_adamomentum(b1, b2, eps), optax.scale_by_learning_rate(learning_rate))


def scale_by_exadam(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8) -> optax.GradientTransformation:
    r"""Adam with bias corrections that couple both moments, and the present gradient beside its average.

    $$
    \begin{aligned}
    m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
    d_t &= 1 + \beta_2^t \frac{v_t}{v_t + \epsilon}, \qquad
    \tilde v_t = \frac{v_t}{1 - \beta_2^t} \Bigl(1 + \beta_1^t \frac{m_t^2}{m_t^2 + \epsilon}\Bigr) \\
    u_t &= \frac{d_t}{1 - \beta_1^t} \frac{m_t + g_t}{\sqrt{\tilde v_t} + \epsilon}
    \end{aligned}
    $$

    Once the powers of the decays have died out this is $(m_t + g_t) / \sqrt{v_t}$: about twice Adam's step where
    gradients are steady.

    Arguments:
        b1: Decay of the mean of gradients, in [0, 1).
        b2: Decay of the mean of squared gradients, in [0, 1).
        eps: Added to the denominators, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: EXAdam: The Power of Adaptive Cross-Moments.
    """
    _check(b1, b2, eps)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, MomentsState]:
        steps = jnp.asarray(optax.safe_increment(state.steps))
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        left1, left2 = b1**steps, b2**steps

        def direction(g: Array, m: Array, v: Array) -> Array:
            coupling = 1 + left2 * v / (v + eps)
            size = jnp.abs(m) ** 2
            square = v / (1 - left2) * (1 + left1 * size / (size + eps))
            u = coupling / (1 - left1) * (m + g) / (jnp.sqrt(square) + eps)
            return u.astype(g.dtype)

        return jax.tree.map(direction, updates, mu, nu), MomentsState(steps, mu, nu)

    return optax.GradientTransformation(_no_moments, update)


def growing_schedule(learning_rate: Scalar) -> optax.Schedule:
    r"""A learning rate that grows without end, $\eta \ln \sqrt{2 (t + 1)}$ in step t = 1, 2, …

    Arguments:
        learning_rate: The factor $\eta$, in (0, inf).

    Raises:
        ValueError: for a ``learning_rate`` out of range.

    Paper: EXAdam: The Power of Adaptive Cross-Moments.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    return lambda count: learning_rate * 0.5 * jnp.log(2.0 * (jnp.asarray(count) + 2))  # optax counts from 0


@method(
    "exadam",
    {"learning_rate": LEARNING_RATE},
    paper="exadam",
    bad={"learning_rate": -1.0, "b1": 1.0, "b2": 1.5, "eps": 0.0},
)
def exadam(
    learning_rate: Scalar, b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8
) -> optax.GradientTransformation:
    """Adam with coupled bias corrections and a growing rate: `scale_by_exadam` under a `growing_schedule`.

    The paper's second version drops the growth: chain `scale_by_exadam` with a learning rate of your own for that.

    Arguments:
        learning_rate: The factor of the growing rate, in (0, inf).
        b1: As in `scale_by_exadam`.
        b2: As in `scale_by_exadam`.
        eps: As in `scale_by_exadam`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: EXAdam: The Power of Adaptive Cross-Moments.
    """
    return optax.chain(scale_by_exadam(b1, b2, eps), optax.scale_by_learning_rate(growing_schedule(learning_rate)))


class ScaleByAdagradNormState(NamedTuple):
    """State of `scale_by_adagrad_norm`."""

    total: Float[Array, ""]  # squared norms of the gradients so far


def scale_by_adagrad_norm(initial: Scalar = 0.0) -> optax.GradientTransformation:
    r"""The gradient over the root of the sum of its squared norms so far: AdaGrad with one rate for all parameters.

    $$ v_t = v_{t-1} + \lVert g_t \rVert^2, \qquad u_t = g_t / \sqrt{v_t} $$

    Arguments:
        initial: The sum to start from, in [0, inf).

    Raises:
        ValueError: for an ``initial`` out of range.

    Paper: AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods.
    """
    in_range("initial", initial, 0.0)

    def init(params: PyTree) -> ScaleByAdagradNormState:
        return ScaleByAdagradNormState(jnp.asarray(initial, wide_dtype(params)))

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, ScaleByAdagradNormState]:
        total = state.total + optax.tree.norm(updates, squared=True).astype(state.total.dtype)
        root = jnp.sqrt(jnp.where(total > 0, total, 1))
        return jax.tree.map(lambda g: (g / root).astype(g.dtype), updates), ScaleByAdagradNormState(total)

    return optax.GradientTransformation(init, update)


class CorrectGradientsState(NamedTuple):
    """State of `correct_gradients`."""

    last: PyTree  # the previous gradients, like the parameters


def correct_gradients(gamma: Scalar = 0.025, b1: Scalar = 0.95) -> optax.GradientTransformation:
    r"""Gradients with a share of their last change added, no longer than 1: variance reduction ahead of a mean.

    $$ c_t = g_t + \gamma \frac{\beta_1}{1 - \beta_1} (g_t - g_{t-1}), \qquad u_t = c_t / \max(1, \lVert c_t \rVert) $$

    with the norm of each leaf by itself, and $g_0 = 0$. This is MARS-approx: $g_{t-1}$ is the gradient that the last
    step had, on its own minibatch; the exact one would be taken anew on this one. Chain it with any method that
    averages with the decay $\beta_1$.

    Arguments:
        gamma: $\gamma$, in [0, inf).
        b1: $\beta_1$ of the mean that comes after it, in [0, 1).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: MARS: Unleashing the Power of Variance Reduction for Training Large Models (arXiv 2411.10438).
    """
    in_range("gamma", gamma, 0.0)
    in_range("b1", b1, 0.0, 1.0, open_high=True)

    def init(params: PyTree) -> CorrectGradientsState:
        return CorrectGradientsState(optax.tree.zeros_like(params))

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, CorrectGradientsState]:
        def corrected(g: Array, last: Array) -> Array:
            c = g + gamma * b1 / (1 - b1) * (g - last)
            return (c / jnp.maximum(jnp.linalg.norm(c), 1)).astype(g.dtype)

        return jax.tree.map(corrected, updates, state.last), CorrectGradientsState(updates)

    return optax.GradientTransformation(init, update)


@method(
    "mars",
    {"learning_rate": LEARNING_RATE, "weight_decay": DECAY},
    bad={"learning_rate": -1.0, "b1": 1.0, "b2": 1.0, "gamma": -1.0, "weight_decay": -1.0, "eps": 0.0},
)
def mars(
    learning_rate: optax.ScalarOrSchedule,
    b1: Scalar = 0.95,
    b2: Scalar = 0.99,
    gamma: Scalar = 0.025,
    weight_decay: Scalar = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    *,
    eps: Scalar = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """MARS-AdamW: AdamW on gradients with a share of their last change added, `correct_gradients`.

    All leaves are treated alike; the authors' program gives those with fewer than two axes to AdamW by default.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        b1: Decay of the mean, in [0, 1).
        b2: Decay of the mean square, in [0, 1).
        gamma: As in `correct_gradients`, in [0, inf).
        weight_decay: Times the learning rate and the weights, in [0, inf).
        mask: Which leaves are decayed: a pytree of bools, or a function of the parameters that gives one; `None`: all.
        eps: Added to the denominator, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: MARS: Unleashing the Power of Variance Reduction for Training Large Models (arXiv 2411.10438).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("weight_decay", weight_decay, 0.0)
    _check(b1, b2, eps)
    correction = correct_gradients(gamma, b1)
    return optax.chain(correction, optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=mask))


def scale_by_adam_mini(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8, *, blocks: str = "rows"
) -> optax.GradientTransformation:
    r"""Adam with one mean square for a block of parameters: half of Adam's state.

    $$ v_b \leftarrow \beta_2 v_b + (1 - \beta_2)\, \frac{1}{|b|} \lVert g_b \rVert^2 $$

    A block is a row of a matrix, all that goes into one output where it is laid out (out, in), and a whole vector; or
    every leaf as a whole. Those are the authors' blocks for all but biases (Adam's, there), queries and keys (a head).
    `pytorch_optimizer.AdamMini` takes whole leaves for what its names do not say to be embeddings, queries or keys.

    Arguments:
        b1: Decay of the mean, in [0, 1).
        b2: Decay of the mean square, in [0, 1).
        eps: Added to the denominator, in (0, inf).
        blocks: "rows", "columns" for what is laid out (in, out), or "leaves".

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Adam-mini: Use Fewer Learning Rates To Gain More (arXiv 2406.16793).
    """
    _check(b1, b2, eps)
    kept = {"rows": 0, "columns": -1, "leaves": None}
    if blocks not in kept:
        raise ValueError(f"blocks: expected one of {', '.join(kept)}, got {blocks!r}")

    def mean(x: Array) -> Array:
        alone = kept[blocks] if x.ndim > 1 else None
        return jnp.mean(x, [i for i in range(x.ndim) if alone is None or i != alone % x.ndim], keepdims=True)

    def init(params: PyTree) -> MomentsState:
        nu = jax.tree.map(lambda x: jnp.zeros_like(mean(x), jnp.finfo(x.dtype).dtype), params)
        return MomentsState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), nu)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, MomentsState]:
        steps = jnp.asarray(optax.safe_increment(state.steps))
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = jax.tree.map(lambda g, v: (b2 * v + (1 - b2) * mean(jnp.abs(g) ** 2)).astype(v.dtype), updates, state.nu)

        def direction(m: Array, v: Array) -> Array:
            return (m / (1 - b1**steps) / (jnp.sqrt(v / (1 - b2**steps)) + eps)).astype(m.dtype)

        return jax.tree.map(direction, mu, nu), MomentsState(steps, mu, nu)

    return optax.GradientTransformation(init, update)


@method(
    "adam-mini",
    {"learning_rate": LEARNING_RATE, "weight_decay": DECAY},
    bad={"learning_rate": -1.0, "b1": 1.0, "b2": 1.0, "weight_decay": -1.0, "eps": 0.0, "blocks": "heads"},
)
def adam_mini(
    learning_rate: optax.ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    weight_decay: Scalar = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    *,
    eps: Scalar = 1e-8,
    blocks: str = "rows",
) -> optax.GradientTransformationExtraArgs:
    """Adam-mini, with decoupled weight decay: `scale_by_adam_mini`, decay, learning rate.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        b1: As in `scale_by_adam_mini`, in [0, 1).
        b2: As in `scale_by_adam_mini`, in [0, 1).
        weight_decay: Times the learning rate and the weights, in [0, inf).
        mask: Which leaves are decayed: a pytree of bools, or a function of the parameters that gives one; `None`: all.
        eps: As in `scale_by_adam_mini`, in (0, inf).
        blocks: As in `scale_by_adam_mini`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Adam-mini: Use Fewer Learning Rates To Gain More (arXiv 2406.16793).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("weight_decay", weight_decay, 0.0)
    return optax.chain(
        scale_by_adam_mini(b1, b2, eps, blocks=blocks),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(learning_rate),
    )
