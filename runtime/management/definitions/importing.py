"""Has a file of definitions take effect: everything in it, or nothing, with all that is wrong with it.

1. The file is read, and what the directory would keep of it is tried out there in a transaction that leaves nothing.
2. Virtual hosts that are new are made; in each virtual host exchanges, queues and bindings are declared.
3. The directory's part is made in one transaction.

What goes wrong before the end undoes what was done until then. Only a sudden end of the process leaves a part; then the
file may be imported again.
"""

from typing import Any, Final

import structlog
import trio

from ipc.limits import DEFINITIONS_UNDO_SECONDS_MAX
from runtime.auth.directory import Directory, DirectoryRefusal
from runtime.management.broker import Broker, Refused, Unavailable
from runtime.management.definitions import accounts
from runtime.management.definitions.accounts import Accounts
from runtime.management.definitions.declaring import Declarations
from runtime.management.definitions.file import Content, Problems, read
from runtime.management.errors import BadRequest

_log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("management")

_TOLD_IN_ONE_SENTENCE: Final = 5


class Importing:
    """One file on its way into the broker."""

    def __init__(self, broker: Broker, directory: Directory, document: dict[str, Any], vhost: str | None) -> None:
        """`vhost`: the only one that is meant, whatever the file says; None: all that the file names."""
        self._broker = broker
        self._directory = directory
        self._problems = Problems()
        self._content = read(document, self._problems, vhost=vhost)
        self._new: list[str] = []
        self._declarations: list[Declarations] = []

    async def run(self) -> None:
        """Raises ApiError (400) with everything that is wrong, and Unavailable."""
        try:
            kept = await trio.to_thread.run_sync(
                Accounts, self._directory, self._content, self._problems, self._broker.settings.users
            )
            await trio.to_thread.run_sync(kept.try_out, self._problems)
            self._require_vhosts()
            self._stop_at_problems()
            await self._declare()
            self._stop_at_problems()
            await trio.to_thread.run_sync(kept.make, self._problems)
        except accounts.Refused:
            await self._undo()
            self._stop_at_problems()
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._undo()
            raise
        await self._broker.follow()
        _log.info("definitions imported", **_counts(self._content))

    def _require_vhosts(self) -> None:
        named = {vhost.name for vhost in self._content.vhosts}
        for vhost in self._content.vhost_names():
            if vhost not in named and self._directory.find_vhost(vhost) is None:
                self._problems.add(f"vhost '{vhost}'", "no such vhost, neither here nor in the file")

    def _stop_at_problems(self) -> None:
        problems = self._problems
        if not problems.count:
            return
        first = [f"{problem['where']}: {problem['reason']}" for problem in problems.found[:_TOLD_IN_ONE_SENTENCE]]
        rest = problems.count - len(first)
        told = "; ".join(first) + (f"; and {rest} more" if rest else "")
        refusal = BadRequest(f"nothing was imported: {told}")
        refusal.details = {"problems": problems.found}
        raise refusal

    async def _declare(self) -> None:
        names = self._content.vhost_names()
        self._new = [name for name in names if self._directory.find_vhost(name) is None]
        if self._new:
            await trio.to_thread.run_sync(self._add_vhosts)
            await self._broker.follow()
        for name in names:
            declarations = Declarations(self._broker, name, self._content)
            if not declarations:
                continue
            self._declarations.append(declarations)
            before = self._problems.count
            steps = await declarations.check(self._problems, is_new=name in self._new)
            if self._problems.count == before:
                await declarations.declare(steps, self._problems)

    def _add_vhosts(self) -> None:
        with self._directory.together():
            for name in self._new:
                self._directory.put_vhost(name)

    async def _undo(self) -> None:
        with trio.move_on_after(DEFINITIONS_UNDO_SECONDS_MAX) as patience:
            for declarations in self._declarations:
                if declarations.vhost not in self._new:
                    await self._undo_in(declarations)
            if self._new:
                await self._drop_vhosts()
        if patience.cancelled_caught:
            _log.error("definitions were not imported, and not all that was declared is gone")

    async def _undo_in(self, declarations: Declarations) -> None:
        try:
            await declarations.undo()
        except (Refused, Unavailable) as fault:
            _log.error(
                "definitions were not imported, and not all that was declared is gone",
                vhost=declarations.vhost,
                reason=str(fault),
            )

    async def _drop_vhosts(self) -> None:
        def drop() -> None:
            with self._directory.together():
                for name in self._new:
                    self._directory.delete_vhost(name)

        try:
            await trio.to_thread.run_sync(drop)
        except DirectoryRefusal as refusal:
            _log.error("virtual hosts of definitions that were not imported stay", reason=str(refusal))
        await self._broker.follow()


def _counts(content: Content) -> dict[str, int]:
    return {name: len(getattr(content, name)) for name in content.__struct_fields__ if getattr(content, name)}
