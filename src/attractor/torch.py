"""Any optax transformation, ours included, as a `torch.optim.Optimizer`.

```python
import optax
import torch
from attractor.optim import cautious_adamw
from attractor.torch import Optimizer

model = torch.nn.Linear(3, 1)
optimizer = Optimizer(model.parameters(), cautious_adamw(1e-2))
for _ in range(100):
    optimizer.zero_grad()
    loss = (model(torch.ones(8, 3)) - 1).square().mean()
    loss.backward()
    optimizer.step()
```
"""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import PRNGKeyArray, PyTree

from attractor.extras import needs
from attractor.transformations import as_transformation, averaged, is_transformation, update

with needs("torch"):
    import torch
    from torch import Tensor

_DIAGNOSIS = {"Monitor": "attractor.diagnosis.torch", "diagnose": "attractor.diagnosis.torch_state"}
SMALL = 65_536  # numbers; the copy of fewer costs less than passing one array more


def __getattr__(name: str) -> Any:
    """What looks at a training lies above all else, and is imported when it is asked for."""
    if name in _DIAGNOSIS:
        return getattr(importlib.import_module(_DIAGNOSIS[name]), name)
    raise AttributeError(f"module 'attractor.torch' has no attribute {name!r}")


class Optimizer(torch.optim.Optimizer):
    """Run an optax transformation inside a PyTorch training loop.

    Parameters, gradients and updates cross between the libraries over DLPack: large ones without a copy, those of up to
    65,536 numbers laid end to end, so that a step costs about the same however many there are. Each group's update is
    one compiled JAX program. The transformation sees a dict of arrays, under the parameters' names if
    ``model.named_parameters()`` is given, so that masks may go by name, and else under "0", "1", ….

    Schedule-free transformations take gradients at one point and are to be judged at another: call `eval` before an
    evaluation, and `train` before the next step. For other transformations both do nothing.

    A parameter that has no gradient in some step is not moved by it; to the transformation its gradient is zero.

    Transformations that take extra arguments get ``key`` (a fresh one every step) and, where a closure or a value is
    given to `step`, ``value``. Those that need more (``hvp``, ``value_fn``, ``per_example``, …) raise their own errors:
    PyTorch's loss is not a JAX function. The learning rate is the transformation's, schedules included: PyTorch's
    schedulers have nothing to act on.

    Arguments:
        params: Tensors, ``(name, tensor)`` pairs, or groups ``{"params": …, "transformation": …}``.
        transformation: An `optax.GradientTransformation`, for the groups that do not bring their own; `None` if all do.
        seed: Of ``key``.

    Raises:
        TypeError: if a transformation is none.
        ValueError: for a parameter that is not floating-point, or one that JAX cannot hold.

    !!! example
        ```python
        Optimizer([{"params": body, "transformation": muon(0.02)}, {"params": head}], optax.adam(1e-3))
        ```
    """

    def __init__(
        self,
        params: Iterable[Any],
        transformation: Any = None,
        *,
        seed: int = 0,
    ):
        self._key = jr.key(seed)
        self._steps = 0
        self._packed: list[_Packed] = []
        self._training: list[tuple[Tensor, Tensor]] | None = None  # in `eval`: parameters, and their values in training
        super().__init__(params, {"transformation": transformation})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with a transformation of its own or the default one; its state starts here."""
        self._require_training("add_param_group")
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        transformation = group["transformation"]
        if not is_transformation(transformation):
            self.param_groups.pop()
            raise TypeError(
                f"transformation: expected an optax.GradientTransformation, got {type(transformation).__name__}; "
                "a function that makes one (such as optax.adam) has to be called, with its learning rate"
            )
        try:
            # A copy: transformations may keep the parameters they are given, and PyTorch will overwrite these.
            initial = {name: jnp.array(_to_jax(name, p), copy=True) for name, p in _named(group)}
        except ValueError:
            self.param_groups.pop()
            raise
        self._packed.append(_Packed(as_transformation(transformation), initial))

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
        """
        self._require_training("step")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        value = loss if value is None else value
        extra = (
            {} if value is None else {"value": jnp.asarray(value.item() if isinstance(value, Tensor) else float(value))}
        )
        self._steps += 1
        for i, group in enumerate(self.param_groups):
            named = sorted(_named(group), key=lambda pair: pair[0])  # as JAX orders a dict
            tensors = [p for _, p in named]
            if all(p.grad is None for p in tensors):
                continue
            key = jr.fold_in(jr.fold_in(self._key, self._steps), i)
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in tensors]
            updates = self._packed[i].step(tensors, grads, key, extra)
            moved = [(p, u) for p, u in zip(tensors, updates, strict=True) if p.grad is not None]
            torch._foreach_add_([p for p, _ in moved], [u for _, u in moved])  # pyright: ignore[reportPrivateImportUsage]
        return loss

    @torch.no_grad()
    def eval(self) -> None:
        """Move the parameters to the averaged point, wherever a schedule-free transformation keeps one.

        Until `train`, evaluate or save the model for use; to save it for more training, call `train` first.
        """
        if self._training is not None:
            return
        self._training = []
        for group, packed in zip(self.param_groups, self._packed, strict=True):
            params = {name: jnp.array(_to_jax(name, p), copy=True) for name, p in _named(group)}
            points = averaged(params, packed.state)
            for name, p in _named(group):
                if points[name] is not params[name]:
                    self._training.append((p, p.clone()))
                    p.copy_(_to_torch(points[name]))

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

        The transformations themselves are code, and not part of it.

        Raises:
            RuntimeError: after `eval`, if `train` has not been called since: the model's parameters, saved beside it,
                would not be those that training goes on from.
        """
        self._require_training("state_dict")
        states = {
            i: {"leaves": [_to_torch(leaf).clone() for leaf in _leaves(p.state)]} for i, p in enumerate(self._packed)
        }
        groups, start = [], 0
        for group in self.param_groups:
            groups.append({"params": list(range(start, start + len(group["params"])))})
            start += len(group["params"])
        return {"state": states, "param_groups": groups, "steps": self._steps, "key": jr.key_data(self._key).tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, with the same parameters and transformations.

        Raises:
            ValueError: if groups, parameters or state arrays do not match; nothing is changed then.
        """
        ours, theirs = self.state_dict(), state_dict
        if ours["param_groups"] != theirs["param_groups"]:
            raise ValueError(
                "state_dict: it has other groups, or other numbers of parameters in them, than this optimizer"
            )
        loaded = []
        for i, packed in enumerate(self._packed):
            state = packed.state
            leaves, found = _leaves(state), theirs["state"][i]["leaves"]
            described, expected = [_describe(_to_numpy(t)) for t in found], [_describe(np.asarray(a)) for a in leaves]
            if described != expected:
                raise ValueError(
                    f"state_dict: group {i} needs arrays {expected}, got {described}; other transformation?"
                )
            arrays = [jnp.array(_to_numpy(t), a.dtype, copy=True) for t, a in zip(found, leaves, strict=True)]
            loaded.append(_rebuild(state, arrays))
        for packed, state in zip(self._packed, loaded, strict=True):
            packed.state = state
        self._steps = int(theirs["steps"])
        self._key = jr.wrap_key_data(jnp.asarray(theirs["key"], jnp.uint32))


