"""Schedules against their formulas, and errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from attractor.optim import inverse_power_schedule, last_iterate_schedule


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


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("learning_rate", lambda: inverse_power_schedule(0.0)),
        ("power", lambda: inverse_power_schedule(1.0, -1.0)),
        ("learning_rate", lambda: last_iterate_schedule(-1.0, 10)),
        ("steps", lambda: last_iterate_schedule(1.0, 0)),
    ],
)
def test_errors_name_the_argument(name, call):
    with pytest.raises(ValueError, match=name):
        call()
