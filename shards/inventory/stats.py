"""What was counted, as RabbitMQ's API shows it: numbers, and beside each how often a second."""

from collections.abc import Sequence
from typing import Any, Final

from shards.model.statistics import (
    CONNECTION_COUNTERS,
    DELIVER,
    DELIVER_NO_ACK,
    GET,
    GET_NO_ACK,
    MESSAGE_COUNTERS,
    Sampling,
    Tally,
)

_COUNTERS: Final = {name: counter for counter, name in enumerate(MESSAGE_COUNTERS)}
_HANDED_OUT: Final = (DELIVER, DELIVER_NO_ACK, GET, GET_NO_ACK)


def message_stats(sampling: Sampling, tally: Tally | None) -> dict[str, Any] | None:
    """Each counter that is not zero, with its rate; None where nothing has happened yet."""
    if tally is None:
        return None
    return shown(tally.counts, list(sampling.rates(tally))) or None


def shown(counts: Sequence[int], rates: Sequence[float]) -> dict[str, Any]:
    """`publish` and `publish_details: {rate}` and so on, and what was handed out in all as `deliver_get`."""
    stats: dict[str, Any] = {}
    for name, number, rate in zip(MESSAGE_COUNTERS, counts, rates, strict=False):
        if number:
            stats[name] = number
            stats[f"{name}_details"] = {"rate": rate}
    handed_out = sum(counts[counter] for counter in _HANDED_OUT)
    if handed_out:
        stats["deliver_get"] = handed_out
        stats["deliver_get_details"] = {"rate": round(sum(rates[counter] for counter in _HANDED_OUT), 2)}
    return stats


def statistic(sampling: Sampling, tally: Tally | None, path: Sequence[str]) -> float | None:
    """What `message_stats` would show on this path, without putting all of it together."""
    name = path[0].removesuffix("_details") if path else ""
    if tally is None or list(path) not in ([name], [f"{name}_details", "rate"]):
        return None
    counters = _HANDED_OUT if name == "deliver_get" else (_COUNTERS.get(name),)
    numbers: Sequence[float] = tally.counts if len(path) == 1 else list(sampling.rates(tally))
    return sum(numbers[counter] for counter in counters if counter is not None) or None


def traffic(sampling: Sampling, tally: Tally | None, name: str) -> tuple[int, float]:
    """One counter of a connection, and its rate."""
    if tally is None:
        return 0, 0.0
    index = CONNECTION_COUNTERS.index(name)
    return tally.counts[index], list(sampling.rates(tally))[index]
