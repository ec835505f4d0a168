"""The loop: right against loops written by hand, the same however it is cut, restartable after a kill."""

import functools
import os
import signal
import subprocess
import sys
import textwrap
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attractor import Federated, FixedPoint, Game, Gradient, Method, Minimization, engine, problems, run
from attractor.checkpoint import CheckpointError
from attractor.engine import flops_per_step
from attractor.progress import heard_by


def bowl(curvature=(1.0, 10.0)):
    return Minimization(lambda x: jnp.sum(jnp.asarray(curvature) * (x - 3.0) ** 2), init=jnp.zeros(len(curvature)))


def test_adam_follows_a_loop_written_by_hand():
    problem = bowl()
    trace = run(problem, optax.adam(0.1), steps=20, every=1)
    x, tx = jnp.zeros(2), optax.adam(0.1)
    state, losses = tx.init(x), []
    for _ in range(21):
        loss, grad = jax.value_and_grad(problem.loss)(x, None)
        losses.append(float(loss))
        updates, state = tx.update(grad, state, x)
        x = optax.apply_updates(x, updates)
    np.testing.assert_allclose(trace["loss"].values[0, 0], losses, rtol=1e-6)


def test_a_sweep_equals_its_runs_one_by_one():
    problem = problems.digits_logistic(batch_size=16)
    rates = [0.3, 0.03, 0.003]
    together = run(problem, optax.sgd, steps=12, every=4, seeds=[3, 5], sweep={"learning_rate": rates})
    for i, rate in enumerate(rates):
        alone = run(problem, optax.sgd(rate), steps=12, every=4, seeds=[3, 5])
        np.testing.assert_allclose(together["loss"].values[i], alone["loss"].values[0], rtol=2e-5)


@settings(max_examples=12, deadline=None)  # few distinct lanes and intervals, as each pair compiles
@given(steps=st.integers(1, 40), every=st.sampled_from([1, 7, 45]), lanes=st.sampled_from([None, 1, 3]))
def test_the_result_does_not_depend_on_how_the_loop_is_cut(steps, every, lanes):
    trace = _noisy_run(steps=steps, every=every, lanes=lanes)
    reference = _noisy_run(steps=40, every=1, lanes=None)
    assert trace.dataset["step"].values[-1] == steps
    at = trace.dataset["step"].values
    np.testing.assert_allclose(trace["loss"].values, reference["loss"].sel(step=at).values, rtol=1e-6)


NOISY = Minimization(
    lambda x, batch: jnp.mean((batch @ x - 1.0) ** 2), init=lambda key: jr.normal(key, (3,)),
    data=np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32), batch_size=4,
)  # fmt: skip


def _noisy_run(**how):
    return run(NOISY, optax.sgd, seeds=2, sweep={"learning_rate": [0.1, 0.01]}, **how)


def test_new_values_seeds_and_lengths_reuse_the_compiled_program():
    traced = []

    def loss(x):
        traced.append(1)
        return jnp.sum(x**2)

    problem = Minimization(loss, init=jnp.ones(2))
    run(problem, optax.sgd, steps=500, every=5, seeds=2, sweep={"learning_rate": [0.1, 0.2]})
    before = len(traced)
    run(problem, optax.sgd, steps=1_000, every=5, seeds=[8, 9], sweep={"learning_rate": [0.3, 0.4]})
    assert len(traced) == before


def test_a_diverged_configuration_is_recorded_and_disturbs_nobody():
    rates = [0.01, 10.0, 0.02]
    trace = run(bowl(), optax.sgd, steps=100, every=10, sweep={"learning_rate": rates})
    healthy = run(bowl(), optax.sgd, steps=100, every=10, sweep={"learning_rate": [0.01, 0.02]})
    assert trace.diverged.values.ravel().tolist() == [False, True, False]
    assert 10 <= float(trace.dataset["diverged_at"][1, 0]) <= 50
    np.testing.assert_array_equal(trace["loss"].values[[0, 2]], healthy["loss"].values)
    assert trace.best("loss") == 2


