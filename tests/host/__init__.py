"""The rim of a shard: loops, threads and clocks around the core."""
