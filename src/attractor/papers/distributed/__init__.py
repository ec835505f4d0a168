"""Papers of the room distributed."""
