"""Entropic optimal transport: matrix scaling, and Newton's method on the dual with a sparsified Hessian.

Both solvers work in float64 (NumPy and SciPy, on the host) whatever JAX's ``enable_x64`` says: at ``eta = 1000`` a
potential that is off by one float32 rounding changes the plan in the fourth digit.
"""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse
from jaxtyping import ArrayLike, Float
from scipy.sparse.linalg import cg
from scipy.special import logsumexp

from attractor.checks import in_range
from attractor.registry import part

_TINY = 1e-290  # smaller numbers become denormal when scaled, which makes a product many times slower
_DRIFT = 1e40  # scalings beyond this are absorbed into the potentials before they can overflow
_CG_TOLERANCE = 1e-2  # relative residual of the linear solves; dropping entries costs more accuracy than this does
_ARMIJO = 1e-4  # the usual sufficient-increase constant
_STEP_SIZES = 30  # 1, 1/2, 1/4 …
_ENTRIES = 20  # of the plan, per row or column
_PATIENCE = 2  # Newton directions in a row that lead nowhere, before another temperature is tried
_COOLING = 4.0  # ratio of the temperatures on the way down
_ON_THE_WAY = 1e-6  # the share of the mass that may be misplaced at a temperature that only leads to the next


@dataclass(frozen=True)
class Transport:
    """An entropic transport plan with its dual potentials.

    Attributes:
        plan: Mass moved from i to j, $P_{ij} = \\exp(\\eta(x_i + y_j - C_{ij}) - 1)$, shape (n, m).
        x: Dual potential of the rows, shape (n,), in units of the cost.
        y: Dual potential of the columns, shape (m,).
        error: L1 distance of the plan's marginals from the wanted ones.
        sweeps: Matrix-scaling sweeps done (rows, then columns).
        newton_steps: Newton steps done.
        converged: Whether ``error`` is at most the tolerance that was asked for.
    """

    plan: Float[np.ndarray, "n m"]
    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " m"]
    error: float
    sweeps: int
    newton_steps: int = 0
    converged: bool = False

    @property
    def iterations(self) -> int:
        """Sweeps and Newton steps together."""
        return self.sweeps + self.newton_steps


def sinkhorn(
    C: Float[ArrayLike, "n m"],
    r: Float[ArrayLike, " n"],
    c: Float[ArrayLike, " m"],
    eta: float,
    *,
    tol: float = 1e-9,
    max_sweeps: int = 20_000,
) -> Transport:
    r"""Solve $\min_P \langle C, P\rangle + \frac1\eta \sum P_{ij} \log P_{ij}$ with marginals r and c.

    A sweep sets $u \leftarrow r / Kv$ and $v \leftarrow c / K^\top u$ for the kernel
    $K = \exp(\eta(x + y - C) - 1)$; u and v are absorbed into the potentials (x, y) and the kernel is made anew
    before they grow large, so that any ``eta`` is safe while a sweep costs just two matrix-vector products.

    Arguments:
        C: Cost of moving a unit of mass from i to j.
        r: Mass at the rows, positive.
        c: Mass at the columns, positive; rescaled to the total of ``r``, from which it may differ by rounding only.
        eta: Inverse temperature in units of 1/cost, positive; the larger, the closer to unregularized transport.
        tol: Stop when the marginals' L1 error is at most this; at least 0.
        max_sweeps: Stop after so many sweeps in any case.

    Raises:
        ValueError: for a non-finite cost, weights that are not positive or of another total, or numbers out of range.

    Paper: Sinkhorn Distances: Lightspeed Computation of Optimal Transport.
    """
    in_range("tol", tol, 0.0)
    in_range("max_sweeps", max_sweeps, 1)
    problem = _checked(C, r, c, eta)
    rows, columns = problem.rows, problem.columns
    x, y = problem.log_sweep(np.zeros_like(columns))
    kernel, u, v = problem.kernel(x, y), np.ones_like(rows), np.ones_like(columns)
    reached, sweeps = kernel @ v, 1
    while np.abs(u * reached - rows).sum() > tol and sweeps < max_sweeps:  # the columns are exact after a sweep
        u = rows / reached
        v = columns / (u @ kernel)
        reached = kernel @ v
        sweeps += 1
        if max(u.max(), v.max(), 1 / u.min(), 1 / v.min()) > _DRIFT:
            x, y = x + np.log(u) / eta, y + np.log(v) / eta
            kernel, u, v = problem.kernel(x, y), np.ones_like(rows), np.ones_like(columns)
            reached = kernel @ v
    return _judged(problem.transport(x + np.log(u) / eta, y + np.log(v) / eta, sweeps), tol)


