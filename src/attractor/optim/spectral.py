"""Steepest descent in the spectral norm: momentum whose matrices are made nearly orthogonal."""

import functools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Inexact, Int, PyTree
from optax.contrib import MuonDimensionNumbers

from attractor.checks import Scalar, in_range
from attractor.optim.kept import DECAY
from attractor.registry import LogUniform, method

QUINTIC = (3.4445, -4.7750, 2.0315)
MATRIX, OTHER = "matrix", "other"  # labels of leaves

Layout = Literal["out, in", "in, out"]
DimensionNumbers = Layout | PyTree | Callable[[PyTree], PyTree]


def newton_schulz(
    matrix: Inexact[Array, "n m"], steps: int | Int[Array, ""] = 5, coefficients: tuple[float, float, float] = QUINTIC
) -> Inexact[Array, "n m"]:
    r"""A polynomial of a matrix that takes its singular values to near 1: nearly its orthogonal factor.

    $$ X \leftarrow X / \lVert X \rVert_F, \qquad k \text{ times: } X \leftarrow a X + (b A + c A^2) X, A = X X^\top $$

    It runs in the matrix's own precision (PyTorch's runs in bfloat16).

    Arguments:
        matrix: Any, zero included.
        steps: k, at least 0.
        coefficients: $(a, b, c)$. The default climbs fast from small singular values and ends between about 0.7 and
            1.2, not at 1.

    Paper: Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024).
    """
    a, b, c = coefficients
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T  # the smaller Gram matrix
    x = x / jnp.maximum(jnp.linalg.norm(x), 1e-7)

    def step(_: Any, x: Array) -> Array:
        gram = x @ x.conj().T
        return a * x + (b * gram + c * gram @ gram) @ x

    if isinstance(steps, int):  # a number that is injected is traced
        x = functools.reduce(lambda x, i: step(i, x), range(steps), x)
    else:
        x = jax.lax.fori_loop(0, steps, step, x)
    return x if wide else x.T


def scale_by_muon(
    beta: Scalar = 0.95,
    *,
    nesterov: bool = True,
    ns_steps: int | Int[Array, ""] = 5,
    ns_coeffs: tuple[float, float, float] = QUINTIC,
    dimension_numbers: DimensionNumbers = "out, in",
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
) -> optax.GradientTransformation:
    r"""Muon's direction: of matrices nearly the orthogonal factor of their momentum, of all other leaves Adam's.

    $$ m \leftarrow \beta m + g, \qquad u = \sqrt{\max(1, \tfrac{\text{out}}{\text{in}})}\; NS(g + \beta m) $$

    with NS of `newton_schulz`, and NS(m) without ``nesterov``. This is `torch.optim.Muon`'s. That of
    `optax.contrib.muon` differs in three ways: it takes a matrix to be (in, out), which changes the step of one that
    is not square; in its first steps its momentum is bias-corrected, which gives the new gradient more weight; and
    with ``nesterov`` its Adam is NAdam.

    Arguments:
        beta: Decay of the momentum, in [0, 1).
        nesterov: Whether the new gradient is weighed in once more.
        ns_steps: As in `newton_schulz`, at least 0.
        ns_coeffs: As in `newton_schulz`, at least 0.
        dimension_numbers: What is a matrix, and how it is laid out. ``"out, in"``, as in Equinox and PyTorch, or
            ``"in, out"``, as in Flax and where a layer is ``x @ W``: all leaves with two axes. Else a tree of
            `optax.contrib.MuonDimensionNumbers` (a prefix of the parameters' is enough) with `None` for what Adam is to
            take, or a function of the parameters that gives one.
        b1: Adam's decay of the mean, in [0, 1).
        b2: Adam's decay of the mean square, in [0, 1).
        eps: Adam's, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024).
    """
    for name, decay in {"beta": beta, "b1": b1, "b2": b2}.items():
        in_range(name, decay, 0.0, 1.0, open_high=True)
    in_range("eps", eps, 0.0, open_low=True)
    in_range("ns_steps", ns_steps, 0)
    if isinstance(dimension_numbers, str) and dimension_numbers not in get_args(Layout):
        raise ValueError(f"dimension_numbers: expected one of {get_args(Layout)}, got {dimension_numbers!r}")

    def orthogonalize(x: Inexact[Array, "..."], numbers: MuonDimensionNumbers) -> Inexact[Array, "..."]:
        ins, outs = (_axes(axes, x.ndim) for axes in numbers)
        order = [i for i in range(x.ndim) if i not in (*ins, *outs)] + [*outs, *ins]
        fan_in, fan_out = (math.prod(x.shape[i] for i in axes) for axes in (ins, outs))
        turned = x.transpose(order)
        matrices = turned.reshape(-1, fan_out, fan_in)
        found = jax.vmap(lambda m: newton_schulz(m, ns_steps, ns_coeffs))(matrices)
        return max(1, fan_out / fan_in) ** 0.5 * found.reshape(turned.shape).transpose(np.argsort(order))

    def of(tree: PyTree) -> optax.GradientTransformationExtraArgs:
        numbers = _resolved(dimension_numbers, tree)
        to_factor = optax.stateless(lambda u, _: jax.tree.map(orthogonalize, u, numbers))
        matrices = optax.chain(optax.trace(beta, nesterov), to_factor)
        labels = _labels(numbers)
        # As a function: labels in the shape of a model can themselves be called.
        return optax.partition({MATRIX: matrices, OTHER: optax.scale_by_adam(b1, b2, eps)}, lambda _: labels)

    return optax.GradientTransformation(
        lambda params: of(params).init(params),
        lambda updates, state, params=None: of(updates).update(updates, state, params),
    )


