"""Papers of the room linalg."""