def sinkhorn_newton_sparse(
    C: Float[ArrayLike, "n m"],
    r: Float[ArrayLike, " n"],
    c: Float[ArrayLike, " m"],
    eta: float,
    *,
    n_sinkhorn: int = 20,
    density: float | None = None,
    tol: float = 1e-9,
    max_newton: int = 200,
) -> Transport:
    r"""Solve the problem of `sinkhorn` by a few sweeps of it and then Newton steps on the dual, in O(nm) each.

    The dual potential f (see `ot_dual_potential`) has gradient $(r - P1, c - P^\top 1)$. A step solves
    $H \, dz = \nabla f$ by conjugate gradients, where H is minus the Hessian with only the largest entries of
    the plan kept (`sparse_dual_hessian`), and backtracks from step size 1 until f has increased enough.

    Chosen here: a relative residual of 0.01 for the linear solves, and the Hessian's diagonal as their preconditioner.

    Where mass that belongs together is still apart after the warm-up, H is singular to rounding and its directions lead
    nowhere. Then a sweep takes the place of the step, and where that does not help either, the problem is solved at a
    temperature four times higher first (again so, if need be), from whose potentials it is taken up again, over
    temperatures between where the step between two proves too large.

    Arguments:
        C: Cost of moving a unit of mass from i to j.
        r: Mass at the rows, positive.
        c: Mass at the columns, positive; rescaled to the total of ``r``, from which it may differ by rounding only.
        eta: Inverse temperature in units of 1/cost, positive.
        n_sinkhorn: Sweeps before the first Newton step, at least 1.
        density: Share of the plan's entries kept in the Hessian, in (0, 1]; default: as many as 20 to each row or
            column, whichever are more. With too few, convergence slows down to a linear rate.
        tol: Stop when the marginals' L1 error is at most this; at least 0.
        max_newton: Stop after so many steps of the second stage in any case, at whatever temperature; at least 0.

    Raises:
        ValueError: for a non-finite cost, weights that are not positive or of another total, or numbers out of range.

    Warns:
        RuntimeWarning: if the tolerance was not reached; ``converged`` says it too.

    Paper: Accelerating Sinkhorn Algorithm with Sparse Newton Iterations.
    """
    in_range("n_sinkhorn", n_sinkhorn, 1)
    in_range("max_newton", max_newton, 0)
    problem = _checked(C, r, c, eta)
    density = min(1.0, _ENTRIES / min(problem.cost.shape)) if density is None else density
    in_range("density", density, 0.0, 1.0, open_low=True)
    warm = sinkhorn(C, r, c, eta, tol=tol, max_sweeps=n_sinkhorn)
    found = _judged(_cooled(problem, warm, density, tol, max_newton), tol)
    if not found.converged:
        done = f"{found.iterations} iterations"
        warnings.warn(f"a marginal error of {found.error:.1e} after {done}, above tol", RuntimeWarning, stacklevel=2)
    return found


