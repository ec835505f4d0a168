"""Layers that commute with a group, such as the permutations of a graph's nodes."""
