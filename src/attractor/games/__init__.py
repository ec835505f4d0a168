"""Minimax problems, variational inequalities, bilevel solvers."""

from attractor.games.extragradient import extragradient, gradient_descent_ascent, two_timescale_extragradient
from attractor.games.local_minimax import Curvatures, local_minimax_curvatures

__all__ = [
    "Curvatures",
    "extragradient",
    "gradient_descent_ascent",
    "local_minimax_curvatures",
    "two_timescale_extragradient",
]
