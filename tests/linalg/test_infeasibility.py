"""Displacement vectors against loops in NumPy and closed forms; certificates against what they have to prove."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from attractor.linalg import certificate, douglas_rachford, infimal_displacement, linear_program_operator
from attractor.problems.infeasible import distance_to_feasibility, linear_program, slow_rotations

RNG = np.random.default_rng(0)
START = np.array([0.3, -1.0, 2.0])


def turn(x, xp=jnp):
    """Half a rotation of the first two coordinates, and a shift of the third."""
    c, s = np.cos(0.7), np.sin(0.7)
    return xp.stack([(x[0] + c * x[0] - s * x[1]) / 2, (x[1] + s * x[0] + c * x[1]) / 2, x[2] - 0.4])


@pytest.mark.parametrize("anchored", [True, False])
def test_steps_are_those_of_a_loop(anchored):
    with jax.enable_x64(True):
        found = infimal_displacement(turn, jnp.asarray(START), 6, anchored=anchored, every=3)
    x = START
    for k in range(6):
        x = START / (k + 2) + (k + 1) / (k + 2) * turn(x, np) if anchored else turn(x, np)
        if k in (2, 5):
            at = k // 3
            np.testing.assert_allclose(found.x[at], x, atol=1e-12)
            np.testing.assert_allclose(found.residual[at], x - turn(x, np), atol=1e-12)
            scale = 2 / (k + 1) if anchored else 1 / (k + 1)
            np.testing.assert_allclose(found.normalized[at], scale * (START - x), atol=1e-12)
    assert infimal_displacement(turn, jnp.asarray(START), 6).x.shape == (1, 3)


def test_two_disks_are_as_far_apart_as_they_are():
    first = lambda z: z / jnp.maximum(jnp.linalg.norm(z), 1)  # noqa: E731
    second = lambda z: (z - 3) / jnp.maximum(jnp.linalg.norm(z - 3), 1) + 3  # noqa: E731
    found = infimal_displacement(douglas_rachford(first, second), jnp.array([1.0, -2.0]), 2_000)
    gap = (np.sqrt(18) - 2) / np.sqrt(2)
    np.testing.assert_allclose(found.residual[0], [-gap, -gap], atol=1e-3)
    np.testing.assert_allclose(found.normalized[0], [-gap, -gap], atol=1e-2)


def test_the_operator_is_that_of_its_proximal_maps_and_its_fixed_points_are_solutions():
    A, x = RNG.standard_normal((2, 4)), np.array([0.5, 2.0, 0.0, 0.0])
    b, c = A @ x, A.T @ [0.3, -0.2] + [0.0, 0.0, 1.0, 2.0]  # x is optimal by complementary slackness
    with jax.enable_x64(True):
        T = linear_program_operator(*map(jnp.asarray, (A, b, c)))
        z = RNG.standard_normal(4)
        p = (z - c) - np.linalg.pinv(A) @ (A @ (z - c) - b)
        np.testing.assert_allclose(T(jnp.asarray(z)), z + np.maximum(2 * p - z, 0) - p, atol=1e-12)
        z = np.asarray(infimal_displacement(T, jnp.zeros(4), 30_000, anchored=False).x[0])
    np.testing.assert_allclose((z - c) - np.linalg.pinv(A) @ (A @ (z - c) - b), x, atol=1e-6)


def test_certificates_prove_what_they_say():
    A, b, c = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]), np.array([2.0, 1.0]), np.array([1.0, 2.0, -1.0])
    with jax.enable_x64(True):

        def found(A, b, c):
            T = linear_program_operator(jnp.asarray(A), jnp.asarray(b), jnp.asarray(c))
            return certificate(A, b, c, np.asarray(infimal_displacement(T, jnp.zeros(len(c)), 2_000).residual[0]))

        kind, y, violation = found(A, b, c)
        assert kind == "infeasible"
        assert violation <= 1e-3
        assert (A.T @ y).max() <= 1e-3
        assert b @ y == pytest.approx(1)
        kind, d, _ = found(np.array([[1.0, -1.0, 1.0]]), np.array([1.0]), np.array([-1.0, 0.5, 3.0]))
        assert kind == "unbounded"
        assert d.min() >= -1e-3
        assert np.array([1.0, -1.0, 1.0]) @ d == pytest.approx(0)
        assert np.array([-1.0, 0.5, 3.0]) @ d == pytest.approx(-1)
        assert found(A, np.array([1.0, 2.0]), c + 1)[0] == "none"
        v = A.T @ [1.0, -0.98]  # of which A'y reaches 0.02, at b'y = 1.02
        assert certificate(A, b, c, v, tol=0.1).kind == "infeasible"
        assert certificate(A, b, c, v, tol=1e-3).kind == "none"


def test_problems_are_of_the_kind_they_say():
    for seed in (1, 2):
        found = [
            linear_program("solvable", seed),
            linear_program("infeasible", seed),
            linear_program("unbounded", seed),
        ]
        assert [linprog(c, A_eq=A, b_eq=b).status for A, b, c in found] == [0, 2, 3]
    A, b, _ = linear_program("infeasible", 3)
    v, T = distance_to_feasibility(A, b), slow_rotations(3)[0]
    assert (A.T @ np.linalg.lstsq(A.T, v)[0]).max() < 1e-10
    assert np.linalg.norm(A.T @ np.linalg.lstsq(A.T, v)[0] - v) < 1e-10
    np.testing.assert_allclose(jnp.zeros(8) - T(jnp.zeros(8)), slow_rotations(3)[1])
    turned = 2 * (T(jnp.eye(8)[4]) + slow_rotations(3)[1])[4:6] - jnp.array([1.0, 0.0])
    np.testing.assert_allclose(turned, [np.cos(1), np.sin(1)], rtol=1e-6)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("steps", lambda: infimal_displacement(turn, jnp.asarray(START), 0)),
        ("every", lambda: infimal_displacement(turn, jnp.asarray(START), 10, every=3)),
        ("x0", lambda: infimal_displacement(turn, jnp.full(3, jnp.inf))),
        ("A", lambda: linear_program_operator(jnp.ones((2, 3)), jnp.ones(2), jnp.ones(3))),
        ("b", lambda: linear_program_operator(jnp.ones((1, 3)), jnp.array([jnp.nan]), jnp.ones(3))),
        ("tol", lambda: certificate(jnp.ones((1, 3)), jnp.ones(1), jnp.ones(3), jnp.ones(3), tol=0.0)),
        ("v", lambda: certificate(jnp.ones((1, 3)), jnp.ones(1), jnp.ones(3), jnp.full(3, jnp.nan))),
    ],
)
def test_bad_input_is_named(argument, call):
    with pytest.raises((ValueError, TypeError), match=argument):
        call()
