"""Matrix square roots by Padé or Taylor approximants, with gradients from a Lyapunov equation.

```python
import jax, jax.numpy as jnp
from attractor.linalg import sqrtm

covariance = jnp.array([[2.0, 0.5], [0.5, 1.0]])
whitening = sqrtm(covariance, inverse=True)
print(whitening @ covariance @ whitening)  # near the identity
print(jax.grad(lambda a: jnp.trace(sqrtm(a)))(jnp.eye(2)))  # finite, where autodiff through eigenvalues is not
```
"""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_continuous_lyapunov

from attractor.linalg.matrix_roots import lyapunov_sign, sqrtm, sqrtm_eigh, sqrtm_newton_schulz
from attractor.papers.words import Evidence, cached, claim, mean, paired_ratio, seconds, seed, seeds

taylor, pade_12 = partial(sqrtm, degree=10, series="taylor"), partial(sqrtm, degree=12)


@cached
def _matrices(seed, count, n, condition):
    """Symmetric positive definite, with eigenvalues log-uniform in [1 / condition, 1], the ends included."""
    random = np.random.default_rng(seed)
    vectors, _ = np.linalg.qr(random.standard_normal((count, n, n)))
    values = condition ** -np.concatenate([random.random((count, n - 2)), np.tile([0.0, 1.0], (count, 1))], 1)
    return (vectors * values[:, None, :]) @ vectors.swapaxes(1, 2)


def _error(root, A):  # of a root, relative in the Frobenius norm, the mean over a batch
    with jax.enable_x64(True):
        exact = sqrtm_eigh(jnp.asarray(A))
        apart = jnp.linalg.norm(root(jnp.asarray(A)) - exact, axis=(1, 2))
        return float((apart / jnp.linalg.norm(exact, axis=(1, 2))).mean())


@claim("batches of 256 16 x 16, conditions 3, 10, 30: Pade [5, 5] has at most a fifth of degree-10 Taylor's error",
       source="ours", broken={"degree 2 above and below": {"pade": partial(sqrtm, degree=2)},
                              "scaled back twice": {"pade": lambda A: sqrtm(A) * 1.5}})  # fmt: skip
def pade_is_nearer_than_taylor(pade=sqrtm):
    ratios = {}
    for condition in (3, 10, 30):
        batches = [_matrices(s, 256, 16, condition) for s in seeds(4)]
        ratios[f"condition {condition}"] = mean([_error(pade, A) / _error(taylor, A) for A in batches])
    return Evidence.of_cases(ratios, at_most=0.2)


def _transposed(B, C, iterations):
    return lyapunov_sign(B, C.swapaxes(1, 2), iterations)


@claim("256 roots of 16 x 16 with conditions 3 to 30: 8 steps solve the gradient's equation to 1e-3 of its solution",
       source="scaled", broken={"C transposed": {"solve": _transposed}, "4 steps": {"steps": 4}},
       reason="8 steps are enough up to condition 10; at 30 they leave 0.004")  # fmt: skip
def eight_steps_solve_the_lyapunov_equation(solve=lyapunov_sign, steps=8):
    cases = {}
    with jax.enable_x64(True):
        for condition in (3, 10, 30):
            B = np.asarray(sqrtm_eigh(jnp.asarray(_matrices(seed(), 256, 16, condition))))
            C = np.random.default_rng(seed(1)).standard_normal(B.shape)
            exact = np.stack([solve_continuous_lyapunov(b, c) for b, c in zip(B, C, strict=True)])
            apart = np.linalg.norm(np.asarray(solve(jnp.asarray(B), jnp.asarray(C), steps)) - exact, axis=(1, 2))
            cases[f"condition {condition}"] = mean(apart / np.linalg.norm(exact, axis=(1, 2)))
    return Evidence.of_cases(cases, at_most=1e-3)


@claim("eigenvalues 1, 1, 1/4: the gradient is the exact one to 1e-4, where autodiff through eigenvalues gives NaN",
       source="scaled", deterministic=True, broken={"through eigenvalues": {"root": sqrtm_eigh},
                                                    "3 steps": {"root": partial(pade_12, iterations=3)}})  # fmt: skip
def repeated_eigenvalues_have_a_gradient(root=pade_12):  # fmt: skip
    with jax.enable_x64(True):
        A, G = jnp.diag(jnp.array([1.0, 1.0, 0.25])), jnp.array([[1.0, 2.0, 0.5], [-1.0, 3.0, 1.0], [0.2, 0.1, -2.0]])
        found, through = (jax.grad(lambda a, f=f: jnp.sum(G * f(a)))(A) for f in (root, sqrtm_eigh))
        exact = solve_continuous_lyapunov(np.asarray(sqrtm_eigh(A)), np.asarray(G))
        given = {"autodiff through eigenvalues is not finite": not bool(jnp.isfinite(through).all())}
        return Evidence(float(jnp.abs(found - exact).max()), at_most=1e-4, given=given)


@claim("root and gradient, 256 of 16 x 16, 64 of 32 x 32: at most 1 times CPU time of eigenvalues and Newton-Schulz",
       source="scaled", broken={"40 steps for 8": {"pade": partial(sqrtm, iterations=40)}},
       reason="1.1 against 16 x 16 eigenvalues on one core, where 48 small products cost as much")  # fmt: skip
def faster_than_eigenvalues_and_newton_schulz(pade=sqrtm):
    cases = {}
    for count, n in ((256, 16), (64, 32)):
        A = _matrices(seed(), count, n, 10)
        newton = (partial(sqrtm_newton_schulz, iterations=k) for k in range(1, 30))
        matched = next(root for root in newton if _error(root, A) <= _error(sqrtm, A))
        rivals = {"eigenvalues": sqrtm_eigh, "Newton-Schulz": matched}
        both = [jax.jit(jax.value_and_grad(lambda a, f=f: jnp.sum(f(a) ** 3))) for f in (pade, *rivals.values())]
        calls = (partial(f, jnp.asarray(A, jnp.float32)) for f in both)
        ours, *others = seconds(*calls, rounds=25, clock=time.process_time)
        cases |= {f"{n} x {n}, {name}": paired_ratio(ours, other) for name, other in zip(rivals, others, strict=True)}
    return Evidence.of_cases(cases, at_most=1.0)