def test_structural_hyperparameters_form_groups_in_the_order_given():
    sweep = {"nesterov": [False, True], "learning_rate": [0.01, 0.02]}
    trace = run(bowl(), functools.partial(optax.sgd, momentum=0.9), steps=10, sweep=sweep)
    assert trace.dataset["nesterov"].values.tolist() == [False, False, True, True]
    for i in range(4):
        alone = run(bowl(), optax.sgd(momentum=0.9, **trace.configuration(i)), steps=10)
        np.testing.assert_allclose(trace["loss"].values[i], alone["loss"].values[0], rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_swept_hyperparameters_do_not_change_the_dtype(dtype):
    problem = Minimization(lambda x: jnp.sum(x**2), init=jnp.ones(3, dtype))
    trace = run(problem, optax.adam, steps=3, sweep={"learning_rate": [0.1, 0.2]})
    assert trace.final.dtype == dtype
    assert trace.final.shape == (2, 1, 3)


def test_probes_run_at_the_recording_interval_only_and_may_return_arrays():
    calls = []
    probes = {
        "x": lambda problem, x, key: x,
        "n": lambda p, x, key: jax.debug.callback(lambda: calls.append(1)) or x[0],
    }
    trace = run(bowl(), optax.sgd(0.01), steps=40, every=20, probes=probes)
    jax.effects_barrier()
    assert trace["x"].dims == ("config", "seed", "step", "x_0")
    assert len(calls) == 3


def test_a_model_with_static_parts_can_be_the_iterate():
    problem = problems.digits_mlp(width=8)
    trace = run(problem, optax.adam(1e-2), steps=50)
    assert float(trace["loss"][0, 0, -1]) < float(trace["loss"][0, 0, 0])


def test_extra_arguments_reach_the_transformation():
    def newton():
        def update(updates, state, x=None, *, hvp, **_):
            hessian = jax.vmap(hvp)(jnp.eye(2))
            return -jnp.linalg.solve(hessian, updates), state

        return optax.GradientTransformationExtraArgs(lambda x: optax.EmptyState(), update)

    trace = run(bowl(), newton(), steps=1)
    assert float(trace["loss"][0, 0, -1]) < 1e-10


class Extragradient(Method):
    step_size: float

    def step(self, problem: Game, x, state, key):
        half = jax.tree.map(lambda z, g: z - self.step_size * g, x, problem.field(x, None))
        return jax.tree.map(lambda z, g: z - self.step_size * g, x, problem.field(half, None)), state


def test_a_game_runs_through_the_same_loop_and_converges_at_the_known_rate():
    trace = run(problems.bilinear_game(), Extragradient(0.5), steps=200)
    rate = trace.rate("distance")
    # |1 - eta l + eta^2 l^2| at l = i: sqrt((1 - eta^2)^2 + eta^2)
    assert rate.law == "linear"
    assert abs(rate.value.value - np.sqrt((1 - 0.25) ** 2 + 0.25)) < 1e-4


def test_federated_loss_is_the_mean_over_clients():
    clients = np.random.default_rng(0).standard_normal((4, 6, 3)).astype(np.float32)
    problem = Federated(lambda x, batch: jnp.mean((batch - x) ** 2), jnp.zeros(3), clients, batch_size=2)
    assert problem.n_clients == 4
    np.testing.assert_allclose(problem.loss(jnp.ones(3), problem.full), np.mean((clients - 1) ** 2), rtol=1e-5)
    assert problem.sample(jr.key(0)).shape == (4, 2, 3)
    gradients = problem.client_gradients(jnp.zeros(3), problem.full)
    np.testing.assert_allclose(gradients, -2 * clients.mean(1) / 3, rtol=1e-4)
    assert float(run(problem, optax.sgd(0.1), steps=100)["loss"][0, 0, -1]) < 1.1


def test_a_wrong_kind_of_problem_is_refused_by_both_names():
    with pytest.raises(TypeError, match=r"Extragradient needs a Game problem, and this is a Minimization"):
        run(bowl(), Extragradient(0.1), steps=1)
    with pytest.raises(TypeError, match=r"Gradient needs a Minimization problem, and this is a FixedPoint"):
        run(FixedPoint(jnp.cos, jnp.zeros(())), optax.sgd(0.1), steps=1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"every": 0}, "every"),
        ({"lanes": -1}, "lanes"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"sweep": {"learning_rate": []}}, r"sweep\['learning_rate'\]"),
        ({"sweep": []}, "sweep"),
        ({"probes": {}}, "probes"),
        ({"static": ["momentum"]}, "static"),
        ({"static": "learning_rate"}, "static"),
    ],
)
def test_bad_arguments_are_named(change, named):
    with pytest.raises(ValueError, match=named):
        run(bowl(), optax.sgd, **({"steps": 3, "sweep": {"learning_rate": [0.1]}} | change))


