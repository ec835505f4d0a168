"""Papers of the room generative."""
