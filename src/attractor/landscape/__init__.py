"""What the loss surface looks like from where training stands."""

from attractor.landscape.spectrum import (
    Eigenpairs,
    gradient_subspace_fraction,
    subspace_overlap,
    top_eigenpairs,
    top_hessian_eigs,
)

__all__ = [
    "Eigenpairs",
    "gradient_subspace_fraction",
    "subspace_overlap",
    "top_eigenpairs",
    "top_hessian_eigs",
]
