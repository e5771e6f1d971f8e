"""A client who does nothing wrong, in a process of its own so that only the broker can slow it down.

`python -m tests.hostile.bystander PORT` publishes a persistent message, awaits its confirm, takes it again, and so on
until its standard input ends; then it writes how many round trips that were and how long the longest took.
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
_AFTER_TRIPS: Final = 3  # under attack, before the attack may end


class Served(NamedTuple):
    """How a bystander fared."""

    trips: int
    longest_seconds: float


class Bystander:
    """Uses the broker while the `with` block runs; `served` tells afterwards how that was."""

    def __init__(self, broker: RunningBroker) -> None:
        self._port = broker.port
        self.served = Served(0, 0.0)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.bystander", str(self._port)],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def go_on(self, seconds: float) -> None:
        """Long enough to have noticed what is going on."""
        time.sleep(seconds)

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        said, _ = self._process.communicate(timeout=_PATIENCE_SECONDS)
        if fault is None:
            assert self._process.returncode == 0, "the bystander lost its connection"
            self.served = Served(**json.loads(said))


def _serve_myself(client: RawClient) -> Served:
    trips, longest, left = 0, 0.0, _AFTER_TRIPS
    while left:
        if select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
            left -= 1
        body = b"%d" % trips
        began = time.monotonic()
        client.send_bytes(publish(QUEUE, body, persistent=True))
        client.expect(commands.Basic.Ack, 1)
        client.call(commands.Basic.Get(queue=QUEUE, no_ack=True), commands.Basic.GetOk)
        assert client.expect_content() == body
        longest = max(longest, time.monotonic() - began)
        trips += 1
    return Served(trips, longest)


def main() -> None:
    with RawClient(int(sys.argv[1]), seconds=_PATIENCE_SECONDS) as client:
        client.open().open_channel().declare(QUEUE, durable=True)
        client.call(commands.Queue.Purge(queue=QUEUE), commands.Queue.PurgeOk)
        client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
        print("ready", flush=True)
        print(json.dumps(_serve_myself(client)._asdict()))


if __name__ == "__main__":
    main()
