"""What a data directory holds, told without a broker and without changing a byte: `python -m shards.inspect DIR`."""
