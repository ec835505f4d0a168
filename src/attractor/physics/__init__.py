"""Physics-informed networks, differential operators, conservation."""

from attractor.physics.pinn import BallNetwork, Collocation, poisson_pinn
from attractor.physics.taylor import (
    biharmonic,
    contract,
    dense_tangents,
    laplacian,
    laplacian_slope,
    nested_laplacian,
    sparse_tangents,
)
