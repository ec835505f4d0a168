"""Newton's method for a handful of parameters, with a line search."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from attractor.checks import Count, Scalar, in_range
from attractor.masks import mask_like
from attractor.registry import LogUniform, method
from attractor.second_order.saddle_free import abs_hessian_solve
from attractor.trees import as_vector


def scale_by_newton(damping: Scalar = 1e-4) -> optax.GradientTransformationExtraArgs:
    r"""Multiply the gradient by the inverse of the damped Hessian, its eigenvalues taken by their size.

    $$ u = (|\nabla^2 f(x)| + \delta I)^{-1} g $$

    The Hessian is formed out of d products, side by side, forward over reverse: all parameters are one vector.
    It needs the extra argument ``hvp``.

    Arguments:
        damping: $\delta$, in (0, inf): bounds the step along flat directions.

    Raises:
        ValueError: for a hyper-parameter out of range.
    """
    in_range("damping", damping, 0.0, open_low=True)

    def update(updates: PyTree, state: optax.OptState, params: PyTree = None, **oracles: Any):
        gradient, unravel = as_vector(updates)
        basis = jnp.eye(gradient.size, dtype=gradient.dtype)
        hessian = jax.vmap(lambda v: as_vector(oracles["hvp"](unravel(v)))[0])(basis)
        return unravel(abs_hessian_solve(hessian, gradient, damping)), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


@method(
    "line-search-newton",
    {"damping": LogUniform(1e-4, 1.0)},
    paper="newton-compressor-matching",
    bad={"damping": 0.0, "halvings": 0},
)
def line_search_newton(damping: Scalar = 1e-4, halvings: Count = 20) -> optax.GradientTransformationExtraArgs:
    r"""Newton-Raphson steps along descent directions, halved until the loss falls enough.

    $$ x \leftarrow x - t\, u, \qquad u = (|\nabla^2 f(x)| + \delta I)^{-1} \nabla f(x) $$

    with t the first of $1, \frac12, \frac14, \dots$ with $f(x - t u) \le f(x) - 10^{-4}\, t\, \langle \nabla f(x), u
    \rangle$. Where the Hessian is indefinite its absolute value makes u point downhill (the authors' program takes a
    random step there). It needs the extra arguments ``hvp``, ``value``, ``grad`` and ``value_fn``.

    Arguments:
        damping: $\delta$, in (0, inf): bounds the step along flat directions.
        halvings: At most so many, at least 1; then the shortest step is taken.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Sound Matching an Analogue Levelling Amplifier Using the Newton-Raphson Method.
    """
    in_range("halvings", halvings, 1)
    newton = scale_by_newton(damping)
    search = optax.scale_by_backtracking_linesearch(halvings, decrease_factor=0.5)

    def update(updates: PyTree, state: optax.OptState, params: PyTree = None, **oracles: Any):
        if not jax.tree.leaves(updates):  # optax's search asks for a first leaf
            return updates, state
        direction, state = newton.update(updates, state, params, **oracles)
        known = {name: oracles[name] for name in ("value", "value_fn")}
        known["grad"] = mask_like(oracles["grad"], updates)  # inside `optax.masked` it is still that of the whole tree
        # A fresh search: optax's would go on from the last step size, and not recover from one of zero.
        step, _ = search.update(jax.tree.map(jnp.negative, direction), search.init(params), params, **known)
        return step, state

    return optax.GradientTransformationExtraArgs(newton.init, update)
