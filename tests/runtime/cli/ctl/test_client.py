"""How a command ends when the API does not answer as it should."""

import socket
from pathlib import Path

import httpx
import pytest

from ipc.errors import ControlFailed, ExitCode
from runtime.cli.ctl.client import Api, ApiRefused


def api(answer: httpx.Response | Exception) -> Api:
    def transport(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Api(httpx.Client(base_url="http://broker", transport=httpx.MockTransport(transport)), "the broker")


def denied() -> Exception:
    """As httpx has it: what the kernel said is below what two libraries say."""
    fault = httpx.ConnectError("no")
    fault.__cause__ = RuntimeError("no")
    fault.__cause__.__context__ = PermissionError(13, "Permission denied")
    return fault


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.ConnectError("refused"), ExitCode.NO_BROKER),
        (denied(), ExitCode.CONTROL_DENIED),
        (httpx.ReadTimeout("late"), ExitCode.ANSWER_INCOMPLETE),
        (httpx.RemoteProtocolError("gone"), ExitCode.ANSWER_INCOMPLETE),
    ],
)
def test_who_does_not_answer_ends_with_a_code(answer: Exception, code: ExitCode) -> None:
    with pytest.raises(ControlFailed) as failed:
        api(answer).get("users")
    assert failed.value.exit_code is code
    assert str(failed.value).startswith("the broker ")


def test_a_socket_that_nobody_listens_on_is_no_broker(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "left"))
    for path in (tmp_path / "left", tmp_path / "none"):
        with pytest.raises(ControlFailed) as failed:
            Api.local(path, "the broker").get("users")
        assert failed.value.exit_code is ExitCode.NO_BROKER


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (httpx.Response(404, json={"error": "Object Not Found", "reason": "Not Found"}), "Not Found: users a b"),
        (httpx.Response(400, json={"error": "bad_request", "reason": "two\n lines"}), "two lines"),
        (httpx.Response(502, text="<html>"), "502 Bad Gateway"),
        (httpx.Response(500, json=["odd"]), "500 Internal Server Error"),
    ],
)
def test_a_refusal_is_one_sentence(answer: httpx.Response, sentence: str) -> None:
    with pytest.raises(ApiRefused) as refused:
        api(answer).get("users", "a b")
    assert refused.value.message == sentence
    assert refused.value.status == answer.status_code
    with pytest.raises(ApiRefused):
        api(answer).read("users", "a b", advance=lambda _count: None)


def test_what_is_read_is_whole_and_counted() -> None:
    counts: list[int] = []

    read = api(httpx.Response(200, content=b"x" * 100_000)).read("definitions", advance=counts.append)

    assert read == b"x" * 100_000
    assert counts[-1] == 100_000


def test_a_long_list_is_asked_for_page_by_page() -> None:
    asked: list[str] = []

    def transport(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["page"])
        return httpx.Response(200, json={"items": [{"name": asked[-1]}], "page_count": 3})

    client = httpx.Client(base_url="http://broker", transport=httpx.MockTransport(transport))
    assert [one["name"] for one in Api(client, "the broker").listing("queues", "/")] == ["1", "2", "3"]
    assert asked == ["1", "2", "3"]
