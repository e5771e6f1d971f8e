"""The management process: RabbitMQ's HTTP API and metrics, asked of the shards through the supervisor."""
