"""Optimizers that optax keeps well: registered with their search spaces, not written again.

A name is optax's, with hyphens. The learning rate is searched, and the weight decay where there is one: over Adam's
ranges, or over those of `SPACES`. The few that need a setting of their own stand below the table.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import optax.contrib
from jaxtyping import PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.linalg import hutchinson_diagonal
from attractor.masks import mask_like
from attractor.optim.normalized import normalized_gd
from attractor.registry import LEARNING_RATE, Dimension, LogUniform, Space, Uniform, method

DECAY = LogUniform(1e-5, 1e-1)
SEARCHED: dict[str, Dimension] = {
    "learning_rate": LEARNING_RATE,
    "max_learning_rate": LogUniform(1e-2, 10.0),
    "weight_decay": DECAY,
    "weight_decay_rate": DECAY,
}
GRADIENTS = LogUniform(1e-3, 10.0)  # steps in proportion to the gradient, or to its share of all so far
SIGNS = LogUniform(1e-5, 1e-1)  # every entry of a step is as large as the rate
FREE = LogUniform(1e-1, 10.0)  # a factor beside 1, of a rate that the method finds
SPACES: Mapping[str, Space] = {
    "sgd": {"learning_rate": GRADIENTS},
    "optimistic_gradient_descent": {"learning_rate": GRADIENTS},
    "adagrad": {"learning_rate": GRADIENTS},
    "schedule_free_sgd": {"learning_rate": GRADIENTS},
    "adadelta": {"learning_rate": LogUniform(1e-2, 100.0)},
    "lars": {"learning_rate": LogUniform(1e-1, 100.0)},  # times its coefficient, 0.001
    "lion": {"learning_rate": SIGNS},
    "sign_sgd": {"learning_rate": SIGNS},
    "signum": {"learning_rate": SIGNS},
    # Its mean is a sum, 1 / (1 - b1) times as large, and swings for as many steps where gradients are exact.
    "simplified_ademamix": {"learning_rate": LogUniform(1e-5, 1e-1), "b1": Uniform(0.8, 0.99)},
} | {name: {"learning_rate": FREE} for name in ("prodigy", "dadapt_adamw", "dog", "dowg", "cocob", "momo")}
PAPERS = {"lion": "lion-k"}

# Ours have these names: made of optax's pieces, or optax's where it does not run as it is.
OURS = {"ademamix", "galore", "lbfgs", "muon", "noisy_sgd", "sm3", "sophia"}
NOT_NAMED = {
    "optimistic_adam": "deprecated by optax; optimistic-adam-v2 is a name",
    "dpsgd": "takes a gradient for every example in place of a gradient; dp-spider is private",
    "schedule_free": "wraps an optimizer; schedule-free-sgd and schedule-free-adamw are names",
}


def optimizers(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """What takes a learning rate in ``optax`` or ``optax.contrib``, by name; not the pieces, ``scale_by_…``."""
    rates = {"learning_rate", "max_learning_rate"}
    # Some, such as nadam, are made of others.
    made = {k: f for k, f in vars(module).items() if inspect.isfunction(f) or isinstance(f, functools.partial)}
    whole = {k: f for k, f in sorted(made.items()) if not k.startswith(("_", "scale_by_"))}
    return {k: f for k, f in whole.items() if rates & inspect.signature(f).parameters.keys()}


def _own_buffers(transformation: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Its state starts with copies of the parameters, where optax keeps those themselves: loops donate both."""
    inner = optax.with_extra_args_support(transformation)
    return optax.GradientTransformationExtraArgs(
        lambda params: jax.tree.map(jnp.copy, inner.init(params)), inner.update
    )


