"""Exchanges: one rule a file, and a row for each in `registry.py`."""
