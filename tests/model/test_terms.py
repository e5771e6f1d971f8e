"""Arguments of queues: what can be followed becomes terms, what cannot is refused by name."""

from typing import Any

import pytest

from ipc.errors import PreconditionFailed
from ipc.limits import TIME_MS_MAX
from shards.model.queues.terms import PLAIN, read_terms, recall_terms

WHERE = "queue 'orders' in vhost '/'"


def test_a_queue_without_arguments_has_plain_terms() -> None:
    assert read_terms({}, WHERE) == PLAIN
    assert read_terms({"x-something-else": 5}, WHERE) == PLAIN


def test_arguments_become_terms() -> None:
    terms = read_terms(
        {"x-message-ttl": 1000, "x-max-length": 5, "x-dead-letter-exchange": "", "x-single-active-consumer": True},
        WHERE,
    )

    assert (terms.message_ttl, terms.length_max, terms.dead_letter_exchange) == (1000, 5, "")
    assert terms.is_single_active


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-message-ttl", -1),
        ("x-message-ttl", "1000"),
        ("x-message-ttl", TIME_MS_MAX + 1),
        ("x-message-ttl", True),
        ("x-expires", 0),
        ("x-max-length", -5),
        ("x-max-length-bytes", 1.5),
        ("x-overflow", "burst"),
        ("x-dead-letter-exchange", 7),
        ("x-delivery-limit", "many"),
        ("x-max-priority", 256),
        ("x-single-active-consumer", 1),
        ("x-message-deduplication", "true"),
        ("x-cache-size", 0),
        ("x-cache-size", 2**20 + 1),
        ("x-cache-ttl", "1000"),
        ("x-deduplication-header", 1),
        ("x-queue-type", "stream"),
        ("x-queue-type", 5),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(PreconditionFailed, match=f"invalid arg '{name}' for queue 'orders' in vhost '/'"):
        read_terms({name: value}, WHERE)


def test_a_dead_letter_key_without_an_exchange_is_refused() -> None:
    with pytest.raises(PreconditionFailed, match="x-dead-letter-routing-key"):
        read_terms({"x-dead-letter-routing-key": "k"}, WHERE)


def test_what_a_stored_queue_cannot_follow_is_left_out() -> None:
    terms = recall_terms({"x-message-ttl": -1, "x-max-length": 3})

    assert (terms.message_ttl, terms.length_max) == (None, 3)
