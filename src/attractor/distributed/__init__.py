"""Federated, compressed and robust optimization over many clients."""

from attractor.distributed.compressors import Compressor, identity, rand_k, top_k
from attractor.distributed.error_feedback import econtrol, ef21, error_compensation

__all__ = ["Compressor", "econtrol", "ef21", "error_compensation", "identity", "rand_k", "top_k"]
