"""PyTorch: diagnose a state of training, from a model, its loss, a few batches and the optimizer."""

import copy
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

from attractor.checks import in_range
from attractor.diagnosis.findings import Diagnosis, Trial
from attractor.diagnosis.hooks import first_tensor, tensors
from attractor.diagnosis.rules import judge
from attractor.diagnosis.signs import Signs, median
from attractor.diagnosis.state.batches import input_signs
from attractor.diagnosis.state.trials import Remedy, remedies
from attractor.diagnosis.torch import Monitor, check
from attractor.landscape import stability_threshold
from attractor.progress import task

Total = Callable[[nn.Module, Any], Tensor]  # the loss of a model on a batch
BATCHES = 8
KRYLOV = 20  # vectors kept for the largest eigenvalue


def diagnose(
    model: nn.Module,
    loss_fn: Callable[..., Tensor],
    loader: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    *,
    losses: Mapping[str, Callable[..., Tensor]] | None = None,
    confirm: bool = False,
    steps: int = 100,
) -> Diagnosis:
    """What stands out in a state of training, each finding with its number, its threshold, and what to try.

    The model and the optimizer are copied: neither parameters, nor buffers, nor the optimizer's state change.

    Arguments:
        model: In training mode.
        loss_fn: ``loss_fn(output, target)``, for batches ``(inputs, target)``; or, if its first argument is called
            ``model``, ``loss_fn(model, batch)`` for any.
        loader: Gives batches, of which the first eight are taken.
        optimizer: Of the model's parameters, with its state.
        losses: Parts of the loss by name, functions like it, whose gradients may be in conflict.
        confirm: Whether to try what the findings recommend, in short runs with and without.
        steps: Of each of those runs, at least 10.

    Raises:
        TypeError: if the model or the optimizer is none, or a batch is no pair where one is needed.
        ValueError: if the model is in eval mode, there is no batch, shapes change from batch to batch, a loss is not a
            single number, or one part of a loss is given alone.

    !!! example
        ```python
        print(attractor.torch.diagnose(model, torch.nn.CrossEntropyLoss(), loader, optimizer))
        ```
    """
    check(model, optimizer)
    in_range("steps", steps, 10)
    if not model.training:
        raise ValueError("model: expected training mode, got eval mode; call model.train() first")
    batches = take(loader)
    total = _total("loss_fn", loss_fn, batches[0])
    if losses is not None and len(losses) < 2:
        raise ValueError(f"losses: expected at least two, got {len(losses)}")
    each = [_total(f"losses[{name!r}]", f, batches[0]) for name, f in (losses or {}).items()]
    model, optimizer = copy.deepcopy((model, optimizer))
    with task("diagnosis", len(batches) + 3, "looks") as advance:
        signs, gradients = _looks(model, optimizer, total, batches, advance)
        if signs.origin or not np.isfinite(signs.curves["loss"]).all():
            return judge(signs)
        signs.numbers |= input_signs([_as_numpy(batch) for batch in batches])
        signs.numbers["noise scale"] = _noise_scale(gradients, signs.number("batch size"))
        if each:
            signs.numbers["conflict"] = _conflict(each, model, batches)
        found = _suspects(model, loss_fn, batches)
        if found is None:
            signs.notes.append(
                "suspect labels: it takes a loss with reduction='mean', such as torch.nn.CrossEntropyLoss"
            )
        else:
            signs.culprits["suspect labels"], examples = found
            signs.numbers["suspect labels"] = len(found[0]) / examples
        advance(1)
        signs.numbers |= _sharpness(model, optimizer, total, batches, signs.notes)
        advance(2)
    diagnosis = judge(signs)
    if confirm:
        _try(diagnosis, model, optimizer, total, batches, steps)
    return diagnosis


