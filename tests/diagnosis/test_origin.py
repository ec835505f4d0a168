"""Where a number that is not finite comes from: planted in losses whose bad line is known."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.diagnosis.state.origin import origin

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
PARAMS = {"w": np.eye(3, dtype=np.float32)}


def logarithm(params, batch):
    h = jax.nn.relu(batch["x"] @ params["w"])
    return jnp.mean(jnp.log(h))  # bad: log


def root(params, batch):
    h = 0 * batch["x"] @ params["w"]
    return jnp.sum(jnp.sqrt(jnp.sum(h**2, 1)))  # bad: div


def guarded(params, batch):
    h = batch["x"] @ params["w"]
    guarded = jnp.where(h > 0, jnp.log(jnp.maximum(h, 0)), 0.0)  # an infinity, taken out again
    return jnp.sum(guarded) + jnp.sum(jnp.exp(h * 100))  # bad: exp


def masked(params, batch):
    scores = batch["x"] @ params["w"]
    scores = jnp.where(jnp.tril(jnp.ones((4, 3))) > 0, scores, -jnp.inf)
    return jnp.sum(jax.nn.softmax(scores) ** 2)


def masked_out(params, batch):
    scores = jnp.where(batch["x"] > 9, batch["x"] @ params["w"], -jnp.inf)
    return jnp.sum(jax.nn.softmax(scores))  # bad: sub


def recurrent(params, batch):
    def turn(h, x):
        h = jnp.exp(60 * x + h)  # bad: exp
        return h, h

    return jnp.sum(jax.lax.scan(turn, jnp.zeros(3), batch["x"] @ params["w"])[1])


def held(params, batch):
    @jax.jit
    def inner(h):
        return 1 / (h - h)  # bad: div

    return jnp.sum(jax.checkpoint(lambda h: inner(h))(batch["x"] @ params["w"]))


def line_of(loss):
    lines, first = inspect.getsourcelines(loss)
    at = next(i for i, line in enumerate(lines) if "# bad: " in line)
    return lines[at].split("# bad: ")[1].strip(), f"test_origin.py:{first + at}"


@pytest.mark.parametrize("loss", [logarithm, guarded, masked_out, recurrent, held])
def test_the_operation_and_its_line_are_named(loss):
    operation, place = line_of(loss)
    assert origin(loss, PARAMS, {"x": X}).startswith(f"{operation} at {place} (")


def test_a_gradient_that_breaks_where_the_loss_does_not():
    operation, place = line_of(root)
    assert origin(root, PARAMS, {"x": X}) == f"{operation} in the gradient of {place} (root)"


def test_a_mask_is_no_fault():
    assert origin(masked, PARAMS, {"x": X}) == ""


def test_inputs_and_parameters_that_were_broken_before():
    broken = X.copy()
    broken[2, 1] = np.nan
    assert origin(masked, PARAMS, {"x": broken}) == "the batch, x (examples 2)"
    assert origin(masked, {"w": np.full((3, 3), np.nan, np.float32)}, {"x": X}) == "a parameter, w"
