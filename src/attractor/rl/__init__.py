"""Reinforcement learning: estimators and methods over `Decision` problems."""

from attractor.rl.advantages import gae
from attractor.rl.trust_region import TRPO, trpo, trust_region_step, trust_region_value_fit

__all__ = ["TRPO", "gae", "trpo", "trust_region_step", "trust_region_value_fit"]
