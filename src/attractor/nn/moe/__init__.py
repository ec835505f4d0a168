"""Mixtures of experts: networks of which each input uses a part."""
