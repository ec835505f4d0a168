import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import run
from attractor.problems.arithmetic import arithmetic_extrapolation, arithmetic_units

A, B = np.zeros(20), np.zeros(20)
A[:5], B[3:8] = 1, 1  # a quarter of the inputs each, half of it (rounded down) shared


def solution(operation, problem, off=0.0):
    x = problem.init(jr.key(0))
    top = {"+": [[1.0, 1.0]], "-": [[1.0, -1.0]], "*": [[1.0, 1.0]]}[operation]
    weights = (jnp.asarray(np.abs(np.stack([A, B]) - off)), jnp.asarray(top))
    return eqx.tree_at(lambda m: (m.layers[0].weight, m.layers[1].weight), x, weights)


@pytest.mark.parametrize("operation", ["+", "-", "*"])
def test_the_solution_solves_it(operation):
    problem = arithmetic_extrapolation(operation)
    measured = {n: p(problem, solution(operation, problem), jr.key(0)) for n, p in problem.probes.items()}
    assert measured["loss"] < 1e-9 > measured["interpolation"]
    assert measured["extrapolation"] < 0.1
    assert measured["sparsity_error"] == 0.0
    near = solution(operation, problem, off=1e-5)
    assert problem.probes["extrapolation"](problem, near, jr.key(0)) == pytest.approx(1.0, rel=0.1)


def test_runs_for_any_model():
    problem = arithmetic_extrapolation("+", 8, lambda key: eqx.nn.MLP(8, 1, 4, 1, key=key), samples=100)
    trace = run(problem, optax.adam(1e-2), steps=200, seeds=2)
    assert (trace["loss"].values[0, :, -1] < trace["loss"].values[0, :, 0]).all()
    assert (trace["sparsity_error"].values == 0).all()


def test_refuses():
    with pytest.raises(ValueError, match="operation"):
        arithmetic_extrapolation("/")
    with pytest.raises(ValueError, match="size"):
        arithmetic_extrapolation(size=3)


def test_units_fit_the_operation():
    kinds = {op: type(arithmetic_units(op, 8, jr.key(0)).layers[1]).__name__ for op in ("+", "-", "*")}
    assert kinds == {"+": "NAU", "-": "NAU", "*": "NMU"}
