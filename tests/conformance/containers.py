"""The little of Docker's API that aio-pika's suite speaks, with brokers in place of containers.

That suite has no other way to be told where its broker is, and its tests of recovery kill, stop and start brokers of
their own. Whatever image is asked for, a container is a fresh broker; `rabbitmqctl stop_app` and `start_app` end it in
order and start it again.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from tests.conformance.brokers import LOOPBACK, Broker

CONTAINERS_MAX: Final = 64
AMQP: Final = "5672/tcp"

Answer = dict[str, object] | None


class Containers:
    """Brokers by number, and what may be asked of them."""

    def __init__(self, new_broker: Callable[[int], Broker]) -> None:
        self._new_broker = new_broker
        self._brokers: list[Broker] = []
        self._turn = threading.Lock()  # requests come in threads

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Raises LookupError for what no row of the table below knows."""
        with self._turn:
            for wanted, pattern, verb in _VERBS:
                if method == wanted and (match := re.fullmatch(pattern, path)):
                    return verb(self, body, *map(int, match.groups()))
        raise LookupError(f"{method} {path}")

    def logs(self) -> Iterator[str]:
        for broker in self._brokers:
            yield broker.log

    def end(self) -> None:
        for broker in self._brokers:
            broker.end_by_force()

    def _pull(self, body: bytes) -> Answer:
        return {}

    def _create(self, body: bytes) -> Answer:
        number = len(self._brokers)
        if number >= CONTAINERS_MAX:
            raise LookupError(f"no more than {CONTAINERS_MAX} brokers in one run")
        self._brokers.append(self._new_broker(number))
        return {"Id": str(number)}

    def _start(self, body: bytes, number: int) -> Answer:
        self._brokers[number].start()
        return None

    def _inspect(self, body: bytes, number: int) -> Answer:
        return {"NetworkSettings": {"Ports": {AMQP: [{"HostPort": str(self._brokers[number].port)}]}}}

    def _kill(self, body: bytes, number: int) -> Answer:
        self._brokers[number].kill()
        return None

    def _stop(self, body: bytes, number: int) -> Answer:
        self._brokers[number].stop()
        return None

    def _remove(self, body: bytes, number: int) -> Answer:
        self._brokers[number].end_by_force()
        return None

    def _prepare_command(self, body: bytes, number: int) -> Answer:
        """The identity of an execution is the broker's number and what is to be done with it."""
        command = json.loads(body)["Cmd"]
        return {"Id": f"{number}{_COMMANDS.index(tuple(command))}"}

    def _run_command(self, body: bytes, number: int, command: int) -> Answer:
        broker = self._brokers[number]
        (broker.stop, broker.start)[command]()
        return {}

    def _command_ended(self, body: bytes, number: int, command: int) -> Answer:
        return {"Running": False, "ExitCode": 0}


_COMMANDS: Final = (("rabbitmqctl", "stop_app"), ("rabbitmqctl", "start_app"))

_VERBS: Final[tuple[tuple[str, str, Callable[..., Answer]], ...]] = (
    ("POST", r"/images/create\?.*", Containers._pull),
    ("POST", r"/containers/create", Containers._create),
    ("POST", r"/containers/(\d+)/start", Containers._start),
    ("GET", r"/containers/(\d+)/json", Containers._inspect),
    ("POST", r"/containers/(\d+)/kill", Containers._kill),
    ("POST", r"/containers/(\d+)/stop\?.*", Containers._stop),
    ("DELETE", r"/containers/(\d+)", Containers._remove),
    ("POST", r"/containers/(\d+)/exec", Containers._prepare_command),
    ("POST", r"/exec/(\d+)([01])/start", Containers._run_command),
    ("GET", r"/exec/(\d+)([01])/json", Containers._command_ended),
)


@contextmanager
def served(containers: Containers) -> Iterator[str]:
    """Yields what DOCKER_HOST has to be; all brokers end with it."""

    class Requests(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                answer = containers.answer(self.command, self.path, body)
            except (LookupError, ValueError, AssertionError, SystemExit) as refused:
                self.send_error(500, "no such thing", str(refused))
                return
            written = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(204 if answer is None else 200)
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, *_: object) -> None:
            """The suite's own output says enough."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Requests)
    thread = threading.Thread(target=server.serve_forever, name="containers")
    thread.start()
    try:
        yield f"tcp://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        containers.end()
