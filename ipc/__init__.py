"""What supervisor, shards and clients must agree on: limits, refusals, settings, wire formats, ipc messages."""
