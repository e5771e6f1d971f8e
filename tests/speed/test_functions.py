"""Each compiled function of a hot module gives what its source gives when interpreted, whatever it is called with.

Arguments come from seeds: sound ones as its callers give them, sound ones with a flaw, and ones that nobody would give.
Where one speed refuses, the other must, and for the same kind of reason: a place that is not there, or a value that is
none. Buffers are slices out of larger ones, so that a read beyond the end finds something, and shows.
"""

import os
from array import array
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final
from zlib import crc32

import pytest
from pamqp import commands

from ipc.speed import hot_modules, read_speed
from ipc.wire import raw
from ipc.wire.amqp import frames, methods
from shards.store.blocks import PLACE, PLACED_HEADER_BYTES, Kind, block_header
from shards.store.record import encode
from tests.protocols.conversation import content
from tests.speed import probe
from tests.speed.twins import Function, argument, functions, outcome

SEEDS: Final = range(1500)
FRAME_MAX: Final = 4096
PUBLISH_BYTES: Final = len(methods.frame(1, commands.Basic.Publish()))
# What callers hold to, because a loop is as long as these say or does not end without.
BOUNDS: Final = {
    "count": (0, 5000),
    "body_max": (1, 2**31),
    "every": (0, 2**16),
    "tail_max": (0, 2**40),
    "channel": (0, 2**16 - 1),
}

pytestmark = pytest.mark.skipif(read_speed(os.environ).name != "compiled", reason="nothing is compiled")

Arguments = dict[str, Any]


def every_function() -> list[Function]:
    if read_speed(os.environ).name != "compiled":
        return []
    return [function for name, source in hot_modules() for function in functions(name, source)]


# sound arguments, by the names of parameters --------------------------------------------------------------------------


def publishes(random: Random) -> Arguments:
    """A run of publishes that are alike but for their bodies, and what they are recognized by."""
    channel = random.randrange(1, 3)
    properties = random.choice(
        (commands.Basic.Properties(delivery_mode=2), commands.Basic.Properties(headers={"a": 1}))
    )
    data = b"".join(
        content("news", "a.b", random.randbytes(size), channel=channel, properties=properties, frame_max=FRAME_MAX)
        for size in random.choices((0, 1, 16, 16, 300, 4088), k=random.randrange(6))
    )
    method = methods.frame(channel, commands.Basic.Publish(exchange="news", routing_key="a.b"))
    header = content("", "", b"", channel=channel, properties=properties)[PUBLISH_BYTES:]
    tail = bytearray(random.randbytes(random.randrange(50)))
    return {
        "view": surrounded(data + random.choice((b"", b"", method, random.randbytes(9))), random),
        "position": 0,
        "method": method,
        "header_lead": header[:11],
        "properties": header[19:],
        "body_lead": b"\x03" + channel.to_bytes(2, "big"),
        "record_rest": random.randbytes(28),
        "body_max": random.choice((FRAME_MAX, 16)),
        "tail": tail,
        "tail_max": random.choice((1 << 20, 500)),
    }


def records(random: Random) -> Arguments:
    """Records as a segment holds them."""
    data = b"".join(
        encode(
            1,
            0,
            0,
            b"\x00\x04news\x03a.b",
            b"\x00\x3c\x00\x00" + size.to_bytes(8, "big") + b"\0\0",
            random.randbytes(size),
        )
        for size in random.choices((0, 1, 16, 300, 4089, 9000), k=random.randrange(6))
    )
    return {
        "buffer": surrounded(data, random),
        "at": 0,
        "end": len(data),
        "outbox": bytearray(random.randrange(30)),
        "outbox_max": random.choice((1 << 20, 400)),
        "channel": random.randrange(1, 3),
        "method": b"\x00\x3c\x00\x3c\x02me",
        "tag": random.randrange(1, 100),
        "last_tag": random.randrange(90, 200),
        "body_max": FRAME_MAX - 8,
        "base": 1 << 32,
        "positions": array("Q"),
    }


def acknowledgements(random: Random) -> Arguments:
    data = b"".join(
        methods.frame(random.choice((1, 1, 1, 1, 2)), commands.Basic.Ack(tag, random.random() < 0.1))
        for tag in range(1, 9)
    )
    return {"view": surrounded(data, random), "position": 0, "channel": 1, "tags": array("Q")}


def deliveries(random: Random) -> Arguments:
    """What a consumer reads: deliveries, heartbeats, and now and then something else."""
    data = b""
    others = (b"", b"", frames.HEARTBEAT_FRAME, methods.frame(1, commands.Channel.CloseOk()))
    for tag in range(1, random.randrange(2, 8)):
        size = random.choice((0, 8, 16, 5000))
        message = content("", "", random.randbytes(size), frame_max=FRAME_MAX)[PUBLISH_BYTES:]
        data += methods.frame(1, commands.Basic.Deliver("me", tag, False, "news", "a.b")) + message
        data += random.choice(others)
    return {
        "buffer": surrounded(data, random),
        "at": 0,
        "end": len(data),
        "wanted": random.choice((0, 1, 1000)),
        "state": array("Q", bytes(80)),
        "stamps": array("Q", bytes(8 * random.choice((0, 20)))),
        "expected": random.choice((b"", bytes(16))),
        "expected_from": random.choice((0, 8)),
    }


