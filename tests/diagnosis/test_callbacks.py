"""The callbacks: the same losses as a loop by hand, in the frameworks themselves where they are installed, and in
stand-ins that call the documented hooks in their order."""

import math
import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")

from attractor.diagnosis import callbacks  # noqa: E402
from attractor.diagnosis.callbacks import LightningMonitor, TrainerMonitor  # noqa: E402
from attractor.diagnosis.recorder import Recorder  # noqa: E402

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]])
BATCHES = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4)]


def network():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


def by_hand(epochs, accumulate=1):
    """Losses of the steps, the loss on all data after each epoch, and each step over the weights before it."""
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    losses, validations, moved = [], [], []
    for _ in range(epochs):
        for i in range(0, len(BATCHES), accumulate):
            optimizer.zero_grad()
            parts = [torch.nn.functional.mse_loss(net(x), y) for x, y in BATCHES[i : i + accumulate]]
            loss = sum(parts) / accumulate
            loss.backward()
            before = torch.nn.utils.parameters_to_vector(net.parameters())
            optimizer.step()
            after = torch.nn.utils.parameters_to_vector(net.parameters())
            moved.append(((after - before).norm() / before.norm()).item())
            losses.append(loss.item())
        validations.append(torch.nn.functional.mse_loss(net(X), Y).item())
    return losses, validations, moved


