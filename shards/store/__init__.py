"""Where messages and definitions rest: checksummed blocks in files behind a seam, and one store for each queue."""
