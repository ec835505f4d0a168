"""Certified singular roots: Newton's method for a multiple root and its multiplicity structure, at full speed.

```python
import jax, jax.numpy as jnp
from attractor.second_order import ALPHA, DeflatedSystem, alpha_test, newton_iterates

f = lambda x: jnp.array([x[1] - x[0] ** 2 + 1e-4, x[1] + x[0] ** 2])  # 1e-4 off a system with a double root at (0, 0)
with jax.enable_x64(True):
    system = DeflatedSystem(f, jnp.array([0.05, 0.02]))
    points = newton_iterates(system.equations, system.start, 5)
    print(points[:, :2])  # the double root
    print(alpha_test(system.equations, points[1], degree=2).alpha < ALPHA)  # certified
```
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from attractor.papers.words import Evidence, cached, claim, seed
from attractor.problems.degenerate_systems import MULTIPLICITY, ROOT, multiple_root_system
from attractor.second_order.deflation import ALPHA, DeflatedSystem, alpha_test, inverse_system, newton_iterates

PERTURBATIONS, STEPS = (0.0, 1e-6, 1e-4), 20


def _system(name, perturbation):
    return multiple_root_system(name, perturbation, seed(0) if perturbation else 0)


def _start():
    return jnp.array(ROOT) + 0.05 * jnp.array([0.8, 0.6])


def _forgetful(equations, v, steps):
    """The multiplicity structure goes back to its first estimate after each step."""
    points = [v]
    for _ in range(steps):
        points.append(jnp.concatenate([newton_iterates(equations, points[-1], 1)[1, :2], v[2:]]))
    return jnp.stack(points)


def _doubled(equations, v, steps):
    points = [v]
    for _ in range(steps):
        points.append(2 * newton_iterates(equations, points[-1], 1)[1] - points[-1])
    return jnp.stack(points)


@cached
def _solved(name, perturbation, iterate=newton_iterates):
    """The deflated system, and the points visited."""
    with jax.enable_x64(True):
        system = DeflatedSystem(_system(name, perturbation), _start())
        return system, iterate(system.equations, system.start, STEPS)


@claim(
    "plain Newton at exact roots of multiplicity m = 2 and 3 is linear: steps 8 to 14 keep 1 - 1/m of it, within 5 %",
    source="scaled", deterministic=True,
    broken={"deflated": {"deflate": True}, "steps doubled, right for a double root": {"iterate": _doubled}},
    reason="at the double root it is 1/2; at the triple one steps keep 0.62, 7 % below 2/3")  # fmt: skip
def plain_newton_is_linear(iterate=newton_iterates, deflate=False):
    """The classical ratio of a root with one null direction, which is what deflation is for."""
    ratios = {}
    with jax.enable_x64(True):
        for name, m in MULTIPLICITY.items():
            points = _solved(name, 0.0)[1][:, :2] if deflate else iterate(_system(name, 0.0), _start(), STEPS)
            errors = np.maximum(np.linalg.norm(points - np.array(ROOT), axis=1), 1e-16)
            ratios[name] = float((errors[14] / errors[8]) ** (1 / 6) / (1 - 1 / m))
    return Evidence.of_cases(ratios, within=(0.95, 1.05))


@claim(
    "deflated Newton at double and triple roots: error 1e-12, its exponent times 1.7 or more with each step below 0.1",
    source="ours", broken={"multiplicity structure not updated": {"iterate": _forgetful}})  # fmt: skip
def deflated_newton_is_quadratic(iterate=newton_iterates):
    growth = {}
    for name, perturbation in itertools.product(MULTIPLICITY, PERTURBATIONS):
        exact, points = _solved(name, perturbation)[1][-1], _solved(name, perturbation, iterate)[1]
        errors = np.maximum(np.linalg.norm(points - exact, axis=1), 1e-16)
        seen = (errors[:-1] < 0.1) & (errors[:-1] > 1e-7)
        exponents = (np.log(errors[1:]) / np.log(errors[:-1]))[seen]
        growth[f"{name}, perturbed by {perturbation:g}"] = float(exponents.min()) if errors[7] < 1e-12 else 0.0
    return Evidence.of_cases(growth, at_least=1.7)


@claim(
    "perturbed systems, changed by at most 10 perturbations, have the multiple root (to 1e-9) where the iteration ends",
    source="ours", broken={"system not changed": {"change": lambda system, v: system.f}})  # fmt: skip
def a_nearby_system_has_the_root(change=DeflatedSystem.deformed):
    """The size of the change, in perturbations; infinite without the multiple root."""
    ratios = {}
    for name, perturbation in itertools.product(MULTIPLICITY, PERTURBATIONS[1:]):
        system, points = _solved(name, perturbation)
        with jax.enable_x64(True):
            size = float(jnp.linalg.norm(system.deformation(points[-1])))
            found = len(inverse_system(change(system, points[-1]), points[-1][:2], 3, 1e-9)[0])
        kept = found == MULTIPLICITY[name]
        ratios[f"{name}, perturbed by {perturbation:g}"] = size / perturbation if kept else np.inf
    return Evidence.of_cases(ratios, at_most=10.0)


def _in_units(system, unit, v):  # convergence does not depend on units, nor may its certificate
    return system.equations(unit * v)


@cached
def _tested(name):
    """The alpha test, in units 30 times as large, at ten starts around a root, and the steps of Newton's method."""
    system, points = _solved(name, 1e-4)
    away = np.random.default_rng(seed(1)).standard_normal((10, len(points[-1])))
    away *= (np.geomspace(1e-3, 10, 10) / np.linalg.norm(away, axis=1))[:, None]
    with jax.enable_x64(True):
        in_units, starts = eqx.Partial(_in_units, system, jnp.asarray(30.0)), points[-1] + jnp.asarray(away)
        tests = [alpha_test(in_units, start / 30, 2) for start in starts]
        paths = [newton_iterates(system.equations, start, STEPS) for start in starts]
    return tests, np.linalg.norm(np.diff(np.stack(paths), axis=1), axis=2)[:, :5]


@claim("two systems: some of 10 starts pass the alpha test, and then step k is at most 2^(1 - 2^(k-1)) times the first",
       source="paper", broken={"length of the step alone": {"number": lambda test: test.beta}})  # fmt: skip
def the_alpha_test_is_sound(number=lambda test: test.alpha):
    """Share of the certified starts that keep the promise, 0 where none is certified."""
    kept, certified = {}, {}
    for name in MULTIPLICITY:
        tests, steps = _tested(name)
        promise = 2.0 ** (1 - 2.0 ** np.arange(5)) * steps[:, :1] + 1e-13  # and rounding errors
        passed = np.array([float(number(test)) for test in tests]) < ALPHA
        kept[name] = float((steps <= promise).all(1)[passed].mean()) if passed.any() else 0.0
        certified[name] = int(passed.sum())
    return Evidence.of_cases(kept, at_least=1.0, note=f"certified of 10: {certified}")
