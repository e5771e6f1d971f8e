"""What a shard holds, as operators look at it: lists in any order, one thing, totals; and how to interfere."""
