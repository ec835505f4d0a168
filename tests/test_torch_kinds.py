"""What PyTorch's loops do with an optimizer, done with every kind that a name gives: PyTorch's own, and ours.

Each is compared with itself in the plain loop, which other tests compare with JAX.
"""

import copy
import io

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")

from attractor.torch import Optimizer, optimizer  # noqa: E402

X = torch.linspace(-1, 1, 8).reshape(4, 2)
EXACT = {"atol": 1e-6, "rtol": 1e-6}
pytestmark = pytest.mark.usefixtures("one_torch_thread")


class Kind:
    """A registered method, and how its loop differs."""

    def __init__(self, name, own=False, curved=False, **hyper):
        self.name, self.own, self.curved, self.hyper = name, own, curved, hyper

    def __call__(self, params):
        made = optimizer(self.name, params, **self.hyper)
        assert isinstance(made, Optimizer) != self.own
        return made


KINDS = [
    Kind("adamw", own=True, lr=0.05, weight_decay=0.1),
    Kind("sgd", own=True, lr=0.05, momentum=0.9),
    Kind("cautious-adamw", lr=0.05, weight_decay=0.1),
    Kind("muon", lr=0.05),  # by the shape of each parameter
    Kind("schedule-free-sgd", lr=0.05),  # trains at one point, and is judged at another
    Kind("noisy-sgd", lr=0.05),  # draws random numbers
    Kind("adahessian", lr=0.05, curved=True),  # multiplies by the Hessian
]
ALL = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
UNSCALED = pytest.mark.parametrize("kind", [k for k in KINDS if not k.curved], ids=lambda kind: kind.name)


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))


def values(model):
    return torch.cat([p.detach().float().flatten() for p in model.parameters()])


def backward(kind, model, factor=1.0):
    loss = (model(X.to(next(model.parameters()).dtype)) - X.sum(1, keepdim=True)).square().mean()
    (loss * factor).backward(create_graph=kind.curved)
    return loss


def train(kind, model, made, steps, after=lambda: None):
    for _ in range(steps):
        made.zero_grad()
        backward(kind, model)
        made.step()
        after()
    made.zero_grad()


def last(model):
    return [(f"last.{name}", p) for name, p in model[2].named_parameters()]


def saved(made):
    """As it comes out of a file."""
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@UNSCALED
def test_a_scaler_skips_the_step_that_is_not_finite(kind):
    model, plain = network(), network()
    made, theirs = kind(model.named_parameters()), kind(plain.named_parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for factor in (1.0, float("inf"), 1.0, float("nan"), 1.0):
        made.zero_grad()
        backward(kind, model, scaler.scale(torch.tensor(factor)))
        scaler.unscale_(made)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(made)
        scaler.update()
    assert scaler.get_scale() == 64.0
    for _ in range(3):
        theirs.zero_grad()
        backward(kind, plain)
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        theirs.step()
    torch.testing.assert_close(values(model), values(plain), **EXACT)


@UNSCALED
def test_closures_clipping_and_a_chain_of_schedulers(kind):
    model, plain = network(), network()
    made, theirs = kind(model.named_parameters()), kind(plain.named_parameters())
    rising = torch.optim.lr_scheduler.LinearLR(made, 0.1, 1.0, 2)
    falling = torch.optim.lr_scheduler.ExponentialLR(made, 0.5)
    scheduler = torch.optim.lr_scheduler.SequentialLR(made, [rising, falling], [2])

    def clipped(net, of):
        of.zero_grad()
        loss = backward(kind, net)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        return loss

    for share in (0.1, 0.55, 1.0, 0.5, 0.25):
        before = clipped(model, made).item()
        assert made.step(lambda: clipped(model, made)).item() == before
        scheduler.step()
        theirs.param_groups[0]["lr"] = kind.hyper["lr"] * share
        clipped(plain, theirs)
        theirs.step()
    torch.testing.assert_close(values(model), values(plain), **EXACT)


@ALL
def test_resumed_from_a_file_with_a_group_and_a_parameter_that_come_later(kind):
    """The first layer's weights are frozen at first; the last layer is a group that is added after resuming."""

    def begun(model):
        model[0].weight.requires_grad_(False)
        made = kind(model[0].named_parameters())
        train(kind, model, made, 2)
        return made

    def goes_on(model, made):
        model[0].weight.requires_grad_(True)
        made.add_param_group({"params": last(model), "lr": 0.01})
        train(kind, model, made, 2)

    model, plain = network(), network()
    weight = model[0].weight.detach().clone()
    made, theirs = begun(model), begun(plain)
    assert torch.equal(model[0].weight, weight)
    assert not torch.equal(model[0].bias, network()[0].bias)
    again = kind(model[0].named_parameters())
    again.load_state_dict(saved(made))
    goes_on(model, again)
    goes_on(plain, theirs)
    torch.testing.assert_close(values(model), values(plain), **EXACT)
    assert not torch.equal(model[0].weight, weight)
    third = kind(model[0].named_parameters())
    third.add_param_group({"params": last(model), "lr": 0.02})
    third.load_state_dict(saved(again))
    assert [group["lr"] for group in third.param_groups] == [kind.hyper["lr"], 0.01]
    train(kind, model, third, 1)
    train(kind, plain, theirs, 1)
    torch.testing.assert_close(values(model), values(plain), **EXACT)


@ALL
def test_a_copy_goes_on_alike_and_alone(kind):
    model = network()
    made = kind(model.named_parameters())
    train(kind, model, made, 2)
    twin, other = copy.deepcopy((model, made))
    there = values(model)
    train(kind, twin, other, 2)
    assert torch.equal(values(model), there)
    train(kind, model, made, 2)
    torch.testing.assert_close(values(model), values(twin), **EXACT)


@ALL
def test_half_precision_stays_what_it_is(kind):
    model, plain = network().bfloat16(), network()
    for net in (model, plain):
        train(kind, net, kind(net.named_parameters()), 3)
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
    torch.testing.assert_close(values(model), values(plain), atol=0.05, rtol=0)
    assert not torch.equal(values(model), values(network().bfloat16()))


def of_two(rank, folder):
    """One of two processes, each with half of the data."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for kind in KINDS:
        if not kind.curved:  # DistributedDataParallel keeps no graph of the gradients
            model = network()
            parallel = torch.nn.parallel.DistributedDataParallel(model)
            made = kind(parallel.named_parameters())
            for _ in range(2):
                made.zero_grad()
                half = X[2 * rank : 2 * rank + 2]
                (parallel(half) - half.sum(1, keepdim=True)).square().mean().backward()
                made.step()
            torch.save(values(model), f"{folder}/{kind.name}-{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of PyTorch has no torch.distributed")
def test_two_processes_train_one_model(tmp_path):
    torch.multiprocessing.spawn(of_two, (str(tmp_path),), 2)
    for kind in KINDS:
        if not kind.curved:
            first, second = (torch.load(tmp_path / f"{kind.name}-{rank}") for rank in range(2))
            assert torch.equal(first, second)
            model = network()
            train(kind, model, kind(model.named_parameters()), 2)
            torch.testing.assert_close(first, values(model), atol=1e-5, rtol=1e-5)