def take(loader: Iterable[Any]) -> list[Any]:
    """The first batches of a loader; a last one that is smaller is left out.

    Raises:
        ValueError: if there is none, or shapes change.
    """
    try:
        batches = list(itertools.islice(iter(loader), BATCHES))
    except TypeError:
        raise TypeError(f"loader: expected an iterable of batches, got {type(loader).__name__}") from None
    if not batches:
        raise ValueError("loader: expected at least one batch, got none; an iterator that is used up gives no more")
    shapes = [[tuple(t.shape) for t in tensors(batch)] for batch in batches]
    if not shapes[0]:
        raise ValueError("loader: expected tensors in its batches, found none")
    if len(batches) > 1 and shapes[-1] != shapes[0] and [s[1:] for s in shapes[-1]] == [s[1:] for s in shapes[0]]:
        batches, shapes = batches[:-1], shapes[:-1]
    for i, found in enumerate(shapes):
        if found != shapes[0]:
            raise ValueError(
                f"loader: expected batches of equal shapes, got {found} in batch {i}, {shapes[0]} in the first"
            )
    return batches


def _as_numpy(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach().cpu().numpy() if tree.dtype != torch.bfloat16 else tree.detach().float().cpu().numpy()
    if isinstance(tree, dict):
        return {key: _as_numpy(value) for key, value in tree.items()}
    return tuple(map(_as_numpy, tree)) if isinstance(tree, list | tuple) else tree


def _total(name: str, loss_fn: Any, batch: Any) -> Total:
    if not callable(loss_fn):
        raise TypeError(f"{name}: expected a function or a module, got {type(loss_fn).__name__}")
    names = [] if isinstance(loss_fn, nn.Module) else list(inspect.signature(loss_fn).parameters)
    if names and names[0] == "model":
        return lambda model, batch: _single(name, loss_fn(model, batch))
    if not (isinstance(batch, list | tuple) and len(batch) == 2):
        raise TypeError(
            f"{name}: expected batches (inputs, target) for a function of output and target, got "
            f"{type(batch).__name__}; write one of (model, batch), whose first argument is called model"
        )
    return lambda model, batch: _single(name, loss_fn(model(batch[0]), batch[1]))


def _single(name: str, loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"{name}: expected a single number, got {shape}; take its mean, say")
    return loss


def _conflict(losses: list[Total], model: nn.Module, batches: list[Any]) -> float:
    """The least cosine between the mean gradients of two of the losses."""
    model = copy.deepcopy(model)  # for the statistics of its normalizations
    params = [p for p in model.parameters() if p.requires_grad]

    def gradient(loss: Total) -> Tensor:
        mean = torch.zeros(sum(p.numel() for p in params), dtype=torch.float64)
        for batch in batches:
            value = loss(model, batch).sum()
            if value.requires_grad:
                found = torch.autograd.grad(value, params, allow_unused=True, materialize_grads=True)
                mean += torch.cat([g.reshape(-1).double().cpu() for g in found]) / len(batches)
        return mean

    unit = [g / g.norm() for g in map(gradient, losses) if g.norm() > 0]
    return min((float(a @ b) for i, a in enumerate(unit) for b in unit[:i]), default=math.nan)


def _looks(
    model: nn.Module, optimizer: torch.optim.Optimizer, total: Total, batches: list[Any], advance: Callable
) -> tuple[Signs, list[Tensor]]:
    """A step on every batch, each from the same state, under a monitor; and the gradients."""
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    state, gradients = copy.deepcopy(optimizer.state_dict()), []
    with Monitor(model, optimizer, every=1) as monitor:
        for batch in batches:
            optimizer.zero_grad()
            loss = total(model, batch)
            loss.backward()
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
            gradients.append(torch.cat([g.detach().reshape(-1).float() for g in grads]))
            if math.isfinite(float(loss.detach())):
                optimizer.step()
            monitor(loss)
            with torch.no_grad():
                for name, p in model.named_parameters():
                    p.copy_(before[name])
            optimizer.load_state_dict(copy.deepcopy(state))
            advance(1)
        signs = monitor.signs()
    losses = signs.curves["loss"]
    signs.kind, signs.steps = "state", signs.steps[-1:]
    signs.curves = {n: np.asarray([median(v)]) for n, v in signs.curves.items() if n != "input size"}
    signs.curves["loss"] = losses.mean(keepdims=True)
    for layer in signs.layers.values():
        layer.first_dead = layer.first_saturated = layer.first_gradient = math.nan
    return signs, gradients


def _noise_scale(gradients: list[Tensor], size: float) -> float:
    """As `attractor.landscape.gradient_noise_scale` has it."""
    m = len(gradients)
    if m < 2:
        return math.nan
    single = float(torch.stack([g.square().sum() for g in gradients]).mean())
    joint = float(torch.stack(gradients).mean(0).square().sum())
    signal, noise = (m * joint - single) / (m - 1), size * (single - joint) * m / (m - 1)
    return noise / signal if signal > 0 else math.inf


@torch.no_grad()
def _suspects(model: nn.Module, loss_fn: Any, batches: list[Any]) -> tuple[list[int], int] | None:
    """Examples that a model which fits the others contradicts, and of how many; `None`: losses are not told apart.

    Class labels with a loss above 4 while the median is below 0.7, other targets 12 interquartile ranges above it.
    """
    if getattr(loss_fn, "reduction", None) != "mean":
        return None
    each = copy.copy(loss_fn)
    each.reduction = "none"
    kept = copy.deepcopy(model)  # for the statistics of its normalizations
    losses = torch.cat([each(kept(x), y).reshape(len(x), -1).mean(1) for x, y in batches]).double().numpy()
    if batches[0][1].is_floating_point():
        low, middle, high = np.quantile(losses, [0.25, 0.5, 0.75])
        limit = middle + 12 * (high - low)
    else:
        limit = 4.0 if np.median(losses) < 0.7 else np.inf
    return np.flatnonzero(losses > limit).tolist(), len(losses)


def _sharpness(
    model: nn.Module, optimizer: torch.optim.Optimizer, total: Total, batches: list[Any], notes: list[str]
) -> dict[str, float]:
    """The largest eigenvalue of the Hessian, preconditioned as the optimizer does it, and what that can bear."""
    params = [p for p in model.parameters() if p.requires_grad]
    scale, threshold = _response(optimizer, params)
    if math.isnan(threshold):
        notes.append("stability of the step: known for SGD, and for Adam and AdamW after ten steps, in one group")
    roots = torch.cat([(1 / s.sqrt()).reshape(-1) for s in scale]).double().numpy()
    size = len(roots)

    def product(v: np.ndarray) -> np.ndarray:
        direction = torch.as_tensor((roots * v.reshape(-1)).astype(np.float32), device=params[0].device)
        cut = direction.split([p.numel() for p in params])
        pieces = [c.view_as(p).to(p.dtype) for c, p in zip(cut, params, strict=True)]
        image = np.zeros(size)
        for batch in batches:
            # Attention's fused kernels have no second derivative.
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                slopes = torch.autograd.grad(total(model, batch), params, create_graph=True, allow_unused=True)
                along = sum((g * d).sum() for g, d in zip(slopes, pieces, strict=True) if g is not None)
                if not isinstance(along, Tensor) or not along.requires_grad:
                    continue
                found = torch.autograd.grad(along, params, allow_unused=True)
            zeros = [torch.zeros_like(p) if h is None else h for h, p in zip(found, params, strict=True)]
            image += torch.cat([h.reshape(-1) for h in zeros]).double().cpu().numpy() / len(batches)
        return roots * image

    if size < 3:
        return {}
    start = np.random.default_rng(0).normal(size=size)
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    try:
        top = eigsh(operator, 1, which="LA", ncv=min(KRYLOV, size), v0=start, tol=1e-4, maxiter=4)[0]  # pyright: ignore[reportArgumentType]
    except (ArpackNoConvergence, RuntimeError) as error:
        notes.append(f"sharpness: {str(error).splitlines()[0]}"[:200])
        return {}
    return {"sharpness": float(top[0])} | ({} if math.isnan(threshold) else {"threshold": threshold})


def _response(optimizer: torch.optim.Optimizer, params: list[nn.Parameter]) -> tuple[list[Tensor], float]:
    """By what the optimizer divides, and the threshold of the sharpness preconditioned so; NaN where it is unknown."""
    ones, group = [torch.ones_like(p) for p in params], optimizer.param_groups[0]
    rate = float(group["lr"])
    if len(optimizer.param_groups) > 1 or not rate > 0:
        return ones, math.nan
    if type(optimizer) is torch.optim.SGD:
        if group["dampening"]:
            return ones, math.nan
        momentum, ahead = float(group["momentum"]), bool(group["nesterov"])
        return ones, float(stability_threshold(rate, momentum=momentum, nesterov=ahead))
    states = [optimizer.state.get(p, {}) for p in params]
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or group["amsgrad"]:
        return ones, math.nan
    if not all("exp_avg_sq" in s for s in states) or min(float(s["step"]) for s in states) < 10:
        return ones, math.nan
    (b1, b2), eps = group["betas"], group["eps"]
    scale = [
        (1 - b1 ** (float(s["step"]) + 1)) * ((s["exp_avg_sq"] / (1 - b2 ** float(s["step"]))).sqrt() + eps)
        for s in states
    ]
    return scale, float(stability_threshold(rate, momentum=b1, averaged=True))


def _try(
    diagnosis: Diagnosis,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    total: Total,
    batches: list[Any],
    steps: int,
) -> None:
    """Fill in the trials of findings with a remedy that a short run can try, from copies of the state as it is."""
    known = remedies(diagnosis.signs, len(batches))
    found = [f for f in diagnosis if f.name in known]
    if not found:
        return
    with task("remedies", len(found) + 1, "runs") as advance:
        without = _run(model, optimizer, total, batches, steps, Remedy("none"))
        advance(1)
        for finding in found:
            remedy = known[finding.name]
            end = _run(model, optimizer, total, batches, steps, remedy)
            finding.trial = Trial(remedy.words, without, end, steps)
            advance(1)


def _run(
    model: nn.Module, optimizer: torch.optim.Optimizer, total: Total, batches: list[Any], steps: int, remedy: Remedy
) -> float:
    """The mean loss over the last tenth of a short run."""
    model, optimizer = copy.deepcopy((model, optimizer))
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * remedy.rate
    if remedy.batches == "standardized":
        batches = _standardized(batches)
    losses = []
    for step in range(steps):
        batch = batches[step % len(batches)]
        optimizer.zero_grad()
        used = batches if remedy.batches == "all" else [batch]
        loss = torch.stack([total(model, b) for b in used]).mean()
        loss.backward()
        if math.isfinite(remedy.clip):
            nn.utils.clip_grad_norm_(model.parameters(), remedy.clip)
        losses.append(float(loss.detach()))
        optimizer.step()
    return float(np.mean(losses[-max(steps // 10, 1) :]))


def _standardized(batches: list[Any]) -> list[Any]:
    """The same batches, with inputs of mean zero and variance one over all examples."""
    inputs = [first_tensor(b) for b in batches]
    joint = torch.cat([x for x in inputs if x is not None])
    mean, deviation = joint.mean(0), joint.std(0)
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))

    def replaced(tree: Any, old: Tensor | None) -> Any:
        if tree is old and old is not None:
            return (old - mean) / deviation
        if isinstance(tree, dict):
            return {k: replaced(v, old) for k, v in tree.items()}
        return type(tree)(replaced(v, old) for v in tree) if isinstance(tree, list | tuple) else tree

    return [replaced(b, x) for b, x in zip(batches, inputs, strict=True)]
