"""Any optax transformation, ours included, as a `torch.optim.Optimizer`."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import torch
from jaxtyping import PyTree
from torch import Tensor

from attractor.method import Method, name_of
from attractor.names import unknown
from attractor.torch.program import Program, to_jax, to_numpy, to_torch
from attractor.transformations import averaged, is_transformation

TRACED = ("lr", "weight_decay")  # may change from step to step, without compiling anew
NUMBERS = (int, np.floating, Tensor)
OTHER_KEYS = {"params", "param_names", "transformation", "initial_lr", "name"}


class Optimizer(torch.optim.Optimizer):
    """Run an optax transformation inside a PyTorch training loop.

    ```python
    Optimizer(model.named_parameters(), optax.adamw, lr=1e-3, weight_decay=0.1)      # torch's schedulers work
    Optimizer(model.named_parameters(), optax.adamw(optax.cosine_decay_schedule(1e-3, 10_000)))    # optax's own
    ```

    Given the function that makes the transformation and its hyper-parameters, a group holds them as ``group["lr"]``,
    ``group["weight_decay"]``, …: both may change from step to step, by `torch.optim.lr_scheduler` or by hand. Given a
    transformation, its learning rate is its own, and a scheduler is refused.

    Parameters, gradients and new parameters cross between the libraries over DLPack: large ones without a copy, those
    of up to 262,144 numbers laid end to end, so that a step costs about the same however many there are. Each group's
    step is one compiled JAX program. The transformation sees a dict of arrays, under the parameters' names if
    ``model.named_parameters()`` is given, so that masks may go by name, and else under "0", "1", …. On a GPU that JAX
    does not have, each step copies to the CPU and back, after a warning.

    Schedule-free transformations take gradients at one point and are to be judged at another: call `eval` before an
    evaluation, and `train` before the next step. For other transformations both do nothing.

    A parameter that has no gradient in some step is not moved by it; to the transformation its gradient is zero.

    Transformations get the extra arguments ``key`` (a fresh one every step), ``grad``, ``hvp`` (products with the
    Hessian, by PyTorch: then call ``loss.backward(create_graph=True)``) and, where a closure or a value is given to
    `step`, ``value``. Those that need more (``value_fn``, ``per_example``, …) are refused at once, by name.

    Arguments:
        params: Tensors, ``(name, tensor)`` pairs, or groups ``{"params": …}``, which may bring hyper-parameters of
            their own, or a ``"transformation"`` of their own with its hyper-parameters.
        transformation: For the groups that do not bring their own; `None` if all do. An `optax.GradientTransformation`,
            or a function that makes one from ``hyper``.
        seed: Of ``key``.
        **hyper: Of that function, under its names; ``lr`` is its ``learning_rate``.

    Raises:
        TypeError: if a transformation is none.
        ValueError: for a hyper-parameter that is unknown, missing, out of range or would be ignored, a parameter that
            is not floating-point, or one that JAX cannot hold.

    !!! example
        ```python
        Optimizer([{"params": body, "transformation": muon(0.02)}, {"params": head}], optax.adam(1e-3))
        ```
    """

    def __init__(self, params: Iterable[Any], transformation: Any = None, *, seed: int = 0, **hyper: Any):
        self._key = jr.key(seed)
        self._steps = 0
        self._makers: list[_Maker] = []
        self._programs: list[Program] = []
        self._training: list[tuple[Tensor, Tensor]] | None = None  # in `eval`: parameters, and their values in training
        super().__init__(params, {"transformation": transformation, **short(hyper)})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with the hyper-parameters and the transformation of its own or the default ones.

        Its state starts here.
        """
        self._require_training("add_param_group")
        own = short(param_group)
        transformation = own.get("transformation", self.defaults["transformation"])
        inherited = {} if own.get("transformation") is not None else self.defaults
        given = {k: v for k, v in {**inherited, **own}.items() if k not in OTHER_KEYS}
        hyper = _checked(transformation, given)
        group = _Group({k: v for k, v in own.items() if k in OTHER_KEYS})
        group |= {"transformation": transformation, **hyper}
        super().add_param_group(group)
        for name in self.defaults.keys() - hyper.keys() - OTHER_KEYS:  # of another transformation
            del group[name]
        try:
            maker, program = _made(transformation, hyper, _named(group))
        except Exception:
            self.param_groups.pop()
            raise
        if "lr" in hyper and "lr" not in maker.traced:
            group["learning_rate"] = group.pop("lr")
        self._makers.append(maker)
        self._programs.append(program)

    @torch._disable_dynamo  # pyright: ignore[reportPrivateImportUsage] (torch.compiler.disable imports it all at once)
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, value: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of every group.

        Arguments:
            closure: Computes the loss and its gradients anew, as elsewhere in PyTorch.
            value: The loss, for transformations that ask for it; default: what the closure returns.

        Returns:
            What the closure returns; `None` without one.

        Raises:
            RuntimeError: after `eval`, if `train` has not been called since.
            ValueError: for sparse gradients, gradients that cannot be differentiated where ``hvp`` is needed, or a
                hyper-parameter that was changed and cannot be.
        """
        self._require_training("step")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        value = loss if value is None else value
        extra = {} if value is None else {"value": np.float32(value.item() if isinstance(value, Tensor) else value)}
        self._steps += 1
        for i, (group, maker, program) in enumerate(zip(self.param_groups, self._makers, self._programs, strict=True)):
            grads = [p.grad for p in group["params"]]
            if all(g is None for g in grads):
                continue
            for (name, _), g in zip(_named(group), grads, strict=True):
                if g is not None and g.layout is not torch.strided:
                    raise ValueError(
                        f"params: sparse gradients ({name}); give its layer sparse=False, or that parameter "
                        "torch.optim.SparseAdam"
                    )
            program.step(group["params"], self._key, (self._steps, i), maker.of(group), extra)
        return loss

    @torch.no_grad()
    def eval(self) -> None:
        """Move the parameters to the averaged point, wherever a schedule-free transformation keeps one.

        Until `train`, evaluate or save the model for use; to save it for more training, call `train` first.
        """
        if self._training is not None:
            return
        self._training = []
        for group, program in zip(self.param_groups, self._programs, strict=True):
            params = {name: jnp.array(to_jax(name, p.to(program.home)), copy=True) for name, p in _named(group)}
            points = averaged(params, program.state)
            for name, p in _named(group):
                if points[name] is not params[name]:
                    self._training.append((p, p.clone()))
                    p.copy_(to_torch(points[name]))

    @torch.no_grad()
    def train(self) -> None:
        """Move the parameters back to where `eval` found them, to the bit."""
        for p, value in self._training or ():
            p.copy_(value)
        self._training = None

    def _require_training(self, what: str) -> None:
        if self._training is not None:
            raise RuntimeError(f"{what}: the parameters are at the averaged point; call train() first")

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers only, so that ``torch.load(…, weights_only=True)`` reads it back.

        The transformations themselves are code, and not part of it; of their hyper-parameters, the numbers are.

        Raises:
            RuntimeError: after `eval`, if `train` has not been called since: the model's parameters, saved beside it,
                would not be those that training goes on from.
        """
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        found = self._saved()
        for after in self._optimizer_state_dict_post_hooks.values():
            found = after(self, found) or found
        return found

    def _saved(self) -> dict[str, Any]:
        self._require_training("state_dict")
        states = {
            i: {"leaves": [to_torch(leaf).clone() for leaf in _leaves(p.state)]} for i, p in enumerate(self._programs)
        }
        groups, start = [], 0
        for group, maker in zip(self.param_groups, self._makers, strict=True):
            now = group | {k: float(group[k]) for k in maker.traced}  # by hand it may have become an array
            numbers = {k: v for k, v in now.items() if isinstance(v, bool | int | float | str)}
            groups.append({"params": list(range(start, start + len(group["params"]))), **numbers})
            start += len(group["params"])
        return {"state": states, "param_groups": groups, "steps": self._steps, "key": jr.key_data(self._key).tolist()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Continue from `state_dict`, with the same parameters and transformations.

        Raises:
            ValueError: if groups, parameters, fixed hyper-parameters or state arrays do not match; nothing is changed
                then.
        """
        self._require_training("load_state_dict")
        theirs = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            theirs = before(self, theirs) or theirs
        sizes = [[len(group["params"]) for group in groups] for groups in (self.param_groups, theirs["param_groups"])]
        if sizes[0] != sizes[1]:
            raise ValueError(
                "state_dict: it has other groups, or other numbers of parameters in them, than this optimizer: "
                f"{sizes[1]}, not {sizes[0]}"
            )
        loaded, settings = [], []
        for i, (program, group) in enumerate(zip(self._programs, self.param_groups, strict=True)):
            settings.append({k: v for k, v in theirs["param_groups"][i].items() if k != "params"})
            self._makers[i].of({**group, **settings[-1]})
            state = program.state
            leaves, found = _leaves(state), theirs["state"][i]["leaves"]
            described, expected = [_describe(to_numpy(t)) for t in found], [_describe(np.asarray(a)) for a in leaves]
            if described != expected:
                raise ValueError(
                    f"state_dict: group {i} needs arrays {expected}, got {described}; other transformation?"
                )
            arrays = [jnp.array(to_numpy(t), a.dtype, copy=True) for t, a in zip(found, leaves, strict=True)]
            loaded.append(_rebuild(state, arrays))
        for program, group, state, numbers in zip(self._programs, self.param_groups, loaded, settings, strict=True):
            program.state = state
            group.update(numbers)
        self._steps = int(theirs["steps"])
        self._key = jr.wrap_key_data(jnp.asarray(theirs["key"], jnp.uint32))
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Optimizer":
        return _restored(*copy.deepcopy(self._parts(), memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        if any(is_transformation(group["transformation"]) for group in self.param_groups):
            raise TypeError(
                "an Optimizer made of a transformation cannot be pickled, as that is code; save its state_dict(), or "
                "give the function that makes the transformation: Optimizer(params, optax.adam, lr=…)"
            )
        return _restored, self._parts()

    def _parts(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        groups = [{k: v for k, v in group.items() if k != "param_names"} for group in self.param_groups]
        for group, known in zip(groups, self.param_groups, strict=True):
            if "param_names" in known:
                group["params"] = _named(known)
        return groups, self._saved()


def _restored(groups: list[dict[str, Any]], state_dict: dict[str, Any]) -> Optimizer:
    optimizer = Optimizer(groups)
    optimizer.load_state_dict(state_dict)
    return optimizer


class _Group(dict):
    """A group whose missing learning rate says why it is missing: PyTorch's schedulers ask for it."""

    def __missing__(self, key: str) -> Any:
        if key == "lr":
            raise ValueError(
                "lr: this group's transformation has a learning rate of its own, which PyTorch's schedulers cannot "
                "reach; give it an optax schedule, or Optimizer the function that makes it: "
                "Optimizer(params, optax.adam, lr=1e-3)"
            )
        raise KeyError(key)


@dataclass
class _Maker:
    """Makes a group's transformation, from those of its hyper-parameters that may change."""

    transformation: Any
    fixed: dict[str, Any]
    traced: tuple[str, ...]

    def __call__(self, **changing: Any) -> Any:
        made = is_transformation(self.transformation)
        return self.transformation if made else self.transformation(**long(self.fixed), **changing)

    def of(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Those that may change, under the function's names; an error if another one has."""
        for name, value in self.fixed.items():
            now = group.get(name, value)
            if now is not value and not (isinstance(now, bool | int | float | str) and now == value):
                raise ValueError(
                    f"{name}: fixed at {value!r} when the group was made, now {now!r}; make a new optimizer "
                    f"(what may change: {', '.join(self.traced) or 'nothing'})"
                )
        return long({name: float(group[name]) for name in self.traced})


def _made(transformation: Any, hyper: Mapping[str, Any], named: Sequence[tuple[str, Tensor]]) -> tuple[_Maker, Program]:
    """A group's maker and program, with as many changing hyper-parameters as the transformation can take."""
    changing = [k for k in TRACED if isinstance(hyper.get(k), float)]
    while True:
        fixed = {k: v for k, v in hyper.items() if k not in changing}
        maker = _Maker(transformation, fixed, tuple(changing))
        try:
            return maker, Program(maker, maker.of(hyper), named)
        except jax.errors.ConcretizationTypeError:  # it decides by a value
            if not changing:
                raise
            changing.pop()


def _checked(transformation: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters that a group keeps, under PyTorch's names, once the transformation is made from them."""
    if is_transformation(transformation):
        for name in given:
            raise ValueError(
                f"{name}: would be ignored, as the transformation is already made; give the function that makes it, "
                "such as Optimizer(params, optax.adam, lr=1e-3), or the group a transformation of its own"
            )
        return {}
    if not callable(transformation):
        raise TypeError(
            "transformation: expected an optax.GradientTransformation, or a function that makes one, such as "
            f"optax.adam, got {type(transformation).__name__}"
        )
    hyper = hyperparameters(transformation, given)
    made = transformation(**long(hyper))
    if isinstance(made, Method):
        raise ValueError(
            f"transformation: {name_of(transformation)} is a Method, which asks a Problem for more than gradients, "
            "and a PyTorch loop has none; run it in JAX (attractor.run), or choose a gradient transformation"
        )
    if not is_transformation(made):
        raise TypeError(
            f"transformation: expected an optax.GradientTransformation, and {name_of(transformation)} makes a "
            f"{type(made).__name__}"
        )
    return hyper


def hyperparameters(factory: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a group: ``given``, and the defaults of what may change. Rates that are schedules are no ``lr``.

    Raises:
        ValueError: for one that the factory does not have, or that it needs and is not given.
    """
    name = name_of(factory)
    accepted = {k: p for k, p in inspect.signature(factory).parameters.items() if p.kind is not p.VAR_KEYWORD}
    given = {k: float(v) if isinstance(v, NUMBERS) and k in TRACED else v for k, v in short(given).items()}
    for k in long(given).keys() - accepted.keys():
        raise unknown(f"hyper-parameter of {name}", k, accepted, f"it has {', '.join(accepted)}")
    defaults = {k: p.default for k, p in accepted.items() if p.default is not p.empty}
    for k in accepted.keys() - long(given).keys() - defaults.keys():
        raise ValueError(f"{k}: {name} needs it; give it by name, such as lr=1e-3")
    kept = {k: v for k, v in short(defaults).items() if k in TRACED and isinstance(v, float)} | given
    return {"learning_rate" if k == "lr" and not isinstance(v, float) else k: v for k, v in kept.items()}


def short(hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Under PyTorch's names."""
    if {"lr", "learning_rate"} <= hyper.keys():
        raise ValueError("lr, learning_rate: expected one of them, got both")
    return {"lr" if k == "learning_rate" else k: v for k, v in hyper.items()}


def long(hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Under the factory's names."""
    return {"learning_rate" if k == "lr" else k: v for k, v in hyper.items()}


def _named(group: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    names = group.get("param_names") or map(str, range(len(group["params"])))
    return list(zip(names, group["params"], strict=True))


def _leaves(state: PyTree) -> list[jax.Array]:
    """The arrays of a state; random keys as their bits."""
    return [jr.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a for a in jax.tree.leaves(state)]


def _rebuild(state: PyTree, arrays: list[jax.Array]) -> PyTree:
    leaves, structure = jax.tree.flatten(state)
    keyed = [
        jr.wrap_key_data(new) if jnp.issubdtype(old.dtype, jax.dtypes.prng_key) else new
        for old, new in zip(leaves, arrays, strict=True)
    ]
    return jax.tree.unflatten(structure, keyed)


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"
