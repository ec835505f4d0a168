"""Optimizers by name in PyTorch: PyTorch's own have optax's formulas, and the docs' snippets run."""

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")

from attractor import registry  # noqa: E402
from attractor.torch import Optimizer, optimizer  # noqa: E402
from attractor.torch.named import OWN, torchs  # noqa: E402

SHAPES = [(3, 4), (5,), (2, 3, 2)]
UNUSUAL = {
    optax.sgd: [{}, {"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}],
    optax.adam: [{}, {"b1": 0.7, "b2": 0.8, "eps": 0.1}],
    optax.adamw: [{}, {"b1": 0.7, "b2": 0.8, "eps": 0.1, "weight_decay": 0.3}],
    optax.adamax: [{}, {"b1": 0.7, "b2": 0.8, "eps": 0.1}],
    optax.adadelta: [{}, {"rho": 0.7, "eps": 0.1, "weight_decay": 0.3}],
    optax.rmsprop: [
        {"eps_in_sqrt": False},
        {"eps_in_sqrt": False, "decay": 0.7, "eps": 0.1, "momentum": 0.8},
        {"eps_in_sqrt": False, "decay": 0.7, "centered": True},
    ],
}


@pytest.mark.parametrize(("factory", "hyper"), [(f, h) for f, settings in UNUSUAL.items() for h in settings])
def test_pytorchs_own_has_optaxs_formula(factory, hyper):
    starts = [np.random.default_rng(i).standard_normal(s) for i, s in enumerate(SHAPES)]
    x = [torch.nn.Parameter(torch.tensor(s)) for s in starts]
    theirs = torchs(factory, [{"params": x}], {"learning_rate": 0.05, **hyper})
    assert type(theirs) is OWN[factory].make
    with jax.enable_x64(True):
        y = [jnp.asarray(s) for s in starts]
        transformation = factory(0.05, **hyper)
        state = transformation.init(y)
        step = jax.jit(transformation.update)
        for _ in range(15):
            for i, p in enumerate(x):
                p.grad = (p.detach() * (i + 1)).cos() + p.detach()
            theirs.step()
            updates, state = step([jnp.cos(v * (i + 1)) + v for i, v in enumerate(y)], state, y)
            y = optax.apply_updates(y, updates)
        for p, v in zip(x, y, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), v, atol=1e-6)


def test_every_one_of_pytorchs_is_compared():
    assert UNUSUAL.keys() == OWN.keys()


def parameters():
    return [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]


def test_defaults_are_those_of_the_method_and_groups_bring_their_own():
    first, second = parameters()
    found = optimizer("adamw", [{"params": [first], "lr": 0.1, "weight_decay": 0.0}, {"params": [second]}], lr=0.2)
    assert type(found) is torch.optim.AdamW
    assert [group["lr"] for group in found.param_groups] == [0.1, 0.2]
    default = inspect.signature(optax.adamw).parameters["weight_decay"].default
    assert [group["weight_decay"] for group in found.param_groups] == [0.0, default]


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("nadam", {"lr": 0.1}),  # PyTorch's has a schedule of its momentum
        ("adam", {"lr": 0.1, "nesterov": True}),
        ("adam", {"lr": optax.cosine_decay_schedule(0.1, 10)}),
        ("adamw", {"lr": 0.1, "mask": lambda p: {k: True for k in p}}),
        ("rmsprop", {"lr": 0.1}),  # the root of v + eps
        ("sgd", {"lr": 0.1, "nesterov": True}),
        ("cautious-lion", {"lr": 0.1, "weight_decay": 0.1}),
    ],
)
def test_another_formula_is_ours(name, hyper):
    params = parameters()
    found = optimizer(name, params, **hyper)
    assert type(found) is Optimizer
    for p in params:
        p.grad = torch.ones_like(p)
    found.step()
    assert all(p.min() < 1 for p in params)


def test_lbfgs_is_pytorchs(monkeypatch):
    if "lbfgs" not in registry.methods():
        monkeypatch.setitem(registry._methods, "lbfgs", registry.MethodEntry("lbfgs", optax.lbfgs, {}))
    (w, _) = parameters()
    found = optimizer("lbfgs", [w], memory_size=5)

    def closure():
        found.zero_grad()
        loss = ((w - 3) ** 2).sum() + (w**4).sum()
        loss.backward()
        return loss

    for _ in range(10):
        found.step(closure)
    closure()
    assert w.grad.abs().max() < 1e-4
    with pytest.raises(ValueError, match="weight_decay: PyTorch's L-BFGS"):
        optimizer("lbfgs", [w], weight_decay=0.1)
    with pytest.raises(ValueError, match="single group"):
        optimizer("lbfgs", [{"params": [w]}, {"params": parameters()}])


def test_sophia_multiplies_by_the_hessian(monkeypatch):
    if "sophia" not in registry.methods():
        monkeypatch.setitem(registry._methods, "sophia", registry.MethodEntry("sophia", optax.contrib.sophia, {}))
    (w, _) = parameters()
    found = optimizer("sophia", [w], lr=0.1)
    (w**4).sum().backward(create_graph=True)
    found.step()
    assert w.max() < 1


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("adamm", {}, r"unknown method 'adamm', did you mean 'adam'"),
        ("adamw", {"lr": 0.1, "betas": (0.9, 0.99)}, r"unknown hyper-parameter of adamw 'betas'"),
        ("adamw", {}, r"learning_rate: adamw needs it"),
        ("cautious-adamw", {"lr": 0.1, "beta": 0.9}, r"unknown hyper-parameter of cautious_adamw 'beta'"),
        ("lazy-newton", {"smoothness": 1.0}, r"LazyNewton is a Method, .* run it in JAX"),
        ("pcgrad", {"lr": 0.1}, r"pcgrad is a Method, .* run it in JAX"),
        ("line-search-newton", {"damping": 0.1}, r"value_fn: .* run it in JAX"),
        ("gradient-penalty-sgd", {"lr": 0.1, "gamma": 0.1}, r"obj_fn: .* run it in JAX"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name, hyper, message):
    with pytest.raises(ValueError, match=message):
        optimizer(name, parameters(), **hyper)


def test_a_name_is_for_all_groups():
    with pytest.raises(ValueError, match="several methods are for Optimizer"):
        optimizer("adam", [{"params": parameters(), "transformation": optax.sgd(0.1)}], lr=0.1)


PAGE = (Path(__file__).parents[1] / "docs" / "torch.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(snippets, folder, monkeypatch):
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    names: dict = {"__name__": "page"}
    for code in snippets:
        exec(compile(code, "docs/torch.md", "exec"), names)
    return names


def test_the_page_for_pytorch_users_runs(tmp_path, monkeypatch):
    snippets = [code for code in SNIPPETS if "Loop" not in code]
    assert len(snippets) == 3
    assert run(snippets, tmp_path, monkeypatch)["accuracy"] > 0.8


def test_the_pages_comparison_runs(tmp_path, monkeypatch):
    pytest.importorskip("attractor.loops", reason="attractor.Loop is not in this version")
    (loop,) = (code for code in SNIPPETS if "Loop" in code)
    table = run([SNIPPETS[0], loop], tmp_path, monkeypatch)["found"].table()
    assert set(table.index) == {"adamw", "lion"}
