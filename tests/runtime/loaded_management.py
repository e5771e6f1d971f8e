"""What the process behind the API holds, with some of everything, for tests that look at it."""

from pathlib import Path
from typing import Any, cast

import trio

from ipc.data_directory import DataDirectory
from ipc.messages.management import Begin
from ipc.settings import Settings
from runtime.auth.directory import Directory
from runtime.management.access import Gate
from runtime.management.broker import Broker
from runtime.management.reclaim import Holdings


def loaded_management(directory: Path) -> Holdings:
    """Questions open, and logins remembered."""

    async def loaded() -> Holdings:
        settings = Settings()
        directory.mkdir(exist_ok=True)
        accounts = Directory.open(DataDirectory(directory), settings.users)
        begin = Begin(settings, str(directory), 0.0, (), 1)
        broker = Broker(cast("Any", None), begin, accounts.reload)
        gate = Gate(accounts, broker, lambda: settings.users)
        for number in range(20):
            broker._open[number] = cast("Any", object())
            gate._logins._recent.remember("hash", f"password {number}", 0.0)
        return Holdings(broker, gate, accounts)

    return trio.run(loaded)
