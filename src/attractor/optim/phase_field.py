"""Phase fields: two-valued functions with a short interface, on a torus or a graph, by the Ginzburg-Landau energy."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from attractor.checks import Scalar, in_range

Field = Float[Array, "..."]


class GinzburgLandau(eqx.Module):
    r"""The Ginzburg-Landau energy, split into a convex quadratic and a concave rest, for `attractor.optim.fista`.

    $$
    E(u) = \frac\varepsilon2 \langle u, L u \rangle + \frac1\varepsilon \sum_i \frac{(1 - u_i^2)^2}4
        + \frac\mu2 \sum_{i\ \text{labeled}} (u_i - y_i)^2
    $$

    The quadratic part is that of L and $\frac12 (\frac2\varepsilon + \mu) \lVert u \rVert^2$; the rest is concave where
    $|u_i| \le 1$, and there steps without momentum stay. They use the spectrum of L. Other splits are possible; this is
    the one whose implicit step is a linear solve.

    Arguments:
        eigenvalues: Of L, at least 0, in the order of ``analyze``'s coefficients.
        analyze: A field's coefficients in the eigenbasis.
        synthesize: The inverse of ``analyze``.
        eps: Width $\varepsilon$ of the interface, in (0, inf).
        labels: $y_i$, +1 and -1, and 0 where there is none, of a field's shape; `None`: no labels at all.
        fidelity: $\mu$, in [0, inf).

    Raises:
        ValueError: for a number out of range.

    Paper: Momentum-based minimization of the Ginzburg-Landau functional on Euclidean spaces and graphs.
    """

    eigenvalues: Field
    analyze: Callable[[Field], Array]
    synthesize: Callable[[Array], Field]
    eps: Scalar
    labels: Field
    fidelity: Scalar

    def __init__(
        self,
        eigenvalues: Field,
        analyze: Callable[[Field], Array],
        synthesize: Callable[[Array], Field],
        eps: Scalar,
        labels: Field | None = None,
        fidelity: Scalar = 0.0,
    ):
        in_range("eigenvalues", eigenvalues, 0.0)
        in_range("eps", eps, 0.0, open_low=True)
        in_range("fidelity", fidelity, 0.0)
        self.eigenvalues, self.analyze, self.synthesize, self.eps = eigenvalues, analyze, synthesize, eps
        self.labels, self.fidelity = jnp.zeros(()) if labels is None else labels, fidelity

    @classmethod
    def torus(cls, size: int, eps: Scalar) -> "GinzburgLandau":
        """On a ``size x size`` grid of the unit torus; L is the negative Laplacian, by Fourier transform.

        Arguments:
            size: Points per side, at least 2.
            eps: In units of the side, as in `GinzburgLandau`.
        """
        in_range("size", size, 2.0)
        rows, columns = 2 * np.pi * size * np.fft.fftfreq(size), 2 * np.pi * size * np.fft.rfftfreq(size)
        squares = jnp.asarray(rows[:, None] ** 2 + columns**2, dtype=float)
        return cls(squares, jnp.fft.rfft2, eqx.Partial(jnp.fft.irfft2, s=(size, size)), eps)

    @classmethod
    def graph(cls, weights: ArrayLike, eps: Scalar, labels: Field, fidelity: Scalar = 1.0) -> "GinzburgLandau":
        r"""On a graph; L is the normalized Laplacian $I - D^{-1/2} W D^{-1/2}$.

        Arguments:
            weights: W ``(n, n)``, symmetric, at least 0, of a graph without isolated nodes.
            eps: As in `GinzburgLandau`.
            labels: As in `GinzburgLandau`, ``(n,)``.
            fidelity: As in `GinzburgLandau`.
        """
        weights = np.asarray(weights)
        scale = 1 / np.sqrt(weights.sum(1))
        values, vectors = np.linalg.eigh(np.eye(len(weights)) - scale[:, None] * weights * scale)
        basis = jnp.asarray(vectors, dtype=float)
        values = jnp.asarray(values.clip(0), dtype=float)
        return cls(values, eqx.Partial(jnp.matmul, basis.T), eqx.Partial(jnp.matmul, basis), eps, labels, fidelity)

    def energy(self, u: Field) -> Float[Array, ""]:
        """E(u), with a sum over points, or nodes."""
        quadratic = jnp.sum(u * self.synthesize(self.eigenvalues * self.analyze(u)))
        misfit = jnp.sum(jnp.where(self.labels == 0, 0, (u - self.labels) ** 2))
        return self.eps / 2 * quadratic + jnp.sum((1 - u**2) ** 2) / (4 * self.eps) + self.fidelity / 2 * misfit

    def grad_concave(self, u: Field) -> Field:
        """Gradient of what the quadratic part leaves."""
        misfit = jnp.where(self.labels == 0, 0, u - self.labels)
        return (u**3 - 3 * u) / self.eps + self.fidelity * (misfit - u)

    def prox_convex(self, v: Field, step: Scalar) -> Field:
        """Proximal map of ``step`` times the quadratic part: one linear solve."""
        curvature = self.eps * self.eigenvalues + 2 / self.eps + self.fidelity
        return self.synthesize(self.analyze(v) / (1 + step * curvature))
