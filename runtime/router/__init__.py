"""The front door: listens, negotiates with each client and hands its socket to the shard that owns its vhost."""
