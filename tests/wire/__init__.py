"""Wire formats: whole, byte by byte, and garbled."""
