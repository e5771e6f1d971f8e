"""Metrics for Prometheus: RabbitMQ's by its names, so that its dashboards work, and what only this broker can tell."""
