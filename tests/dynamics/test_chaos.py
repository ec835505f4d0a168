import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

pytest.importorskip("dysts")
from attractor.dynamics import chaos_registry, chaotic_system, rk4_step, trajectory


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def test_registry_has_at_least_thirty_systems_with_annotations():
    systems = chaos_registry()
    assert len(systems) >= 30
    assert all(np.isfinite([s.period, s.lyapunov]).all() and s.period > 0 for s in systems.values())


def test_every_field_equals_the_catalogue_equations():
    from dysts import flows

    for system in chaos_registry().values():
        theirs = np.asarray(getattr(flows, system.name)().rhs(system.start, 0.0), float)
        np.testing.assert_allclose(system.field(jnp.asarray(system.start)), theirs, rtol=1e-10, atol=1e-10)


def test_fields_take_leading_axes():
    field = chaotic_system("Chua").field
    x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    np.testing.assert_allclose(field(x)[1, 3], field(x[1, 3]), rtol=1e-12)


def test_trajectory_agrees_with_scipy():
    lorenz = chaotic_system("Lorenz")
    ours = trajectory(lorenz.field, jnp.asarray(lorenz.start), dt=1e-3, points=10, substeps=100)

    def rhs(t, x):
        return [10 * (x[1] - x[0]), 28 * x[0] - x[0] * x[2] - x[1], x[0] * x[1] - 2.667 * x[2]]

    theirs = solve_ivp(rhs, (0, 1), lorenz.start, "DOP853", np.linspace(0.1, 1, 10), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours, theirs.y.T, rtol=1e-6, atol=1e-6)


def test_rk4_is_of_fourth_order_on_a_pytree():
    state = {"x": jnp.ones(()), "v": jnp.zeros(2)}

    def field(s):
        return {"x": -s["x"], "v": jnp.ones(2)}

    errors = [abs(rk4_step(field, state, h)["x"] - np.exp(-h)) for h in (0.1, 0.05)]
    assert errors[0] / errors[1] == pytest.approx(32, rel=0.1)
    np.testing.assert_allclose(rk4_step(field, state, 0.1)["v"], 0.1)


@pytest.mark.parametrize("bad", [{"dt": 0.0}, {"points": 0}, {"substeps": 0}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        trajectory(lambda x: x, jnp.ones(1), **{"dt": 0.1, "points": 2, "substeps": 1} | bad)


def test_unknown_name_suggests():
    with pytest.raises(ValueError, match="did you mean 'Lorenz'"):
        chaotic_system("Lorens")
