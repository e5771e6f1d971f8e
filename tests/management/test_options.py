"""Which methods an address answers to, for whoever asks it or uses another one."""

import pytest

from tests.management.api import Api

ALLOWED = [
    ("/queues/%2F/jobs", "DELETE, GET, HEAD, OPTIONS, PUT"),
    ("/queues/%2F/jobs/contents", "DELETE, OPTIONS"),
    ("/definitions", "GET, HEAD, OPTIONS, POST"),
    ("/overview", "GET, HEAD, OPTIONS"),
]


@pytest.mark.parametrize(("path", "methods"), ALLOWED)
def test_options_names_all_methods_of_an_address(api: Api, path: str, methods: str) -> None:
    answer = api.ask("OPTIONS", path)

    assert (answer.status, answer.headers["allow"]) == (204, methods)


@pytest.mark.parametrize(("path", "methods"), ALLOWED)
def test_a_method_that_is_not_allowed_is_told_which_are(api: Api, path: str, methods: str) -> None:
    answer = api.ask("PATCH", path)

    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == set(methods.split(", "))
