import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.optim.fractional import (
    AffineForm,
    FractionalProgram,
    TopKNorm,
    dinkelbach,
    fractional_coordinate_descent,
)


def program(kind, rng, m=6, n=5):
    matrix, target = rng.standard_normal((m, n)), rng.standard_normal(m)
    if kind == "affine":
        weights = rng.standard_normal(n)
        below, box = AffineForm(jnp.asarray(weights), np.abs(weights).sum() + 0.1), (-1.0, 1.0)
    else:
        below, box = TopKNorm(2), (-np.inf, np.inf)
    return FractionalProgram(jnp.asarray(matrix), jnp.asarray(target), 0.3, below, *box)


def subproblem(p, x, i, t, theta, parametric):
    """The model of the step from x, at values t of entry i, from the definition."""
    matrix, target, x = np.asarray(p.matrix), np.asarray(p.target), np.asarray(x)
    residual = matrix @ x - target
    eta = t - x[i]
    points = np.tile(x, (len(t), 1))
    points[:, i] = t
    above = (
        residual @ residual / 2 + eta * (matrix[:, i] @ residual) + (matrix[:, i] @ matrix[:, i] + theta) / 2 * eta**2
        + 0.3 * np.abs(points).sum(1)
    )  # fmt: skip
    if isinstance(p.denominator, AffineForm):
        below = points @ np.asarray(p.denominator.weights) + float(p.denominator.offset)
    else:
        below = np.sort(np.abs(points), 1)[:, -2:].sum(1)
    return above - float(p(jnp.asarray(x))) * below if parametric else above / below


@pytest.mark.parametrize("kind", ["affine", "top-k"])
@pytest.mark.parametrize("choice", ["fractional", "parametric"])
def test_every_step_is_the_global_minimum_of_its_subproblem(kind, choice):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        p, theta = program(kind, rng), 0.05
        sweep = jax.jit(lambda x: fractional_coordinate_descent(p, x, 1, theta, choice)[0])
        for _ in range(4):
            x = rng.uniform(-1, 1, 5)
            after = np.asarray(sweep(jnp.asarray(x)))
            point = x.copy()
            for i in range(5):
                grid = np.linspace(-1, 1, 20_001) if kind == "affine" else np.linspace(-30, 30, 60_001)
                model = subproblem(p, point, i, np.append(grid, after[i]), theta, choice == "parametric")
                assert model[-1] <= model.min() + 1e-12
                assert model[-1] >= model[:-1].min() - 1e-5  # the grid gets close, from above
                point[i] = after[i]


def test_coordinates_may_be_drawn_and_the_ratio_never_rises():
    p = program("top-k", np.random.default_rng(1))
    _, values = fractional_coordinate_descent(p, jnp.ones(5), 30, key=jr.key(0))
    assert np.all(np.diff(values) <= 1e-6)


@pytest.mark.parametrize("k", [1, 5])
def test_the_top_k_norm_is_the_same_on_a_line(k):
    x, norm = jnp.asarray([0.5, -2.0, 0.0, 1.0, -0.5]), TopKNorm(k)
    for i in range(5):
        _, line = norm.line(x, jnp.asarray(i))
        for t in (-3.0, -0.1, 0.0, 0.7, 5.0):
            np.testing.assert_allclose(line(jnp.asarray(t)), norm(x.at[i].set(t)), rtol=1e-6)


def test_dinkelbach_solves_a_ratio_with_a_known_minimum():
    # (1/2 (x - 1)^2 + 3/2) / (x + 2) on [-1, 5]: the derivative vanishes where x^2 + 4 x - 8 = 0
    matrix, target = jnp.asarray([[1.0], [0.0]]), jnp.asarray([1.0, np.sqrt(3)])
    p = FractionalProgram(matrix, target, 0.0, AffineForm(jnp.ones(1), 2.0), -1.0, 5.0)
    best = np.sqrt(12) - 2
    for solve in (lambda x: dinkelbach(p, x, 20, 30)[0], lambda x: fractional_coordinate_descent(p, x, 2)[0]):
        np.testing.assert_allclose(solve(jnp.asarray([4.0])), [best], atol=1e-4)


def test_dinkelbach_by_hand():
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        p, x = program("affine", rng), rng.uniform(-1, 1, 5)
        found, ratios = dinkelbach(p, jnp.asarray(x), 4, 2)
    matrix, target, weights = (np.asarray(a) for a in (p.matrix, p.target, p.denominator.weights))
    rate = 1 / np.linalg.norm(matrix, 2) ** 2

    def ratio(x):
        above = np.sum((matrix @ x - target) ** 2) / 2 + 0.3 * np.abs(x).sum()
        return above / (weights @ x + float(p.denominator.offset))

    for expected in ratios:
        pull, last = ratio(x) * weights, x
        for t in range(2):
            v = x + t / (t + 3) * (x - last)
            v = v - rate * (matrix.T @ (matrix @ v - target) - pull)
            x, last = np.clip(np.sign(v) * np.maximum(np.abs(v) - 0.3 * rate, 0), -1, 1), x
        np.testing.assert_allclose(ratio(x), expected, rtol=1e-8)
    np.testing.assert_allclose(found, x, rtol=1e-8)


def test_the_ratio_is_infinite_without_a_positive_denominator():
    p = program("top-k", np.random.default_rng(0))
    assert p(jnp.zeros(5)) == np.inf
    x, values = fractional_coordinate_descent(p, jnp.zeros(5), 2)
    assert np.isfinite(values).all()
    assert np.isfinite(x).all()


@pytest.mark.parametrize(("name", "value"), [("sweeps", 0), ("theta", -1.0)])
def test_bad_arguments_are_named(name, value):
    p = program("affine", np.random.default_rng(0))
    arguments = {"sweeps": 1, "theta": 0.1} | {name: value}
    with pytest.raises(ValueError, match=f"^{name}:"):
        fractional_coordinate_descent(p, jnp.zeros(5), **arguments)


def test_a_negative_penalty_is_refused():
    with pytest.raises(ValueError, match=r"^l1:"):
        FractionalProgram(jnp.eye(2), jnp.ones(2), -1.0, TopKNorm(1))
