"""Optimizers made of online learners: the learner plays the next displacement, the optimizer carries it out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.registry import LogUniform, method


class OnlineToNonconvexState(NamedTuple):
    """State of `convert_online_learner`."""

    displacement: PyTree  # of the current segment, like the parameters
    fraction: Float[Array, ""]  # of it that lies behind the parameters, in [0, 1]
    learner: PyTree


def convert_online_learner(
    learner: optax.GradientTransformation, radius: Scalar
) -> optax.GradientTransformationExtraArgs:
    r"""Optimize by an online learner of displacements, with gradients at random points of the segments they span.

    $$
    \begin{aligned}
    x_n &= x_{n-1} + \Delta_n, \qquad w_n = x_{n-1} + s_n \Delta_n, \qquad s_n \sim U[0, 1] \\
    \Delta_{n+1} &= \Pi_{\lVert \Delta \rVert \le D} (\Delta_n + \operatorname{learner}(\nabla f(w_n)))
    \end{aligned}
    $$

    Since $f(x_n) - f(x_{n-1}) = E\langle \nabla f(w_n), \Delta_n \rangle$, small regret of the learner against linear
    losses means that gradients averaged over a stretch of T steps, which stays within $T D$, are small: no convexity
    and no smoothness is needed. The parameters are the points $w_n$ where gradients are taken; $\Delta_1 = 0$.

    ``update`` takes the extra argument ``key``, a fresh PRNG key; `attractor.run` passes it.

    Arguments:
        learner: Any optax method, learning rate included; its parameters are the displacement. `optax.sgd` is online
            gradient descent.
        radius: The largest displacement D (Euclidean norm over all leaves), in the units of x, in (0, inf).

    Raises:
        ValueError: for a radius out of range, or an update without ``key``.

    Paper: Optimal Stochastic Non-smooth Non-convex Optimization through Online-to-Non-convex Conversion.
    """
    in_range("radius", radius, 0.0, open_low=True)
    learner = optax.with_extra_args_support(learner)

    def init(params: PyTree) -> OnlineToNonconvexState:
        zeros = optax.tree.zeros_like(params)
        return OnlineToNonconvexState(zeros, jnp.zeros([]), learner.init(zeros))

    def update(
        updates: PyTree, state: Any, params: PyTree = None, *, key: PRNGKeyArray | None = None, **_: Any
    ) -> tuple[PyTree, OnlineToNonconvexState]:
        if key is None:
            raise ValueError("key: expected a PRNG key, as in update(grads, state, params, key=key)")
        # The oracles among the extra arguments speak of the parameters, not of the displacement: the learner gets none.
        change, learned = learner.update(updates, state.learner, state.displacement)
        proposed = optax.apply_updates(state.displacement, change)
        shrink = jnp.minimum(1.0, radius / jnp.maximum(optax.tree.norm(proposed), jnp.finfo(jnp.float32).tiny))
        displacement = jax.tree.map(lambda d: (shrink * d).astype(d.dtype), proposed)
        fraction = jr.uniform(key)
        moved = jax.tree.map(
            lambda old, new: ((1 - state.fraction) * old + fraction * new).astype(old.dtype),
            state.displacement,
            displacement,
        )
        return moved, OnlineToNonconvexState(displacement, fraction.astype(state.fraction.dtype), learned)

    return optax.GradientTransformationExtraArgs(init, update)


@method(
    "online-to-nonconvex",
    {"learning_rate": LogUniform(1e-4, 1.0), "radius": LogUniform(1e-3, 1.0)},
    paper="online-to-nonconvex",
    bad={"learning_rate": -1.0, "radius": 0.0},
)
def online_to_nonconvex(
    learning_rate: optax.ScalarOrSchedule = 1e-3, radius: Scalar = 0.01
) -> optax.GradientTransformationExtraArgs:
    r"""Online gradient descent on displacements, turned into an optimizer by `convert_online_learner`.

    To be stationary up to averages over balls of radius $\delta$ after N steps: with $T \sim N^{2/3}$, the radius
    $D = \delta / T$ and the learning rate $D / (G \sqrt T)$, where G bounds the gradients.

    Arguments:
        learning_rate: Of the displacement: a number in (0, inf) or a schedule.
        radius: The largest displacement D, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``key``.

    Paper: Optimal Stochastic Non-smooth Non-convex Optimization through Online-to-Non-convex Conversion.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    return convert_online_learner(optax.sgd(learning_rate), radius)
