"""The `ebbmq` command: one module a command group, loaded when it is called."""