def _still_at_zero(transformation: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Nothing changes where the whole gradient is zero, which optax divides by."""
    inner = optax.with_extra_args_support(transformation)

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any) -> tuple[PyTree, PyTree]:
        moving = optax.tree.norm(updates) > 0
        new = inner.update(updates, state, params, **extra)
        return jax.tree.map(lambda a, b: jnp.where(moving, a, b), new, (optax.tree.zeros_like(updates), state))

    return optax.GradientTransformationExtraArgs(inner.init, update)


MENDED = {
    "cocob": (_own_buffers,),
    "dadapt_adamw": (_still_at_zero,),
    "dog": (_own_buffers,),
    "dowg": (_own_buffers,),
    "madgrad": (_own_buffers,),
    "prodigy": (_still_at_zero, _own_buffers),
}


def _mended(name: str, factory: Callable[..., Any]) -> Callable[..., Any]:
    if name not in MENDED:
        return factory

    @functools.wraps(factory)
    def make(*args: Any, **kwargs: Any) -> Any:
        return functools.reduce(lambda inner, mend: mend(inner), MENDED[name], factory(*args, **kwargs))

    return make


def _register(name: str, factory: Callable[..., Any]) -> None:
    ranges = {**SEARCHED, **SPACES.get(name, {})}
    space = {k: ranges[k] for k in inspect.signature(factory).parameters if k in ranges}
    method(name.replace("_", "-"), space, paper=PAPERS.get(name), room="optim")(_mended(name, factory))


for _module in (optax, optax.contrib):
    for _name, _factory in optimizers(_module).items():
        if _name not in OURS | NOT_NAMED.keys():
            _register(_name, _factory)


@method(
    "galore",
    {"learning_rate": LEARNING_RATE, "weight_decay": DECAY},
    bad={"learning_rate": -1.0, "weight_decay": -1.0, "rank": 0, "update_proj_gap": 0},
)
def galore(
    learning_rate: optax.ScalarOrSchedule, weight_decay: Scalar = 0.0, rank: int = 128, update_proj_gap: int = 200
) -> optax.GradientTransformation:
    """Adam on the leading singular directions of every matrix; optax's, which stumbles over absent leaves, on any tree.

    Matrices with no more than ``rank`` rows or columns are not projected.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        weight_decay: Times the learning rate and the weights, in [0, inf).
        rank: How many directions, at least 1.
        update_proj_gap: Steps between two decompositions, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection (arXiv 2403.03507).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("weight_decay", weight_decay, 0.0)
    in_range("rank", rank, 1)
    in_range("update_proj_gap", update_proj_gap, 1)
    inner = optax.contrib.galore(learning_rate, rank, update_proj_gap, weight_decay=weight_decay)

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        leaves, structure = jax.tree.flatten(updates)
        if not leaves:
            return updates, state
        found, state = inner.update(leaves, state, jax.tree.leaves(params))
        return jax.tree.unflatten(structure, jax.tree.leaves(found)), state

    return optax.GradientTransformation(lambda params: inner.init(jax.tree.leaves(params)), update)


@method("lbfgs", bad={"memory_size": 0})
def lbfgs(memory_size: int = 10) -> optax.GradientTransformationExtraArgs:
    """L-BFGS with a zoom line search, which finds the rate: optax's, whatever extra arguments come beside its own.

    ``update`` takes ``value``, ``grad`` and ``value_fn``, as `attractor.run` gives them.

    Arguments:
        memory_size: Past steps that make up the metric, at least 1.

    Raises:
        ValueError: for a ``memory_size`` out of range.

    Paper: On the Limited Memory BFGS Method for Large Scale Optimization (Liu and Nocedal, 1989).
    """
    in_range("memory_size", memory_size, 1)
    inner = _own_buffers(optax.lbfgs(memory_size=memory_size))

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **oracles: Any) -> tuple[PyTree, PyTree]:
        if not jax.tree.leaves(updates):
            return updates, state
        known = {name: oracles[name] for name in ("value", "value_fn")}
        # Inside `optax.masked` the gradient is still that of the whole tree.
        return inner.update(updates, state, params, **known, grad=mask_like(oracles["grad"], updates))

    def init(params: PyTree) -> PyTree:
        return inner.init(params) if jax.tree.leaves(params) else optax.EmptyState()

    return optax.GradientTransformationExtraArgs(init, update)


@method("sm3", {"learning_rate": GRADIENTS}, bad={"learning_rate": -1.0, "momentum": 1.0})
def sm3(learning_rate: Scalar, momentum: Scalar = 0.9) -> optax.GradientTransformation:
    """AdaGrad in little memory, a number for every row and column: optax's, which takes no scalars, on scalars too.

    Arguments:
        learning_rate: In [0, inf).
        momentum: Decay of the running mean of the steps, in [0, 1).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Memory-Efficient Adaptive Optimization (arXiv 1901.11150).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    inner = optax.sm3(learning_rate, momentum)

    def widened(tree: PyTree) -> PyTree:
        return jax.tree.map(jnp.atleast_1d, tree)

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        found, state = inner.update(widened(updates), state)
        return jax.tree.map(lambda u, g: u.reshape(g.shape).astype(g.dtype), found, updates), state

    return optax.GradientTransformation(lambda params: inner.init(widened(params)), update)


@method("noisy-sgd", {"learning_rate": GRADIENTS}, bad={"learning_rate": -1.0, "eta": -1.0, "gamma": -1.0})
def noisy_sgd(
    learning_rate: optax.ScalarOrSchedule, eta: Scalar = 0.01, gamma: Scalar = 0.55
) -> optax.GradientTransformationExtraArgs:
    r"""SGD on gradients with normal noise that dies out: $g_t + \sqrt{\eta / t^\gamma}\, z_t$.

    ``update`` takes the extra argument ``key``, as `attractor.run` gives it; `optax.noisy_sgd` keeps a key of its own,
    with which all seeds of a comparison would see the same noise.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        eta: Variance of the noise of the first step, in [0, inf).
        gamma: How fast it falls, in [0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``key``.

    Paper: Adding Gradient Noise Improves Learning for Very Deep Networks (arXiv 1511.06807).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("eta", eta, 0.0)
    in_range("gamma", gamma, 0.0)

    def update(
        updates: PyTree, state: Any, params: PyTree = None, *, key: PRNGKeyArray | None = None, **_: Any
    ) -> tuple[PyTree, Any]:
        if key is None:
            raise ValueError("key: expected a PRNG key, as in update(grads, state, params, key=key)")
        steps = optax.safe_increment(state)
        deviation = jnp.sqrt(eta / steps**gamma)
        noise = optax.tree.random_like(key, updates, jr.normal)
        return jax.tree.map(lambda g, z: (g + deviation * z).astype(g.dtype), updates, noise), steps

    noise = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros((), jnp.int32), update)
    return optax.chain(noise, optax.scale_by_learning_rate(learning_rate))