def test_whole_numbers_of_numpy_are_whole_numbers(tmp_path):
    three, two = np.int64(3), np.int32(2)
    trace = run(bowl(), optax.sgd(0.01), steps=three, seeds=three, every=two, lanes=two)
    assert trace["loss"].shape == (1, 3, 3)
    trace.save(tmp_path / "trace.parquet")
    plain = run(bowl(), optax.sgd(0.01), steps=3, seeds=3, every=2, lanes=2)
    np.testing.assert_array_equal(trace["loss"].values, plain["loss"].values)


def with_warmup(peak, b1=0.9):
    return optax.adam(optax.warmup_cosine_decay_schedule(0.0, peak, 5, 20), b1)


def test_a_float_that_python_branches_on_is_named_and_can_be_made_static():
    sweep = {"b1": [0.9, 0.8], "peak": [0.1, 0.3]}
    with pytest.raises(TypeError, match=r"sweep: .*'peak', which.*static=\('peak',\)"):
        run(bowl(), with_warmup, steps=20, sweep=sweep)
    trace = run(bowl(), with_warmup, steps=20, sweep=sweep, static=["peak"])
    for i in range(4):
        alone = run(bowl(), with_warmup(**trace.configuration(i)), steps=20)
        np.testing.assert_allclose(trace["loss"].values[i], alone["loss"].values[0], rtol=1e-5)


def test_a_loss_that_branches_on_the_iterate_keeps_its_own_error():
    problem = Minimization(lambda x: jnp.sum(x) if x[0] > 0 else jnp.sum(x**2), jnp.zeros(2))
    with pytest.raises(jax.errors.TracerBoolConversionError):
        run(problem, optax.sgd, steps=1, sweep={"learning_rate": [0.1]})


def test_a_model_as_a_start_points_to_of_model():
    model = eqx.nn.MLP(2, 1, 4, 1, key=jr.key(0))
    for start in (model, {"net": model}, eqx.nn.Sequential([model])):
        with pytest.raises(TypeError, match=r"init: .*of_model\(build, loss, data\)"):
            Minimization(lambda x: jnp.zeros(()), start)
    with pytest.raises(TypeError, match=r"init: dict holds 'zero'"):
        Minimization(lambda x: jnp.zeros(()), {"a": "zero"})


class Start(eqx.Module):
    center: jax.Array

    def draw(self, key):
        return self.center + jr.normal(key, self.center.shape)


@pytest.mark.parametrize(
    "start",
    [
        Start(jnp.ones(2)).draw,
        eqx.Partial(Start.draw, Start(jnp.ones(2))),
        eqx.filter_jit(lambda key: 1 + jr.normal(key, (2,))),
        functools.partial(Start.draw, Start(jnp.ones(2))),
    ],
)
def test_functions_in_any_wrapping_draw_the_start(start):
    problem = Minimization(lambda x: jnp.sum(x**2), start)
    np.testing.assert_allclose(problem.init(jr.key(3)), 1 + jr.normal(jr.key(3), (2,)), rtol=1e-6)


