"""What a matrix has to be, checked before anything is compiled: finite, square, symmetric, positive definite."""

from typing import Any

import numpy as np
from jax.core import Tracer


def require_finite(name: str, value: Any, ndim: int | None = None) -> None:
    """Raise a `ValueError` unless all entries are finite and there are ``ndim`` axes; traced values pass.

    Arguments:
        name: The argument's name, for the error.
        value: An array, or what NumPy makes one of.
        ndim: How many axes; `None`: any number.
    """
    if isinstance(value, Tracer):
        return
    array = np.asarray(value)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name}: expected an array of {ndim} axes, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite entries, got {int((~np.isfinite(array)).sum())} others; mask them")


def require_square(name: str, value: Any, *, symmetric: bool = False, positive: bool | float = False) -> None:
    """Raise a `ValueError` unless ``value`` is a finite square matrix, or a batch of them; of tracers, the shape.

    Arguments:
        name: The argument's name, for the error.
        value: ``(…, n, n)``.
        symmetric: Whether it has to equal its conjugate transpose, up to 1e-5 of its largest entry.
        positive: Whether it has to be positive definite (and symmetric); a number: after so much of its norm is added
            to the diagonal, so that 1e-6 accepts singular matrices with their rounding.
    """
    shape = np.shape(value)
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] == 0:
        raise ValueError(f"{name}: expected square matrices (…, n, n) with n >= 1, got shape {shape}")
    if isinstance(value, Tracer):
        return
    require_finite(name, value)
    array = np.asarray(value)
    if symmetric or positive:
        apart = np.abs(array - np.conj(np.swapaxes(array, -1, -2))).max(initial=0.0)
        if apart > 1e-5 * np.abs(array).max(initial=0.0):
            raise ValueError(f"{name}: expected a symmetric matrix, got one {apart:.2g} apart; symmetrize (A + Aᵀ) / 2")
    if positive:
        norms = np.linalg.norm(array, axis=(-2, -1), keepdims=True)
        extra = 0.0 if positive is True else float(positive)
        try:
            np.linalg.cholesky(array + extra * norms * np.eye(shape[-1]))
        except np.linalg.LinAlgError as error:
            lowest = np.linalg.eigvalsh(array).min()
            raise ValueError(
                f"{name}: expected a positive definite matrix, got a smallest eigenvalue of {lowest:.2g}; add a "
                "multiple of the identity"
            ) from error
