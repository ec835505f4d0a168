"""Methods that use function values only: zeroth-order, constrained, Bayesian and learned search."""

from attractor.blackbox.combinatorial import (
    interpolated,
    solver_of,
    surrogate_costs,
    surrogate_network,
)
from attractor.blackbox.conformal_bootstrap import (
    Crossing,
    bps_square,
    crossed_block,
    free_square,
    interior_point,
    truncated_crossing,
)
from attractor.blackbox.consensus import ConsensusBasedOptimization, ConsensusHopping, consensus_point
from attractor.blackbox.direct_search import DirectSearch, attack_operator, best_by_call, penalized
from attractor.blackbox.gaussian_processes import (
    ConstrainedResult,
    Posterior,
    constrained_improvement,
    constrained_search,
    expected_improvement,
    gp_posterior,
    optimistic,
    squared_exponential,
)
from attractor.blackbox.learned_optimizers import (
    CoordinateNetwork,
    Tasks,
    learned_descent,
    learned_proximal,
    meta_train,
    unrolled,
)
from attractor.blackbox.minimize import BlackboxResult, minimize_blackbox
from attractor.blackbox.programs import (
    Evolved,
    Instruction,
    Program,
    evolve_program,
    largest_error,
    mutated,
    survivors,
    tune_constants,
)
from attractor.blackbox.zeroth_order import (
    AcceleratedZerothOrder,
    ZerothOrderDescent,
    ball_smoothing,
    two_point_gradient,
)
