"""Minimax problems, variational inequalities, bilevel solvers."""

from attractor.games.extragradient import Extragradient, GradientDescentAscent, TwoTimescaleExtragradient
from attractor.games.local_minimax import Curvatures, local_minimax_curvatures
