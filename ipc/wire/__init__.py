"""Wire formats of the protocols EbbMQ speaks, without any state."""