def sparse_dual_hessian(P: Float[ArrayLike, "n m"], eta: float, density: float = 1.0) -> sparse.csr_array:
    r"""Minus the Hessian of the dual, $\eta \begin{pmatrix} D(P1) & P \\ P^\top & D(P^\top 1) \end{pmatrix}$.

    The diagonal sums all of P; off it only the largest ``density`` share of P's entries is kept, which makes the
    matrix positive definite (the full one is singular: potentials may be shifted against each other).

    Arguments:
        P: The plan, non-negative.
        eta: Inverse temperature, positive.
        density: Share of the entries to keep, in (0, 1], rounded up.

    Raises:
        ValueError: for numbers out of range.
    """
    in_range("eta", eta, 0.0, open_low=True)
    in_range("density", density, 0.0, 1.0, open_low=True)
    plan = np.asarray(P, dtype=float)
    dropped = plan.size - int(np.ceil(density * plan.size))
    kept = np.argpartition(plan, dropped, axis=None)[dropped:]
    row, column = np.unravel_index(kept, plan.shape)
    coupling = sparse.csr_array((plan[row, column], (row, column)), plan.shape)
    blocks = [
        [sparse.diags_array(plan.sum(1)), coupling],
        [coupling.T, sparse.diags_array(plan.sum(0))],
    ]
    return eta * sparse.block_array(blocks, format="csr")


def ot_dual_potential(
    x: Float[ArrayLike, " n"],
    y: Float[ArrayLike, " m"],
    C: Float[ArrayLike, "n m"],
    r: Float[ArrayLike, " n"],
    c: Float[ArrayLike, " m"],
    eta: float,
) -> float:
    r"""The concave dual $f(x, y) = -\frac1\eta \sum_{ij} e^{\eta(x_i + y_j - C_{ij}) - 1} + r^\top x + c^\top y$.

    Its maximum is the entropic transport cost. Arguments are those of `sinkhorn`, with potentials x and y.

    Raises:
        ValueError: as `sinkhorn` does.
    """
    problem = _checked(C, r, c, eta)
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return problem.dual(x, y, problem.plan(x, y))


