"""Papers of the room games."""
