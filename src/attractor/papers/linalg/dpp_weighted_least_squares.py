"""Least squares from points that repel each other: fewer of them determine a fit than independent ones.

```python
import numpy as np
from attractor.linalg import legendre, repeated_dpp, weighted_least_squares

x, features, masses = legendre(8)
points = repeated_dpp(features, masses, 2, np.random.default_rng(0))
fit = weighted_least_squares(features, points, np.exp(x[points]))
print(np.abs(features @ fit.coefficients - np.exp(x)).max(), "from", points.size, "values")
```
"""

import numpy as np

from attractor.linalg import determinantal as lib
from attractor.linalg.determinantal import independent_points, legendre, volume_points, weighted_least_squares
from attractor.papers.words import Evidence, cached, claim, mean, paired_ratio, seeds

FUNCTIONS = {"Runge": lambda x: 1 / (1 + 25 * x**2), "exponential": np.exp}


def repeated(features, masses, n, random):
    return lib.repeated_dpp(features, masses, n // features.shape[1], random)


def uniform(features, masses, n, random):
    """Of the measure itself."""
    return random.choice(masses.size, n, p=masses)


@cached
def _needed(draw, m, s):
    """The fewest points, in steps of m, with which 9 of 10 Gram matrices have no eigenvalue below 1/2."""
    features, masses = legendre(m)[1:]
    for n in range(m, 30 * m, m):
        random = np.random.default_rng([s, m, n])
        fits = [weighted_least_squares(features, draw(features, masses, n, random), np.zeros(n)) for _ in range(40)]
        if np.mean([fit.stability >= 0.5 for fit in fits]) >= 0.9:
            return n
    return np.inf


@claim("10 Legendre polynomials: determinantal points have the law K(x, x) / m, to 0.02 in Kolmogorov's distance",
       source="paper", broken={"the measure's own law": {"law": lambda features, masses: masses}})  # fmt: skip
def points_have_the_christoffel_law(law=lib.christoffel):
    _, features, masses = legendre(10)
    apart = []
    for s in seeds(4):
        random = np.random.default_rng(s)
        drawn = np.concatenate([lib.projection_dpp(features, masses, random) for _ in range(250)])
        found = np.cumsum(np.bincount(drawn, minlength=masses.size)) / drawn.size
        apart.append(np.abs(found - np.cumsum(law(features, masses))).max())
    return Evidence(mean(apart), at_most=0.02)


@claim("5 to 20 Legendre polynomials: repeated determinantal draws need at most 0.6 times the independent points",
       source="ours", broken={"drawn once, others independent": {"draw": volume_points}})  # fmt: skip
def repeated_draws_need_fewer_points(draw=repeated):
    cases = {}
    for m in (5, 10, 20):
        pairs = [(_needed(draw, m, s), _needed(independent_points, m, s)) for s in seeds(4)]
        cases[f"m = {m}"] = paired_ratio(*zip(*pairs, strict=True))
    return Evidence.of_cases(cases, at_most=0.6)


@cached
def _errors(draw, function, m, factor):
    """Squared errors of fits from factor * m values over the best possible, means of 50 draws, one a seed."""
    x, features, masses = legendre(m)
    f = FUNCTIONS[function](x)
    best = (masses * (f - features @ (features.T @ (masses * f))) ** 2).sum()
    means = []
    for s in seeds(8):
        random, errors = np.random.default_rng(s), []
        for _ in range(50):
            points = draw(features, masses, factor * m, random)
            fit = weighted_least_squares(features, points, f[points])
            errors.append((masses * (f - features @ fit.coefficients) ** 2).sum() / best)
        means.append(np.mean(errors))
    return np.array(means)


@claim("10 polynomials, 60 values, 1 / (1 + 25 x²) and exp: mean squared errors are at most 4 times the best fit's",
       source="ours", broken={"by the measure, 2 m": {"draws": {"measure": uniform}, "factor": 2}})  # fmt: skip
def errors_are_near_the_best_fits(draws=None, factor=6):
    draws = draws or {"repeated": repeated, "volume": volume_points}
    cases = {f"{name}, {f}": mean(_errors(draw, f, 10, factor)) for name, draw in draws.items() for f in FUNCTIONS}
    return Evidence.of_cases(cases, at_most=4.0)


@claim("10 polynomials, 20 values: repeated draws have at most half of the mean squared error of independent points",
       source="scaled", broken={"by the measure": {"draw": uniform}},
       reason="holds at first; elsewhere one of 8 means of independent points' errors is near infinite")  # fmt: skip
def few_values_are_enough(draw=repeated):
    cases = {f: paired_ratio(_errors(draw, f, 10, 2), _errors(independent_points, f, 10, 2)) for f in FUNCTIONS}
    return Evidence.of_cases(cases, at_most=0.5)
