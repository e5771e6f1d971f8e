"""Frames: found whole, refused early, the same however they arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import FrameError
from ipc.wire.amqp import frames

KINDS = st.sampled_from([frames.METHOD, frames.HEADER, frames.BODY, frames.HEARTBEAT])


@given(KINDS, st.integers(0, 65535), st.binary(max_size=300))
def test_a_packed_frame_is_found_again(kind: int, channel: int, payload: bytes) -> None:
    raw = frames.pack(kind, channel, payload)

    found = frames.scan(raw, 0, 4096)

    assert found is not None
    assert (found.kind, found.channel, raw[found.start : found.end]) == (kind, channel, payload)
    assert found.end + 1 == len(raw)


@given(KINDS, st.binary(max_size=60))
def test_an_incomplete_frame_is_waited_for(kind: int, payload: bytes) -> None:
    raw = frames.pack(kind, 1, payload)

    for size in range(len(raw)):
        assert frames.scan(raw[:size], 0, 4096) is None


def test_an_oversized_frame_is_refused_from_its_header() -> None:
    header = frames.pack(frames.BODY, 1, bytes(4097))[: frames.HEADER_BYTES]

    with pytest.raises(FrameError, match="exceeds frame_max 4096"):
        frames.scan(header, 0, 4096)


@pytest.mark.parametrize("size", [4096 - 8, 4096], ids=["with overhead", "as clients count who forget the overhead"])
def test_a_frame_of_exactly_frame_max_is_allowed(size: int) -> None:
    raw = frames.pack(frames.BODY, 1, bytes(size))

    assert frames.scan(raw, 0, 4096) is not None


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(FrameError, match="unknown frame type 7"):
        frames.scan(b"\x07\x00\x00\x00\x00\x00\x00\xce", 0, 4096)


def test_a_wrong_end_octet_is_refused() -> None:
    with pytest.raises(FrameError, match="0xCD"):
        frames.scan(frames.HEARTBEAT_FRAME[:-1] + b"\xcd", 0, 4096)


def test_frames_follow_each_other_in_one_buffer() -> None:
    raw = frames.HEARTBEAT_FRAME + frames.pack(frames.BODY, 3, b"dig")

    second = frames.scan(raw, len(frames.HEARTBEAT_FRAME), 4096)

    assert second is not None
    assert second.channel == 3
    assert raw[second.start : second.end] == b"dig"