class _Packed:
    """A transformation with its state, whose program takes and gives few arrays: each costs time to pass."""

    def __init__(self, transformation: optax.GradientTransformationExtraArgs, params: PyTree):
        state = jax.tree.map(jnp.asarray, transformation.init(params))
        self._params, self._state = _Layout(params), _Layout(state)
        self._pack, self._unpack = jax.jit(self._state.pack), jax.jit(self._state.unpack)
        self._arrays = self._pack(state)

        def step(params: list, grads: list, state: list, key: PRNGKeyArray, extra: dict[str, Any]) -> Any:
            # The barrier keeps a state that merely stores what it is given from sharing memory with PyTorch.
            params, grads = jax.lax.optimization_barrier((params, grads))
            x = self._params.unpack(params)
            offered = {"key": key, **extra}
            updates, new = update(transformation, self._params.unpack(grads), self._state.unpack(state), x, offered)
            return self._params.pack(updates), self._state.pack(new)

        self._step = jax.jit(step, donate_argnums=2)

    def step(
        self, tensors: list[Tensor], grads: list[Tensor], key: PRNGKeyArray, extra: dict[str, Any]
    ) -> list[Tensor]:
        """The updates of these tensors, given in JAX's order of their names."""
        params, slopes = (self._params.gather(of) for of in (tensors, grads))
        updates, self._arrays = self._step(params, slopes, self._arrays, key, extra)
        jax.block_until_ready(updates)  # the parameters are about to change under JAX's feet
        return self._params.scatter(updates, tensors)

    @property
    def state(self) -> PyTree:
        """The transformation's own state."""
        return self._unpack(self._arrays)

    @state.setter
    def state(self, state: PyTree) -> None:
        self._arrays = self._pack(state)


