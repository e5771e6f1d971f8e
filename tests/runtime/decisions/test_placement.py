"""Vhosts are spread evenly, repeatably, and moved only when they must."""

from collections import Counter

from runtime.decisions.placement import preferred_shard, shard_of

VHOSTS = [f"vhost-{number}" for number in range(1000)]


def test_the_choice_is_the_same_on_every_machine_and_in_every_release() -> None:
    assert [preferred_shard(vhost, 4) for vhost in ("/", "orders", "größe")] == [1, 2, 1]


def test_vhosts_spread_over_all_shards() -> None:
    counts = Counter(preferred_shard(vhost, 4) for vhost in VHOSTS)

    assert all(200 <= counts[shard] <= 300 for shard in range(4))


def test_a_shard_less_moves_only_what_it_had() -> None:
    before = {vhost: preferred_shard(vhost, 4) for vhost in VHOSTS}

    moved = [vhost for vhost in VHOSTS if shard_of(vhost, before[vhost], 3) != before[vhost]]

    assert moved == [vhost for vhost in VHOSTS if before[vhost] == 3]


def test_a_shard_more_moves_nothing() -> None:
    assert all(shard_of(vhost, preferred_shard(vhost, 2), 3) == preferred_shard(vhost, 2) for vhost in VHOSTS)


def test_a_vhost_that_was_never_placed_goes_where_it_hashes() -> None:
    assert shard_of("orders", None, 4) == preferred_shard("orders", 4)
