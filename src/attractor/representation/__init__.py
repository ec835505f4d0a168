"""Clustering, continual learning, associative memory."""

from attractor.representation.resonator import (
    Estimate,
    Factorization,
    Resonator,
    attention_resonator,
    bound_products,
    resonator,
    vsa_bind,
)
