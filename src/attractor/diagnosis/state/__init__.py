"""A state of training, in JAX: what its loss, parameters, batches and optimizer show."""

from attractor.diagnosis.state.looks import diagnose
