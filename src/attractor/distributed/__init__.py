"""Federated, compressed and robust optimization over many clients."""

from attractor.distributed.compressors import Compressor, identity, rand_k, top_k
from attractor.distributed.error_feedback import EControl, ef21, error_compensation
