"""A state of PyTorch training: the same findings as JAX has of the same model, nothing changed, bad input refused."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch", reason="an extra")
nn = torch.nn

import attractor  # noqa: E402
from attractor.diagnosis.torch_state import take  # noqa: E402
from attractor.torch import diagnose  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded(one_torch_thread):
    torch.manual_seed(0)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))


def batches(count=4, n=32, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(count, n, 4, generator=random)
    return [(a, (a.sum(1) > 0).long() + (a[:, 0] > 1).long()) for a in x]


def jax_twin(model):
    """Its loss and parameters in JAX."""
    params = {name: jnp.asarray(p.detach().numpy()) for name, p in model.named_parameters()}

    def loss(params, batch):
        x, y = batch
        h = jnp.tanh(x @ params["0.weight"].T + params["0.bias"])
        h = jax.nn.relu(h @ params["2.weight"].T + params["2.bias"])
        logits = h @ params["4.weight"].T + params["4.bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return loss, params


def arrays(data):
    return [(jnp.asarray(x.numpy()), jnp.asarray(y.numpy())) for x, y in data]


@pytest.mark.parametrize("rate", [0.05, 30.0])
def test_numbers_and_findings_are_those_of_jax(rate):
    model, data = net(), batches()
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    ours = diagnose(model, nn.CrossEntropyLoss(), data, optimizer)
    loss, params = jax_twin(model)
    theirs = attractor.diagnose(loss, params, arrays(data), optimizer=optax.sgd(rate, momentum=0.9))
    assert ours.names == theirs.names
    for name in ("sharpness", "threshold", "noise scale", "batch size", "input spread", "input level"):
        assert ours.signs.numbers[name] == pytest.approx(theirs.signs.numbers[name], rel=1e-3), name
    for name in ("loss", "weight norm", "update ratio"):
        np.testing.assert_allclose(ours.signs.curves[name], theirs.signs.curves[name], rtol=1e-3)


def test_adams_sharpness_is_preconditioned_by_its_state():
    model, data = net(), batches()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3, betas=(0.8, 0.95))
    for _ in range(5):
        for x, y in data:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    ours = diagnose(model, nn.CrossEntropyLoss(), data, optimizer).signs.numbers
    loss, params = jax_twin(model)
    adam = {name: optimizer.state[p] for name, p in model.named_parameters()}
    scale = {
        name: (1 - 0.8**21) * (jnp.sqrt(jnp.asarray(s["exp_avg_sq"].numpy()) / (1 - 0.95**20)) + 1e-8)
        for name, s in adam.items()
    }
    flat, restore = jax.flatten_util.ravel_pytree(params)
    joint = jnp.concatenate([x for x, _ in arrays(data)]), jnp.concatenate([y for _, y in arrays(data)])
    hessian = np.asarray(jax.hessian(lambda z: loss(restore(z), joint))(flat), float)
    root = np.asarray(jax.flatten_util.ravel_pytree(scale)[0], float) ** -0.5
    assert ours["sharpness"] == pytest.approx(np.linalg.eigvalsh(root[:, None] * hessian * root)[-1], rel=1e-3)
    assert ours["threshold"] == pytest.approx((2 + 2 * 0.8) / ((1 - 0.8) * 3e-3))


@pytest.mark.parametrize("opposed", [False, True])
def test_losses_in_conflict_are_those_of_jax(opposed):
    """Cross-entropy, and a pull on the outputs: towards the classes it favors, or away from them."""
    model, data = net(), batches()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    weight = -1.0 if opposed else 1.0
    function = nn.CrossEntropyLoss()

    def pull(output, target):
        return weight * (output - nn.functional.one_hot(target, 3)).square().mean()

    ours = diagnose(model, function, data, optimizer, losses={"class": function, "pull": pull})
    loss, params = jax_twin(model)

    def twin(params, batch):
        x, y = batch
        h = jnp.tanh(x @ params["0.weight"].T + params["0.bias"])
        h = jax.nn.relu(h @ params["2.weight"].T + params["2.bias"])
        return weight * jnp.mean((h @ params["4.weight"].T + params["4.bias"] - jax.nn.one_hot(y, 3)) ** 2)

    theirs = attractor.diagnose(
        loss, params, arrays(data), optimizer="sgd", learning_rate=0.05, losses={"class": loss, "pull": twin}
    )
    assert ours.signs.numbers["conflict"] == pytest.approx(theirs.signs.numbers["conflict"], rel=1e-3)
    assert ours.names == theirs.names
    assert ("conflicting losses" in ours) == opposed


def test_nothing_of_the_users_changes():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    before, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    diagnose(model, nn.CrossEntropyLoss(), batches(), optimizer, confirm=True, steps=10)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert state == optimizer.state_dict()
    assert all(p.grad is None for p in model.parameters())


def test_a_remedy_that_is_tried_helps():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-5)
    found = diagnose(model, nn.CrossEntropyLoss(), batches(), optimizer, confirm=True, steps=60)["step too small"]
    assert found.trial is not None
    assert found.trial.helped
    assert found.trial.with_remedy < 0.95 * found.trial.without


def test_wrong_labels_are_pointed_at():
    model, data = net(), batches(4, 64)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(150):
        for x, y in data:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    wrong = [3, 70, 130, 131, 200, 250]
    for i in wrong:
        x, y = data[i // 64]
        # The class that the model holds for the least likely.
        y[i % 64] = model(x)[i % 64].argmin()
    found = diagnose(model, nn.CrossEntropyLoss(), data, optimizer)
    assert set(found.signs.culprits["suspect labels"]) >= set(wrong)
    assert "suspect labels" in found.names


def test_a_loss_of_the_model_and_any_batch():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = [{"x": x, "y": y} for x, y in batches()]
    found = diagnose(
        model, lambda model, batch: nn.functional.cross_entropy(model(batch["x"]), batch["y"]), data, optimizer
    )
    assert found.signs.numbers["batch size"] == 32


def test_attention_and_tied_weights_have_a_sharpness():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(11, 16)
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
            self.read = nn.Linear(16, 11, bias=False)
            self.read.weight = self.embed.weight

        def forward(self, tokens):
            return self.read(self.layer(self.embed(tokens)))

    model = Tied()
    tokens = torch.randint(11, (4, 8, 6))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch).flatten(0, 1), batch.flatten())

    found = diagnose(model, loss, list(tokens), optimizer)
    assert found.signs.numbers["sharpness"] > 0
    assert not any("sharpness" in note for note in found.signs.notes)


def test_bad_input_is_refused_by_name():
    model, data = net(), batches()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    function = nn.CrossEntropyLoss()
    with pytest.raises(ValueError, match="training mode, got eval mode"):
        diagnose(model.eval(), function, data, optimizer)
    model.train()
    with pytest.raises(ValueError, match="got none; an iterator that is used up"):
        diagnose(model, function, iter([]), optimizer)
    with pytest.raises(ValueError, match="equal shapes, got"):
        diagnose(model, function, [data[0], (data[1][0][:, :2], data[1][1])], optimizer)
    with pytest.raises(ValueError, match="loss_fn: expected a single number"):
        diagnose(model, nn.CrossEntropyLoss(reduction="none"), data, optimizer)
    with pytest.raises(TypeError, match="whose first argument is called model"):
        diagnose(model, function, [data[0][0]], optimizer)
    with pytest.raises(ValueError, match="losses: expected at least two, got 1"):
        diagnose(model, function, data, optimizer, losses={"only": function})
    with pytest.raises(TypeError, match=r"losses\['b'\]: expected a function"):
        diagnose(model, function, data, optimizer, losses={"a": function, "b": 1.0})
    with pytest.raises(ValueError, match="steps"):
        diagnose(model, function, data, optimizer, steps=1)


def test_a_smaller_last_batch_is_left_out():
    data = batches(3)
    assert len(take([*data, (data[0][0][:5], data[0][1][:5])])) == 3


def test_a_loss_that_is_not_finite_is_diagnosed_by_its_origin():
    class Root(nn.Module):
        def forward(self, x):
            return torch.sqrt(x - 100)

    model = nn.Sequential(nn.Linear(4, 12), Root(), nn.Linear(12, 3))
    found = diagnose(model, nn.CrossEntropyLoss(), batches(), torch.optim.SGD(model.parameters(), 0.1))
    assert found.names[0] == "not finite"
    assert found["not finite"].where == "the operation sqrt in 1"
