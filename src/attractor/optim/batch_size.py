"""Batch sizes that grow: more samples a step once noise, and not the gradient, decides where a step goes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.gradients import grad
from attractor.method import Method, hyper
from attractor.optim.adaptive import scale_by_adagrad_norm
from attractor.problem import Minimization
from attractor.registry import LogUniform, method
from attractor.transformations import averaged


class AdaptiveBatchState(NamedTuple):
    """State of `AdaptiveBatch`."""

    base: PyTree  # of the base transformation
    batch: Int[Array, ""]  # samples of the next step
    drawn: Int[Array, ""]  # samples of all steps so far


class AdaptiveBatch(Method):
    r"""Any optimizer, with a batch that grows when its gradients fail the norm test.

    With $g_i$ the gradients of the b samples of a step, $\bar g$ their mean and $s^2$ the unbiased estimate of the
    trace of their covariance, the next batch has

    $$ b \leftarrow \max\Bigl(b, \Bigl\lceil \frac{s^2}{\eta^2 \lVert \bar g \rVert^2} \Bigr\rceil\Bigr) $$

    samples. Coordinate-wise, the test is made for each parameter alone, and the largest answer counts.

    Each step draws the problem's ``batch_size`` samples (all data for `None`), uses a random b of them, and never
    more: that fixes the shapes of the compiled program, and what a step costs here. What a program with growing
    shapes would spend is counted in the state, as ``drawn``.

    Arguments:
        base: The optimizer that is given the mean gradient.
        eta: Accepted noise relative to the gradient, in (0, 1).
        initial: Samples of the first step, at least 2.
        largest: No batch grows beyond it, at least ``initial``; `None`: the problem's batch.
        coordinatewise: Test each parameter alone.

    Raises:
        ValueError: for an argument out of range.

    Paper: AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods.
    """

    base: optax.GradientTransformation
    eta: Scalar = hyper(0.5, low=0.0, high=1.0, open_low=True, open_high=True)
    initial: int = hyper(8, low=2)
    largest: int | None = None
    coordinatewise: bool = False

    def __check_init__(self) -> None:
        if self.largest is not None:
            in_range("largest", self.largest, self.initial)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> AdaptiveBatchState:
        return AdaptiveBatchState(self.base.init(x), jnp.asarray(self.initial, jnp.int32), jnp.zeros((), jnp.int32))

    def step(
        self, problem: Minimization, x: PyTree, state: AdaptiveBatchState, key: PRNGKeyArray
    ) -> tuple[PyTree, AdaptiveBatchState]:
        samples = problem.sample(key)
        if not jax.tree.leaves(samples):  # a loss without data has no noise to test
            mean, batch = grad(problem.loss)(x, samples), state.batch
        else:
            mean, batch = self._test(problem, x, samples, state.batch, key)
        updates, base = self.base.update(mean, state.base, x)
        return optax.apply_updates(x, updates), AdaptiveBatchState(base, batch, state.drawn + state.batch)

    def readout(self, x: PyTree, state: AdaptiveBatchState) -> PyTree:
        return averaged(x, state.base)

    def _test(
        self, problem: Minimization, x: PyTree, samples: PyTree, batch: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree, Int[Array, ""]]:
        """The mean gradient of ``batch`` of the samples, and how many the next step needs."""
        gradients = problem.oracles(x, samples)["per_example"]()
        drawn = len(jax.tree.leaves(gradients)[0])
        count = jnp.minimum(batch, drawn)
        order = jnp.arange(drawn)
        if problem.batch_size is None:  # the data in their order; samples that were drawn are in a random one already
            order = jr.permutation(jr.fold_in(key, 1), drawn)
        used = order < count

        def average(values: Float[Array, "n ..."], divisor: Int[Array, ""]) -> Float[Array, "..."]:
            return jnp.tensordot(used.astype(values.dtype), values, 1) / divisor.astype(values.dtype)

        mean = jax.tree.map(lambda g: average(g, count), gradients)
        # The divisor is 1 for a single sample, whose variance is 0.
        variance = jax.tree.map(lambda g, m: average(jnp.abs(g - m) ** 2, jnp.maximum(count - 1, 1)), gradients, mean)
        flat = [jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(t)]) for t in (variance, mean)]
        noise, signal = flat[0], jnp.abs(flat[1]) ** 2
        if not self.coordinatewise:
            noise, signal = noise.sum(), signal.sum()
        # No gradient at all, but noise: as large a batch as there is.
        needed = jnp.where(noise > 0, noise / jnp.maximum(self.eta**2 * signal, jnp.finfo(noise.dtype).tiny), 0)
        limit = drawn if self.largest is None else min(drawn, self.largest)
        wide = jnp.promote_types(needed.dtype, jnp.float32)
        grown = jnp.minimum(jnp.ceil(needed.max().astype(wide)), limit).astype(jnp.int32)
        return mean, jnp.maximum(batch, grown)


_BAD = {"learning_rate": -1.0, "eta": 1.5, "initial": 1, "largest": 1}


@method("adadagrad-norm", {"learning_rate": LogUniform(1e-2, 10.0)}, paper="adadagrad", bad=_BAD)
def adadagrad_norm(
    learning_rate: optax.ScalarOrSchedule, eta: Scalar = 0.5, initial: int = 8, largest: int | None = None
) -> AdaptiveBatch:
    """AdaGrad-Norm with a growing batch: `AdaptiveBatch` around `scale_by_adagrad_norm`.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule.
        eta: As in `AdaptiveBatch`.
        initial: As in `AdaptiveBatch`.
        largest: As in `AdaptiveBatch`.

    Raises:
        ValueError: for an argument out of range.

    Paper: AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    base = optax.chain(scale_by_adagrad_norm(), optax.scale_by_learning_rate(learning_rate))
    return AdaptiveBatch(base, eta, initial, largest)


@method("adadagrad", {"learning_rate": LogUniform(1e-3, 1.0)}, paper="adadagrad", bad=_BAD)
def adadagrad(
    learning_rate: optax.ScalarOrSchedule, eta: Scalar = 0.5, initial: int = 8, largest: int | None = None
) -> AdaptiveBatch:
    """AdaGrad with a growing batch, tested coordinate by coordinate: `AdaptiveBatch` around `optax.adagrad`.

    Arguments:
        learning_rate: A number in (0, inf) or a schedule.
        eta: As in `AdaptiveBatch`.
        initial: As in `AdaptiveBatch`.
        largest: As in `AdaptiveBatch`.

    Raises:
        ValueError: for an argument out of range.

    Paper: AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    return AdaptiveBatch(optax.adagrad(learning_rate), eta, initial, largest, coordinatewise=True)
