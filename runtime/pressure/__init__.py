"""Where news of memory pressure comes from, and how it becomes requests for compaction."""
