"""Papers of the room rl."""
