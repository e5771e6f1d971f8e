"""`/api/exchanges`, asked of a running broker."""

from typing import Any

import pytest

from tests.management.api import Api


def test_an_exchange_is_made_once_and_found_equal_after_that(api: Api) -> None:
    first = api.put("/exchanges/%2F/made", {"type": "topic", "durable": True})
    second = api.put("/exchanges/%2F/made", {"type": "topic", "durable": True})
    third = api.put("/exchanges/%2F/made", {"type": "fanout", "durable": True})

    assert (first.status, second.status, third.status) == (201, 204, 400)
    assert api.get("/exchanges/%2F/made").body["type"] == "topic"


def test_an_exchange_without_any_word_is_direct_and_durable(api: Api) -> None:
    assert api.put("/exchanges/%2F/plain", {}).status == 201

    found = api.get("/exchanges/%2F/plain").body

    assert (found["type"], found["durable"], found["auto_delete"], found["internal"]) == ("direct", True, False, False)


def test_the_exchange_without_a_name_has_one_in_paths(api: Api) -> None:
    assert api.get("/exchanges/%2F/amq.default").body["name"] == ""
    assert api.put("/exchanges/%2F/amq.default", {"type": "direct"}).status == 401
    assert api.delete("/exchanges/%2F/amq.default").status == 401


def test_all_exchanges_are_listed_in_pages(api: Api) -> None:
    page = api.get("/exchanges/%2F?page=1&page_size=2&name=amq.&sort=name&columns=name").body

    assert page["items"] == [{"name": "amq.direct"}, {"name": "amq.fanout"}]


def test_an_exchange_in_use_is_deleted_only_where_that_does_not_matter(api: Api) -> None:
    api.put("/exchanges/%2F/used", {"type": "fanout"})
    api.put("/queues/%2F/user", {})
    api.post("/bindings/%2F/e/used/q/user", {})

    assert api.delete("/exchanges/%2F/used?if-unused=true").status == 400
    assert api.delete("/exchanges/%2F/used?if-unused=maybe").status == 400
    assert api.get("/exchanges/%2F/used").status == 200
    assert api.delete("/exchanges/%2F/used").status == 204
    assert api.delete("/exchanges/%2F/used").status == 404


def test_bindings_are_listed_by_the_end_an_exchange_is_at(api: Api) -> None:
    api.put("/exchanges/%2F/from", {"type": "fanout"})
    api.put("/exchanges/%2F/to", {"type": "fanout"})
    api.post("/bindings/%2F/e/from/e/to", {"routing_key": "k"})

    (leaving,) = api.get("/exchanges/%2F/from/bindings/source").body
    (arriving,) = api.get("/exchanges/%2F/to/bindings/destination").body

    assert leaving == arriving
    assert (leaving["source"], leaving["destination"], leaving["destination_type"]) == ("from", "to", "exchange")
    assert api.get("/exchanges/%2F/to/bindings/source").body == []
    assert api.get("/exchanges/%2F/to/bindings/sideways").status == 400
    assert api.get("/exchanges/%2F/none/bindings/source").status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"type": "nothing"},
        {"type": 7},
        {"durable": 3},
        {"internal": "perhaps"},
        {"arguments": "none"},
        {"arguments": {"alternate-exchange": 7}},
        {"arguments": {"n": 10**30}},
    ],
)
def test_an_exchange_that_cannot_be_is_refused(api: Api, body: dict[str, Any]) -> None:
    answer = api.put("/exchanges/%2F/bad", body)

    assert answer.status == 400
    assert set(answer.body) == {"error", "reason"}
    assert api.get("/exchanges/%2F/bad").status == 404