def test_a_tree_that_can_be_called_is_a_point_and_is_not_called():
    layer = eqx.nn.Linear(2, 1, key=jr.key(0))
    problem = Minimization(lambda layer: jnp.sum((layer(jnp.ones(2)) - 3) ** 2), layer)
    trace = run(problem, optax.sgd(0.1), steps=30)
    assert float(trace["loss"][0, 0, -1]) < 1e-6


def test_a_factory_without_a_sweep_says_what_to_do():
    with pytest.raises(TypeError, match="sweep"):
        run(bowl(), optax.sgd(0.1), steps=3, sweep={"learning_rate": [0.1]})
    with pytest.raises(TypeError, match="method"):
        run(bowl(), "adam", steps=3)  # pyright: ignore[reportArgumentType]


def test_problems_refuse_bad_data():
    with pytest.raises(ValueError, match="data"):
        Minimization(lambda x, b: 0.0, jnp.zeros(1), (np.zeros((3, 2)), np.zeros(4)))
    with pytest.raises(ValueError, match="batch_size"):
        Minimization(lambda x, b: 0.0, jnp.zeros(1), np.zeros((3, 2)), batch_size=4)
    with pytest.raises(ValueError, match="clients"):
        Federated(lambda x, b: 0.0, jnp.zeros(1), np.zeros(3))


def test_flops_grow_with_the_problem():
    small = flops_per_step(problems.digits_mlp(width=32), Gradient(optax.sgd(0.1)))
    large = flops_per_step(problems.digits_mlp(width=64), Gradient(optax.sgd(0.1)))
    assert 1.5 < large / small < 2.5


SCRIPT = """
    import os, signal, sys
    import jax.numpy as jnp, jax.random as jr, numpy as np, optax
    from attractor import Minimization, run
    from attractor.checkpoint import Checkpoint
    folder, result, kill_after = sys.argv[1], sys.argv[2], int(sys.argv[3])
    saved, save = [], Checkpoint.save
    def counting(self, *arguments):
        save(self, *arguments)
        saved.append(1)
        if len(saved) == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
    Checkpoint.save = counting
    rows = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
    noisy = Minimization(lambda x, batch: jnp.mean((batch @ x - 1.0) ** 2), lambda key: jr.normal(key, (3,)),
                         data=rows, batch_size=4)
    trace = run(noisy, optax.adam, steps=600, every=10, seeds=2, sweep={"learning_rate": [0.1, 0.01]}, lanes=2,
                checkpoint=folder)
    trace.save(result)
    print(len(saved))
"""


