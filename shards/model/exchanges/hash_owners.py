"""Small numbers for the bindings of a consistent hash exchange, so that a point or a bucket costs a few bytes."""

from collections.abc import Iterable

from shards.compaction.compactable import Compactable
from shards.model.bindings import Binding


class Owners(Compactable):
    """Which number is whose. A number that somebody had is given out again once it is released."""

    __slots__ = ("_bindings", "_number_next", "_numbers", "_released")
    COLLECTIONS = ("_bindings", "_numbers")
    KIND = "bindings"

    def __init__(self) -> None:
        self._bindings: dict[int, Binding] = {}
        self._numbers: dict[Binding, int] = {}
        self._released: list[int] = []
        self._number_next = 0

    def __len__(self) -> int:
        return len(self._bindings)

    def __getitem__(self, number: int) -> Binding:
        return self._bindings[number]

    def add(self, binding: Binding) -> int:
        number = self._released.pop() if self._released else self._take_number()
        self._bindings[number] = binding
        self._numbers[binding] = number
        return number

    def remove(self, binding: Binding) -> int:
        number = self._numbers.pop(binding)
        del self._bindings[number]
        return number

    def release(self, numbers: Iterable[int]) -> None:
        """Nothing says any more that these are somebody's."""
        self._released.extend(numbers)

    def _take_number(self) -> int:
        self._number_next += 1
        return self._number_next - 1
