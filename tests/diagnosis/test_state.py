"""A state of training: every number against dense algebra, every planted fault found by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from attractor.diagnosis import diagnose
from attractor.diagnosis.state.sharpness import sharpness_signs

RNG = np.random.default_rng(2)
X = RNG.normal(size=(32, 4)).astype(np.float32)
Y = (X @ np.float32([1, -1, 2, 0]) + 0.1 * RNG.normal(size=32)).astype(np.float32)
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 32, 8)]


def params():
    rng = np.random.default_rng(3)
    return {"w1": rng.normal(size=(4, 6)).astype(np.float32) / 2, "b1": np.zeros(6, np.float32),
            "w2": rng.normal(size=(6, 1)).astype(np.float32) / 2}  # fmt: skip


def loss(p, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] - y[:, None]) ** 2)


GRADIENT = jax.jit(jax.value_and_grad(loss))


def dense_hessian(p):
    vector, unravel = ravel_pytree(p)
    stacked = jax.tree.map(lambda *a: np.stack(a), *BATCHES)
    return jax.jit(jax.hessian(lambda v: jax.vmap(lambda b: loss(unravel(v), b))(stacked).mean()))(vector)


def flat(tree):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)]).astype(float)


@pytest.fixture(scope="module")
def healthy():
    return diagnose(loss, params(), BATCHES, optimizer=optax.sgd(0.01, momentum=0.5), validation=BATCHES[0],
                    losses={"half": lambda p, b: loss(p, b) / 2, "whole": loss})  # fmt: skip


def test_its_numbers_are_those_of_dense_algebra(healthy):
    signs, p = healthy.signs, jax.tree.map(jnp.asarray, params())
    gradients = np.stack([flat(GRADIENT(p, b)[1]) for b in BATCHES])
    single, joint = np.mean((gradients**2).sum(1)), (gradients.mean(0) ** 2).sum()
    signal, noise = (4 * joint - single) / 3, 8 * (single - joint) * 4 / 3
    assert signs.number("noise scale") == pytest.approx(noise / signal, rel=1e-3)
    assert signs.number("batch size") == 8
    hessian = dense_hessian(p)
    assert signs.number("sharpness") == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-3)
    assert signs.number("threshold") == pytest.approx(3 / 0.01, rel=1e-3)
    norms, size = np.sqrt((gradients**2).sum(1)), np.linalg.norm(flat(p))
    losses = np.asarray([float(GRADIENT(p, b)[0]) for b in BATCHES])
    assert signs.curve("loss")[1] == pytest.approx([losses.mean()], rel=1e-5)
    assert signs.curve("validation loss")[1] == pytest.approx([losses[0]], rel=1e-5)
    assert signs.curve("gradient norm")[1] == pytest.approx([np.median(norms)], rel=1e-4)
    assert signs.curve("update ratio")[1] == pytest.approx([0.01 * np.median(norms) / size], rel=1e-4)
    assert signs.curve("weight norm")[1] == pytest.approx([size], rel=1e-5)
    assert signs.number("conflict") == pytest.approx(1, abs=1e-4)
    assert signs.notes == []


def test_its_layers_are_in_order_and_hold_weights_and_outputs(healthy):
    layers, p = healthy.signs.layers, params()
    assert [n.split(" ")[-1] for n in layers] == ["w1", "tanh", "w2"]
    assert layers["w1"].size == 30
    assert layers["w1"].trained
    assert layers["w1"].reached
    assert layers["w1"].weight == pytest.approx(np.sqrt(np.mean(np.r_[p["w1"].ravel(), p["b1"]] ** 2)), rel=1e-5)
    assert layers["w1"].output == pytest.approx(np.sqrt(np.mean((X @ p["w1"]) ** 2)), rel=1e-5)
    gradients = [np.asarray(GRADIENT(p, b)[1]["w2"]) for b in BATCHES]
    moved = [0.01 * np.linalg.norm(g) / np.linalg.norm(p["w2"]) for g in gradients]
    assert layers["w2"].update == pytest.approx(np.median(moved), rel=1e-4)
    assert layers["w2"].gradient == pytest.approx(np.sqrt(np.median([np.mean(g**2) for g in gradients])), rel=1e-4)


def test_adams_sharpness_is_that_of_the_preconditioned_hessian():
    p, optimizer = jax.tree.map(jnp.asarray, params()), optax.adam(0.01)
    state, update = optimizer.init(p), jax.jit(optimizer.update)
    for i in range(12):
        state = update(GRADIENT(p, BATCHES[i % 4])[1], state)[1]
    g = GRADIENT(p, BATCHES[3])[1]
    found = sharpness_signs(loss, p, BATCHES, optimizer, state, g, 0.0, jax.random.key(0), [])
    nu = flat(update(g, state)[1][0].nu)
    scale = (1 - 0.9**14) * np.sqrt(nu / (1 - 0.999**13))
    dense = np.linalg.eigvalsh(dense_hessian(p) / np.sqrt(np.outer(scale, scale)))[-1]
    assert found["sharpness"] == pytest.approx(dense, rel=5e-3)
    assert found["threshold"] == pytest.approx(3.8 / 0.1 / 0.01, rel=1e-3)


def test_a_step_too_large_is_found_tried_and_mended():
    found = diagnose(loss, params(), BATCHES, optimizer="sgd", learning_rate=3.0, confirm=True, steps=30)
    assert found.names[0] == "step too large"
    trial = found["step too large"].trial
    assert trial.helped
    assert trial.steps == 30
    ratio = found.signs.number("sharpness") / found.signs.number("threshold")
    assert f"{10 ** np.ceil(np.log10(max(ratio, 10))):.0f} times smaller" in trial.remedy
    # The same run, step by step.
    p, rate = params(), 3.0 / 10 ** np.ceil(np.log10(max(ratio, 10)))
    losses = []
    for i in range(30):
        value, gradient = GRADIENT(p, BATCHES[i % 4])
        p = jax.tree.map(lambda a, g: a - rate * np.asarray(g), p, gradient)
        losses.append(float(value))
    assert trial.with_remedy == pytest.approx(np.mean(losses[-3:]), rel=1e-3)


def test_a_frozen_and_a_cut_layer_and_losses_that_oppose():
    def cut(p, batch):
        return loss({**p, "w1": jax.lax.stop_gradient(p["w1"]), "b1": jax.lax.stop_gradient(p["b1"])}, batch)

    frozen = optax.multi_transform({"on": optax.sgd(0.01), "off": optax.set_to_zero()},
                                   {"w1": "on", "b1": "on", "w2": "off"})  # fmt: skip
    found = diagnose(cut, params(), BATCHES[0], optimizer=frozen, losses={"a": loss, "b": lambda p, b: -loss(p, b)})
    assert found["frozen layer"].where == "w2"
    assert found["disconnected layer"].where == "w1"
    assert found["conflicting losses"].number == pytest.approx(1, abs=1e-4)
    assert found.signs.number("noise scale") > 0, "a single batch is cut into parts"


def test_a_loss_that_is_not_finite_is_diagnosed_by_its_origin():
    def broken(p, batch):
        return jnp.mean(jnp.log(jnp.maximum(batch[0] @ p["w1"], 0)))

    found = diagnose(broken, params(), BATCHES, optimizer="sgd", learning_rate=0.1, confirm=True)
    assert found.names == ["not finite"]
    assert found["not finite"].where.startswith("log at test_state.py:")


def test_what_cannot_be_looked_at_is_a_note_and_no_error():
    @jax.custom_vjp
    def own(x):
        return x**2

    own.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))

    def summed(p, batch):  # no second derivative by jvp, no mean over examples
        return jnp.sum(own(batch[0] @ p["w1"]))

    found = diagnose(summed, params(), BATCHES[0])
    assert [n.split(":")[0] for n in found.signs.notes] == ["suspect labels"] or len(found.signs.notes) == 2
    assert "sharpness" in found.signs.numbers or any("sharpness" in n for n in found.signs.notes)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"loss": lambda p, b: p["w1"]}, TypeError, r"loss: expected a real scalar, got shape \(4, 6\)"),
        ({"loss": lambda p, b: (loss(p, b), 1)}, TypeError, "return the loss without more"),
        ({"params": {"w1": np.arange(3)}}, ValueError, "params: expected floating-point arrays"),
        ({"batches": []}, ValueError, "batches: expected at least one"),
        ({"state": ()}, ValueError, "optimizer: expected one beside state"),
        ({"confirm": True}, ValueError, "optimizer: expected one beside confirm"),
        ({"optimizer": optax.adam(0.1), "state": ()}, ValueError, "state: expected the optax state"),
        ({"steps": 3}, ValueError, "steps"),
        ({"losses": {"a": loss}}, ValueError, "losses: expected at least two"),
    ],
)
def test_bad_arguments_are_refused(change, error, words):
    given = {"loss": loss, "params": params(), "batches": BATCHES} | change
    with pytest.raises(error, match=words):
        diagnose(given.pop("loss"), given.pop("params"), given.pop("batches"), **given)
