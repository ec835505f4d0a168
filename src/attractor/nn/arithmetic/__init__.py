"""Units that add, multiply and compare, and extrapolate."""
