"""Logging and memory readings, as every process uses them."""
