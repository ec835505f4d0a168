"""What PyTorch's loops do with an optimizer, done with ours."""

import copy
import io
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")

from attractor.optim import cautious_adamw, muon  # noqa: E402
from attractor.second_order import adahessian, psgd  # noqa: E402
from attractor.torch import Optimizer  # noqa: E402
from attractor.torch.named import hessian_diagonal  # noqa: E402
from attractor.torch.program import home  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def network(width=3):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))


X = torch.linspace(-1, 1, 8).reshape(4, 2)


def loss_of(model, x=X):
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def train(model, optimizer, steps=5, after=lambda: None):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
        after()


def values(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def in_torch(steps=5, after=lambda optimizer: lambda: None, **hyper):
    """Where PyTorch's Adam with decoupled weight decay gets to."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), **{"lr": 1e-2, "weight_decay": 0.1, **hyper})
    train(model, optimizer, steps, after(optimizer))
    return values(model)


def ours(model, **hyper):
    return Optimizer(model.named_parameters(), optax.adamw, **{"lr": 1e-2, "weight_decay": 0.1, **hyper})


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.1),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=5, cycle_momentum=False),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    ],
)
def test_schedulers_of_pytorch_are_honored_by_one_program(schedule):
    model = network()
    optimizer = ours(model)
    train(model, optimizer, 5, schedule(optimizer).step)
    torch.testing.assert_close(values(model), in_torch(after=lambda o: schedule(o).step), atol=1e-5, rtol=0)
    assert optimizer._programs[0]._step._cache_size() == 1


def test_a_scheduler_of_a_rate_out_of_reach_is_told_so():
    for optimizer in (
        Optimizer(network().parameters(), cautious_adamw(0.1)),
        Optimizer(network().parameters(), optax.adam, lr=optax.cosine_decay_schedule(0.1, 10)),
    ):
        with pytest.raises(ValueError, match="an optax schedule"):
            torch.optim.lr_scheduler.StepLR(optimizer, 10)


def test_weight_decay_changes_by_hand_and_what_is_fixed_says_so():
    def halve(optimizer):
        def change():
            optimizer.param_groups[0]["weight_decay"] *= 0.5

        return change

    model = network()
    optimizer = ours(model)
    train(model, optimizer, after=halve(optimizer))
    torch.testing.assert_close(values(model), in_torch(after=halve), atol=1e-5, rtol=0)
    optimizer = ours(model, b1=0.8)
    optimizer.param_groups[0]["b1"] = 0.5
    with pytest.raises(ValueError, match=r"b1: fixed at 0.8 .* now 0.5"):
        train(model, optimizer, 1)


def test_a_method_that_decides_by_the_rate_keeps_it():
    def picky(learning_rate):
        return optax.sgd(learning_rate) if learning_rate > 0 else optax.set_to_zero()

    model, there = network(), values(network())
    train(model, Optimizer(model.parameters(), picky, lr=0.1), 1)
    assert not torch.equal(values(model), there)
    with pytest.raises(ValueError, match="an optax schedule"):
        torch.optim.lr_scheduler.StepLR(Optimizer(model.parameters(), picky, lr=0.1), 10)


def test_groups_have_their_own_hyper_parameters():
    model, theirs = network(), network()
    groups = [{"params": list(m[0].parameters()), "lr": 0.1} for m in (model, theirs)]
    rest = [{"params": list(m[2].parameters()), "weight_decay": 0.0} for m in (model, theirs)]
    train(model, Optimizer([groups[0], rest[0]], optax.adamw, learning_rate=1e-2, weight_decay=0.1))
    train(theirs, torch.optim.AdamW([groups[1], rest[1]], 1e-2, weight_decay=0.1))
    torch.testing.assert_close(values(model), values(theirs), atol=1e-5, rtol=0)


def test_what_a_group_would_ignore_is_refused_by_name():
    p = torch.nn.Parameter(torch.ones(3))
    for groups, transformation, hyper, message in (
        ([{"params": [p], "lr": 0.0}], cautious_adamw(0.1), {}, "lr: would be ignored"),
        ([p], cautious_adamw(0.1), {"weight_decay": 0.1}, "weight_decay: would be ignored"),
        ([{"params": [p], "betas": (0.9, 0.99)}], optax.adam, {"lr": 0.1}, "unknown hyper-parameter of adam 'betas'"),
        ([{"params": [p], "transformation": optax.sgd(0.1), "lr": 1.0}], optax.adam, {"lr": 0.1}, "lr: would be"),
        ([p], optax.adam, {"lr": 0.1, "learning_rate": 0.1}, "got both"),
        ([p], cautious_adamw, {"lr": -0.1}, "learning_rate: expected a finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            Optimizer(groups, transformation, **hyper)
    own = Optimizer([{"params": [p], "transformation": optax.sgd(0.1)}], optax.adam, lr=0.1)
    assert "lr" not in own.param_groups[0]


def test_clipping():
    def clipped(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
        return values(model)

    models = network(), network()
    theirs = clipped(models[1], torch.optim.SGD(models[1].parameters(), 0.5))
    torch.testing.assert_close(clipped(models[0], Optimizer(models[0].parameters(), optax.sgd, lr=0.5)), theirs)


def test_a_scaler_unscales_and_skips_steps_that_are_not_finite():
    model, theirs = network(), network()
    for net, optimizer in (
        (model, ours(model)),
        (theirs, torch.optim.AdamW(theirs.parameters(), 1e-2, weight_decay=0.1)),
    ):
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        for k in range(4):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(net)
            scaler.scale(loss * (float("inf") if k == 1 else 1.0)).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        assert scaler.get_scale() == 128.0
    torch.testing.assert_close(values(model), values(theirs), atol=1e-5, rtol=0)


def test_a_group_that_comes_later_starts_then():
    model, theirs = network(), network()
    both = (
        (model, Optimizer(model[0].parameters(), optax.adamw, lr=1e-2, weight_decay=0.1)),
        (theirs, torch.optim.AdamW(theirs[0].parameters(), 1e-2, weight_decay=0.1)),
    )
    for net, optimizer in both:
        train(net, optimizer, 2)
        optimizer.add_param_group({"params": net[2].parameters(), "lr": 0.1})
        net.zero_grad()
        train(net, optimizer, 2)
    torch.testing.assert_close(values(model), values(theirs), atol=1e-5, rtol=0)


def test_frozen_and_unused_parameters_stay():
    model = network()
    model.unused = torch.nn.Parameter(torch.ones(2))
    model[0].weight.requires_grad_(False)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = ours(model)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(lambda x: model[2](model[1](model[0](x)))).backward()
        optimizer.step()
    assert {n for n, p in model.named_parameters() if torch.equal(p, before[n])} == {"0.weight", "unused"}


def test_a_copy_goes_on_by_itself():
    model = network()
    optimizer = ours(model)
    train(model, optimizer, 2, torch.optim.lr_scheduler.StepLR(optimizer, 2).step)
    twin, other = copy.deepcopy((model, optimizer))
    there = values(model)
    train(twin, other, 3)
    assert torch.equal(values(model), there)
    train(model, optimizer, 3)
    assert torch.equal(values(model), values(twin))
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)
    made = Optimizer(model.parameters(), cautious_adamw(0.1))
    copy.deepcopy(made).step()


def test_pickling_keeps_all_or_says_what_to_save():
    model = network()
    optimizer = ours(model)
    train(model, optimizer, 2)
    twin, other = pickle.loads(pickle.dumps((model, optimizer)))
    for net, of in ((model, optimizer), (twin, other)):
        train(net, of, 2)
    assert torch.equal(values(model), values(twin))
    with pytest.raises(TypeError, match="state_dict"):
        pickle.dumps(Optimizer(model.parameters(), cautious_adamw(0.1)))


@pytest.mark.parametrize("rate", [0.5, np.float32(0.5), torch.tensor(0.5)], ids=["float", "numpy", "tensor"])
def test_a_saved_state_keeps_the_rate_and_fixed_ones_must_agree(rate):
    model = network()
    optimizer = ours(model)
    optimizer.param_groups[0]["lr"] = rate
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    after = ours(model)
    after.load_state_dict(saved)
    assert after.param_groups[0]["lr"] == 0.5
    with pytest.raises(ValueError, match=r"b1: fixed at 0.8"):
        ours(model, b1=0.8).load_state_dict(ours(model, b1=0.9).state_dict())


def test_a_rate_may_be_a_tensor():
    """As PyTorch's own may have it."""
    rates = 1e-2, torch.tensor(1e-2)
    found = []
    for rate in rates:
        model = network()
        train(model, ours(model, lr=rate), 2)
        found.append(values(model))
    assert torch.equal(*found)


def test_hooks_around_saving_and_loading_see_the_state():
    optimizer, seen = ours(network()), []
    optimizer.register_step_post_hook(lambda *_: seen.append("stepped"))
    optimizer.register_state_dict_pre_hook(lambda of: seen.append("saves"))
    optimizer.register_state_dict_post_hook(lambda of, state: {**state, "mine": 3})
    optimizer.register_load_state_dict_pre_hook(lambda of, state: seen.append(state.pop("mine")))
    optimizer.register_load_state_dict_post_hook(lambda of: seen.append("loaded"))
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert (state["mine"], seen) == (3, ["saves", 3, "loaded"])
    copy.deepcopy(optimizer)
    assert len(seen) == 3  # that is no saving


@pytest.mark.parametrize("whole", [False, True])
def test_the_compiler_leaves_the_step_alone(whole):
    model, plain = network(), network()
    optimizer, theirs = ours(model), ours(plain)
    compiled = []

    def counter(graph, _):
        compiled.append(graph)
        return graph.forward

    step = torch.compile(optimizer.step, backend=counter)

    def iteration():
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()

    iterate = torch.compile(iteration, backend=counter)
    for _ in range(3):
        if whole:
            iterate()
        else:
            optimizer.zero_grad()
            loss_of(model).backward()
            step()
    train(plain, theirs, 3)
    torch.testing.assert_close(values(model), values(plain), atol=1e-6, rtol=0)
    assert bool(compiled) == whole  # of the network


def test_sparse_gradients_are_refused_by_name():
    table = torch.nn.Embedding(5, 2, sparse=True)
    optimizer = Optimizer(table.named_parameters(), cautious_adamw(0.1))
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"sparse gradients \(weight\); give its layer sparse=False"):
        optimizer.step()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])  # inductor, the default, compiles C++ for a minute
