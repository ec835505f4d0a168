"""Neural operators: learned maps between functions."""

from attractor.operators.baselines import convolutional_network, dense_network, pointwise_network
from attractor.operators.fourier import FNO, SpectralConv
