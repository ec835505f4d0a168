"""Methods that use function values only: zeroth-order, constrained, Bayesian and learned search."""

from attractor.blackbox.consensus import consensus_based_optimization, consensus_hopping, consensus_point

__all__ = ["consensus_based_optimization", "consensus_hopping", "consensus_point"]
