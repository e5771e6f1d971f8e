"""Protocols: conversations with clients as state machines, bytes in and bytes out."""
