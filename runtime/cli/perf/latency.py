"""Percentiles of latencies that were counted in buckets."""

from collections.abc import Sequence
from typing import Final

from ipc.wire.amqp.traffic import bucket_floor

PERCENTILES: Final = (50.0, 75.0, 95.0, 99.0, 99.9)

_NS_PER_US: Final = 1e3


def percentiles(buckets: Sequence[int]) -> dict[str, float]:
    """Microseconds by name, `p50` to `p99_9` and `max`, each the middle of its bucket; empty without any latency."""
    total = sum(buckets)
    if not total:
        return {}
    named = {f"p{percentile:g}".replace(".", "_"): percentile for percentile in PERCENTILES}
    found = {name: _value(buckets, total * percentile / 100) for name, percentile in named.items()}
    found["max"] = _value(buckets, total)
    return found


def _value(buckets: Sequence[int], rank: float) -> float:
    """The value that `rank` of all values do not exceed."""
    seen = 0
    for bucket, count in enumerate(buckets):
        seen += count
        if count and seen >= rank:
            return (bucket_floor(bucket) + bucket_floor(bucket + 1)) / 2 / _NS_PER_US
    raise AssertionError("more values than there are")