def _script(tmp_path, folder, result, kill_after):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(path), str(folder), str(result), str(kill_after)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_killed_run_resumes_bit_identically(tmp_path):
    """That a checkpoint changes nothing is tested below, without other processes."""
    undisturbed = _script(tmp_path, tmp_path / "whole", tmp_path / "a.parquet", 0)
    assert undisturbed.returncode == 0, undisturbed.stderr
    cut = f"file://{tmp_path}/cut"
    killed = _script(tmp_path, cut, tmp_path / "b.parquet", 4)
    assert [p.name for p in (tmp_path / "cut").glob("*.ckpt")] == ["part-0.ckpt"]
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "b.parquet").exists()
    resumed = _script(tmp_path, cut, f"file://{tmp_path}/b.parquet", 0)
    assert resumed.returncode == 0, resumed.stderr
    assert int(resumed.stdout) == int(undisturbed.stdout) - 4  # what was saved before the kill was not done again
    from attractor import Trace

    first = Trace.load(tmp_path / "a.parquet").dataset
    assert first.identical(Trace.load(tmp_path / "b.parquet").dataset)


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path):
    how = {"steps": 20, "every": 1, "checkpoint": tmp_path}
    run(bowl(), optax.sgd, sweep={"learning_rate": [0.1]}, **how)
    for sweep, problem in (({"learning_rate": [0.2]}, bowl()), ({"learning_rate": [0.1]}, bowl((1.0, 2.0)))):
        with pytest.raises(CheckpointError, match="another run"):
            run(problem, optax.sgd, sweep=sweep, **how)
    file = tmp_path / "part-0.ckpt"
    content = file.read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match="damaged"):
            run(bowl(), optax.sgd, sweep={"learning_rate": [0.1]}, **how)
    flipped = bytearray(content)
    flipped[len(content) // 3] ^= 0xFF
    file.write_bytes(bytes(flipped))
    with pytest.raises(CheckpointError):
        run(bowl(), optax.sgd, sweep={"learning_rate": [0.1]}, **how)


def noisy():
    """A bowl seen through minibatches."""
    rows = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    return Minimization(lambda x, batch: jnp.mean((batch - x) ** 2), jnp.zeros(2), rows, batch_size=4)


@pytest.mark.parametrize(("first", "every"), [(20, 1), (100, 10)])
def test_a_finished_run_is_extended_to_the_same_bits(tmp_path, monkeypatch, first, every):
    monkeypatch.setenv("HOME", str(tmp_path))
    how = {"sweep": {"learning_rate": [0.1, 0.01]}, "seeds": 2, "every": every}
    run(noisy(), optax.adam, steps=first, checkpoint="~/kept", **how)
    assert (tmp_path / "kept" / "part-0.ckpt").exists()
    told = []
    with heard_by(lambda label, done, total, unit: told.append(done)):
        longer = run(noisy(), optax.adam, steps=3 * first, checkpoint="~/kept", **how)
    assert first in told  # where it went on
    assert longer.dataset.identical(run(noisy(), optax.adam, steps=3 * first, **how).dataset)
    for steps, interval in ((first + 1, every), (6 * first, 2 * every)):
        with pytest.raises(CheckpointError, match="belongs to another run"):
            run(noisy(), optax.adam, steps=steps, checkpoint="~/kept", **how | {"every": interval})


def test_lanes_are_spread_over_devices(tmp_path):
    script = tmp_path / "devices.py"
    script.write_text(
        textwrap.dedent("""
        import jax, jax.numpy as jnp, numpy as np, optax
        from attractor import Minimization, engine, run
        assert len(jax.devices()) == 2
        bowl = Minimization(lambda x: jnp.sum(jnp.array([1.0, 4.0]) * (x - 1.0) ** 2), init=jnp.array([3.0, -2.0]))
        how = dict(steps=20, every=5, seeds=2, sweep={"learning_rate": [0.1, 0.01, 0.03, 0.3]})
        trace = run(bowl, optax.sgd, **how)
        split, whole = engine._placement(4)
        assert len(split(jax.numpy.zeros((4, 2))).sharding.device_set) == 2
        np.save("out.npy", trace["loss"].values)
        """)
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bowl = Minimization(lambda x: jnp.sum(jnp.array([1.0, 4.0]) * (x - 1.0) ** 2), init=jnp.array([3.0, -2.0]))
    single = run(bowl, optax.sgd, steps=20, every=5, seeds=2, sweep={"learning_rate": [0.1, 0.01, 0.03, 0.3]})
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), single["loss"].values, rtol=1e-5)


