"""What the loss surface looks like from where training stands."""

from attractor.landscape.spectrum import gradient_subspace_fraction, subspace_overlap, top_hessian_eigs
