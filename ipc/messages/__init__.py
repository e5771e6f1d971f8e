"""What the processes say to each other: commands go down to shards, reports come back up."""
