"""Variance reduction: minibatch gradients corrected by what is known of the full gradient."""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.gradients import grad, refuse_complex
from attractor.linalg.proximal import Prox
from attractor.method import Method, hyper, when_due
from attractor.optim.private import gaussian_noise, zcdp_budget
from attractor.problem import Minimization
from attractor.registry import LogUniform, method
from attractor.trees import as_vector

Vector = Float[Array, " d"]


class CyclicState(NamedTuple):
    """State of `CyclicBlockDescent`."""

    steps: Int[Array, ""]
    before: Vector  # where the last epoch started
    gradient: Vector  # the estimate, block by block


@method("cyclic-block-descent", {"learning_rate": LogUniform(1e-3, 10.0)}, paper="cyclic-bcd-variance-reduced")
class CyclicBlockDescent(Method):
    r"""Proximal steps on one block of coordinates after another, with a recursive estimate of each block's gradient.

    Epoch k goes through the blocks j = 1 … m, with $z_k^j = (x_k^1, \dots, x_k^{j-1}, x_{k-1}^j, \dots, x_{k-1}^m)$
    the point at its turn:

    $$ g_k^j = \begin{cases} \nabla_j f(z_k^j) & \text{with probability } p \\
       g_{k-1}^j + \nabla_j f_B(z_k^j) - \nabla_j f_B(z_{k-1}^j) & \text{otherwise} \end{cases} \qquad
       x_k^j = \operatorname{prox}_{\eta r}(x_{k-1}^j - \eta g_k^j) $$

    One coin and one minibatch B serve all blocks of an epoch, and the first epoch is exact; both were chosen here. The
    expected cost of an epoch over n samples is $p n + 2 (1 - p) |B|$ component gradients. One block makes it PAGE,
    p = 1 makes it the deterministic method (with one block: proximal gradient descent).

    Arguments:
        learning_rate: The step eta, in (0, inf).
        blocks: How many, at least 1: contiguous parts, of about equal size, of all parameters in one vector.
        probability: p, in (0, 1]; near |B| / (n + |B|) both kinds of epoch cost the same overall.
        prox: ``(block, step) -> block``, the proximal map of a penalty that is a sum over coordinates; or `None`.

    Raises:
        ValueError: for an argument out of range.

    Paper: Cyclic Block Coordinate Descent With Variance Reduction for Composite Nonconvex Optimization.
    """

    learning_rate: Scalar = hyper(0.1, low=0.0, open_low=True)
    blocks: int = hyper(4, low=1)
    probability: Scalar = hyper(0.1, low=0.0, high=1.0, open_low=True)
    prox: Prox | None = None

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> CyclicState:
        flat, _ = as_vector(x)  # of a single vector that vector itself, and copied, as no two buffers should be one
        return CyclicState(jnp.zeros([], jnp.int32), jnp.array(flat), jnp.zeros_like(flat))

    def step(
        self, problem: Minimization, x: PyTree, state: CyclicState, key: PRNGKeyArray
    ) -> tuple[PyTree, CyclicState]:
        start, unravel = as_vector(x)
        batch = problem.sample(key)
        exact = jr.bernoulli(jr.fold_in(key, 1), self.probability) | (state.steps == 0)
        ends = [len(start) * j // self.blocks for j in range(self.blocks + 1)]
        point, estimates = start, []
        for low, high in itertools.pairwise(ends):
            of_block = functools.partial(_block_gradient, problem, unravel, low, high)
            old = jnp.concatenate([start[:low], state.before[low:]])
            estimate = jax.lax.cond(
                exact,
                lambda new, old, kept, of=of_block: of(new, problem.full),
                lambda new, old, kept, of=of_block: self.corrected(of(new, batch), of(old, batch), kept),
                point, old, state.gradient[low:high],
            )  # fmt: skip
            block = point[low:high] - self.learning_rate * estimate
            point = point.at[low:high].set(block if self.prox is None else self.prox(block, self.learning_rate))
            estimates.append(estimate)
        return unravel(point), CyclicState(state.steps + 1, start, jnp.concatenate(estimates))

    def corrected(self, now: Vector, before: Vector, estimate: Vector) -> Vector:
        """The recursive estimate, from a minibatch's gradients now and before and the last estimate."""
        return estimate + now - before


def _block_gradient(problem: Minimization, unravel: Callable, low: int, high: int, x: Array, data: PyTree) -> Array:
    return jax.grad(lambda block: problem.loss(unravel(x.at[low:high].set(block)), data))(x[low:high])


@method(
    "page",
    {"learning_rate": LogUniform(1e-3, 10.0)},
    paper="cyclic-bcd-variance-reduced",
    bad={"learning_rate": -1.0, "probability": 0.0},
)
def page(learning_rate: Scalar = 0.1, probability: Scalar = 0.1, prox: Prox | None = None) -> CyclicBlockDescent:
    """PAGE: with some probability the full gradient, else the last estimate plus a minibatch's change of gradient.

    Arguments:
        learning_rate: In (0, inf).
        probability: Of a full gradient, in (0, 1].
        prox: As in `CyclicBlockDescent`, which this is with one block.

    Raises:
        ValueError: for an argument out of range.
    """
    return CyclicBlockDescent(learning_rate, 1, probability, prox)


class SpiderState(NamedTuple):
    """State of `PrivateSpider`."""

    steps: Int[Array, ""]
    before: PyTree  # the point of the last release
    estimate: PyTree  # the gradient there, like the parameters
    best: PyTree  # the point whose estimate was shortest
    shortest: Float[Array, ""]


@method("dp-spider", {"learning_rate": LogUniform(1e-2, 10.0)}, paper="dp-spider")
class PrivateSpider(Method):
    r"""Gradient descent under differential privacy, with released changes of the gradient between full releases.

    $$ v_t = \begin{cases} \nabla F(x_t) + N(0, \sigma_1^2 I) & t \equiv 0 \bmod q \\
       v_{t-1} + \nabla F(x_t) - \nabla F(x_{t-1}) + N(0, \sigma_2^2 I) & \text{otherwise} \end{cases} \qquad
       x_{t+1} = x_t - \eta v_t $$

    where $\sigma_1 = \frac{2 L_0}{n} \sqrt{F / \rho}$ and
    $\sigma_2 = \frac{\min(2 L_1 \lVert x_t - x_{t-1} \rVert, 4 L_0)}{n} \sqrt{(T - F) / \rho}$: a release after a small
    move needs little noise. Of the T releases $F = \lceil T / q \rceil$ are full; these share one half of the
    `zcdp_budget` rho of (epsilon, delta), the changes share the other. Then the point stays. Probes see the point with
    the shortest estimate so far (the paper draws one of them at random), which costs no privacy. All data are used,
    whatever the minibatch size.

    Arguments:
        lipschitz: $L_0$, the longest that the gradient of one sample's loss can be, in (0, inf).
        smoothness: $L_1$, the Lipschitz constant of that gradient, in (0, inf).
        learning_rate: eta, in (0, inf); `None`: $1 / 2 L_1$.
        epsilon: Privacy of the whole run, in (0, inf).
        delta: Its failure probability, in (0, 1).
        steps: The number T of releases, at least 1; this and the period may be floats, so that they can be swept in one
            program.
        period: q, the steps from one full release to the next, a whole number of at least 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: Faster Rates of Convergence to Stationary Points in Differentially Private Optimization.
    """

    lipschitz: Scalar = hyper(low=0.0, open_low=True)
    smoothness: Scalar = hyper(low=0.0, open_low=True)
    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    epsilon: Scalar = hyper(low=0.0, open_low=True)
    delta: Scalar = hyper(low=0.0, high=1.0, open_low=True, open_high=True)
    steps: Scalar = hyper(low=1)
    period: Scalar = hyper(low=1)

    def __init__(
        self,
        lipschitz: Scalar = 1.0,
        smoothness: Scalar = 1.0,
        learning_rate: Scalar | None = None,
        epsilon: Scalar = 1.0,
        delta: Scalar = 1e-5,
        steps: Scalar = 100,
        period: Scalar = 10,
    ):
        self.lipschitz, self.smoothness = lipschitz, smoothness
        self.learning_rate = 1 / (2 * smoothness) if learning_rate is None else learning_rate
        self.epsilon, self.delta, self.steps, self.period = epsilon, delta, steps, period

    def noise(self, samples: int, moved: Scalar | None = None) -> Float[Array, ""]:
        """Standard deviation in a release that follows a move of that length; `None`: in a full release."""
        full = jnp.ceil(self.steps / self.period)
        if moved is None:
            change, releases = 2 * self.lipschitz, full
        else:
            change = jnp.minimum(2 * self.smoothness * moved, 4 * self.lipschitz)
            releases = jnp.maximum(self.steps - full, 1)
        return gaussian_noise(1.0, zcdp_budget(self.epsilon, self.delta) / 2, releases) * change / samples

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> SpiderState:
        before, best = (jax.tree.map(jnp.array, x) for _ in range(2))  # copies: no two buffers are one
        estimate = jax.tree.map(lambda a: jnp.zeros_like(a, dtype=a.dtype), x)  # typed as a step leaves it
        return SpiderState(jnp.zeros([], jnp.int32), before, estimate, best, jnp.asarray(jnp.inf, float))

    def step(
        self, problem: Minimization, x: PyTree, state: SpiderState, key: PRNGKeyArray
    ) -> tuple[PyTree, SpiderState]:
        refuse_complex("this privacy", x)
        gradient = grad(problem.loss)
        samples = len((jax.tree.leaves(problem.full) or [jnp.zeros(1)])[0])  # a loss without data counts as one sample
        now, last = gradient(x, problem.full), gradient(state.before, problem.full)
        moved = jnp.asarray(optax.tree.norm(optax.tree.sub(x, state.before)))
        fresh = state.steps % self.period == 0
        deviation = jnp.where(fresh, self.noise(samples), self.noise(samples, moved))
        noise = optax.tree.random_like(jr.fold_in(key, 1), x, sampler=jr.normal)

        def release(g: Array, h: Array, kept: Array, b: Array) -> Array:
            return (jnp.where(fresh, g, kept + g - h) + deviation * b).astype(g.dtype)

        estimate = jax.tree.map(release, now, last, state.estimate, noise)
        length = jnp.asarray(optax.tree.norm(estimate), state.shortest.dtype)
        left = state.steps < self.steps
        better = left & (length < state.shortest)
        rate = jnp.where(left, self.learning_rate, 0.0)
        after = jax.tree.map(lambda p, v: (p - rate * v).astype(p.dtype), x, estimate)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), x, state.best)
        return after, SpiderState(state.steps + 1, x, estimate, best, jnp.where(better, length, state.shortest))

    def readout(self, x: PyTree, state: SpiderState) -> PyTree:
        return state.best


