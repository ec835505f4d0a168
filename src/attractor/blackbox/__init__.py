"""Methods that use function values only: zeroth-order, constrained, Bayesian and learned search."""

from attractor.blackbox.consensus import ConsensusBasedOptimization, ConsensusHopping, consensus_point
