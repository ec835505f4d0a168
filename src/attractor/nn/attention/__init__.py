"""Attention, softmax and what replaces it, transformers."""
