"""How memory ebbs: what an owner of collections offers, how one collection shrinks, and the walk over all owners."""
