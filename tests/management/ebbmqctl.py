"""`ebbmqctl` as a user runs it, on a broker's data directory."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from tests.clients.running_broker import ROOT, RunningBroker, environment

COMMAND: Final = (sys.executable, "-m", "runtime.cli.ctl.main")
Run = Callable[..., str]


def ctl(
    broker: RunningBroker, *arguments: str, given: str = "", extra: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, "--data-dir", str(broker.data), *arguments],
        cwd=ROOT,
        env=environment(extra),
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
