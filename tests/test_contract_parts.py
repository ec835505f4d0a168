"""What every registered part that is no method promises, by its kind; see `attractor.registry.part`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import registry

LAYERS = [*registry.parts("layer"), *registry.parts("activation")]


def example(name: str):
    return registry.parts()[name].example()


def cast(tree, dtype):
    return jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, tree)


@eqx.filter_jit
def gradients(function, arguments):
    """Of a generic scalar of the outputs, in the parameters and in the arguments."""

    def scalar(both):
        outputs = both[0](*both[1])
        return jnp.sum(outputs * jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape).astype(outputs.dtype))

    return jax.tree.leaves(eqx.filter_grad(scalar)((function, arguments)))


@eqx.filter_jit
def call(function, arguments):
    return function(*arguments)


def test_every_kind_has_a_part_or_is_still_to_come():
    assert {entry.kind for entry in registry.parts().values()} >= set(registry.PART_KINDS) - {"activation"}


def test_registering_refuses_an_unknown_kind_and_a_name_that_is_taken():
    with pytest.raises(ValueError, match="kind"):
        registry.part("gadget", "x", example=lambda: None)
    with pytest.raises(ValueError, match="name: a part called 'rk4'"):
        registry.part("integrator", "rk4", example=lambda: None)(object())


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, subtests: pytest.Subtests):
    layer, arguments = example(name)
    plain = layer(*arguments)
    for dtype in (jnp.float32, jnp.bfloat16):
        with subtests.test("keeps the dtype", dtype=dtype.__name__):
            low = eqx.filter_eval_shape(lambda f, a: f(*a), cast(layer, dtype), cast(arguments, dtype))
            assert low.dtype == dtype
            assert low.shape == plain.shape
    with subtests.test("half precision is right up to its rounding"):
        half = call(cast(layer, jnp.bfloat16), cast(arguments, jnp.bfloat16))
        scale = float(jnp.abs(plain).max())
        np.testing.assert_allclose(np.asarray(half, float), plain, atol=0.05 * scale)
    with subtests.test("compiled it is the same"):
        np.testing.assert_allclose(call(layer, arguments), plain, rtol=1e-5, atol=1e-6)
    with subtests.test("batched it is a loop"):
        batch = [jax.tree.map(lambda a, f=f: f * a, arguments) for f in (1.0, 0.7, -1.3)]
        stacked = jax.tree.map(lambda *a: jnp.stack(a), *batch)
        looped = np.stack([call(layer, a) for a in batch])
        batched = jax.jit(jax.vmap(lambda a: layer(*a)))(stacked)
        np.testing.assert_allclose(batched, looped, rtol=1e-5, atol=1e-6)
    with subtests.test("every parameter and argument has a finite gradient, also where the input is zero"):
        leaves = gradients(layer, arguments)
        assert all(np.isfinite(g).all() for g in leaves)
        assert any(np.any(np.asarray(g) != 0) for g in leaves)
        assert all(np.isfinite(g).all() for g in gradients(layer, jax.tree.map(jnp.zeros_like, arguments)))


@pytest.mark.parametrize("name", registry.parts("operator"))
def test_operators(name: str, subtests: pytest.Subtests):
    operator, given = example(name)
    coarse, fine = operator(given(32)), call(operator, [given(96)])
    scale = float(np.abs(fine).max())
    with subtests.test("another grid gives the same function"):
        # The nonlinearity makes modes that the coarse grid does not hold; they are small for a smooth one.
        np.testing.assert_allclose(coarse, fine[:, ::3], atol=2e-3 * scale)
    with subtests.test("and the function is no constant"):
        assert float(np.std(fine, axis=-1).max()) > 1e-3 * scale
    with subtests.test("compiled and batched it is the same"):
        both = eqx.filter_jit(jax.vmap(operator))(jnp.stack([given(32), -given(32)]))
        np.testing.assert_allclose(both[0], coarse, atol=1e-5 * scale)
        np.testing.assert_allclose(both[1], call(operator, [-given(32)]), atol=1e-5 * scale)
    with subtests.test("gradients are finite, and not all zero"):
        leaves = gradients(operator, (given(32),))
        assert all(np.isfinite(g).all() for g in leaves)
        assert any(np.any(np.asarray(g) != 0) for g in leaves)


@pytest.mark.parametrize("name", registry.parts("integrator"))
def test_integrators_have_their_order(name: str):
    step, order = example(name)

    def field(x):  # of a pendulum with friction: nonlinear, and not one number
        return jnp.stack([x[1], -jnp.sin(x[0]) - 0.3 * x[1]])

    def end(steps: int):
        return jax.lax.fori_loop(0, steps, lambda _, x: step(field, x, 2.0 / steps), jnp.array([1.0, 0.5]))

    with jax.enable_x64(True):
        n = (4, 8, 16, 1024)
        *coarse, exact = (np.asarray(jax.jit(end, static_argnums=0)(k)) for k in n)
    errors = [np.linalg.norm(x - exact) for x in coarse]
    slopes = np.diff(np.log2(errors))
    np.testing.assert_allclose(slopes, -order, atol=0.4)


@pytest.mark.parametrize("name", registry.parts("forecaster"))
def test_forecasters(name: str, subtests: pytest.Subtests):
    forecast = example(name)
    t = jnp.arange(200.0)
    history = jnp.stack([jnp.sin(0.2 * t), 0.5 * jnp.cos(0.2 * t) + 0.1 * jnp.sin(0.5 * t)], axis=1)
    compiled = jax.jit(forecast, static_argnums=1)
    found = compiled(history, 7)
    with subtests.test("as many points as asked for, of the history's dtype, finite"):
        assert found.shape == (7, 2)
        assert found.dtype == history.dtype
        assert jnp.isfinite(found).all()
    with subtests.test("the same again, however long the horizon, compiled or not"):
        np.testing.assert_allclose(forecast(history, 4), found[:4], rtol=1e-3, atol=1e-3)
    with subtests.test("a shifted history has a shifted forecast"):
        np.testing.assert_allclose(compiled(history + 2, 7), found + 2, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", registry.parts("sampler"))
def test_samplers(name: str, subtests: pytest.Subtests):
    draw = jax.jit(example(name), static_argnums=1)
    points = draw(jr.key(0), 64)
    with subtests.test("n points in some dimension, finite"):
        assert points.ndim == 2
        assert len(points) == 64
        assert jnp.isfinite(points).all()
    with subtests.test("the key decides"):
        np.testing.assert_array_equal(points, draw(jr.key(0), 64))
        assert not np.array_equal(points, draw(jr.key(1), 64))
    with subtests.test("no two points are one"):
        assert len(np.unique(np.asarray(points), axis=0)) == 64


@pytest.mark.parametrize("name", registry.parts("solver"))
def test_solvers_solve_a_small_instance(name: str):
    error, tolerance = example(name)()
    assert float(error) <= tolerance
