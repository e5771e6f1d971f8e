"""A shard: one process that owns virtual hosts and everything in them, on one event loop.

Read from low to high: compaction, store, model, protocols, host.
"""

import ipc  # noqa: F401 - first, because it chooses whether compiled or interpreted hot modules are imported
