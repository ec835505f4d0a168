"""Papers of the room nn."""
