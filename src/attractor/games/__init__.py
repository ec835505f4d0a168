"""Minimax problems, variational inequalities, bilevel solvers."""

from attractor.games.anchoring import FiniteSum, VarianceReducedHalpern, plane_games
from attractor.games.best_response import Response, SelfTuning, gated_ridge
from attractor.games.bilevel import HypergradientDescent
from attractor.games.competitive import (
    CompetitiveGradient,
    OptimisticCompetitiveGradient,
    competitive_game,
    competitive_gradient_descent,
)
from attractor.games.descent_ascent import DescentAscent, adam_descent_ascent
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
from attractor.games.field_constants import FieldConstants, field_constants
from attractor.games.hypergradient import (
    Hypergradient,
    implicit_hypergradient,
    neumann_hypergradient,
    truncated_hypergradient,
    unrolled_hypergradient,
)
from attractor.games.label_poisoning import AdversarialLabels, flip_influential
from attractor.games.local_convergence import convergence_factor, convergence_factors
from attractor.games.local_minimax import Curvatures, local_minimax_curvatures
from attractor.games.mean_variance import FictitiousPlay, mean_variance_response, reward_variance, risk_averse_game
from attractor.games.multipliers import AveragedMultipliers
from attractor.games.primal_dual import AcceleratedPrimalDual, LinearizedPrimalDual, PrimalDualState, SaddlePoint
from attractor.games.proximal_lagrangian import ProximalLagrangian, onto_constraint, proximal_value
from attractor.games.unbounded_smoothness import NormalizedMomentum
from attractor.games.value_function import BilevelPenalty, SingleLoopPenalty, penalty_hypergradient
