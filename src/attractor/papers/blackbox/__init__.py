"""Papers of the room blackbox."""
