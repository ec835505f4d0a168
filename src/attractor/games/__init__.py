"""Minimax problems, variational inequalities, bilevel solvers."""

from attractor.games.best_response import Response, SelfTuning, gated_ridge
from attractor.games.bilevel import HypergradientDescent
from attractor.games.extragradient import Extragradient, GradientDescentAscent, TwoTimescaleExtragradient
from attractor.games.hypergradient import (
    Hypergradient,
    implicit_hypergradient,
    neumann_hypergradient,
    truncated_hypergradient,
    unrolled_hypergradient,
)
from attractor.games.local_minimax import Curvatures, local_minimax_curvatures
from attractor.games.multipliers import AveragedMultipliers
from attractor.games.unbounded_smoothness import NormalizedMomentum
from attractor.games.value_function import BilevelPenalty, SingleLoopPenalty, penalty_hypergradient
