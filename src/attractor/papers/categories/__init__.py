"""Papers of the room categories."""
