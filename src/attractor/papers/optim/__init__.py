"""Papers of the room optim."""
