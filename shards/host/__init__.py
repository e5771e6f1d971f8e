"""The rim of a shard: sockets, threads, clocks and the supervisor's commands; it decides nothing about brokers."""