def _resolved(given: DimensionNumbers, params: PyTree) -> PyTree:
    """The numbers of every leaf; a node without leaves in place of what is no matrix."""
    if isinstance(given, str):
        numbers = MuonDimensionNumbers(*((1, 0) if given == "out, in" else (0, 1)))
        return jax.tree.map(lambda x: numbers if x.ndim == 2 else optax.MaskedNode(), params)

    def spread(numbers: MuonDimensionNumbers | None, part: PyTree) -> PyTree:
        return jax.tree.map(lambda _: optax.MaskedNode() if numbers is None else numbers, part)

    return jax.tree.map(spread, given(params) if callable(given) else given, params, is_leaf=_is_number)


def _is_number(node: Any) -> bool:
    return node is None or isinstance(node, MuonDimensionNumbers | optax.MaskedNode)


def _labels(numbers: PyTree) -> PyTree:
    def label(node: MuonDimensionNumbers | optax.MaskedNode) -> str:
        return MATRIX if isinstance(node, MuonDimensionNumbers) else OTHER

    # Parameters that are not there, such as the activation of a model, get no label.
    return jax.tree.map(label, numbers, is_leaf=lambda node: node is not None and _is_number(node))


def _axes(axes: int | Sequence[int], ndim: int) -> list[int]:
    return [axis % ndim for axis in ([axes] if isinstance(axes, int) else axes)]


