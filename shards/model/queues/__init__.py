"""Queues: who waits, what is ready, who gets it next."""
