"""Policies that learn from episodes of their own."""