@method(
    "sam",
    {"learning_rate": GRADIENTS, "rho": LogUniform(1e-3, 1.0)},
    bad={"learning_rate": -1.0, "rho": -1.0, "momentum": 1.0},
)
def sam(
    learning_rate: optax.ScalarOrSchedule, rho: Scalar = 0.05, momentum: Scalar = 0.9
) -> optax.GradientTransformationExtraArgs:
    r"""Sharpness-aware SGD with momentum: the gradient is taken at $x + \rho\, g / \lVert g \rVert$.

    `optax.contrib.sam` in its opaque mode, which takes the extra argument ``grad_fn``, as `attractor.run` gives it. Two
    gradients a step.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        rho: How far to climb, in [0, inf).
        momentum: Decay of the sum of gradients, in [0, 1).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Sharpness-Aware Minimization for Efficiently Improving Generalization (arXiv 2010.01412).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("rho", rho, 0.0)
    in_range("momentum", momentum, 0.0, 1.0, open_high=True)
    inner = optax.contrib.sam(optax.sgd(learning_rate, momentum), normalized_gd(rho), opaque_mode=True)

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None, *, grad_fn: Any = None, **_: Any
    ) -> tuple[PyTree, PyTree]:
        if grad_fn is None:
            raise ValueError(
                "grad_fn: expected the gradient as a function of the parameters; call update(…, grad_fn=…)"
            )
        # Inside `optax.masked` it still gives those of the whole tree.
        return inner.update(updates, state, params, grad_fn=lambda x, _: mask_like(grad_fn(x), updates))

    return optax.GradientTransformationExtraArgs(inner.init, update)


@method(
    "mechanize",
    {"learning_rate": FREE, "weight_decay": DECAY},
    bad={"learning_rate": -1.0, "weight_decay": -1.0},
)
def mechanize(
    learning_rate: optax.ScalarOrSchedule = 1.0, weight_decay: Scalar = 1e-2
) -> optax.GradientTransformationExtraArgs:
    """Adam at a rate that `optax.contrib.mechanize` finds.

    Arguments:
        learning_rate: A factor of the rate that is found, in [0, inf), or a schedule.
        weight_decay: Mechanic's own, beside the size of the gradient, in [0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Mechanic: A Learning Rate Tuner (arXiv 2306.00144).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("weight_decay", weight_decay, 0.0)
    return _own_buffers(optax.contrib.mechanize(optax.adam(learning_rate), weight_decay))


@method(
    "sophia",
    {"learning_rate": SIGNS, "weight_decay": DECAY},
    bad={"learning_rate": -1.0, "b1": 1.0, "b2": 1.0, "weight_decay": -1.0, "gamma": 0.0},
)
def sophia(
    learning_rate: optax.ScalarOrSchedule,
    b1: Scalar = 0.965,
    b2: Scalar = 0.99,
    weight_decay: Scalar = 1e-4,
    gamma: Scalar = 0.01,
) -> optax.GradientTransformationExtraArgs:
    r"""Sophia-H: the mean gradient over each entry's curvature, cut off at 1; the curvature is renewed every 10th step.

    optax's, with random signs that come from ``key``: optax keeps a key of its own, with which all seeds of a
    comparison would draw the same signs. ``update`` takes ``hvp`` and ``key``, as `attractor.run` gives them.

    Arguments:
        learning_rate: In [0, inf), or a schedule.
        b1: Decay of the mean gradient, in [0, 1).
        b2: Decay of the mean curvature, in [0, 1).
        weight_decay: Times the learning rate and the weights, in [0, inf).
        gamma: Factor of the curvature, in (0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range, or an update without ``hvp`` and ``key``.

    Paper: Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training (arXiv 2305.14342).
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("b1", b1, 0.0, 1.0, open_high=True)
    in_range("b2", b2, 0.0, 1.0, open_high=True)
    in_range("weight_decay", weight_decay, 0.0)
    in_range("gamma", gamma, 0.0, open_low=True)

    def diagonal(
        updates: PyTree, state: PyTree, params: PyTree = None, *, hvp: Any = None, key: Any = None, **_: Any
    ) -> tuple[PyTree, PyTree]:
        if hvp is None or key is None:
            raise ValueError("hvp, key: expected Hessian products and a PRNG key; call update(…, hvp=…, key=…)")
        return hutchinson_diagonal(hvp, params, key), state

    estimator = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), diagonal)  # pyright: ignore[reportArgumentType]
    inner = optax.contrib.sophia(learning_rate, b1, b2, 1e-8, weight_decay, gamma=gamma, hessian_diagonal_fn=estimator)

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **oracles: Any) -> tuple[PyTree, PyTree]:
        return inner.update(updates, state, params, **oracles) if jax.tree.leaves(updates) else (updates, state)

    return optax.GradientTransformationExtraArgs(inner.init, update)