def confirms(random: Random) -> Arguments:
    tags = list(range(1, random.randrange(2, 30)))
    if random.random() < 0.5:
        random.shuffle(tags)
    data = b"".join(
        frames.pack(
            frames.METHOD,
            1,
            b"\x00\x3c\x00" + random.choice((b"\x50", b"\x50", b"\x78")) + tag.to_bytes(8, "big") + b"\0",
        )
        for tag in tags
    )
    return {
        "buffer": surrounded(data, random),
        "at": 0,
        "end": len(data),
        "state": array("Q", bytes(80)),
        "ring": bytearray(random.choice((1, 30, 100))),
    }


def blocks(random: Random) -> Arguments:
    """Blocks of placed records, as a segment holds them from its beginning on."""
    salt, skip = random.choice((7, 2**32 - 1)), random.choice((0, 0, 96))
    data = bytearray()
    for _ in range(random.randrange(4)):
        payload = records(random)["buffer"].tobytes() or random.randbytes(30)
        place = PLACE.pack(len(data) + PLACED_HEADER_BYTES + skip, 0)
        parts = [place, payload]
        placed = b"".join(parts)
        data += block_header(Kind.PLACED_RECORDS, salt, len(data), random.randrange(9), parts, len(placed)) + placed
        data += bytes(-len(data) % 8)
    whole = surrounded(bytes(data), random)
    return {
        "buffer": whole,
        "view": whole,
        "at": 0,
        "size": len(data),
        "salt": salt,
        "skip": skip,
        "checksum": crc32,
    }


SOUND: Final[dict[str, Callable[[Random], Arguments]]] = {
    "take_publishes": publishes,
    "frame_deliveries": records,
    "take_acknowledgements": acknowledgements,
    "walk_deliveries": deliveries,
    "walk_confirms": confirms,
    "placed_blocks": blocks,
}


def surrounded(data: bytes, random: Random) -> memoryview:
    """These bytes alone, where sanitizers see their end, or in the middle of others that look as good."""
    if random.random() < 0.5:
        return memoryview(bytes(bytearray(data)))
    return memoryview(data + data + data)[len(data) : 2 * len(data)]


# flaws ----------------------------------------------------------------------------------------------------------------


def flawed(value: Any, kind: str, random: Random) -> Any:
    """Something else of the same type, often only a little different."""
    if random.random() < 0.3 or isinstance(value, bool) or not len_of(value):
        return argument(kind, random)
    if isinstance(value, int):
        return value
    if isinstance(value, array):
        return value[: random.randrange(len(value))]
    changed = bytearray(value)
    if random.random() < 0.4:
        del changed[random.randrange(len(changed)) :]
    else:
        changed[random.randrange(len(changed))] = random.choice((0, 1, 0x7F, 0xCE, 0xFF))
    return changed if isinstance(value, bytearray) else bytes(changed)


def len_of(value: Any) -> int:
    return 0 if isinstance(value, int) else len(value)


def arguments(function: Function, random: Random) -> list[Any]:
    sound = SOUND[function.name](random) if function.name in SOUND else {}
    flaws = random.choice((0.0, 0.1, 0.3))
    given = []
    for name, kind in function.parameters:
        value = sound[name] if name in sound else argument(kind, random)
        if name in sound and kind != "object" and random.random() < flaws:
            value = flawed(value, kind, random)
        if name in BOUNDS and isinstance(value, int):
            low, high = BOUNDS[name]
            value = min(max(value, low), high)
        given.append(value)
    return given


def has_negative_place(function: Function, given: list[Any]) -> bool:
    return any(
        kind == "Py_ssize_t" and value < 0 for (_name, kind), value in zip(function.parameters, given, strict=True)
    )


@pytest.mark.parametrize("function", every_function(), ids=lambda function: function.name)
def test_both_speeds_agree(function: Function) -> None:
    assert_agreement(function)


def test_both_speeds_of_byte_access_agree(tmp_path: Path) -> None:
    for function in probe.functions(probe.build(tmp_path), raw):
        assert_agreement(function)


def assert_agreement(function: Function) -> None:
    accepted = 0
    for seed in SEEDS:
        given = arguments(function, Random(seed))
        fast, slow = outcome(function.compiled, given), outcome(function.interpreted, given)
        if has_negative_place(function, given):
            continue  # Python counts from the end then, in the same buffer; compiled that is refused
        assert fast == slow, f"{function.name}, seed {seed}, given {given}"
        accepted += fast[0] != "refused"
    assert accepted > len(SEEDS) // 20, "nothing but refusals was compared"
