"""Methods that use function values only: zeroth-order, constrained, Bayesian and learned search."""

from attractor.blackbox.consensus import ConsensusBasedOptimization, ConsensusHopping, consensus_point
from attractor.blackbox.minimize import BlackboxResult, minimize_blackbox
from attractor.blackbox.zeroth_order import (
    AcceleratedZerothOrder,
    ZerothOrderDescent,
    ball_smoothing,
    two_point_gradient,
)
