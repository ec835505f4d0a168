"""Penalties on the gradient's norm without differentiating twice, and flooding, which does it in disguise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from attractor.checks import Scalar, in_range
from attractor.gradients import grad
from attractor.registry import LogUniform, method


def penalize_gradient_norm(
    gamma: Scalar, eps: Scalar = 0.01, scheme: str = "forward"
) -> optax.GradientTransformationExtraArgs:
    r"""Turn a gradient into that of $L + \frac\gamma2 \lVert \nabla L \rVert^2$.

    $$
    g + \frac{\gamma}{\epsilon} \bigl(\nabla L(x + \epsilon g) - g\bigr) \;\text{(forward)}, \qquad
    g + \frac{\gamma}{\epsilon} \bigl(g - \nabla L(x - \epsilon g)\bigr) \;\text{(backward)}, \qquad
    g + \gamma \nabla^2 L(x)\, g \;\text{(exact)}
    $$

    The differences cost a second gradient. With $\gamma = \epsilon$ the forward one is the gradient at
    $x + \epsilon g$, as in sharpness-aware minimization without its normalization. ``update`` takes ``obj_fn`` (the
    minibatch's loss as a function of the parameters) by keyword, the exact scheme ``hvp``; `attractor.run` gives both.

    Arguments:
        gamma: $\gamma$, in [0, inf).
        eps: $\epsilon$, in (0, inf); small ones lose digits. Ignored by the exact scheme.
        scheme: "forward", "backward" or "exact".

    Raises:
        ValueError: for an argument out of range, or an update without what it needs.

    Paper: Understanding Gradient Regularization in Deep Learning: Efficient Finite-Difference Computation and
    Implicit Bias.
    """
    in_range("gamma", gamma, 0.0)
    in_range("eps", eps, 0.0, open_low=True)
    if scheme not in ("forward", "backward", "exact"):
        raise ValueError(f"scheme: expected forward, backward or exact, got {scheme!r}")
    sign = 1 if scheme == "forward" else -1

    def update(
        updates: PyTree, state: Any, params: PyTree = None, *, obj_fn: Any = None, hvp: Any = None, **_: Any
    ) -> tuple[PyTree, Any]:
        if scheme == "exact":
            if hvp is None:
                raise ValueError("hvp: the exact scheme needs a function v -> Hv; call update(…, params, hvp=…)")
            return optax.tree.add_scale(updates, gamma, hvp(updates)), state
        if obj_fn is None or params is None:
            raise ValueError("obj_fn, params: expected the loss and the parameters; call update(…, params, obj_fn=…)")
        there = grad(obj_fn)(optax.tree.add_scale(params, sign * eps, updates))
        return jax.tree.map(lambda g, h: (g + sign * gamma / eps * (h - g)).astype(g.dtype), updates, there), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)  # pyright: ignore[reportArgumentType]


def flooding(level: Scalar) -> optax.GradientTransformationExtraArgs:
    r"""Descend above a level of the loss, ascend below it: the gradient of $|L - b| + b$.

    ``update`` takes ``value``, the minibatch's loss, by keyword; `attractor.run` gives it.

    Arguments:
        level: b.
    """

    def update(
        updates: PyTree, state: Any, params: PyTree = None, *, value: Any = None, **_: Any
    ) -> tuple[PyTree, Any]:
        if value is None:
            raise ValueError("value: expected the loss; call update(…, value=…)")
        return jax.tree.map(lambda g: (jnp.sign(value - level) * g).astype(g.dtype), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)  # pyright: ignore[reportArgumentType]


@method(
    "gradient-penalty-sgd",
    {"learning_rate": LogUniform(1e-3, 1.0), "gamma": LogUniform(1e-3, 1.0)},
    paper="finite-difference-gradient-regularization",
    bad={"learning_rate": -1.0, "gamma": -1.0, "eps": 0.0, "scheme": "central"},
)
def gradient_penalty_sgd(
    learning_rate: optax.ScalarOrSchedule, gamma: Scalar = 0.1, eps: Scalar = 0.01, scheme: str = "forward"
) -> optax.GradientTransformationExtraArgs:
    """SGD on the loss plus gamma/2 times its gradient's squared norm (`penalize_gradient_norm`).

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        gamma: In [0, inf).
        eps: Step of the difference, in (0, inf).
        scheme: "forward", "backward" or "exact".

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Understanding Gradient Regularization in Deep Learning: Efficient Finite-Difference Computation and
    Implicit Bias.
    """
    if not callable(learning_rate):
        in_range("learning_rate", learning_rate, 0.0)
    return optax.chain(penalize_gradient_norm(gamma, eps, scheme), optax.sgd(learning_rate))


def double_backpropagation(loss: Callable[[PyTree], Array], x: PyTree, gamma: Scalar = 0.1) -> PyTree:
    r"""The exact gradient of $f + \tfrac\gamma2 \lVert \nabla f \rVert^2$, by reverse mode twice.

    Arguments:
        loss: f, a scalar function of ``x``.
        x: A pytree of floating-point arrays.
        gamma: In [0, inf).

    Raises:
        ValueError: if ``gamma`` is out of range.
    """
    in_range("gamma", gamma, 0.0)
    square = lambda x: sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss)(x)))  # noqa: E731
    return jax.grad(lambda x: loss(x) + 0.5 * gamma * square(x))(x)


def differentiated_difference(
    loss: Callable[[PyTree], Array], x: PyTree, gamma: Scalar = 0.1, step: Scalar = 0.01
) -> PyTree:
    r"""The gradient of f plus $\gamma$ times a central difference along the gradient, its ends included.

    Where `penalize_gradient_norm` holds the places of its difference fixed, this differentiates through them.

    Arguments:
        loss: f, a scalar function of ``x``.
        x: A pytree of floating-point arrays.
        gamma: In [0, inf).
        step: Of the difference, in (0, inf).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("gamma", gamma, 0.0)
    in_range("step", step, 0.0, open_low=True)

    def penalized(x: PyTree) -> Array:
        ahead, behind = (jax.tree.map(lambda a, g, h=h: a + h * g, x, jax.grad(loss)(x)) for h in (step, -step))
        return loss(x) + gamma / (2 * step) * (loss(ahead) - loss(behind))

    return jax.grad(penalized)(x)
