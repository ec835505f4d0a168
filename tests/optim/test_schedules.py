"""Schedules against their formulas, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import inverse_power_schedule, last_iterate_schedule, uba_schedule


def test_inverse_power():
    np.testing.assert_allclose(
        [float(jnp.asarray(inverse_power_schedule(2.0, 0.5)(t))) for t in (0, 3, 8)], [2.0, 1.0, 2 / 3], rtol=1e-6
    )


def test_last_iterate_is_a_line_to_zero():
    def schedule(count):
        return float(jnp.asarray(last_iterate_schedule(3.0, 9)(count)))

    expected = [3.0 * (9 - t + 1) / 27 for t in range(1, 10)]
    np.testing.assert_allclose([schedule(t) for t in range(9)], expected, rtol=1e-6)
    assert schedule(9) == schedule(20) == 0.0


@pytest.mark.parametrize("phi", [0.25, 2.0, 5.0])
def test_uba_is_the_formula_with_cosines(phi):
    with jax.enable_x64(True):
        t = np.arange(11)
        c = 1 + np.cos(np.pi * t / 10)
        expected = (3.0 - 0.2) * 2 * c / (2 * phi + (2 - phi) * c) + 0.2
        got = uba_schedule(3.0, 10, phi, end_value=0.2)(jnp.arange(11))
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_uba_ends_hold_and_two_is_cosine():
    np.testing.assert_allclose(uba_schedule(3.0, 7, 5.0, 0.1)(jnp.array([0, 7, 20])), [3.0, 0.1, 0.1], rtol=1e-6)
    count = jnp.arange(8)
    np.testing.assert_allclose(uba_schedule(3.0, 7)(count), optax.cosine_decay_schedule(3.0, 7)(count), atol=1e-6)


def test_uba_trains_inside_optax():
    optimizer = optax.sgd(uba_schedule(0.5, 4))
    state = optimizer.init(jnp.ones(()))
    rates = []
    for _ in range(4):
        update, state = optimizer.update(jnp.ones(()), state)
        rates.append(-jnp.asarray(update))
    np.testing.assert_allclose(rates, 0.25 * (1 + np.cos(np.pi * np.arange(4) / 4)), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("learning_rate", lambda: inverse_power_schedule(0.0)),
        ("power", lambda: inverse_power_schedule(1.0, -1.0)),
        ("learning_rate", lambda: last_iterate_schedule(-1.0, 10)),
        ("steps", lambda: last_iterate_schedule(1.0, 0)),
        ("learning_rate", lambda: uba_schedule(0.0, 10)),
        ("steps", lambda: uba_schedule(1.0, 0)),
        ("phi", lambda: uba_schedule(1.0, 10, phi=0.0)),
        ("end_value", lambda: uba_schedule(1.0, 10, end_value=-1.0)),
    ],
)
def test_errors_name_the_argument(name, call):
    with pytest.raises(ValueError, match=name):
        call()
