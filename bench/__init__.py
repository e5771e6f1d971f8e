"""What the broker costs, measured from outside: a fresh broker on loopback, a fast client, markdown tables."""
