"""Shrinking collections, the walk over their owners, and the pass that drives both."""
