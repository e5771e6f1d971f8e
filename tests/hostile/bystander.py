"""A client who does nothing wrong, in a process of its own so that only the broker can slow it down.

`python -m tests.hostile.bystander PORT` publishes a persistent message, awaits its confirm, takes it again, and so on
until its standard input ends. Whenever it is sent a line it makes a few more round trips and writes how many they were
since the last line, and how long the longest took.
"""

import json
import select
import subprocess
import sys
import time
from types import TracebackType
from typing import Final, NamedTuple, Self

from pamqp import commands

from tests.clients.raw_client import RawClient, publish
from tests.clients.running_broker import ROOT, RunningBroker, environment

QUEUE: Final = "bystander"
_PAUSE_SECONDS: Final = 0.002
_PATIENCE_SECONDS: Final = 30.0
_TRIPS_MORE: Final = 5  # before it tells how it fares


class Served(NamedTuple):
    """How a bystander fared."""

    trips: int
    longest_seconds: float


class Bystander:
    """Uses the broker while the `with` block runs."""

    def __init__(self, broker: RunningBroker) -> None:
        self._port = broker.port

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.bystander", str(self._port)],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.served()
        return self

    def served(self) -> Served:
        """Since the last call, and a little longer: what is going on now has been noticed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        assert said, "the bystander lost its connection"
        return Served(**json.loads(said))

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=_PATIENCE_SECONDS)


def _use_broker(client: RawClient) -> None:
    trips, longest, left = 0, 0.0, 0
    while True:
        if select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
            if not sys.stdin.readline():
                return
            left = _TRIPS_MORE
        longest = max(longest, _round_trip(client, b"%d" % trips))
        trips += 1
        if left:
            left -= 1
            if not left:
                print(json.dumps(Served(trips, longest)._asdict()), flush=True)
                trips, longest = 0, 0.0


def _round_trip(client: RawClient, body: bytes) -> float:
    """The seconds it took."""
    began = time.monotonic()
    client.send_bytes(publish(QUEUE, body, persistent=True))
    client.expect(commands.Basic.Ack, 1)
    client.call(commands.Basic.Get(queue=QUEUE, no_ack=True), commands.Basic.GetOk)
    assert client.expect_content() == body
    return time.monotonic() - began


def main() -> None:
    with RawClient(int(sys.argv[1]), seconds=_PATIENCE_SECONDS) as client:
        client.open().open_channel().declare(QUEUE, durable=True)
        client.call(commands.Queue.Purge(queue=QUEUE), commands.Queue.PurgeOk)
        client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
        _use_broker(client)


if __name__ == "__main__":
    main()
