"""Fourier Neural Operator: solution operators learned in frequency space, on one grid for all grids.

```python
import jax
from attractor.operators import FNO
from attractor.problems import burgers_pairs

model = FNO(n_in=1, n_out=1, modes=12, width=16, key=jax.random.key(0))
u0, u = burgers_pairs(jax.random.key(1), samples=4, points=64)
assert jax.vmap(model)(u0).shape == u.shape  # train it with attractor.problems.burgers_operator
```
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from scipy.signal import resample

from attractor.operators.baselines import convolutional_network, dense_network
from attractor.operators.fourier import FNO, SpectralConv
from attractor.papers.words import Evidence, cached, claim, key, mean, paired_ratio, probes, run, seconds, seeds, sizes
from attractor.problems.burgers import burgers_operator, burgers_pairs, relative_l2, solve_burgers
from attractor.problems.navier_stokes import solve_navier_stokes, vorticity_field, wave_force

# The paper prints ν = 0.1, at which little but one sinusoid is left at t = 1. The problem's ν = 0.01 is harder.
MODES, POINTS, OTHERS, RATES = 16, 64, (128, 256), (1e-3, 3e-3, 1e-2, 3e-2)
BUILD = {"FNO": lambda model, key: model, "CNN": lambda model, key: convolutional_network(model, key=key),
         "MLP": lambda model, key: dense_network(model, POINTS, key=key)}  # fmt: skip
NO_OPERATORS = {"no integral operators, retuned": {"share": 0.0}}


class _Sharing(eqx.Module):
    """An FNO that adds a share of its integral operators: a number, so that one program serves all."""

    model: FNO
    share: jax.Array

    def __call__(self, x):
        share = jax.lax.stop_gradient(self.share)
        return eqx.tree_at(lambda m: m.layers.kernel.weight, self.model, replace_fn=lambda w: share * w)(x)


@eqx.filter_jit
def _model(kind, width, share, key):
    model = BUILD[kind](FNO(1, 1, MODES, width, hidden=2 * width, key=key), jr.fold_in(key, 1))
    return _Sharing(model, share) if kind == "FNO" else model


@cached
def _data(scale):
    """Pairs to train, to choose the rate and to test by; these on several grids. All are solved on the finest."""
    n = sizes(scale, train=(200, 1_000), held_out=(50, 200))
    fine = burgers_pairs(key(), n["train"] + 2 * n["held_out"], OTHERS[-1])
    on = lambda grid, part: tuple(values[part, ..., :: OTHERS[-1] // grid] for values in fine)  # noqa: E731
    held_out = slice(n["train"], -n["held_out"])
    test = {grid: on(grid, slice(-n["held_out"], None)) for grid in (POINTS, *OTHERS)}
    return on(POINTS, slice(n["train"])), on(POINTS, held_out), test


@cached
def _one_cycle(steps):
    """Adam by its rate; the same function each time, so that a program is compiled once."""
    shape = optax.cosine_onecycle_schedule(steps, 1.0, pct_start=0.2)
    return lambda rate: optax.chain(optax.adam(rate), optax.scale_by_schedule(shape))


@cached
def _errors(kind, share, scale):
    """Test errors of 4 seeds at the rate that does best on the validation functions, on the grids by name."""
    how = sizes(scale, width=(16, 64), batch=(10, 20), steps=(200, 20_000))
    (train, validation, test), steps = _data(scale), how["steps"]
    build = eqx.Partial(_model, kind, how["width"], jnp.asarray(share))
    problem = burgers_operator(build, train, test[POINTS], validation=validation, batch_size=how["batch"])  # pyright: ignore[reportArgumentType]
    measured = probes(problem, "test_error", "validation_error")
    fit = partial(run, problem, _one_cycle(steps), steps=steps, every=steps, probes=measured, lanes=4)
    tuned = fit(sweep={"rate": RATES}, seeds=seeds(1, stream=1)).best("validation_error")
    trace = fit(sweep={"rate": RATES[tuned : tuned + 1]}, seeds=seeds(4))
    errors, fitted = {"": trace.last("test_error").values[0]}, jax.tree.map(lambda a: jnp.asarray(a[0]), trace.final)
    evaluate = jax.jit(jax.vmap(problem.loss, (0, None)))
    for n in OTHERS if kind in ("FNO", "CNN") else ():
        errors[f"{n} points"] = np.asarray(evaluate(fitted, test[n]))
        if kind == "FNO":  # trained on Fourier sums that nobody divided by the number of points
            undivided = eqx.tree_at(lambda p: p.share, fitted, replace_fn=lambda s, n=n: s * n / POINTS)
            errors[f"{n} points, undivided"] = np.asarray(evaluate(undivided, test[n]))
    return errors


@claim("a Fourier layer is the circular convolution with its kernel, to 1e-5", source="ours",
       broken={"conjugate weights": {"damage": lambda w: w.at[1].multiply(-1)},
               "constant mode counted twice": {"damage": lambda w: w.at[..., 0].multiply(2)}})  # fmt: skip
def layer_is_a_convolution(damage=lambda w: w):
    layer, v = SpectralConv(4, 3, MODES, key=key(0)), jr.normal(key(1), (4, POINTS))
    kernel = np.fft.irfft(layer.weight[0] + 1j * layer.weight[1], POINTS, norm="forward")  # values on the grid
    shifted = kernel[..., (np.arange(POINTS)[:, None] - np.arange(POINTS)) % POINTS]  # κ(x - y)
    expected = np.einsum("oixy,iy->ox", shifted, np.asarray(v)) / POINTS
    off = np.abs(eqx.tree_at(lambda m: m.weight, layer, damage(layer.weight))(v) - expected).max()
    return Evidence(float(off / np.abs(expected).max()), at_most=1e-5)


@claim("learns Burgers' solution at t=1 from 200 examples on 64 points: test relative L2 error at most 3%",
       source="ours", broken=NO_OPERATORS)  # fmt: skip
def learns_burgers(share=1.0, *, scale):
    return Evidence(mean(_errors("FNO", share, scale)[""]), at_most=0.03)


@claim("without retraining, the error on 128 and 256 points is at most 1.2 times that on 64 points", source="ours",
       broken={"sums not divided by the number of points": {"how": ", undivided"}, "local kernels": {"kind": "CNN"}},
)  # fmt: skip
def zero_shot_super_resolution(kind="FNO", how="", *, scale):
    errors = _errors(kind, 1.0, scale)
    ratios = {f"{n} points": paired_ratio(errors[f"{n} points{how}"], errors[""]) for n in OTHERS}
    return Evidence.of_cases(ratios, at_most=1.2)


@claim("has a smaller test error than a CNN and an MLP of equal size, each at its best rate: at most 1 times either's",
       source="scaled", broken=NO_OPERATORS)  # fmt: skip
def beats_cnn_and_mlp(share=1.0, *, scale):
    ours, *others = (_errors(*of, scale)[""] for of in (("FNO", share), ("CNN", 1.0), ("MLP", 1.0)))
    ratios = {name: paired_ratio(ours, errors) for name, errors in zip(("CNN", "MLP"), others, strict=True)}
    learned = {"both baselines learn (error below 50 %)": all(e.mean() < 0.5 for e in others)}
    return Evidence.of_cases(ratios, at_most=1.0, given=learned, note=f"FNO {ours.mean():.1%}")


@eqx.filter_jit
def _forward(model, inputs, passes):
    return jax.lax.fori_loop(0, passes, lambda _, v: jax.vmap(model)(v), inputs)


def _speedup(solve, model, inputs, passes):
    return paired_ratio(*seconds(solve, partial(_forward, model, inputs, jnp.asarray(passes))))


@cached
def _burgers_solver(scale):
    """The spectral solver with the fewest steps that is as accurate as the FNO, and the inputs; how many steps."""
    solve, error, (u0, truth) = jax.jit(solve_burgers), _errors("FNO", 1.0, scale)[""].mean(), _data(scale)[2][POINTS]
    steps = next(n for n in map(jnp.asarray, range(1, 1_000)) if relative_l2(solve(u0, n), truth).mean() <= error)
    return partial(solve, u0, steps), u0, int(steps)


@claim("Burgers, 64 points: a forward pass is at least 5 times faster than a spectral solver that is no more accurate",
       source="ours", broken={"a network eight times as deep": {"passes": 8}},
       reason="the solver with an integrating factor takes fewer transforms than it: ratio 0.2 to 0.3")  # fmt: skip
def faster_than_the_burgers_solver(passes=1, *, scale):
    solve, u0, steps = _burgers_solver(scale)
    model = _model("FNO", sizes(scale, width=(16, 64))["width"], jnp.asarray(1.0), key())
    return Evidence(_speedup(solve, model, u0, passes), at_least=5.0, note=f"solver: {steps} steps")


@cached
def _navier_stokes_solver(scale):
    """The spectral solver with the coarsest grid, then the fewest steps, that make the paper's error; the start."""
    solve = jax.jit(partial(solve_navier_stokes, force=wave_force), static_argnames="time")
    start = solve(vorticity_field(key(), sizes(scale, flows=(1, 8))["flows"], 64), 150, time=10.0)
    coarse, truth = {n: start[:, :: 64 // n, :: 64 // n] for n in (16, 32, 64)}, solve(start, 600, time=40.0)

    def error(n, steps):
        found = np.asarray(solve(coarse[n], steps, time=40.0))
        return relative_l2(jnp.asarray(resample(resample(found, 64, axis=1), 64, axis=2)), truth).mean()

    tried = ((n, jnp.asarray(round(40 * 2 ** (i / 2)))) for n in coarse for i in range(10))
    n, steps = next(pair for pair in tried if error(*pair) <= 0.013)
    return partial(solve, coarse[n], steps, time=40.0), start, f"solver: {n} x {n} points, {steps} steps"


@claim("Navier-Stokes, t=10 to 50, 64 x 64: a pass is 1,000 times faster than a solver with the paper's error, 1.3 %",
       source="paper", broken={"a pass for each unit of time": {"passes": 40}},
       reason="at 1.3 % a coarse grid and long steps suffice: the solver takes about as long as one pass")  # fmt: skip
def faster_than_the_navier_stokes_solver(passes=1, *, scale):
    solve, start, note = _navier_stokes_solver(scale)
    model = FNO(1, 1, (12, 12), 32, key=key(1))
    return Evidence(_speedup(solve, model, start[:, None], passes), at_least=1_000.0, note=note)
