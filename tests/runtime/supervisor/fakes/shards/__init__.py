"""Stands in for the real shards: the same words to the supervisor, no broker behind them, and faults on demand."""
