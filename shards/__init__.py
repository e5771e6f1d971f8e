"""A shard: one process that owns virtual hosts and everything in them, on one event loop.

Read from low to high: compaction, store, model, protocols, host.
"""