class TrackingState(NamedTuple):
    """State of `NormalizedSpider`."""

    steps: Int[Array, ""]
    before: PyTree  # the point of the last estimate
    estimate: PyTree  # the gradient there, like the parameters


@method("normalized-spider", {"learning_rate": LogUniform(1e-4, 1.0)}, paper="generalized-smooth-normalized-gd")
class NormalizedSpider(Method):
    r"""Steps of one length along a gradient that is tracked by minibatches, and exact every q steps.

    $$ v_t = \begin{cases} \nabla F(x_t) & t \equiv 0 \bmod q \\
       v_{t-1} + \nabla f_B(x_t) - \nabla f_B(x_{t-1}) & \text{otherwise} \end{cases} \qquad
       x_{t+1} = x_t - \eta \frac{v_t}{\lVert v_t \rVert} $$

    Steps of a known length bound the error of the changes, whatever the slope: curvature may grow with it. The cost
    per step is $n / q + 2 |B|$ component gradients over n samples.

    Arguments:
        learning_rate: The length eta of a step, in (0, inf), of the order of the gradient that is aimed at.
        period: q, the steps from one exact gradient to the next, a whole number of at least 1; may be a float.

    Raises:
        ValueError: for an argument out of range.

    Paper: Generalized-Smooth Nonconvex Optimization is As Efficient As Smooth Nonconvex Optimization.
    """

    learning_rate: Scalar = hyper(0.01, low=0.0, open_low=True)
    period: Scalar = hyper(10, low=1)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> TrackingState:
        return TrackingState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.array, x), optax.tree.zeros_like(x))

    def step(
        self, problem: Minimization, x: PyTree, state: TrackingState, key: PRNGKeyArray
    ) -> tuple[PyTree, TrackingState]:
        batch, gradient = problem.sample(key), grad(problem.loss)

        def tracked(_: None) -> PyTree:
            return jax.tree.map(self.corrected, gradient(x, batch), gradient(state.before, batch), state.estimate)

        fresh = state.steps % self.period == 0
        estimate = jax.lax.cond(fresh, lambda _: gradient(x, problem.full), tracked, None)
        length = optax.tree.norm(estimate)
        scale = self.learning_rate / jnp.where(length > 0, length, 1)
        after = jax.tree.map(lambda p, v: (p - scale * v).astype(p.dtype), x, estimate)
        return after, TrackingState(state.steps + 1, x, estimate)

    def corrected(self, now: Array, before: Array, estimate: Array) -> Array:
        """The tracked gradient, from a minibatch's gradients now and before and the last estimate."""
        return estimate + now - before


