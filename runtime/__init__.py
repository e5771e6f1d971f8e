"""Everything outside the shards: who may come in, which shard serves them, and that the shards live."""
