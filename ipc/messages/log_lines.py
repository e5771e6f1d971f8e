"""A line of the log on its way to the supervisor, which keeps the last ones of all processes."""

from msgspec import Struct


class LogLine(Struct, frozen=True, array_like=True, gc=False):
    """What one process logged; texts as they were made for a person, without line breaks or control characters."""

    at: str  # UTC, as ISO 8601 has it
    level: str
    source: str  # which part of which process
    text: str
    lost: int = 0  # lines of that process before this one for which there was no room on the way