class _Problem(NamedTuple):
    cost: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    eta: float

    def plan(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.exp(self.eta * (x[:, None] + y - self.cost) - 1)

    def kernel(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The plan, for scaling."""
        kernel = self.plan(x, y)
        kernel[kernel < _TINY] = 0.0
        return kernel

    def dual(self, x: np.ndarray, y: np.ndarray, plan: np.ndarray) -> float:
        return float(-plan.sum() / self.eta + self.rows @ x + self.columns @ y)

    def log_sweep(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One sweep in logarithms, after which no row or column of the kernel underflows."""
        x = (np.log(self.rows) - logsumexp(self.eta * (y - self.cost) - 1, axis=1)) / self.eta
        y = (np.log(self.columns) - logsumexp(self.eta * (x[:, None] - self.cost) - 1, axis=0)) / self.eta
        return x, y

    def swept(self, now: Transport) -> Transport:
        return self.transport(*self.log_sweep(now.y), now.sweeps + 1, now.newton_steps)

    def transport(self, x: np.ndarray, y: np.ndarray, sweeps: int, newton_steps: int = 0) -> Transport:
        plan = self.plan(x, y)
        error = np.abs(plan.sum(1) - self.rows).sum() + np.abs(plan.sum(0) - self.columns).sum()
        return Transport(plan, x, y, float(error), sweeps, newton_steps)


def _checked(C: ArrayLike, r: ArrayLike, c: ArrayLike, eta: float) -> _Problem:
    in_range("eta", eta, 0.0, open_low=True)
    in_range("C", C)
    in_range("r", r, 0.0, open_low=True)
    in_range("c", c, 0.0, open_low=True)
    cost, rows, columns = (np.asarray(a, dtype=float) for a in (C, r, c))
    if cost.shape != (rows.size, columns.size):
        raise ValueError(f"C: expected shape {(rows.size, columns.size)} from r and c, got {cost.shape}")
    if not np.isclose(rows.sum(), columns.sum(), rtol=1e-5):
        raise ValueError(f"c: expected the same total as r, {rows.sum():g}, got {columns.sum():g}")
    return _Problem(cost, rows, columns * (rows.sum() / columns.sum()), float(eta))


def _judged(found: Transport, tol: float) -> Transport:
    return replace(found, converged=found.error <= tol)


def _cooled(problem: _Problem, warm: Transport, density: float, tol: float, budget: int) -> Transport:
    """Newton at the wanted temperature, over higher ones where it stalls; the last state at the wanted one."""
    ahead, reached, loose = [problem.eta], 0.0, _ON_THE_WAY * problem.rows.sum()
    now = solved = wanted = warm
    while ahead and budget > 0:  # ahead are the temperatures still to be solved at, the next one last
        final, goal = len(ahead) == 1, tol if len(ahead) == 1 else loose
        now, budget = _stage(problem._replace(eta=ahead[-1]), now, density, goal, budget)
        wanted = now if final else replace(wanted, sweeps=now.sweeps, newton_steps=now.newton_steps)
        if now.error <= goal:
            reached, solved = ahead.pop(), now
        else:
            ahead.append(float(np.sqrt(reached * ahead[-1])) if reached else ahead[-1] / _COOLING)
        if ahead:
            begun = replace(solved, sweeps=now.sweeps, newton_steps=now.newton_steps)
            now = problem._replace(eta=ahead[-1]).swept(begun)
    return wanted


def _stage(problem: _Problem, now: Transport, density: float, tol: float, budget: int) -> tuple[Transport, int]:
    """Newton steps, and sweeps in place of those that fail, until it is solved or stalls; and what is left to spend."""
    failures = 0
    while now.error > tol and budget > 0 and failures < _PATIENCE:
        found = _newton_step(problem, now, density)
        failures = 0 if found else failures + 1
        now, budget = found or problem.swept(now), budget - 1
    return now, budget


def _newton_step(problem: _Problem, now: Transport, density: float) -> Transport | None:
    """`None` where the direction does not lead up by at least a fair share of what its slope promises."""
    gradient = np.concatenate([problem.rows - now.plan.sum(1), problem.columns - now.plan.sum(0)])
    hessian = sparse_dual_hessian(now.plan, problem.eta, density)
    with np.errstate(over="ignore", invalid="ignore"):  # a Hessian singular to rounding, or far too long a step
        direction, _ = cg(hessian, gradient, rtol=_CG_TOLERANCE, M=sparse.diags_array(1 / hessian.diagonal()))
        along_x, along_y = np.split(direction, [now.x.size])
        slope, before = gradient @ direction, problem.dual(now.x, now.y, now.plan)
        rounding = 8 * np.finfo(float).eps * abs(before)  # near the optimum the increase is smaller than this
        for size in 0.5 ** np.arange(_STEP_SIZES):
            x, y = now.x + size * along_x, now.y + size * along_y
            found = problem.transport(x, y, now.sweeps, now.newton_steps + 1)
            if problem.dual(x, y, found.plan) >= before + _ARMIJO * size * slope - rounding:
                return found
    return None


def _example(solve: Callable[..., Transport]) -> tuple[float, float]:
    random = np.random.default_rng(0)
    cost, r, c = random.random((6, 5)), random.random(6) + 0.5, random.random(5) + 0.5
    plan = solve(cost, r, c * r.sum() / c.sum(), 10.0).plan
    return float(np.abs(plan.sum(1) - r).sum() + np.abs(plan.sum(0) - c * r.sum() / c.sum()).sum()), 1e-6


part("solver", "sinkhorn", example=lambda: functools.partial(_example, sinkhorn))(sinkhorn)
part("solver", "sinkhorn-newton-sparse", example=lambda: functools.partial(_example, sinkhorn_newton_sparse))(
    sinkhorn_newton_sparse
)
