"""Rules of the supervisor that need no process, socket or clock: facts in, decisions out."""
