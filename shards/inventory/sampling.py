"""Takes samples of everything that has counted anything."""

from array import array
from collections.abc import Iterator
from typing import Final

from shards.inventory.clients import connections
from shards.model.statistics import VHOST_COUNTERS, Sample, Tally
from shards.model.vhost import VHost
from shards.model.vhosts import VHosts

_LOOK: Final = 64  # things sampled between two pauses


def take_samples(vhosts: VHosts, now: int) -> Iterator[None]:
    """Of everything, in steps; of a shard where nothing happens only of the whole, once its rates have become zero."""
    sampling = vhosts.sampling
    counts, ready, unacknowledged = array("Q", bytes(8 * len(VHOST_COUNTERS))), 0, 0
    for name in vhosts.names():
        vhost = vhosts.find(name)
        if vhost is None or vhost.tally is None:
            continue
        for index, number in enumerate(vhost.tally.counts):
            counts[index] += number
    is_quiet = len(sampling.samples) > 1 and sampling.samples[-1].counts == sampling.samples[-2].counts == counts
    sampling.begin(now)
    done = 0
    for name in vhosts.names():
        vhost = vhosts.find(name)
        if vhost is None:
            continue
        if vhost.tally is not None:
            vhost.tally.sample()
        for queue in vhost.queues():
            ready += queue.ready_count
            unacknowledged += queue.unacknowledged_count
            if queue.tally is not None and not is_quiet:
                queue.tally.sample()
            done += 1
            if done % _LOOK == 0:
                yield
        if is_quiet:
            continue
        for tally in _tallies(vhost):
            tally.sample()
            done += 1
            if done % _LOOK == 0:
                yield
    sampling.samples.append(Sample(now, counts, ready, unacknowledged))


def _tallies(vhost: VHost) -> Iterator[Tally]:
    """Of all that is not a queue."""
    for exchange in vhost.exchanges():
        if exchange.tally is not None:
            yield exchange.tally
    for connection in connections(vhost):
        if connection.tally is not None:
            yield connection.tally
        for channel in tuple(connection.channels.values()):
            if channel.tally is not None:
                yield channel.tally
