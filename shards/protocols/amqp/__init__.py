"""AMQP 0-9-1 from the first frame after `connection.open`: connection, channels, and a module for each kind of verb."""