class _Layout:
    """Which leaves of a tree lie end to end: the small ones of each dtype. The others come after, as they are."""

    def __init__(self, tree: PyTree):
        leaves, self._structure = jax.tree.flatten(tree)
        self._like = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        together: dict[Any, list[int]] = {}
        for i, leaf in enumerate(leaves):
            if leaf.size <= SMALL and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                together.setdefault(leaf.dtype, []).append(i)
        self._together = list(together.values())
        self._alone = [i for i in range(len(leaves)) if not any(i in part for part in self._together)]

    def pack(self, tree: PyTree) -> list[jax.Array]:
        """The arrays to pass, of a tree of this structure; in its dtypes."""
        leaves = [leaf.astype(like.dtype) for leaf, like in zip(jax.tree.leaves(tree), self._like, strict=True)]
        flat = [jnp.concatenate([leaves[i].ravel() for i in part]) for part in self._together]
        return [*flat, *(leaves[i] for i in self._alone)]

    def unpack(self, arrays: list[jax.Array]) -> PyTree:
        """The tree again."""
        leaves: dict[int, jax.Array] = dict(zip(self._alone, arrays[len(self._together) :], strict=True))
        for part, flat in zip(self._together, arrays, strict=False):
            ends = np.cumsum([self._like[i].size for i in part])
            pieces = jnp.split(flat, ends[:-1])
            leaves |= {i: piece.reshape(self._like[i].shape) for i, piece in zip(part, pieces, strict=True)}
        return jax.tree.unflatten(self._structure, [leaves[i] for i in range(len(leaves))])

    def gather(self, tensors: list[Tensor]) -> list[jax.Array]:
        """`pack`, of PyTorch's tensors."""
        flat = [torch.cat([tensors[i].detach().reshape(-1) for i in part]) for part in self._together]
        return [_to_jax("a tensor", t) for t in (*flat, *(tensors[i] for i in self._alone))]

    def scatter(self, arrays: list[jax.Array], like: list[Tensor]) -> list[Tensor]:
        """`unpack`, to PyTorch's tensors."""
        flat = [_to_torch(a) for a in arrays]
        pieces = dict(zip(self._alone, flat[len(self._together) :], strict=True))
        for part, t in zip(self._together, flat, strict=False):
            pieces |= zip(part, t.split([like[i].numel() for i in part]), strict=True)
        return [pieces[i].view_as(tensor) for i, tensor in enumerate(like)]


def _named(group: dict[str, Any]) -> list[tuple[str, Tensor]]:
    names = group.get("param_names") or map(str, range(len(group["params"])))
    return list(zip(names, group["params"], strict=True))


def _to_jax(name: str, tensor: Tensor) -> jax.Array:
    if not tensor.is_floating_point():
        raise ValueError(f"params: expected floating-point tensors, got {tensor.dtype} ({name})")
    if tensor.dtype == torch.float64 and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(f"params: float64 ({name}) needs jax.config.update('jax_enable_x64', True)")
    try:
        return jax.dlpack.from_dlpack(tensor.detach().contiguous())
    except Exception as error:
        raise ValueError(f"params: JAX cannot take {name}, on {tensor.device}, over DLPack: {error}") from error


def _to_torch(array: jax.Array) -> Tensor:
    return torch.from_dlpack(array)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return np.asarray(jax.dlpack.from_dlpack(tensor.contiguous()))


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
