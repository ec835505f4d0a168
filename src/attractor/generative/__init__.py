"""Diffusion, flows and transport between distributions."""

from attractor.generative.distances import sliced_wasserstein_to_normal
from attractor.generative.rectified_flow import (
    Cost,
    TimeMLP,
    c_rectified_flow,
    gradient_velocity,
    potential_matching,
    power_cost,
    rectified_flow,
    reflow,
    transport,
    velocity_matching,
)
