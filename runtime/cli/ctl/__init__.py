"""`ebbmqctl`: rabbitmqctl's and lavinmqctl's commands, over the broker's own socket or, given a URI, over HTTP."""