def test_a_compiled_model(backend):
    model = network()
    compiled = torch.compile(model, backend=backend)
    train(compiled, ours(compiled))
    torch.testing.assert_close(values(model), in_torch(), atol=1e-5, rtol=0)


def of_two(rank, folder):
    """One of two processes: half of the batch."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = network()
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = ours(parallel)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(parallel, X[2 * rank : 2 * rank + 2]).backward()
        optimizer.step()
    torch.save(values(model), f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of PyTorch has no torch.distributed")
def test_two_processes_train_one_model(tmp_path):
    torch.multiprocessing.spawn(of_two, (str(tmp_path),), 2)
    found = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    assert torch.equal(*found)
    torch.testing.assert_close(found[0], in_torch(3), atol=1e-5, rtol=0)


def quartic(x):
    """A loss of two parameters that interact, for PyTorch and JAX alike."""
    return ((x["a"] ** 2).sum() + (x["b"] ** 4).sum() + x["a"][0] * x["b"].sum()) * 0.5


START = {"a": [1.0, -0.5, 0.3], "b": [[0.7, -0.2], [0.4, 0.9]]}


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        (adahessian(0.1), adahessian(0.1)),
        (psgd(0.1), psgd(0.1)),
        (
            optax.contrib.sophia(0.1, update_interval=2),
            optax.contrib.sophia(0.1, update_interval=2, hessian_diagonal_fn=hessian_diagonal()),
        ),
        (
            optax.partition({"t": adahessian(0.1), "f": optax.sgd(0.1)}, {"a": "t", "b": "f"}),
            optax.partition({"t": adahessian(0.1), "f": optax.sgd(0.1)}, {"a": "t", "b": "f"}),
        ),
    ],
    ids=["adahessian", "psgd", "sophia", "partition"],
)
def test_curvature_follows_the_jax_trajectory(theirs, mine):
    from attractor.masks import operator_on_parts

    x = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in START.items()}
    optimizer = Optimizer(list(x.items()), mine, seed=3)
    y = {k: jnp.asarray(v) for k, v in START.items()}
    theirs = optax.with_extra_args_support(theirs)
    state, key = theirs.init(y), jax.random.key(3)

    @jax.jit
    def step(y, state, k):
        offered = {
            "hvp": operator_on_parts(lambda v: jax.jvp(jax.grad(quartic), (y,), (v,))[1], y),
            "key": jax.random.fold_in(jax.random.fold_in(key, k), 0),
            "obj_fn": quartic,
        }
        updates, state = theirs.update(jax.grad(quartic)(y), state, y, **offered)
        return optax.apply_updates(y, updates), state

    for k in range(6):
        optimizer.zero_grad()
        quartic(x).backward(create_graph=True)
        optimizer.step()
        y, state = step(y, state, k + 1)
    optimizer.zero_grad()
    for name in START:
        np.testing.assert_allclose(x[name].detach().numpy(), y[name], atol=1e-5)


def test_curvature_needs_gradients_that_can_be_differentiated():
    model = network()
    with pytest.raises(ValueError, match=r"create_graph=True"):
        train(model, Optimizer(model.parameters(), adahessian, lr=0.1))


def test_what_no_loop_gives_is_refused_at_once():
    for transformation, name in (
        (optax.lbfgs(), "value_fn"),
        (optax.chain(optax.sgd(0.1), optax.scale_by_backtracking_linesearch(5)), "value_fn"),
        (optax.contrib.sophia(0.1), "obj_fn"),
    ):
        with pytest.raises(ValueError, match=rf"{name}: .*run it in JAX"):
            Optimizer(network().parameters(), transformation)


def swapped():
    """Each of two leaves of one shape moves by the other's gradient."""
    return optax.stateless(lambda g, _: {**g, "0": g["4"], "4": g["0"]})