SHARDED = """
import functools, sys
import jax, jax.numpy as jnp, numpy as np, optax, pytest
from jax.sharding import NamedSharding, PartitionSpec
from attractor import Minimization, engine, run

assert len(jax.devices()) == 8
mesh = jax.make_mesh((4, 2), ("model", "data"))  # of JAX's explicit kind
on = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
rng = np.random.default_rng(0)
inputs, targets = rng.normal(size=(64, 16)), rng.normal(size=(64, 8))
start = {"b": jnp.zeros(3), "w": jnp.asarray(rng.normal(size=(16, 8)))}

def loss(x, batch):
    return jnp.mean((jnp.tanh(batch[0] @ x["w"]) - batch[1]) ** 2) + jnp.sum((x["b"] - 1) ** 2)

shapes, compiled = [], engine._program

def spy(program, call, carry):
    assert call[0].problem.full[0].sharding.spec == expected
    result = program(call, carry)
    for leaf in jax.tree.leaves(result[0]):
        if leaf.shape[2:] == (16, 8):  # w, and Adam's two averages
            shapes.append(leaf.addressable_shards[0].data.shape)
    return result

how = dict(steps=150, every=50, seeds=2, sweep={"learning_rate": [0.1, 0.01]})
for number, expected in enumerate([PartitionSpec(), PartitionSpec("data")]):
    data = jax.device_put((inputs, targets), NamedSharding(mesh, expected))
    problem = Minimization(loss, start, data)
    plain = run(Minimization(loss, start, (inputs, targets)), optax.adam, **how)
    engine._program = lambda *arguments: functools.partial(spy, compiled(*arguments))
    folder = f"{sys.argv[1]}/{number}"
    split = run(problem, optax.adam, sharding={"b": None, "w": on("model")}, checkpoint=folder, **how)
    again = run(problem, optax.adam, sharding={"b": None, "w": on("model")}, checkpoint=folder, **how)
    longer = run(problem, optax.adam, sharding={"b": None, "w": on("model")}, checkpoint=folder, **how | {"steps": 200})
    engine._program = compiled
    np.testing.assert_allclose(split["loss"], plain["loss"], rtol=1e-9)
    np.testing.assert_allclose(split.final["w"], plain.final["w"], rtol=1e-6)
    np.testing.assert_array_equal(split["loss"], again["loss"])
    np.testing.assert_array_equal(longer["loss"][..., :4], split["loss"])
    assert len(longer["loss"].step) == 5
assert len(shapes) >= 12 and set(shapes) == {(2, 2, 4, 8)}, shapes  # lanes, then a quarter of the rows

one = run(problem, optax.adam, sharding=on(), **how)  # replicated: the data are what is split
np.testing.assert_allclose(one["loss"], plain["loss"], rtol=1e-9)
for wrong, message in (
    ({"w": None}, "sharding: expected a NamedSharding, or a tree of them like the iterate"),
    ({"b": on("model"), "w": None}, "sharding.'b'.: an array of shape .3,. cannot be split so"),
    (PartitionSpec("model"), "sharding.'b'.: expected a jax.sharding.NamedSharding or None, got P"),
):
    with pytest.raises(ValueError, match=message):
        run(problem, optax.adam, sharding=wrong, **how)
"""


def test_a_large_iterate_is_split_over_devices(tmp_path):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    environment["JAX_ENABLE_X64"] = "1"
    command = [sys.executable, "-c", SHARDED, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_as_many_lanes_as_memory_is_free_for(tmp_path, monkeypatch):
    """A lane works with 1,000 residuals, 4 kB, and records three rows of 100 numbers, 1.2 kB."""
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(1_000, 3)), jnp.float32)
    problem = Minimization(lambda x, batch: jnp.mean((batch @ x - 2) ** 2), jnp.ones(3), rows)
    how = {"steps": 20, "every": 10, "sweep": {"learning_rate": list(np.linspace(0.1, 0.9, 11))}, "seeds": 3}
    how["probes"] = {"loss": problem.probes["loss"], "row": lambda p, x, key: jnp.full(100, x[0])}
    whole, widths, pieces = run(problem, optax.adam, **how), [], engine._pieces
    monkeypatch.setattr(engine, "_pieces", lambda job, lanes: widths.append(lanes) or pieces(job, lanes))
    monkeypatch.setattr(engine, "free_memory", lambda: 100_000.0)
    told = []
    with heard_by(lambda label, done, total, unit: told.append((done, total))):
        cut = run(problem, optax.adam, checkpoint=tmp_path, **how)
    assert widths == [8] or widths == [16]  # a power of two
    np.testing.assert_allclose(cut["loss"], whole["loss"], rtol=1e-5)
    assert told[-1] == (pytest.approx(20), 20)
    assert cut.dataset.identical(run(problem, optax.adam, checkpoint=tmp_path, **how).dataset)
    (width, *_) = widths
    with pytest.raises(MemoryError, match=rf"33 at a time need .* GB .*9e-05 GB are free; lanes={width} would fit"):
        run(problem, optax.adam, lanes=33, **how)
    assert run(problem, optax.adam, lanes=width, **how).dataset.identical(cut.dataset)
    monkeypatch.setattr(engine, "free_memory", lambda: 1.0)  # one lane at a time is tried all the same
    assert len(run(problem, optax.adam, **how | {"seeds": 1})["loss"].config) == 11
    assert widths[-1] == 1


