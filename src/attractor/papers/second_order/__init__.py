"""Papers of the room second_order."""