def late():
    """The last step's gradients, each of two leaves of one shape by the other's."""
    return optax.GradientTransformation(
        lambda p: jax.tree.map(jnp.zeros_like, p), lambda g, last, p=None: (last, {**g, "0": g["4"], "4": g["0"]})
    )


def scaled_by_its_norm():
    return optax.stateless(lambda g, _: jax.tree.map(lambda u: u / (1 + jnp.linalg.norm(u.ravel())), g))


@pytest.mark.parametrize(
    "transformation",
    [
        optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.1, weight_decay=0.3)),
        optax.adamw(0.1, weight_decay=0.3, mask=lambda p: {k: v.ndim > 1 for k, v in p.items()}),
        optax.chain(swapped(), optax.sgd(0.1, momentum=0.9)),
        optax.chain(late(), optax.sgd(0.1)),
        optax.chain(scaled_by_its_norm(), optax.adam(0.1)),
        optax.lamb(0.1, weight_decay=0.1),
        optax.MultiSteps(optax.adam(0.1), 2),
        optax.partition({"m": muon(0.1), "v": optax.adam(0.1)}, lambda p: {k: "mv"[v.ndim < 2] for k, v in p.items()}),
        optax.chain(optax.adam(0.1), optax.masked(optax.set_to_zero(), lambda p: {k: k == "2" for k in p})),
        optax.chain(optax.zero_nans(), optax.sgd(lambda count: 0.1 / (1 + count))),
        optax.adafactor(0.1, min_dim_size_to_factor=3),
    ],
    ids=[
        "clip",
        "mask",
        "swapped",
        "late",
        "norm",
        "lamb",
        "multisteps",
        "partition",
        "frozen",
        "schedule",
        "adafactor",
    ],
)
@pytest.mark.parametrize("longest", [30, 1_000])
def test_what_lies_end_to_end_moves_as_in_the_tree(transformation, longest, monkeypatch):
    monkeypatch.setattr("attractor.torch.together.LONGEST", longest)
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(s, generator=generator) for s in [(3,), (), (3, 4), (4, 5), (3,), (2, 2, 2)]]
    x = [torch.nn.Parameter(t.clone()) for t in starts]
    optimizer = Optimizer(x, transformation)
    y = {str(i): jnp.asarray(t.numpy()) for i, t in enumerate(starts)}
    state = transformation.init(y)
    step = jax.jit(lambda g, state, y: transformation.update(g, state, y))
    for _ in range(3):
        for i, p in enumerate(x):
            p.grad = (i + 1) * p.detach().cos()
        grads = {k: (int(k) + 1) * jnp.cos(v) for k, v in y.items()}
        optimizer.step()
        updates, state = step(grads, state, y)
        y = optax.apply_updates(y, updates)
    for i, p in enumerate(x):
        np.testing.assert_allclose(p.detach().numpy(), y[str(i)], atol=2e-6)