def test_memory_that_runs_out_at_work_halves_the_lanes(tmp_path, monkeypatch):
    """As a GPU says it, where more was taken meanwhile than the program was known to need: at the third call."""
    problem, compiled, widths, kept = (
        Minimization(lambda x: jnp.sum((x - 2) ** 2), jnp.ones(3)),
        engine._program,
        [],
        [],
    )

    def called_by(run_it):
        monkeypatch.setattr(engine, "_program", lambda *arguments: functools.partial(run_it, compiled(*arguments)))

    def card(program, call, carry):
        setup, first, *_ = call
        lanes = len(setup.lane) * setup.seeds.shape[-1]
        widths.append(lanes)
        if first > 1 and lanes > 4:
            assert not any(held() is not None for held in kept)  # what the calls before worked on is given up
            kept.append(weakref.ref(carry[0]))
            raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: Out of memory allocating {lanes} bytes.\nmore")
        return program(call, carry)

    def never(program, *arguments):
        raise jax.errors.JaxRuntimeError(message)

    how = {"steps": 200, "every": 64, "sweep": {"learning_rate": list(np.linspace(0.01, 0.4, 11))}, "seeds": 3}
    whole, told = run(problem, optax.sgd, **how), []
    called_by(card)
    with heard_by(lambda label, done, total, unit: told.append((done, total))):
        cut = run(problem, optax.sgd, checkpoint=tmp_path, **how)
    assert list(dict.fromkeys(widths)) == [33, 16, 8, 4]
    np.testing.assert_allclose(cut["loss"], whole["loss"], rtol=1e-5)
    assert told[-1] == (pytest.approx(200), 200)
    assert max(done for done, _ in told) <= 200 + 1e-9
    said = r"lanes: 33 at a time need more memory .*RESOURCE_EXHAUSTED: .* 33 bytes\.\); lanes=16 may fit$"
    with pytest.raises(MemoryError, match=said):
        run(problem, optax.sgd, lanes=33, **how)
    called_by(never)
    message = "RESOURCE_EXHAUSTED: Out of memory"
    with pytest.raises(MemoryError, match="one needs more memory than there is, and sharding= may split it"):
        run(problem, optax.sgd(0.1), steps=2)
    message = "INTERNAL: something else"
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        run(problem, optax.sgd, **how)


def test_free_memory_is_that_of_the_accelerator_or_of_the_machine(monkeypatch):
    here = engine.free_memory()
    assert here is None or 1e6 < here < 1e15
    for stats, free in (({"bytes_limit": 100, "bytes_in_use": 30}, 70), ({"bytes_in_use": 30}, None)):
        device = type("Card", (), {"memory_stats": lambda self, stats=stats: stats})()
        monkeypatch.setattr(jax, "local_devices", lambda device=device: [device])
        assert engine.free_memory() == free


def test_state_may_hold_keys_and_static_parts(tmp_path):
    class Walk(Method):
        def init(self, problem, x, key):
            return {"key": key, "f": jnp.tanh}

        def step(self, problem: Minimization, x, state, key):
            first, second = jr.split(state["key"])
            return x + state["f"](jr.normal(second, x.shape)), {"key": first, "f": state["f"]}

    how = {"steps": 30, "every": 1, "seeds": 2}
    plain = run(bowl(), Walk(), **how)
    saved = run(bowl(), Walk(), checkpoint=tmp_path, **how)
    again = run(bowl(), Walk(), checkpoint=tmp_path, **how)
    assert plain.dataset.identical(saved.dataset)
    assert plain.dataset.identical(again.dataset)
    assert eqx.tree_equal(plain.final, again.final)