@method(
    "muon",
    {"learning_rate": LogUniform(1e-3, 10.0), "weight_decay": DECAY},
    paper="muon-mla-moe",
    bad={"learning_rate": -1.0, "beta": 1.0, "weight_decay": -1.0, "b1": 1.0, "b2": 1.0, "eps": 0.0},
)
def muon(
    learning_rate: optax.ScalarOrSchedule,
    beta: Scalar = 0.95,
    weight_decay: Scalar = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    *,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    nesterov: bool = True,
    ns_steps: int | Int[Array, ""] = 5,
    ns_coeffs: tuple[float, float, float] = QUINTIC,
    dimension_numbers: DimensionNumbers = "out, in",
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Muon for matrices and Adam for the rest, with decoupled weight decay: `scale_by_muon`, decay, learning rate.

    Its authors leave embeddings and the last layer to Adam too: see ``dimension_numbers``.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        beta: As in `scale_by_muon`.
        weight_decay: Times the learning rate and the weights, in [0, inf).
        mask: Which leaves are decayed: a pytree of bools (a prefix of the parameters' is enough), or a function of the
            parameters that gives one; `None`: every leaf.
        adam_learning_rate: Of what is no matrix; `None`: ``learning_rate``.
        nesterov: As in `scale_by_muon`.
        ns_steps: As in `scale_by_muon`.
        ns_coeffs: As in `scale_by_muon`.
        dimension_numbers: As in `scale_by_muon`.
        b1: As in `scale_by_muon`.
        b2: As in `scale_by_muon`.
        eps: As in `scale_by_muon`.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024).
    """
    in_range("weight_decay", weight_decay, 0.0)
    rates = {MATRIX: learning_rate, OTHER: learning_rate if adam_learning_rate is None else adam_learning_rate}
    for name, rate in zip(("learning_rate", "adam_learning_rate"), rates.values(), strict=True):
        in_range(name, rate, 0.0)
    direction = scale_by_muon(
        beta, nesterov=nesterov, ns_steps=ns_steps, ns_coeffs=ns_coeffs, dimension_numbers=dimension_numbers,
        b1=b1, b2=b2, eps=eps,
    )  # fmt: skip
    by_label: dict[Hashable, optax.GradientTransformation] = {
        label: optax.scale_by_learning_rate(rate) for label, rate in rates.items()
    }
    scaled = (
        by_label[MATRIX]
        if adam_learning_rate is None
        else optax.partition(by_label, lambda tree: _labels(_resolved(dimension_numbers, tree)))
    )
    return optax.chain(direction, optax.add_decayed_weights(weight_decay, mask), scaled)


def _factored(x: Inexact[Array, "n m"], layout: str, ns_steps: int | Int[Array, ""]) -> Inexact[Array, "out in"]:
    """Nearly the orthogonal factor, its rows the outputs."""
    return newton_schulz(x if layout == "out, in" else x.T, ns_steps)


def _check_layout(layout: str, ns_steps: int | Int[Array, ""]) -> None:
    in_range("ns_steps", ns_steps, 0)
    if layout not in get_args(Layout):
        raise ValueError(f"layout: expected one of {get_args(Layout)}, got {layout!r}")


def scale_by_normuon(
    beta: Scalar = 0.95,
    beta2: Scalar = 0.95,
    *,
    nesterov: bool = True,
    ns_steps: int | Int[Array, ""] = 5,
    layout: str = "out, in",
    b1: Scalar = 0.9,
    b2: Scalar = 0.95,
    eps: Scalar = 1e-10,
) -> optax.GradientTransformation:
    r"""Muon's direction with the rows brought to one length by their mean square, at the same norm; Adam's elsewhere.

    $$ O = NS(g + \beta m), \quad v_i \leftarrow \beta_2 v_i + (1 - \beta_2)\, \tfrac1n \lVert O_i \rVert^2, \quad
    U_i = O_i / \sqrt{v_i}, \qquad u = \sqrt{\max(1, \tfrac{\text{out}}{\text{in}})}\;
    \frac{\lVert O \rVert}{\lVert U \rVert} U $$

    for all leaves with two axes, their rows $O_i$ the outputs. Adam takes the others. The scale is that of the authors'
    program; their Algorithm 1 gives u the root mean square 0.2 instead.

    Arguments:
        beta: Decay of the momentum, in [0, 1).
        beta2: Decay of the mean square of rows, in [0, 1).
        nesterov: Whether the new gradient is weighed in once more.
        ns_steps: As in `newton_schulz`, at least 0.
        layout: "out, in", or "in, out" where a layer is ``x @ W``.
        b1: Adam's decay of the mean, in [0, 1).
        b2: Adam's decay of the mean square, in [0, 1).
        eps: Added to the denominators, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: NorMuon: Making Muon more efficient and scalable (arXiv 2510.05491).
    """
    for name, decay in {"beta": beta, "beta2": beta2, "b1": b1, "b2": b2}.items():
        in_range(name, decay, 0.0, 1.0, open_high=True)
    in_range("eps", eps, 0.0, open_low=True)
    _check_layout(layout, ns_steps)

    def squares(x: Inexact[Array, "n m"]) -> Array:
        return jnp.zeros((x.shape[0 if layout == "out, in" else 1], 1), x.dtype)

    def normalized(x: Inexact[Array, "n m"], v: Array) -> tuple[Array, Array]:
        o = _factored(x, layout, ns_steps)
        v = (beta2 * v + (1 - beta2) * jnp.mean(jnp.abs(o) ** 2, 1, keepdims=True)).astype(v.dtype)
        u = o / (jnp.sqrt(v) + eps)
        u *= max(1, o.shape[0] / o.shape[1]) ** 0.5 * jnp.linalg.norm(o) / (jnp.linalg.norm(u) + eps)
        return (u if layout == "out, in" else u.T).astype(x.dtype), v

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        leaves, structure = jax.tree.flatten(updates)
        pairs = [normalized(x, v) for x, v in zip(leaves, state, strict=True)]
        return jax.tree.unflatten(structure, [u for u, _ in pairs]), [v for _, v in pairs]

    rows = optax.GradientTransformation(lambda params: [squares(x) for x in jax.tree.leaves(params)], update)
    return _by_axes(optax.chain(optax.trace(beta, nesterov), rows), optax.scale_by_adam(b1, b2, eps))


def _by_axes(
    matrices: optax.GradientTransformation, others: optax.GradientTransformation
) -> optax.GradientTransformation:
    """One transformation for leaves with two axes, another for the rest."""

    def of(tree: PyTree) -> optax.GradientTransformationExtraArgs:
        labels = _labels(_resolved("out, in", tree))
        # As a function: labels in the shape of a model can themselves be called.
        return optax.partition({MATRIX: matrices, OTHER: others}, lambda _: labels)

    return optax.GradientTransformation(
        lambda params: of(params).init(params),
        lambda updates, state, params=None: of(updates).update(updates, state, params),
    )


@method(
    "normuon",
    {"learning_rate": LogUniform(1e-3, 10.0), "weight_decay": DECAY},
    bad={"learning_rate": -1.0, "beta": 1.0, "beta2": 1.0, "weight_decay": -1.0, "b1": 1.0, "b2": 1.0, "eps": 0.0},
)
def normuon(
    learning_rate: optax.ScalarOrSchedule,
    beta: Scalar = 0.95,
    beta2: Scalar = 0.95,
    weight_decay: Scalar = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    *,
    nesterov: bool = True,
    ns_steps: int | Int[Array, ""] = 5,
    layout: str = "out, in",
    b1: Scalar = 0.9,
    b2: Scalar = 0.95,
    eps: Scalar = 1e-10,
) -> optax.GradientTransformationExtraArgs:
    """NorMuon for matrices and Adam for the rest, with decoupled weight decay: `scale_by_normuon`, decay, a rate.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        beta: As in `scale_by_normuon`, in [0, 1).
        beta2: As in `scale_by_normuon`, in [0, 1).
        weight_decay: Times the learning rate and the weights, in [0, inf).
        mask: Which leaves are decayed: a pytree of bools, or a function of the parameters that gives one; `None`: all.
        nesterov: As in `scale_by_normuon`.
        ns_steps: As in `scale_by_normuon`.
        layout: As in `scale_by_normuon`.
        b1: As in `scale_by_normuon`, in [0, 1).
        b2: As in `scale_by_normuon`, in [0, 1).
        eps: As in `scale_by_normuon`, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: NorMuon: Making Muon more efficient and scalable (arXiv 2510.05491).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("weight_decay", weight_decay, 0.0)
    return optax.chain(
        scale_by_normuon(beta, beta2, nesterov=nesterov, ns_steps=ns_steps, layout=layout, b1=b1, b2=b2, eps=eps),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(learning_rate),
    )


def scale_by_scion(
    beta: Scalar = 0.9, *, ns_steps: int | Int[Array, ""] = 5, layout: str = "out, in", eps: Scalar = 1e-8
) -> optax.GradientTransformation:
    r"""The steepest direction in each leaf's norm: matrices by the spectral norm, the rest by its root mean square.

    $$ m \leftarrow \beta m + (1 - \beta) g, \qquad
    u = \sqrt{\tfrac{\text{out}}{\text{in}}}\; NS(m) \;\text{ or }\; u = m / \operatorname{rms}(m) $$

    so that a step of any size changes what a layer gives by as much, however wide it is. The authors take the signs of
    m, over the number of inputs, for the last layer: `optax.partition` does that.

    Arguments:
        beta: $\beta$, in [0, 1); the authors' ``momentum`` is $1 - \beta$.
        ns_steps: As in `newton_schulz`, at least 0.
        layout: "out, in", or "in, out" where a layer is ``x @ W``.
        eps: Added to the root mean square, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Training Deep Learning Models with Norm-Constrained LMOs (arXiv 2502.07529).
    """
    in_range("beta", beta, 0.0, 1.0, open_high=True)
    in_range("eps", eps, 0.0, open_low=True)
    _check_layout(layout, ns_steps)

    def steepest(x: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        if x.ndim != 2:
            return (x / (jnp.sqrt(jnp.mean(jnp.abs(x) ** 2)) + eps)).astype(x.dtype)
        o = _factored(x, layout, ns_steps)
        u = (o.shape[0] / o.shape[1]) ** 0.5 * o
        return (u if layout == "out, in" else u.T).astype(x.dtype)

    return optax.chain(optax.ema(beta, debias=False), optax.stateless(lambda u, _: jax.tree.map(steepest, u)))


@method(
    "scion",
    {"learning_rate": LogUniform(1e-4, 1.0), "weight_decay": DECAY},
    bad={"learning_rate": -1.0, "beta": 1.0, "weight_decay": -1.0, "radius": 0.0, "eps": 0.0},
)
def scion(
    learning_rate: optax.ScalarOrSchedule,
    beta: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    *,
    radius: Scalar = 1.0,
    ns_steps: int | Int[Array, ""] = 5,
    layout: str = "out, in",
    eps: Scalar = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    r"""Scion: $x \leftarrow x - \eta\, (\rho u + \lambda x)$ with u of `scale_by_scion`.

    $\lambda = 1$ is the paper's constrained Scion, a Frank-Wolfe method that keeps every leaf in the ball of its norm
    with radius $\rho$; $\lambda = 0$ its unconstrained one.

    Arguments:
        learning_rate: $\eta$, in [0, inf), or a schedule.
        beta: As in `scale_by_scion`, in [0, 1).
        weight_decay: $\lambda$, in [0, inf).
        mask: Which leaves are decayed: a pytree of bools, or a function of the parameters that gives one; `None`: all.
        radius: $\rho$, in (0, inf).
        ns_steps: As in `scale_by_scion`.
        layout: As in `scale_by_scion`.
        eps: As in `scale_by_scion`, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Training Deep Learning Models with Norm-Constrained LMOs (arXiv 2502.07529).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("weight_decay", weight_decay, 0.0)
    in_range("radius", radius, 0.0, open_low=True)
    return optax.chain(
        scale_by_scion(beta, ns_steps=ns_steps, layout=layout, eps=eps),
        optax.scale(radius),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(learning_rate),
    )
