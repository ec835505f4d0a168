"""Every instrument against dense algebra, or a case in closed form, on a small generic network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from attractor.landscape import (
    adam_preconditioner,
    antisymmetry,
    extreme_eigenvalues,
    filter_normalized,
    gradient_noise_scale,
    kernel_alignment,
    lanczos_coefficients,
    linear_barrier,
    linear_cka,
    loss_slice,
    match_units,
    neural_collapse,
    preconditioned,
    random_subspace,
    sharpness,
    sketched_tangent_kernel,
    soft_rank,
    spectral_density,
    stability_threshold,
    tangent_kernel,
    tangent_kernel_product,
    unit_activity,
    update_ratios,
)
from attractor.linalg import hutchinson_trace, hutchpp_trace, hvp

RNG = np.random.default_rng(0)
INPUTS = jnp.asarray(RNG.standard_normal((7, 3)), jnp.float32)
PARAMS, STATIC = eqx.partition(eqx.nn.MLP(3, 2, 4, 1, activation=jnp.tanh, key=jr.key(0)), eqx.is_array)


def model(params, x):
    return eqx.combine(params, STATIC)(x)


def loss(params):
    return jnp.mean(jnp.sum((jax.vmap(lambda x: model(params, x))(INPUTS) - jnp.sin(INPUTS[:, :2])) ** 2, 1))


@pytest.fixture(scope="module")
def dense():
    """The Hessian, its eigenvalues, and the Jacobian ``(n, k, p)``."""
    flat, restore = ravel_pytree(PARAMS)
    hessian = np.asarray(jax.hessian(lambda z: loss(restore(z)))(flat), float)
    jacobian = jax.vmap(lambda x: jax.jacrev(lambda z: model(restore(z), x))(flat))(INPUTS)
    return hessian, np.linalg.eigvalsh(hessian), np.asarray(jacobian, float)


def test_the_ends_and_the_moments_of_a_spectrum(dense):
    hessian, values, _ = dense
    p = len(hessian)
    low, high = jax.jit(lambda q: extreme_eigenvalues(hvp(loss, q), q, iterations=p))(PARAMS)
    np.testing.assert_allclose([low, high], values[[0, -1]], rtol=1e-4, atol=1e-5)
    few = jax.jit(lambda q: extreme_eigenvalues(hvp(loss, q), q, iterations=6))(PARAMS)
    assert values[0] - 1e-5 <= few[0] < few[1] <= values[-1] + 1e-5
    found = jax.jit(lambda q: spectral_density(hvp(loss, q), q, probes=400, iterations=10))(PARAMS)
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-5)
    spread = np.sqrt(2 * np.mean((values - values.mean()) ** 2) / p / 400)
    assert abs(found.mean() - values.mean()) < 4 * spread
    np.testing.assert_allclose(found.mean(jnp.square), np.mean(values**2), rtol=0.15)
    grid = jnp.linspace(-8.0, 12.0, 4_001)
    np.testing.assert_allclose(jnp.sum(found.density(grid, 0.3)) * (grid[1] - grid[0]), 1, rtol=1e-3)
    narrow = np.exp(-((np.asarray(grid)[:, None] - values) ** 2) / (2 * 0.3**2)).mean(1) / (0.3 * np.sqrt(2 * np.pi))
    assert np.abs(found.density(grid, 0.3) - narrow).max() < 0.1 * narrow.max()


def test_traces(dense):
    hessian, _, _ = dense
    product, p = hvp(loss, PARAMS), len(hessian)
    estimate, error = jax.jit(lambda k: hutchinson_trace(product, PARAMS, k, 2_000))(jr.key(1))
    assert abs(estimate - np.trace(hessian)) < 4 * error
    off = 2 * (np.sum(hessian**2) - np.sum(np.diag(hessian) ** 2))
    np.testing.assert_allclose(error, np.sqrt(off / 2_000), rtol=0.2)
    assert np.isnan(hutchinson_trace(lambda v: v, jnp.ones(2), jr.key(1), 1)[1])
    whole = jax.jit(lambda k: hutchpp_trace(product, PARAMS, k, 3 * p))(jr.key(2))
    np.testing.assert_allclose(whole, np.trace(hessian), rtol=1e-4)
    keys = jr.split(jr.key(3), 200)
    sketched = jax.jit(jax.vmap(lambda k: hutchpp_trace(product, PARAMS, k, 15)))(keys)
    assert abs(sketched.mean() - np.trace(hessian)) < 4 * sketched.std() / 200**0.5
    plain = jax.jit(jax.vmap(lambda k: hutchinson_trace(product, PARAMS, k, 15)[0]))(keys)
    assert sketched.std() < plain.std()


def test_tangent_kernels(dense):
    jacobian = dense[2]
    expected = np.einsum("nkp,mlp->nmkl", jacobian, jacobian)
    exact = jax.jit(lambda x: tangent_kernel(model, PARAMS, x))(INPUTS)
    np.testing.assert_allclose(exact, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tangent_kernel(model, PARAMS, INPUTS[:3], INPUTS), expected[:3], rtol=1e-4, atol=1e-5)
    v = jnp.asarray(RNG.standard_normal((7, 2)), jnp.float32)
    product = jax.jit(tangent_kernel_product(model, PARAMS, INPUTS))(v)
    np.testing.assert_allclose(product, np.einsum("nmkl,ml->nk", expected, v), rtol=1e-4, atol=1e-4)
    sketch = jax.jit(lambda k: sketched_tangent_kernel(model, PARAMS, INPUTS, key=k, size=4_000))(jr.key(0))
    diagonal = np.einsum("nnkk->nk", expected)
    limit = np.sqrt(2 / 4_000 * np.einsum("nk,ml->nmkl", diagonal, diagonal))
    assert np.max(np.abs(np.asarray(sketch) - expected) / limit) < 4.5
    trace = exact.trace(axis1=2, axis2=3)
    np.testing.assert_allclose(kernel_alignment(trace, 3 * trace + 2.0), 1, rtol=1e-5)
    assert abs(kernel_alignment(trace, 3 * trace + 2.0, centered=False)) < 1
    y = np.where(np.arange(7) % 2, 1.0, -1.0)
    h = np.eye(7) - 1 / 7
    a, b = h @ np.asarray(trace, float) @ h, h @ np.outer(y, y) @ h
    cosine = np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)
    np.testing.assert_allclose(kernel_alignment(trace, jnp.asarray(np.outer(y, y), jnp.float32)), cosine, rtol=1e-4)


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        (lambda eta: optax.sgd(eta), {}),
        (lambda eta: optax.sgd(eta, momentum=0.8), {"momentum": 0.8}),
        (lambda eta: optax.sgd(eta, momentum=0.8, nesterov=True), {"momentum": 0.8, "nesterov": True}),
        (lambda eta: optax.chain(optax.ema(0.8, debias=False), optax.sgd(eta)), {"momentum": 0.8, "averaged": True}),
    ],
)
def test_descent_blows_up_just_above_the_threshold_and_not_below(optimizer, kind):
    eta, lengths = 0.3, []
    for curvature in (0.98, 1.02):
        curvature = curvature * float(stability_threshold(eta, **kind))
        method, x = optimizer(eta), jnp.asarray(1.0)
        state = method.init(x)
        for _ in range(400):
            update, state = method.update(curvature * x, state, x)
            x = x + update
        lengths.append(abs(float(x)))
    assert lengths[0] < 1 < lengths[1]


def test_sharpness_against_the_threshold_of_adam(dense):
    optimizer = optax.chain(optax.clip(1.0), optax.adam(0.01, b1=0.7, b2=0.9, eps=1e-3))
    state = optimizer.init(PARAMS)
    gradients = jax.jit(jax.grad(loss))(PARAMS)
    for _ in range(3):
        _, state = optimizer.update(gradients, state, PARAMS)
    scale = adam_preconditioner(state, b1=0.7, b2=0.9, eps=1e-3)
    gradient = ravel_pytree(jax.tree.map(lambda g: jnp.clip(g, -1, 1), gradients))[0]
    expected = (1 - 0.7**4) * (np.abs(np.asarray(gradient, float)) + 1e-3)
    np.testing.assert_allclose(ravel_pytree(scale)[0], expected, rtol=1e-4)
    top = np.max(np.linalg.eigvals(dense[0] / expected[:, None]).real)
    limit = stability_threshold(0.01, momentum=0.7, averaged=True)
    found = jax.jit(lambda q: sharpness(preconditioned(hvp(loss, q), scale), q, limit, iterations=len(expected)))(
        PARAMS
    )
    np.testing.assert_allclose(found, [top, 3.4 / 0.3 / 0.01, top * 0.01 * 0.3 / 3.4], rtol=1e-3)
    with pytest.raises(ValueError, match=r"one optax\.ScaleByAdamState"):
        adam_preconditioner(optax.sgd(0.1).init(PARAMS))
    with pytest.raises(ValueError, match="nesterov"):
        stability_threshold(0.1, nesterov=True, averaged=True)


def test_gradient_noise_is_unbiased():
    true, sigma = np.array([0.3, -0.2, 0.1]), np.array([1.0, 0.5, 2.0])
    draws = true + sigma * RNG.standard_normal((20_000, 4, 3)) / np.sqrt(5)  # four batches of five examples
    found = jax.vmap(lambda g: gradient_noise_scale({"w": g[:, :2], "b": g[:, 2]}, examples=5))(jnp.asarray(draws))
    np.testing.assert_allclose(found.noise.mean(), np.sum(sigma**2), rtol=0.02)
    np.testing.assert_allclose(found.signal.mean(), np.sum(true**2), atol=4 * found.signal.std() / 20_000**0.5)
    one = gradient_noise_scale(jnp.asarray([[3.0, 1.0], [1.0, 1.0]]))
    np.testing.assert_allclose([one.signal, one.noise, one.batch], [4.0, 2.0, 0.5], rtol=1e-6)
    assert np.isinf(gradient_noise_scale(jnp.asarray([[1.0], [-1.0]])).batch)
    with pytest.raises(ValueError, match="at least two batches"):
        gradient_noise_scale(jnp.ones((1, 3)))


def test_the_antisymmetric_share_of_a_field():
    matrix = jnp.asarray(RNG.standard_normal((5, 5)), jnp.float32)
    expected = np.sum((matrix - matrix.T) ** 2) / (4 * np.sum(matrix**2))
    found = jax.jit(lambda z: antisymmetry(lambda z: matrix @ z, z, probes=4_000))(jnp.ones(5))
    np.testing.assert_allclose(found, expected, rtol=0.05)
    np.testing.assert_allclose(
        antisymmetry(lambda z: {"x": z["y"], "y": -z["x"]}, {"x": jnp.ones(2), "y": jnp.ones(2)}), 1, rtol=1e-6
    )
    assert jax.jit(lambda q: antisymmetry(jax.grad(loss), q))(PARAMS) < 1e-8
    assert antisymmetry(jnp.zeros_like, jnp.ones(3)) == 0


def test_collapse_is_complete_for_a_simplex_and_measured_otherwise():
    simplex = np.eye(4) - 1 / 4
    labels = np.array([0, 1, 2, 3, 3, 2])
    rotation = np.linalg.qr(RNG.standard_normal((6, 6)))[0][:, :4]
    means = simplex @ rotation.T + RNG.standard_normal(6)  # moved as a whole, which changes nothing
    arrays = [jnp.asarray(a, jnp.float32) for a in (means[labels], 2 * simplex @ rotation.T)]
    collapse = jax.jit(neural_collapse, static_argnums=2)
    found = collapse(arrays[0], jnp.asarray(labels), 4, arrays[1], -arrays[1] @ jnp.asarray(means.mean(0), jnp.float32))
    np.testing.assert_allclose(found, 0, atol=1e-4)

    features, labels = RNG.standard_normal((40, 6)), np.arange(40) % 3
    weight, bias = RNG.standard_normal((3, 6)), RNG.standard_normal(3)
    class_means = np.stack([features[labels == c].mean(0) for c in range(3)])
    centered = class_means - class_means.mean(0)
    within = np.mean([np.cov(features[labels == c].T, bias=True) for c in range(3)], 0)
    nc1 = np.trace(within @ np.linalg.pinv(centered.T @ centered / 3, rcond=1e-10)) / 3
    lengths = np.linalg.norm(centered, axis=1)
    cosines = [centered[i] @ centered[j] / lengths[i] / lengths[j] for i in range(3) for j in range(3) if i != j]
    nc3 = np.sum((weight / np.linalg.norm(weight) - centered / np.linalg.norm(centered)) ** 2)
    nearest = np.linalg.norm(features[:, None] - class_means, axis=2).argmin(1)
    nc4 = np.mean((features @ weight.T + bias).argmax(1) != nearest)
    expected = [nc1, lengths.std() / lengths.mean(), np.mean(np.abs(np.array(cosines) + 1 / 2)), nc3, nc4]
    arrays = [jnp.asarray(a, jnp.float32) for a in (features, weight, bias)]
    found = collapse(arrays[0], jnp.asarray(labels), 3, *arrays[1:])
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert np.isnan(collapse(arrays[0], jnp.asarray(labels), 3).duality)
    with pytest.raises(ValueError, match="classes"):
        neural_collapse(arrays[0], jnp.asarray(labels), 1)


def test_representations_that_are_alike():
    a = jnp.asarray(RNG.standard_normal((60, 5)), jnp.float32)
    rotation = jnp.asarray(np.linalg.qr(RNG.standard_normal((5, 5)))[0], jnp.float32)
    cka = jax.jit(linear_cka, static_argnames="unbiased")
    for unbiased in (True, False):
        np.testing.assert_allclose(cka(a, 3 * a @ rotation + 1, unbiased=unbiased), 1, rtol=1e-3)
    wide = jnp.asarray(RNG.standard_normal((2, 30, 400)), jnp.float32)  # wide, few inputs, nothing in common
    assert cka(*wide, unbiased=False) > 0.8
    assert abs(cka(*wide, unbiased=True)) < 0.2
    x, y = (np.asarray(z, float) for z in (a, a**2))
    centered = [z - z.mean(0) for z in (x, y)]
    cross, own = np.linalg.norm(centered[1].T @ centered[0]) ** 2, [np.linalg.norm(z.T @ z) for z in centered]
    np.testing.assert_allclose(cka(a, a**2, unbiased=False), cross / own[0] / own[1], rtol=1e-4)
    with pytest.raises(ValueError, match="at least 4"):
        linear_cka(a[:3], a[:3])

    order = np.array([3, 0, 4, 1])
    found = match_units(a[:, order] * jnp.asarray([2.0, 1.0, 0.5, 3.0]) - 1, a)
    np.testing.assert_array_equal(found.partner, order)
    np.testing.assert_allclose(found.correlation, 1, rtol=1e-5)
    assert match_units(jnp.ones((60, 1)), a).correlation[0] == 0
    with pytest.raises(ValueError, match="no fewer units"):
        match_units(a, a[:, :2])


def test_units_ranks_and_updates():
    activations = jnp.asarray([[0.0, 0.5, 1.0, 0.2], [0.0, 0.5, 0.995, 0.9]])
    found = unit_activity(activations, high=1.0)
    np.testing.assert_allclose(found, [1 / 4, 1 / 2, 2 / 8], rtol=1e-6)
    both = unit_activity(2 * activations - 1, low=-1.0, high=1.0)
    np.testing.assert_allclose([both.dead, both.saturated], [1 / 4, 4 / 8], rtol=1e-6)  # 2 * 0.5 - 1 = 0 is dead, too
    assert np.isnan(unit_activity(activations).saturated)

    sigma = np.array([3.0, 1.0, 0.5])
    left, right = (np.linalg.qr(RNG.standard_normal((n, 3)))[0] for n in (8, 5))
    matrix = jnp.asarray((left * sigma) @ right.T, jnp.float32)
    p = sigma / sigma.sum()
    expected = [np.exp(-np.sum(p * np.log(p))), np.sum(sigma**2) / 9, 3]
    np.testing.assert_allclose(soft_rank(matrix, centered=False), expected, rtol=1e-4)
    np.testing.assert_allclose(soft_rank(jnp.ones((4, 3))), 0, atol=1e-6)
    np.testing.assert_allclose(soft_rank(jnp.ones((4, 3)), centered=False), 1, rtol=1e-3)

    found = update_ratios({"w": jnp.asarray([3.0, 4.0]), "b": jnp.zeros(2), "c": jnp.zeros(1)},
                          {"w": jnp.asarray([0.0, 0.1]), "b": jnp.ones(2), "c": jnp.zeros(1)})  # fmt: skip
    np.testing.assert_allclose([found["w"], found["b"], found["c"]], [0.02, np.inf, 0.0], rtol=1e-6)


def test_slices_barriers_and_subspaces():
    a, b = jnp.asarray(RNG.standard_normal(3), jnp.float32), jnp.asarray(RNG.standard_normal(3), jnp.float32)
    quartic = lambda z: jnp.sum(z**4) + z[0] * z[1]  # noqa: E731
    offsets = jnp.linspace(-1, 1, 5), jnp.linspace(0, 2, 4)
    plane = loss_slice(quartic, a, (b, a), *offsets)
    x, y, (first, second) = np.asarray(a), np.asarray(b), map(np.asarray, offsets)
    points = x + first[:, None, None] * y + second[:, None] * x
    expected = np.sum(points**4, -1) + points[..., 0] * points[..., 1]
    np.testing.assert_allclose(plane, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="one array per direction"):
        loss_slice(quartic, a, (b,), *offsets)

    double_well = lambda z: jnp.sum((z**2 - 1) ** 2) + 0.1 * z[0]  # noqa: E731
    found = linear_barrier(double_well, -jnp.ones(2), jnp.ones(2))
    np.testing.assert_allclose(found.height, 2.0, rtol=1e-5)
    np.testing.assert_allclose(linear_barrier(lambda z: jnp.sum(z), a, b).height, 0, atol=1e-5)

    direction = filter_normalized(PARAMS, jr.key(0))
    layer, moved = PARAMS.layers[0], direction.layers[0]
    np.testing.assert_allclose(jnp.linalg.norm(moved.weight, axis=1), jnp.linalg.norm(layer.weight, axis=1), rtol=1e-5)
    assert not moved.bias.any()

    embed = random_subspace(PARAMS, 4, jr.key(1))
    start = ravel_pytree(PARAMS)[0]
    columns = jnp.stack([ravel_pytree(embed(e))[0] - start for e in jnp.eye(4)])
    np.testing.assert_allclose(columns @ columns.T, np.eye(4), atol=1e-5)
    np.testing.assert_allclose(ravel_pytree(embed(jnp.zeros(4)))[0], start)
    with pytest.raises(ValueError, match="dimension"):
        random_subspace(PARAMS, 0, jr.key(1))


def test_instruments_take_what_peers_do_not():
    """Layer norm, tied weights, integer inputs and attention: everything is a function of parameters."""

    class Tied(eqx.Module):
        embedding: jax.Array
        norm: eqx.nn.LayerNorm
        attention: eqx.nn.MultiheadAttention

        def __call__(self, tokens):
            h = self.embedding[tokens]
            h = jax.vmap(self.norm)(h + self.attention(h, h, h))
            return (h @ self.embedding.T)[-1]

    net = Tied(jr.normal(jr.key(0), (6, 4)), eqx.nn.LayerNorm(4), eqx.nn.MultiheadAttention(2, 4, key=jr.key(1)))
    params, static = eqx.partition(net, eqx.is_array)
    tokens = jnp.asarray([[0, 3, 5], [2, 2, 1], [4, 0, 1]])

    def apply(params, x):
        return eqx.combine(params, static)(x)

    def total(params):
        logits = jax.vmap(lambda x: apply(params, x))(tokens)
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray([1, 0, 2])).mean()

    flat, restore = ravel_pytree(params)
    hessian = np.asarray(jax.jit(jax.hessian(lambda z: total(restore(z))))(flat))
    low, high = jax.jit(lambda q: extreme_eigenvalues(hvp(total, q), q, iterations=flat.size))(params)
    np.testing.assert_allclose([low, high], np.linalg.eigvalsh(hessian)[[0, -1]], rtol=1e-3, atol=1e-4)
    kernel = np.asarray(jax.jit(lambda q: tangent_kernel(apply, q, tokens))(params))
    np.testing.assert_allclose(kernel, kernel.transpose(1, 0, 3, 2), rtol=1e-4, atol=1e-4)


def test_lanczos_recurrence_ends_where_the_krylov_space_does():
    values = jnp.asarray([3.0, 3.0, -1.0, 0.5, 0.5])
    start = jnp.asarray([1.0, -2.0, 0.5, 1.0, 3.0])
    found = jax.jit(lambda s: lanczos_coefficients(lambda v: values * v, s, 5))(start)
    np.testing.assert_allclose(np.linalg.eigvalsh(found[:3, :3]), [-1.0, 0.5, 3.0], atol=1e-4)
    np.testing.assert_allclose(np.diag(found, 1)[2:], 0, atol=1e-6)
    np.testing.assert_allclose(np.diag(found)[3:], found[2, 2])
    weights = np.linalg.eigh(found)[1][0] ** 2
    moment = np.sum(weights * np.linalg.eigvalsh(found) ** 2)
    np.testing.assert_allclose(moment, jnp.sum(start**2 * values**2) / jnp.sum(start**2), rtol=1e-5)
