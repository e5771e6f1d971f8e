"""Suites that clients ship with their sources, run against a broker of ours, and against RabbitMQ as the control."""
