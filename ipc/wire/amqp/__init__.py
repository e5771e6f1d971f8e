"""AMQP 0-9-1 on the wire: frames, methods, field tables and the negotiation that opens a connection."""
