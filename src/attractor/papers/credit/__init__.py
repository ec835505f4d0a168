"""Papers of the room credit."""
