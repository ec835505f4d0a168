"""Federated, compressed and robust optimization over many clients."""

from attractor.distributed.adversarial import AdversarialAveraging
from attractor.distributed.aggregation import (
    Aggregator,
    coordinate_median,
    geometric_median,
    krum,
    mean,
    nearest_neighbors,
    trimmed_mean,
)
from attractor.distributed.asynchronous import FedFix, cycles, staggered
from attractor.distributed.attacks import (
    Attack,
    Round,
    dropped,
    flipped_labels,
    inner_product,
    late,
    little_is_enough,
    noise,
    sign_flip,
    strongest,
)
from attractor.distributed.byzantine import RobustGossip, monna
from attractor.distributed.compressors import Compressor, identity, rand_k, top_k
from attractor.distributed.error_feedback import EControl, WeightedEF21, ef21, ef21_stepsize, error_compensation
from attractor.distributed.federated_averaging import FedSpeed, fedavg, fedprox
from attractor.distributed.gossip import ConsensusDescent, LocalGossip
from attractor.distributed.langevin import FederatedLangevin, Surrogates, dsgld, laplace_surrogates
from attractor.distributed.local import aggregate, bits, disagreement
from attractor.distributed.participation import AnchorSampling, Scaffold
from attractor.distributed.riemannian import RiemannianGossip, dprgd
from attractor.distributed.topologies import (
    complete,
    erdos_renyi,
    exponential,
    mixing_matrix,
    ring,
    ring_mixing,
    spectral_gap,
    torus,
)
from attractor.distributed.traffic import Counted, broadcasts, round_bits, traffic
