"""What is said on the control socket is one table of requests and replies, and JSON that a person can write."""

from typing import get_args

import msgspec
import pytest

from ipc.limits import ACCOUNT_NAMED_MAX, CONTROL_REPLY_BYTES_MAX, HOLDINGS_PER_PAGE
from ipc.messages import control
from ipc.messages.commands import Level
from runtime.supervisor.controls import _ANSWERS

REQUESTS = get_args(control.ControlRequest)


def test_every_request_has_an_answer_and_nothing_else_has() -> None:
    assert set(_ANSWERS) == set(REQUESTS)


def test_names_of_requests_are_words_with_dashes() -> None:
    assert (
        *("status", "memory", "dry-run", "compact", "passes", "metrics"),
        *("pause-queue", "resume-queue", "login-attempts", "forget-login-attempts", "limit-alarms"),
        *("suspend-listeners", "resume-listeners", "back-up"),
        *("read-log", "describe-log", "set-log-level", "rotate-log"),
    ) == control.ASKS


@pytest.mark.parametrize(
    "request_type",
    [
        one
        for one in REQUESTS
        if not {"queue", "target"} & set(one.__struct_fields__) and one is not control.SetLogLevel
    ],
)
def test_every_request_can_be_made_with_its_name_alone(request_type: type[control.Request]) -> None:
    asked = msgspec.json.encode({"ask": request_type.__struct_config__.tag})

    assert msgspec.json.decode(asked, type=control.ControlRequest) == request_type()


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b'{"ask":"nothing"}',
        b'{"ask":"memory","top":-1}',
        b'{"ask":"memory","top":%d}' % (ACCOUNT_NAMED_MAX + 1),
        b'{"ask":"memory","vhots":"/"}',
        b'{"ask":"compact","level":"hard"}',
        b'{"ask":"passes","last":0}',
    ],
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(line, type=control.ControlRequest)


def test_levels_have_names_both_ways() -> None:
    assert set(control.LEVELS.values()) == set(Level)
    assert {control.LEVEL_NAMES[level] for level in Level} == set(control.LEVELS)


def test_the_longest_line_is_within_its_limit() -> None:
    kinds = {f"a kind of memory number {number}": 2**50 for number in range(60)}
    longest = control.Held("\u20ac" * 85, "\u20ac" * 85, 2**50, kinds)

    page = msgspec.json.encode(control.Largest("connection", (longest,) * HOLDINGS_PER_PAGE))

    assert len(page) < CONTROL_REPLY_BYTES_MAX


def test_a_reader_skips_fields_of_a_later_version() -> None:
    line = b'{"say":"end","silent":[{"shard":1,"reason":"gone","since":3}],"more":true}'

    assert msgspec.json.decode(line, type=control.ControlReply) == control.End((control.Silent(1, "gone"),))
