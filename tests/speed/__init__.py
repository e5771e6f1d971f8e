"""Both speeds are one broker: what is compiled does what its source says, and never reaches beyond a buffer."""