def equations(tensors):
    """Of the program of a step."""
    x = [torch.nn.Parameter(torch.ones(3)) for _ in range(tensors)]
    program = Optimizer(x, optax.adamw, lr=0.1)._programs[0]
    like = program._layout.arrays()
    rest = {"hyper": {"learning_rate": 0.1, "weight_decay": 0.1}, "key": jax.random.key(0), "turn": (0, 0), "extra": {}}
    return len(jax.make_jaxpr(program._traced)(like, like, program._arrays, like, rest).eqns)


def test_the_program_of_many_tensors_is_that_of_few():
    assert equations(3) == equations(30) < 60


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    """Where JAX has the device: there; else by copies, after a warning."""
    found = []
    for device in ("cpu", "cuda"):
        model = network().to(device)
        optimizer = ours(model)
        for _ in range(5):
            optimizer.zero_grad()
            loss_of(model, X.to(device)).backward()
            optimizer.step()
        found.append(values(model).cpu())
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)
    has = any(d.platform in ("gpu", "cuda") for d in jax.devices())
    assert (optimizer._programs[0].home.type == "cuda") == has
    optimizer.load_state_dict(optimizer.state_dict())
    train_on = torch.nn.Parameter(torch.ones(3, device="cuda"))
    averaging = Optimizer([train_on], optax.contrib.schedule_free_sgd(0.1))
    train_on.grad = torch.ones(3, device="cuda")
    averaging.step()
    averaging.eval()
    averaging.train()
    with pytest.raises(ValueError, match="a group of its own"):
        Optimizer([train_on, torch.nn.Parameter(torch.ones(3))], optax.sgd(0.1))


def test_a_device_that_jax_has_not_is_served_by_copies():
    with pytest.warns(UserWarning, match=r"JAX has no meta .*every step copies"):
        assert home([torch.zeros(1, device="meta")]).type == "cpu"