def check(watch, epochs, accumulate=1):
    losses, validations, moved = by_hand(epochs, accumulate)
    signs = watch.diagnosis().signs
    np.testing.assert_allclose(signs.curves["loss"], losses, rtol=1e-5)
    steps, seen = signs.curve("validation loss")
    np.testing.assert_allclose(seen, validations, rtol=1e-5)
    # Each validation belongs to the last step of its epoch.
    np.testing.assert_array_equal(steps, np.arange(1, epochs + 1) * (6 // accumulate) - 1)
    looked, ratios = signs.curve("update ratio")
    np.testing.assert_allclose(ratios, [moved[int(i)] for i in looked], rtol=1e-4)
    assert len(looked) >= 3
    assert sum(layer.size for layer in signs.layers.values()) == 41


class Output(dict):
    """A model's output in transformers: a dictionary with attributes."""


class Regression(torch.nn.Module):
    """A model as transformers has it: the loss is in its output."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, inputs, labels=None, **given):
        prediction = self.net(inputs)
        loss = torch.nn.functional.mse_loss(prediction, labels)
        return Output(loss=loss, prediction=prediction)


def installed(monkeypatch, name, **contents):
    """A stand-in for a package."""
    for part in (name.partition(".")[0], name):
        module = ModuleType(part)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, part, module)
    vars(sys.modules[name]).update(contents)


class Base:
    """A stand-in for a framework's class of callbacks."""


@pytest.fixture(autouse=True)
def still(monkeypatch):
    """A clock that stands still: nothing costs anything, so that every step is looked at, on a busy machine too."""

    class Still(Recorder):
        def __init__(self, *arguments, **how):
            super().__init__(*arguments, **{**how, "clock": lambda: 0.0})

    monkeypatch.setattr("attractor.diagnosis.torch.Recorder", Still)


@pytest.fixture
def stubs(monkeypatch):
    installed(monkeypatch, "lightning.pytorch", Callback=Base)
    installed(monkeypatch, "transformers", TrainerCallback=Base)
    callbacks._over.cache_clear()
    yield
    callbacks._over.cache_clear()


def fit_as_lightning_does(watch, epochs, accumulate=1):
    module = torch.nn.Module()
    module.net = network()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    trainer = SimpleNamespace(
        is_global_zero=True, optimizers=[optimizer], accumulate_grad_batches=accumulate, sanity_checking=True,
        callback_metrics={"val_loss": torch.tensor(9.0)}, is_last_batch=False,
    )  # fmt: skip
    watch.on_validation_end(trainer, module)
    trainer.sanity_checking = False
    watch.on_train_start(trainer, module)
    for _ in range(epochs):
        for i, (x, y) in enumerate(BATCHES):
            trainer.is_last_batch = i == len(BATCHES) - 1
            watch.on_train_batch_start(trainer, module, (x, y), i)
            last = []

            def closure(x=x, y=y, i=i, last=last):
                if i % accumulate == 0:
                    optimizer.zero_grad()
                last.append(torch.nn.functional.mse_loss(module.net(x), y) / accumulate)
                last[0].backward()

            if (i + 1) % accumulate == 0:  # the gradients are computed inside of the step
                optimizer.step(closure)
            else:
                closure()
            watch.on_train_batch_end(trainer, module, {"loss": last[0].detach()}, (x, y), i)
        module.eval()
        with torch.no_grad():
            trainer.callback_metrics = {"val_loss": torch.nn.functional.mse_loss(module.net(X), Y)}
        module.train()
        watch.on_validation_end(trainer, module)
    watch.on_train_end(trainer, module)
    return module, optimizer


@pytest.mark.parametrize("accumulate", [1, 2])
def test_hooks_of_lightning(stubs, accumulate):
    watch = LightningMonitor()
    assert isinstance(watch, Base)
    assert isinstance(watch, LightningMonitor)
    module, optimizer = fit_as_lightning_does(watch, 3, accumulate)
    check(watch, 3, accumulate)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in module.modules())  # all taken off again
    assert not optimizer._optimizer_step_pre_hooks


class Wrapper:
    """As accelerate's optimizer: it holds the one that moves."""

    def __init__(self, optimizer):
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups


def train_as_transformers_does(watch, epochs, accumulate=1, with_loss=True, summed=False):
    model = Regression()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    state = SimpleNamespace(is_world_process_zero=True)
    watch.on_train_begin(None, state, None, model=model, optimizer=Wrapper(optimizer))
    for _ in range(epochs):
        for i in range(0, len(BATCHES), accumulate):
            watch.on_step_begin(None, state, None)
            total = 0.0
            for x, y in BATCHES[i : i + accumulate]:
                # With the number of examples of the whole step, the model divides by it itself.
                output = model(x / 1, labels=y, **({"num_items_in_batch": 1} if summed else {}))
                (output["loss"] / accumulate).backward()
                total += output["loss"].item() / accumulate
            optimizer.step()
            optimizer.zero_grad()
            if not with_loss:
                watch._losses = []
            watch.on_step_end(None, state, None)
            watch.on_log(None, state, None, logs={"loss": total})
        with torch.no_grad():
            model.eval()
            metrics = {"eval_loss": model(X, labels=Y)["loss"].item(), "eval_runtime": 1.0}
            model.train()
        watch.on_evaluate(None, state, None, metrics=metrics)
    watch.on_train_end(None, state, None)
    return model


@pytest.mark.parametrize(("accumulate", "with_loss"), [(1, True), (2, True), (1, False)])
def test_hooks_of_transformers(stubs, accumulate, with_loss):
    watch = TrainerMonitor()
    assert isinstance(watch, Base)
    model = train_as_transformers_does(watch, 3, accumulate, with_loss)
    check(watch, 3, accumulate)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_parts_of_a_sum_are_added(stubs):
    """Where transformers has the model divide by the examples of the whole step, the parts' sum is its loss."""
    watch = TrainerMonitor()
    train_as_transformers_does(watch, 1, 2, summed=True)
    losses, *_ = by_hand(1, 2)
    np.testing.assert_allclose(watch.diagnosis().signs.curves["loss"], 2 * np.asarray(losses), rtol=1e-5)


def test_report_copy_and_refusals(stubs, tmp_path):
    path = tmp_path / "why.json"
    watch = LightningMonitor(report=str(path))
    with pytest.raises(RuntimeError, match="no training has begun"):
        watch.diagnosis()
    copy = pickle.loads(pickle.dumps(watch))
    assert (type(copy), copy.report, copy.monitor) == (type(watch), str(path), None)
    fit_as_lightning_does(watch, 1)
    assert path.exists()
    with pytest.raises(ValueError, match="budget"):
        LightningMonitor(budget=0.0)
    with pytest.raises(ValueError, match="budget"):
        TrainerMonitor(budget=math.nan)
    with pytest.raises(ValueError, match=r"report: expected a name that ends in \.html"):
        TrainerMonitor(report="out.pdf")


def test_a_step_without_a_loss_is_said_once(stubs):
    watch = LightningMonitor()
    module, _ = fit_as_lightning_does(watch, 1)
    with pytest.warns(UserWarning, match="returned no loss"):
        watch.on_train_batch_end(SimpleNamespace(), module, None, None, 0)


@pytest.mark.parametrize(
    ("callback", "missing", "extra"),
    [(LightningMonitor, "lightning", "lightning"), (TrainerMonitor, "transformers", "transformers")],
)
def test_a_missing_framework_is_named_with_its_extra(callback, missing, extra, monkeypatch):
    for name in (missing, f"{missing}.pytorch", f"pytorch_{missing}"):
        monkeypatch.setitem(sys.modules, name, None)
    callbacks._over.cache_clear()
    with pytest.raises(ImportError, match=rf"attractor\[{extra}\]"):
        callback()


def test_in_lightning_itself():
    lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is an optional extra")
    callbacks._over.cache_clear()

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network()

        def training_step(self, batch, _):
            return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch, _):
            self.log("val_loss", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    for accumulate in (1, 2):
        watch = LightningMonitor()
        trainer = lightning.Trainer(
            max_epochs=3, callbacks=[watch], logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu", accumulate_grad_batches=accumulate,
        )  # fmt: skip
        data = torch.utils.data.TensorDataset(X, Y)
        loaders = [torch.utils.data.DataLoader(data, batch_size=size) for size in (4, 24)]
        trainer.fit(Module(), *loaders)
        check(watch, 3, accumulate)


def test_in_transformers_itself(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is an optional extra")
    pytest.importorskip("accelerate", reason="transformers' Trainer needs it")
    callbacks._over.cache_clear()
    rows = [{"inputs": x, "labels": y} for x, y in zip(X, Y, strict=True)]
    watch = TrainerMonitor()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), num_train_epochs=3, per_device_train_batch_size=4, per_device_eval_batch_size=24,
        learning_rate=0.1, lr_scheduler_type="constant", optim="sgd", max_grad_norm=0.0, eval_strategy="epoch",
        save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, label_names=["labels"],
    )  # fmt: skip

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(rows)

    InOrder(Regression(), arguments, train_dataset=rows, eval_dataset=rows, callbacks=[watch]).train()
    check(watch, 3)
