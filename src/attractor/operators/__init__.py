"""Neural operators: learned maps between functions."""

from attractor.operators.fourier import FNO, SpectralConv
