"""Papers of the room physics."""
