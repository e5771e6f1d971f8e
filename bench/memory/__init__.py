"""What memory does around a load that comes and goes: a script for each question, each of which prints its table."""
