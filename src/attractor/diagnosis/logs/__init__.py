"""Logs of training: CSV, JSON, TensorBoard's event files, a Weights & Biases export."""

from attractor.diagnosis.logs.reader import diagnose_log, read_log
