"""Newton steps whose linear systems are solved by random sketches, only as well as the next step needs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.method import Method, hyper
from attractor.objectives import Constrained
from attractor.registry import LogUniform, method
from attractor.trees import as_vector

TRIALS = 40  # halvings in one line search


def sketch_and_project(
    matrix: Float[Array, "n k"], residual: Float[Array, " n"], sketch: Float[Array, "n s"]
) -> Float[Array, " k"]:
    r"""The shortest step after which s random combinations of the equations $K z + r = 0$ hold.

    $$ \Delta z = -K^\top S\, (S^\top K K^\top S)^{+}\, S^\top (K z + r) $$

    Columns of the identity for S are Kaczmarz's method.

    Arguments:
        matrix: K.
        residual: $K z + r$.
        sketch: S.

    Paper: Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative Sketching.
    """
    basis, triangle = jnp.linalg.qr((sketch.T @ matrix).T)
    diagonal = jnp.abs(jnp.diag(triangle))
    # Combinations that depend on others, up to rounding errors, are left out.
    dependent = diagonal <= len(diagonal) * jnp.finfo(matrix.dtype).eps * diagonal.max(initial=0)
    triangle = triangle + jnp.diag(jnp.where(dependent, jnp.inf, 0))
    return -basis @ solve_triangular(triangle.T, sketch.T @ residual, lower=True)


class SketchedNewtonState(NamedTuple):
    """State of `SketchedNewton`."""

    multipliers: Float[Array, " m"]
    violation_weight: Float[Array, ""]
    gradient_weight: Float[Array, ""]
    accuracy: Float[Array, ""]
    stepsize: Float[Array, ""]  # of the last step
    decrease: Float[Array, ""]  # of the merit function by the last step


@method("sketched-newton", {"accuracy": LogUniform(0.03, 0.9)}, paper="adasketch-newton")
class SketchedNewton(Method):
    r"""Newton's method on the Lagrangian, solved inexactly by sketches, made global by an exact augmented Lagrangian.

    A direction d solves $K d = -\nabla L$, $K = \begin{pmatrix} B & G^\top \\ G & 0 \end{pmatrix}$, approximately: by
    steps of `sketch_and_project` with Gaussian sketches until

    $$ \lVert K d + \nabla L \rVert \le \theta \delta \min(1, \lVert \nabla L \rVert)^\tau \lVert \nabla L \rVert
    \quad\text{and}\quad d^\top \nabla M \le -\tfrac{\eta_2}{2} \lVert \nabla L \rVert^2, $$

    where $M = L + \frac{\eta_1}{2} \lVert c \rVert^2 + \frac{\eta_2}{2} \lVert G \nabla_x L \rVert^2$ is the merit
    function. If the first holds without the second, $\eta_1 \leftarrow 4 \eta_1$, $\eta_2 \leftarrow \eta_2 / 2$,
    $\delta \leftarrow \delta / 2$. The step size is halved from 1 on until M has decreased by at least $\beta\,
    \alpha\, d^\top \nabla M$. B is the Hessian of L plus the multiple of the identity that makes it at least $10^{-2}$
    on the null space of G. (How accuracy depends on the gradient's size, and the factors, are our choice; the paper's
    bound also has estimates of norms.) The equations are scaled to unit rows before they are sketched. The multipliers
    start at 0. All parameters are taken as one vector.

    Arguments:
        accuracy: $\theta$, in (0, 1).
        tightening: $\tau$, in [0, inf): 0 for linear convergence, more for superlinear.
        violation_weight: $\eta_1$ to start with, in (0, inf).
        gradient_weight: $\eta_2$ to start with, in (0, inf).
        armijo: $\beta$, in (0, 1/2).
        sketch_size: Columns of a sketch, at least 1; `None`: three quarters of the system's.
        most: Sketches for one step at most, at least 1.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Constrained Optimization via Exact Augmented Lagrangian and Randomized Iterative Sketching.
    """

    accuracy: Scalar = hyper(0.5, low=0.0, high=1.0, open_low=True, open_high=True)
    tightening: Scalar = hyper(1.0, low=0.0)
    violation_weight: Scalar = hyper(1.0, low=0.0, open_low=True)
    gradient_weight: Scalar = hyper(0.1, low=0.0, open_low=True)
    armijo: Scalar = hyper(1e-4, low=0.0, high=0.5, open_low=True, open_high=True)
    sketch_size: int | None = hyper(None, low=1)
    most: int = hyper(1_000, low=1)

    def init(self, problem: Constrained, x: PyTree, key: PRNGKeyArray) -> SketchedNewtonState:
        dtype = as_vector(x)[0].dtype
        m = jax.eval_shape(problem.constraint, x).size
        weights = (jnp.asarray(w, dtype) for w in (self.violation_weight, self.gradient_weight, 1.0, 1.0, 0.0))
        return SketchedNewtonState(jnp.zeros(m, dtype), *weights)

    def step(
        self, problem: Constrained, x: PyTree, state: SketchedNewtonState, key: PRNGKeyArray
    ) -> tuple[PyTree, SketchedNewtonState]:
        batch = problem.sample(key)
        flat, unravel = as_vector(x)
        d, eps = flat.size, jnp.finfo(flat.dtype).eps

        def constraint(z: Array) -> Array:
            return problem.constraint(unravel(z)).astype(flat.dtype)

        def lagrangian(z: Array) -> Array:
            return problem.loss(unravel(z[:d]), batch).astype(flat.dtype) + z[d:] @ constraint(z[:d])

        def penalties(z: Array) -> Array:
            """Half the squares of the violation, and of the Lagrangian's gradient along the constraints'."""
            stationarity = jax.grad(lagrangian)(z)[:d]
            c, along = jax.jvp(constraint, (z[:d],), (stationarity,))
            return jnp.stack([c @ c, along @ along]) / 2

        z = jnp.concatenate([flat, state.multipliers])
        value, gradient = jax.value_and_grad(lagrangian)(z)
        matrix = _convexified(jax.hessian(lagrangian)(z), d)
        slopes, size, rows = jax.jacrev(penalties)(z), jnp.linalg.norm(gradient), jnp.linalg.norm(matrix, axis=1)
        relative = self.accuracy * jnp.clip(size, eps**0.5, 1) ** self.tightening
        sketch_shape = z.size, -(-3 * z.size // 4) if self.sketch_size is None else min(self.sketch_size, z.size)

        def refine(carry: _Solve) -> _Solve:
            sketch = jr.normal(jr.fold_in(jr.fold_in(key, 1), carry.sketches), sketch_shape, flat.dtype)
            sketch = sketch / jnp.where(rows > 0, rows, 1)[:, None]
            p = carry.direction + sketch_and_project(matrix, matrix @ carry.direction + gradient, sketch)
            error = jnp.linalg.norm(matrix @ p + gradient)
            # No solver gets below rounding errors.
            floor = 10 * eps * (size + jnp.linalg.norm(matrix) * jnp.linalg.norm(p))
            solved = error <= jnp.maximum(relative * carry.accuracy * size, floor)
            descends = p @ (gradient + carry.weights @ slopes) <= -carry.weights[1] / 2 * size**2
            adapt = solved & ~descends
            return _Solve(
                p,
                jnp.where(adapt, carry.weights * jnp.array([4.0, 0.5], flat.dtype), carry.weights),
                jnp.where(adapt, carry.accuracy / 2, carry.accuracy),
                solved & descends,
                carry.sketches + 1,
            )

        weights = jnp.stack([state.violation_weight, state.gradient_weight])
        start = _Solve(jnp.zeros_like(z), weights, state.accuracy, size == 0, jnp.zeros((), jnp.int32))
        found = lax.while_loop(lambda s: ~s.done & (s.sketches < self.most), refine, start)
        merit, slope = value + found.weights @ penalties(z), found.direction @ (gradient + found.weights @ slopes)

        def decrease(stepsize: Array) -> Array:
            new = z + stepsize * found.direction
            return merit - lagrangian(new) - found.weights @ penalties(new)

        def refused(stepsize: Array) -> Array:
            enough = decrease(stepsize) >= -self.armijo * stepsize * slope - 10 * eps * jnp.abs(merit)
            return ~enough & (stepsize > 0.5**TRIALS)

        stepsize = lax.while_loop(refused, lambda stepsize: stepsize / 2, jnp.ones((), flat.dtype))
        stepsize = jnp.where(stepsize > 0.5**TRIALS, stepsize, 0)
        new = z + stepsize * found.direction
        violation, stationarity = found.weights
        progress = found.accuracy, stepsize, decrease(stepsize)
        return unravel(new[:d]), SketchedNewtonState(new[d:], violation, stationarity, *progress)


class _Solve(NamedTuple):
    """Progress of the solver within one step."""

    direction: Float[Array, " n"]
    weights: Float[Array, " 2"]
    accuracy: Float[Array, ""]
    done: Bool[Array, ""]
    sketches: Int[Array, ""]


def _convexified(hessian: Float[Array, "n n"], d: int, least: float = 1e-2) -> Float[Array, "n n"]:
    """The Lagrangian's Hessian with B in place of the first block, and 0 for the last."""
    block, jacobian = hessian[:d, :d], hessian[d:, :d]
    eigenvalues, basis = jnp.linalg.eigh(jacobian.T @ jacobian)
    free = eigenvalues <= d * jnp.finfo(block.dtype).eps * eigenvalues.max()
    within = (basis.T @ block @ basis) * free[:, None] * free
    # Directions that the constraints fix are put out of the way.
    smallest = jnp.linalg.eigvalsh(within + jnp.diag(jnp.where(free, 0, 1 + jnp.linalg.norm(block)))).min()
    return hessian.at[jnp.arange(d), jnp.arange(d)].add(jnp.maximum(least - smallest, 0))
