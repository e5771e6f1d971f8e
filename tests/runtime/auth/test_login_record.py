"""Attempts to log in are counted by protocol, and by source where that is asked for."""

from ipc.limits import ATTEMPT_SOURCES_MAX
from ipc.messages.logins import Attempt, Outcome
from ipc.settings import UserSettings
from runtime.auth.login_record import LoginRecord


async def counted(record: LoginRecord, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        await record.note(Attempt("http", "ida", "192.0.2.1", outcome))


async def test_only_who_is_in_has_succeeded() -> None:
    record = LoginRecord(UserSettings)
    await counted(record, "in", "barred", "wrong", "refused")

    ((protocol, tally),) = record.by_protocol()
    assert (protocol, tally.succeeded, tally.failed) == ("http", 1, 3)
    assert list(record.by_source()) == []
    record.forget()
    assert record.by_protocol() == []


async def test_sources_are_counted_where_that_is_asked_for_and_the_last_ones_only() -> None:
    record = LoginRecord(lambda: UserSettings(track_auth_attempt_source=True))
    await counted(record, "in", "wrong")
    await record.note(Attempt("amqp091", "ida", "192.0.2.1", "in"))
    rows = [(source, tally.succeeded, tally.failed) for source, tally in record.by_source()]
    assert rows == [(("amqp091", "192.0.2.1", "ida"), 1, 0), (("http", "192.0.2.1", "ida"), 1, 1)]

    for number in range(ATTEMPT_SOURCES_MAX):
        await record.note(Attempt("http", f"user {number}", "192.0.2.1", "in"))

    sources = [source for source, _tally in record.by_source()]
    assert len(sources) == ATTEMPT_SOURCES_MAX
    assert ("http", "192.0.2.1", "ida") not in sources
