"""Layers, units and activations: equinox Modules and plain functions."""

from attractor.nn.arithmetic.units import (
    NALU,
    NAU,
    NMU,
    ArithmeticUnit,
    add_sparsity_gradient,
    keep_in_range,
    sparsity,
    sparsity_error,
)
from attractor.nn.attention.latent import LatentAttention
from attractor.nn.equivariant.graphs import EdgeGraphNetwork
from attractor.nn.moe.experts import MixtureOfExperts
from attractor.nn.recurrent.cells import ElmanCell, unroll
from attractor.nn.residual.bypass import BypassNetwork, net_control
from attractor.nn.residual.convolutional import MultilevelConvNet, ResidualConvNet
from attractor.nn.robust.attacks import pgd_attack
