"""Papers of the room representation."""
