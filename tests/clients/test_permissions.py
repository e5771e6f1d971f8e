"""Accounts made by the command line, and what they may do, heard through a client."""

from collections.abc import Callable, Iterator
from typing import Any

import pika
import pika.exceptions
import pytest

from tests.clients.running_broker import RunningBroker
from tests.clients.waiting import eventually

Wish = Callable[[Any], Any]


@pytest.fixture(scope="module")
def limited(shared_broker: RunningBroker) -> RunningBroker:
    """`worker` configures and writes what begins with its name, reads what begins with `task`; added while running."""
    shared_broker.command("user", "add", "worker", "--password-stdin", given="secret\n")
    shared_broker.permit("worker", "/", configure="^worker", write="^worker", read="^task")
    shared_broker.command("user", "add", "stranger", "--password-stdin", given="secret\n")
    return shared_broker


def connect(broker: RunningBroker, user: str, password: str = "secret") -> Any:
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, credentials=credentials))


@pytest.fixture
def worker(broker: RunningBroker, limited: RunningBroker) -> Iterator[Any]:
    guest = connect(broker, "guest", "guest")
    guest.channel().queue_declare("task-queue", auto_delete=True)
    guest.channel().queue_declare("worker-queue", auto_delete=True)
    connection = connect(broker, "worker")
    yield connection.channel()
    connection.close()
    for queue in ("task-queue", "worker-queue"):
        guest.channel().queue_delete(queue)
    guest.close()


ALLOWED: list[tuple[str, Wish]] = [
    ("configure", lambda channel: channel.queue_declare("worker-own", auto_delete=True)),
    ("write", lambda channel: channel.exchange_declare("worker-exchange", "fanout", auto_delete=True)),
    ("read", lambda channel: channel.basic_get("task-queue")),
]

DENIED: list[tuple[str, Wish]] = [
    ("declare", lambda channel: channel.queue_declare("other")),
    ("declare an exchange", lambda channel: channel.exchange_declare("other", "direct")),
    ("delete", lambda channel: channel.queue_delete("task-queue")),
    ("bind what it may not read from", lambda channel: channel.queue_bind("worker-queue", "amq.direct", "k")),
    ("get", lambda channel: channel.basic_get("worker-queue")),
    ("consume", lambda channel: channel.basic_consume("worker-queue", lambda *_: None)),
    ("purge", lambda channel: channel.queue_purge("worker-queue")),
]


@pytest.mark.parametrize(("what", "wish"), ALLOWED, ids=[what for what, _ in ALLOWED])
def test_what_is_permitted_works(worker: Any, what: str, wish: Wish) -> None:
    wish(worker)


@pytest.mark.parametrize(("what", "wish"), DENIED, ids=[what for what, _ in DENIED])
def test_what_is_not_permitted_is_403(worker: Any, what: str, wish: Wish) -> None:
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        wish(worker)
    assert closed.value.reply_code == 403, what


def test_publishing_needs_write_permission_on_the_exchange(worker: Any) -> None:
    worker.confirm_delivery()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="403"):
        worker.basic_publish("amq.fanout", "", b"x")


def test_a_user_without_permissions_on_the_vhost_gets_530(limited: RunningBroker) -> None:
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError, match="530"):
        connect(limited, "stranger")


def test_a_new_password_counts_from_now_on(limited: RunningBroker) -> None:
    limited.command("user", "set-password", "worker", "--password-stdin", given="changed\n")

    def old_one_refused() -> bool:
        try:
            connect(limited, "worker").close()
        except pika.exceptions.ProbableAuthenticationError:
            return True
        return False

    eventually(old_one_refused, "the old password refused")
    connect(limited, "worker", "changed").close()
    limited.command("user", "set-password", "worker", "--password-stdin", given="secret\n")


def test_what_was_added_is_listed_and_what_was_deleted_is_not(limited: RunningBroker) -> None:
    limited.command("user", "add", "passing", "--password-stdin", given="x\n")
    limited.command("vhost", "add", "passing-by")
    assert "passing" in limited.command("user", "list")
    assert "passing-by" in limited.command("vhost", "list")
    limited.command("user", "delete", "passing")
    limited.command("vhost", "delete", "passing-by", "--yes")
    assert "passing" not in limited.command("user", "list")
    assert "passing-by" not in limited.command("vhost", "list")


def test_only_an_impersonator_publishes_in_another_name(broker: RunningBroker, limited: RunningBroker) -> None:
    """With the tags it had when it came."""

    def publish(connection: Any) -> None:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("worker-fanout", "", b"", pika.BasicProperties(user_id="guest"))

    guest = connect(broker, "guest", "guest")
    guest.channel().exchange_declare("worker-fanout", "fanout", auto_delete=True)
    before = connect(broker, "worker")
    broker.command("user", "tags", "worker", "impersonator")
    impersonator = eventually_tagged(broker, publish)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        publish(before)

    assert closed.value.reply_code == 406
    assert "user_id property set to 'guest' but authenticated user was 'worker'" in closed.value.reply_text
    guest.channel().exchange_delete("worker-fanout")
    for connection in (guest, before, impersonator):
        connection.close()


def eventually_tagged(broker: RunningBroker, publish: Callable[[Any], None]) -> Any:
    """A connection that may; a changed directory is read when the signal has come."""

    def attempt() -> Any:
        connection = connect(broker, "worker")
        try:
            publish(connection)
        except pika.exceptions.ChannelClosedByBroker:
            connection.close()
            return None
        return connection

    return eventually(attempt, "worker to be an impersonator")
