"""Definitions: everything that is declared and laid down as one file of RabbitMQ's format, out and in again."""
