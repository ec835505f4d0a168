"""Layers, units and activations: equinox Modules and plain functions."""

from attractor.nn.arithmetic import (
    NALU,
    NAU,
    NMU,
    ArithmeticUnit,
    add_sparsity_gradient,
    keep_in_range,
    sparsity,
    sparsity_error,
)
from attractor.nn.attacks import pgd_attack
from attractor.nn.recurrent import ElmanCell, unroll
from attractor.nn.residual import ResidualConvNet

__all__ = [
    "NALU",
    "NAU",
    "NMU",
    "ArithmeticUnit",
    "ElmanCell",
    "ResidualConvNet",
    "add_sparsity_gradient",
    "keep_in_range",
    "pgd_attack",
    "sparsity",
    "sparsity_error",
    "unroll",
]
