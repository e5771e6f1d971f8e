"""The process that starts, watches, drains and restarts all others."""
