"""Optimizers by name: PyTorch's own where its formula is the registered method's, ours else."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import torch
from jaxtyping import PyTree

from attractor.registry import find_method
from attractor.torch.adapter import OTHER_KEYS, Optimizer, hyperparameters, long, short


def optimizer(name: str, params: Iterable[Any], *, seed: int = 0, **hyper: Any) -> torch.optim.Optimizer:
    """Any registered method, as an optimizer of PyTorch.

    PyTorch's own where it has the same formula (AdamW, SGD, …: the table in the docs), else `Optimizer`.

    Arguments:
        name: As ``attractor methods`` lists them, such as ``"adamw"``.
        params: ``model.named_parameters()``, tensors, or groups ``{"params": …}``, which may bring hyper-parameters of
            their own.
        seed: Of the method's own randomness.
        **hyper: The method's hyper-parameters, under the names and with the defaults that it has in JAX; ``lr`` is its
            ``learning_rate``.

    Raises:
        ValueError: for an unknown name or hyper-parameter, one that is missing or out of range, and methods that need
            more than gradients and products with the Hessian.

    !!! example
        ```python
        opt = optimizer("muon", model.named_parameters(), lr=0.02)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 1_000)
        ```
    """
    factory = find_method(name).factory
    groups = [dict(p) if isinstance(p, dict) else p for p in params]
    if not groups or not isinstance(groups[0], dict):
        groups = [{"params": groups}]
    for group in groups:
        if "transformation" in group:
            raise ValueError(f"transformation: this is {name} for all groups; several methods are for Optimizer(…)")
    if name == "lbfgs":
        return _lbfgs(factory, groups, hyper)
    if factory is optax.contrib.sophia:
        hyper = {"hessian_diagonal_fn": hessian_diagonal(), **hyper}
    return torchs(factory, groups, hyper) or Optimizer(groups, factory, seed=seed, **hyper)


class Own(NamedTuple):
    """An optimizer of PyTorch with the formula of one of optax's."""

    make: Callable[..., torch.optim.Optimizer]
    names: Mapping[str, str | tuple[str, ...]]  # its hyper-parameters, and which of optax's they are
    only: Mapping[str, Any] = {}  # what the others have to be, where it is not optax's default


ADAM = {"lr": "learning_rate", "betas": ("b1", "b2"), "eps": "eps"}
OWN = {
    optax.sgd: Own(torch.optim.SGD, {"lr": "learning_rate", "momentum": "momentum", "nesterov": "nesterov"}),
    optax.adam: Own(torch.optim.Adam, ADAM),
    optax.adamw: Own(torch.optim.AdamW, {**ADAM, "weight_decay": "weight_decay"}),
    optax.adamax: Own(torch.optim.Adamax, ADAM),
    optax.adadelta: Own(
        torch.optim.Adadelta, {"lr": "learning_rate", "rho": "rho", "eps": "eps", "weight_decay": "weight_decay"}
    ),
    optax.rmsprop: Own(
        torch.optim.RMSprop,
        {"lr": "learning_rate", "alpha": "decay", "eps": "eps", "centered": "centered", "momentum": "momentum"},
        only={"eps_in_sqrt": False},
    ),
}


def torchs(
    factory: Callable[..., Any], groups: list[dict[str, Any]], hyper: Mapping[str, Any]
) -> torch.optim.Optimizer | None:
    """PyTorch's own optimizer, if it has the factory's formula with these hyper-parameters; else `None`."""
    own = OWN.get(factory)
    if own is None:
        return None
    defaults = {k: p.default for k, p in inspect.signature(factory).parameters.items()}
    translated = []
    for group in groups:
        settings = {k: v for k, v in group.items() if k not in OTHER_KEYS}
        given = hyperparameters(factory, {**short(hyper), **short(settings)})
        full = {**defaults, **long(given)}
        named = {name for names in own.names.values() for name in ([names] if isinstance(names, str) else names)}
        rest = {**{k: v for k, v in defaults.items() if k not in named}, **own.only}
        numbers = all(isinstance(full[k], bool | int | float | None) for k in named)
        if not numbers or any(full[k] is not v and full[k] != v for k, v in rest.items()):
            return None
        if full.get("nesterov") and not full["momentum"]:
            return None
        values = {k: full[v] if isinstance(v, str) else tuple(full[name] for name in v) for k, v in own.names.items()}
        kept = {k: v for k, v in group.items() if k in OTHER_KEYS}
        translated.append({**kept, **{k: 0.0 if v is None else v for k, v in values.items()}})
    return own.make(translated)


def _lbfgs(factory: Callable[..., Any], groups: list[dict[str, Any]], hyper: Mapping[str, Any]) -> torch.optim.LBFGS:
    """PyTorch's, an iteration a step: its search along the line is not optax's, which needs the loss in JAX."""
    if len(groups) > 1:
        raise ValueError(f"params: lbfgs takes a single group, got {len(groups)}")
    for k in short({**hyper, **groups[0]}).keys() - {"lr", "memory_size"} - OTHER_KEYS:
        raise ValueError(f"{k}: PyTorch's L-BFGS has no such hyper-parameter; it takes lr and memory_size")
    given = {"lr": 1.0, "memory_size": 10, **short(hyper), **short(groups[0])}
    return torch.optim.LBFGS(
        groups[0]["params"], given["lr"], 1, history_size=given["memory_size"], line_search_fn="strong_wolfe"
    )


def hessian_diagonal() -> optax.GradientTransformationExtraArgs:
    """`optax.contrib.hutchinson_estimator_diag_hessian` with the extra argument ``hvp`` in place of ``obj_fn``."""
    inner = optax.with_extra_args_support(optax.contrib.hutchinson_estimator_diag_hessian())

    def estimate(
        updates: PyTree,
        state: PyTree,
        params: PyTree = None,
        *,
        hvp: Callable[[PyTree], PyTree] | None = None,
        **_: Any,
    ) -> tuple[PyTree, PyTree]:
        if hvp is None:
            raise ValueError("hvp: expected a function v -> Hv, as in update(grads, state, params, hvp=…)")

        @jax.custom_jvp
        def slope(x: PyTree) -> PyTree:
            return jax.tree.map(jnp.zeros_like, x)

        @jax.custom_jvp
        def loss(x: PyTree) -> Any:  # of which only products with the Hessian are asked
            return jnp.zeros(())

        slope.defjvp(lambda x, v: (slope(*x), hvp(*v)))
        loss.defjvp(lambda x, v: (loss(*x), optax.tree.vdot(slope(*x), *v)))
        return inner.update(updates, state, params, obj_fn=loss)

    return optax.GradientTransformationExtraArgs(inner.init, estimate)
