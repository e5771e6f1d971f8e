"""What a broker is: virtual hosts with exchanges, queues, bindings and consumers, as plain synchronous objects."""
