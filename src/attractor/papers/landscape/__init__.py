"""Papers of the room landscape."""
