"""What ends a shard, because its memory and its disk do not say the same any more."""


class HalfDone(BaseException):
    """There was no memory to finish a change of a store that cannot be taken back.

    A written block that is still in the tail would be written twice, half an entry would make a journal's block
    unreadable. What is on disk is whole, and is what the shard begins again with. No `Exception`, so that nobody takes
    it for the fault of the client during whose input it happened, and goes on.
    """
