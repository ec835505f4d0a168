import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.dynamics import esn_forecast, forecast_benchmark, mean_forecast, nvar_forecast, smape


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def waves(n):
    t = np.arange(n) * 0.1
    return np.stack([3 + np.sin(t), np.cos(t)], 1)


def test_smape_by_hand():
    assert float(smape(jnp.array([1.0, 2.0]), jnp.array([1.0, 6.0]))) == pytest.approx(50.0)
    assert float(smape(jnp.zeros(2), jnp.zeros(2))) == 0.0
    assert float(smape(jnp.ones(2), jnp.array([jnp.nan, jnp.inf]))) == 200.0


def test_nvar_equals_numpy():
    series, ridge = waves(60), 1e-4
    found = nvar_forecast(jnp.asarray(series), 3, ridge=ridge)
    x = (series - series.mean(0)) / series.std(0)

    def features(older, newer):
        z = np.concatenate([older, newer])
        return np.concatenate([[1.0], z, [z[i] * z[j] for i in range(4) for j in range(i, 4)]])

    inputs = np.array([features(x[t - 1], x[t]) for t in range(1, 59)])
    n = len(inputs)
    weights = np.linalg.solve(inputs.T @ inputs / n + ridge * np.eye(15), inputs.T @ (x[2:] - x[1:-1]) / n)
    window = [x[-2], x[-1]]
    for _ in range(3):
        window.append(window[-1] + features(window[-2], window[-1]) @ weights)
    np.testing.assert_allclose(found, series.mean(0) + series.std(0) * np.array(window[2:]), rtol=1e-6)


def test_esn_equals_numpy():
    series, units = waves(60), 7
    options = {"spectral_radius": 0.7, "input_scale": 0.4, "ridge": 1e-3, "washout": 5, "seed": 3}
    found = esn_forecast(jnp.asarray(series), 4, units=units, **options)
    for_a, for_b, for_bias = jax.random.split(jax.random.key(3), 3)
    a = 0.7 * np.asarray(jax.random.normal(for_a, (units, units), float)) / np.sqrt(units)
    b = 0.4 * np.asarray(jax.random.uniform(for_b, (units, 2), float, -1, 1))
    bias = 0.4 * np.asarray(jax.random.uniform(for_bias, (units,), float, -1, 1))
    x = (series - series.mean(0)) / series.std(0)
    r, rows = np.zeros(units), []
    for point in x[:-1]:
        r = np.tanh(a @ r + b @ point + bias)
        rows.append([1, *point, *r])
    inputs, targets = np.array(rows)[5:], np.diff(x, axis=0)[5:]
    gram = inputs.T @ inputs / len(inputs) + 1e-3 * np.eye(units + 3)
    weights, path = np.linalg.solve(gram, inputs.T @ targets / len(inputs)), [x[-1]]
    for _ in range(4):
        r = np.tanh(a @ r + b @ path[-1] + bias)
        path.append(path[-1] + np.array([1, *path[-1], *r]) @ weights)
    np.testing.assert_allclose(found, series.mean(0) + series.std(0) * np.array(path[1:]), rtol=1e-6)


def test_gaussian_matrices_have_the_spectral_radius_that_is_taken_for_granted():
    drawn = np.random.default_rng(0).standard_normal((200, 200))
    assert np.abs(np.linalg.eigvals(drawn)).max() / 200**0.5 == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("forecaster", [nvar_forecast, esn_forecast])
def test_a_periodic_signal_is_learned(forecaster):
    series = jnp.asarray(waves(700))
    forecast = forecaster(series[:600], 100)
    assert float(jnp.abs(forecast - series[600:]).max()) < 0.05


@pytest.mark.parametrize("forecaster", [nvar_forecast, esn_forecast, mean_forecast])
def test_a_constant_coordinate_does_no_harm(forecaster):
    series = jnp.asarray(np.pad(waves(300), ((0, 0), (0, 1))))
    forecast = forecaster(series, 20)
    assert bool(jnp.isfinite(forecast).all())
    np.testing.assert_allclose(forecast[:, 2], 0, atol=1e-12)


def test_benchmark_grades_each_model_on_each_system():
    pytest.importorskip("dysts")
    from attractor.dynamics import chaotic_system, sample_systems, trajectory

    systems = [chaotic_system("Lorenz"), chaotic_system("HyperBao")]
    series = sample_systems(systems, 400)
    table = forecast_benchmark({"mean": mean_forecast, "NVAR": nvar_forecast}, systems, series, horizon=50)
    errors = table.pivot(index="system", columns="model", values="error")
    assert (errors["NVAR"] < 0.5 * errors["mean"]).all()
    assert table["smape"].between(0, 200).all()
    for row, x in zip(table[table["model"] == "mean"].itertuples(), series, strict=True):
        mean, actual = x[:-50].mean(0), x[-50:]
        expected = np.sqrt(np.mean(((mean - actual) / x[:-50].std(0)) ** 2))
        percent = 200 * np.mean(np.abs(mean - actual) / (np.abs(mean) + np.abs(actual)))
        np.testing.assert_allclose([row.error, row.smape], [expected, percent], rtol=1e-6)
    # The series begin five periods after the start, a hundred points to a period, four steps to a point.
    lorenz = systems[0]
    whole = trajectory(lorenz.field, jnp.asarray(lorenz.start), lorenz.period / 400, 510, 4)
    np.testing.assert_allclose(series[0][:10], whole[500:], rtol=1e-6)
    with pytest.raises(ValueError, match="series"):
        forecast_benchmark({"mean": mean_forecast}, systems, series[:1])


@pytest.mark.parametrize(
    ("forecaster", "bad"),
    [
        (nvar_forecast, {"delays": 0}),
        (nvar_forecast, {"ridge": 0.0}),
        (esn_forecast, {"units": 0}),
        (esn_forecast, {"spectral_radius": 0.0}),
        (esn_forecast, {"input_scale": -1.0}),
        (esn_forecast, {"washout": 500}),
    ],
)
def test_errors_name_the_argument(forecaster, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        forecaster(jnp.asarray(waves(300)), 5, **bad)
