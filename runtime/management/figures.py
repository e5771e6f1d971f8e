"""Sums over shards of what each has counted, as RabbitMQ shows it: numbers with rates, and what they were before."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from ipc.messages.inventory import Document

OBJECTS: Final = ("connections", "channels", "exchanges", "queues", "consumers", "bindings")
MESSAGES: Final = ("messages", "messages_ready", "messages_unacknowledged")
CHURN: Final = (
    "connection_created",
    "connection_closed",
    "channel_created",
    "channel_closed",
    "queue_declared",
    "queue_created",
    "queue_deleted",
)
_HANDED_OUT: Final = ("deliver", "deliver_no_ack", "get", "get_no_ack")


class Figures(Struct, frozen=True):
    """Of several shards together."""

    objects: Mapping[str, int]
    counted: Mapping[str, int]
    rates: Mapping[str, float]
    history: Sequence[Mapping[str, int]]  # oldest first

    @classmethod
    def of(cls, documents: Iterable[Document]) -> "Figures":
        """The sum of what shards, or vhosts, answered `CountAll` with."""
        objects, counted, rates = Counter[str](), Counter[str](), Counter[str]()
        histories: list[list[dict[str, int]]] = []
        for document in documents:
            objects.update(document["objects"])
            counted.update(document["counted"])
            rates.update(document["rates"])
            if "history" in document:
                histories.append(document["history"])
        return cls(objects, counted, rates, _added_up(histories))

    def object_totals(self) -> Document:
        return {name: self.objects.get(name, 0) for name in OBJECTS}

    def queue_totals(self) -> Document:
        totals: Document = {}
        for name in MESSAGES:
            totals[name] = self.objects.get(name, 0)
            levels = [_level(sample, name) for sample in self.history]
            totals[f"{name}_details"] = {"rate": _slope(self.history, levels)}
            totals[f"{name}_log"] = levels
        return totals

    def message_stats(self) -> Document:
        """What has happened at least once."""
        stats: Document = {}
        for name, number in self.counted.items():
            if name not in CHURN and number:
                stats[name] = number
                stats[f"{name}_details"] = self._details((name,))
        if handed_out := sum(self.counted.get(name, 0) for name in _HANDED_OUT):
            stats["deliver_get"] = handed_out
            stats["deliver_get_details"] = self._details(_HANDED_OUT)
        return stats

    def churn_rates(self) -> Document:
        rates: Document = {}
        for name in CHURN:
            rates[name] = self.counted.get(name, 0)
            rates[f"{name}_details"] = self._details((name,))
        return rates

    def _details(self, names: Sequence[str]) -> Document:
        rate = round(sum(self.rates.get(name, 0.0) for name in names), 2)
        counts = [sum(sample.get(name, 0) for name in names) for sample in self.history]
        seconds = [
            (later["at"] - earlier["at"]) / 1000 for earlier, later in zip(self.history, self.history[1:], strict=False)
        ]
        gains = zip(counts, counts[1:], seconds, strict=False)
        return {"rate": rate, "log": [round((to - since) / span, 1) for since, to, span in gains if span > 0]}


def _level(sample: Mapping[str, int], name: str) -> int:
    ready, unacknowledged = sample.get("messages_ready", 0), sample.get("messages_unacknowledged", 0)
    return ready + unacknowledged if name == "messages" else sample.get(name, 0)


def _slope(history: Sequence[Mapping[str, int]], levels: Sequence[int]) -> float:
    """By how much a second it went up between the last two samples."""
    if len(levels) < 2:
        return 0.0
    seconds = (history[-1]["at"] - history[-2]["at"]) / 1000
    return round((levels[-1] - levels[-2]) / seconds, 2) if seconds > 0 else 0.0


def _added_up(histories: Sequence[Sequence[Mapping[str, int]]]) -> list[Mapping[str, int]]:
    """Samples of all shards, the last ones together and so on back: they are taken at about the same times."""
    length = min(map(len, histories), default=0)
    added: list[Mapping[str, int]] = []
    for back in range(length, 0, -1):
        samples = [history[-back] for history in histories]
        total = Counter[str]()
        for sample in samples:
            total.update({name: number for name, number in sample.items() if name != "at"})
        added.append({**total, "at": max(sample["at"] for sample in samples)})
    return added
