"""`ebbmqctl` as a user runs it, on a data directory; in this process, because one of its own takes long to begin."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Final
from unittest.mock import patch

from runtime.cli.ctl.main import main
from tests.clients.running_broker import RunningBroker, environment

COMMAND: Final = (sys.executable, "-m", "runtime.cli.ctl.main")
Run = Callable[..., str]


def ctl(
    broker: RunningBroker, *arguments: str, given: str = "", extra: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    words = ["ebbmqctl", "--data-dir", str(broker.data), *arguments]
    out, err = _Stream(), _Stream()
    code = 0
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, environment(extra), clear=True))
        stack.enter_context(patch.object(sys, "argv", words))
        stack.enter_context(patch.object(sys, "stdin", _Stream(given)))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        try:
            main()
        except SystemExit as ending:
            code = int(ending.code or 0)
    return subprocess.CompletedProcess(words, code, out.told(), err.told())


class _Stream(io.TextIOWrapper):
    """Of bytes, as those of a process are."""

    def __init__(self, content: str = "") -> None:
        super().__init__(io.BytesIO(content.encode()), encoding="utf-8", write_through=True)

    def told(self) -> str:
        self.flush()
        self.seek(0)
        return self.read()