class SvrgState(NamedTuple):
    """State of `Svrg`."""

    steps: Int[Array, ""]  # since the last snapshot
    snapshot: PyTree
    gradient: PyTree  # of the full loss there
    total: PyTree  # sum of the points since then


@method("svrg", {"learning_rate": LogUniform(1e-3, 10.0)}, paper="gd-methods-unified-recursion")
class Svrg(Method):
    r"""Stochastic variance-reduced gradient: minibatch steps, corrected by the full gradient at a snapshot.

    $$ x \leftarrow x - \eta \bigl(\nabla f_B(x) - \nabla f_B(\tilde x) + \nabla f(\tilde x)\bigr) $$

    Every ``period`` steps the mean of the points visited since becomes the snapshot $\tilde x$, and the next start. At
    the solution the correction is exact, so that a constant step converges where plain SGD stalls.

    Arguments:
        learning_rate: $\eta$, in (0, inf).
        period: Steps from one snapshot to the next, a whole number of at least 1, which may be a float; a few times the
            number of minibatches.

    Raises:
        ValueError: for an argument out of range.
    """

    learning_rate: Scalar = hyper(0.1, low=0.0, open_low=True)
    period: Scalar = hyper(100, low=1)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> SvrgState:
        full = grad(problem.loss)(x, problem.full)
        snapshot = jax.tree.map(jnp.array, x)  # a copy: no two buffers are one
        return SvrgState(jnp.zeros((), jnp.int32), snapshot, full, optax.tree.zeros_like(x))

    def step(self, problem: Minimization, x: PyTree, state: SvrgState, key: PRNGKeyArray) -> tuple[PyTree, SvrgState]:
        batch, gradient = problem.sample(key), grad(problem.loss)

        def corrected(x: Array, now: Array, before: Array, full: Array) -> Array:
            return (x - self.learning_rate * (now - before + full)).astype(x.dtype)

        total = jax.tree.map(jnp.add, state.total, x)
        x = jax.tree.map(corrected, x, gradient(x, batch), gradient(state.snapshot, batch), state.gradient)

        def renew() -> tuple[PyTree, SvrgState]:
            mean = jax.tree.map(lambda t: (t / self.period).astype(t.dtype), total)
            full = gradient(mean, problem.full)
            return mean, SvrgState(jnp.zeros((), jnp.int32), mean, full, optax.tree.zeros_like(mean))

        def keep() -> tuple[PyTree, SvrgState]:
            return x, SvrgState(state.steps + 1, state.snapshot, state.gradient, total)

        return when_due(state.steps + 1 == self.period, renew, keep)
