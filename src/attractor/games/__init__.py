"""Minimax problems, variational inequalities, bilevel solvers."""

from attractor.games.anchoring import FiniteSum, VarianceReducedHalpern, plane_games
from attractor.games.competitive import (
    CompetitiveGradient,
    OptimisticCompetitiveGradient,
    competitive_game,
    competitive_gradient_descent,
)
from attractor.games.extragradient import (
    Extragradient,
    GradientDescentAscent,
    OptimisticGradient,
    PastExtragradient,
    ProximalPoint,
    ReflectedGradient,
    SingleCallState,
    TwoTimescaleExtragradient,
)
from attractor.games.local_convergence import convergence_factor, convergence_factors
from attractor.games.local_minimax import Curvatures, local_minimax_curvatures
from attractor.games.mean_variance import FictitiousPlay, mean_variance_response, reward_variance, risk_averse_game
from attractor.games.primal_dual import AcceleratedPrimalDual, LinearizedPrimalDual, PrimalDualState, SaddlePoint
