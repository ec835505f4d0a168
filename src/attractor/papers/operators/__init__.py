"""Papers of the room operators."""
