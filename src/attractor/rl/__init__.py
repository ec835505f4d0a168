"""Reinforcement learning: estimators and methods over `Decision` problems."""

from attractor.rl.online.advantages import gae
from attractor.rl.online.proximal_policy import PPO, Experience, clipped_losses, experience
from attractor.rl.online.trust_region import TRPO, trust_region_value_fit
