"""What the broker promises, in sentences that run; each directory is named after the part that keeps them."""
