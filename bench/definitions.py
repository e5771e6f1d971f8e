"""How long definitions take to import and to export, over the management API of a broker of one's own.

`python -m bench.definitions [--queues 50000] [--bindings 0]` prints a line for each: the import into an empty broker,
the same once more, when all is there already, and the export.
"""

import argparse
import base64
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any, Final

from bench.fresh_broker import fresh_broker

_SECONDS_MAX: Final = 900.0
_AUTHORIZATION: Final = "Basic " + base64.b64encode(b"guest:guest").decode()
_VHOST: Final = "/"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--queues", type=int, default=50_000)
    options.add_argument("--bindings", type=int, default=0, help="to queues in turn, from one direct exchange")
    asked = options.parse_args()
    file = json.dumps(definitions(asked.queues, asked.bindings)).encode()
    print(f"{asked.queues} durable queues, {asked.bindings} bindings: {len(file) / 2**20:.1f} MiB")
    arguments = ("--set", "management.port=0", "--set", "management.metrics_port=-1")
    with fresh_broker(arguments=arguments) as broker:
        assert broker.http_port is not None
        body = b""
        for what, method, sent in (("import", "POST", file), ("import again", "POST", file), ("export", "GET", None)):
            cpu_before = broker.cpu_seconds()
            status, body, seconds = request(broker.http_port, method, sent)
            cpu = broker.cpu_seconds() - cpu_before
            print(
                f"{what:14} {status}  {seconds:6.1f} s  {cpu:6.1f} s of CPU  {len(body) / 2**20:4.1f} MiB", flush=True
            )
        found = json.loads(body)
        assert len(found["queues"]) == asked.queues
        assert len(found["bindings"]) == asked.bindings


def definitions(queues: int, bindings: int) -> dict[str, Any]:
    """A file as RabbitMQ writes it."""
    return {
        "rabbit_version": "3.13.0",
        "exchanges": [_exchange("all")],
        "queues": [_queue(number) for number in range(queues)],
        "bindings": list(_bindings(queues, bindings)),
    }


def _exchange(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": _VHOST,
        "type": "direct",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }


def _queue(number: int) -> dict[str, Any]:
    return {
        "name": f"queue {number}",
        "vhost": _VHOST,
        "durable": True,
        "auto_delete": False,
        "arguments": {"x-max-length": 1000} if number % 2 else {},
    }


def _bindings(queues: int, count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "source": "all",
            "vhost": _VHOST,
            "destination": f"queue {number % queues}",
            "destination_type": "queue",
            "routing_key": f"key {number}",
            "arguments": {},
        }


def request(port: int, method: str, body: bytes | None) -> tuple[int, bytes, float]:
    """Status, body and seconds of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS_MAX)
    headers = {"Authorization": _AUTHORIZATION, "Content-Type": "application/json"}
    began = time.perf_counter()
    connection.request(method, "/api/definitions", body=body, headers=headers)
    response = connection.getresponse()
    received = response.read()
    seconds = time.perf_counter() - began
    connection.close()
    if response.status >= 400:
        raise SystemExit(f"{response.status}: {received.decode(errors='replace')[:2000]}")
    return response.status, received, seconds


if __name__ == "__main__":
    main()
