"""Every connection is a descriptor, so the process takes all that the system allows it; its children inherit that."""

import resource
from typing import Final

DESCRIPTORS_LOW: Final = 8192  # the usual hard limit is 524288 or more; below this a broker is refused clients early


def raise_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one, and return what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        return soft
    return hard
