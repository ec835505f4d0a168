"""Attacks on networks, and what withstands them."""
