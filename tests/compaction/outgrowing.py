"""Collections that have once held much more than they do."""

import sys
from array import array
from collections import deque
from typing import Any

PEAK = 3000


def outgrow(collection: Any) -> int:
    """Put much into a collection and take it out again, content and order as before; the bytes it takes then."""
    if isinstance(collection, array):
        for number in range(PEAK):
            collection.append(number)
        for _ in range(PEAK):
            collection.pop()
    elif isinstance(collection, deque):
        room = (collection.maxlen or PEAK + len(collection)) - len(collection)
        collection.extend([None] * room)
        for _ in range(room):
            collection.pop()
    else:
        fill = [object() for _ in range(PEAK)]
        for key in fill:
            collection.add(key) if isinstance(collection, set) else collection.__setitem__(key, None)
        for key in fill:
            collection.discard(key) if isinstance(collection, set) else collection.__delitem__(key)
    return sys.getsizeof(collection) + 1


def contents(collection: Any) -> Any:
    """To be compared before and after; entries by identity."""
    if isinstance(collection, dict):
        return [(id(key), id(value)) for key, value in collection.items()]
    return sorted(map(id, collection)) if isinstance(collection, set) else list(collection)
