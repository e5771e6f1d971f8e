"""The fake of `shards.host`."""
