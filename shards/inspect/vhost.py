"""One vhost's directory: what its definitions name, what its files hold, and what the next start will make of it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from ipc.data_directory import VHostDirectory
from ipc.errors import ExitCode, StartRefused
from ipc.settings import StoreSettings
from shards.inspect.accounts import Damage, JournalAccount, StoreAccount, VHostAccount
from shards.inspect.checksums import ACK_LOG, JOURNAL, REGISTER, SEGMENT, entries_in, verify
from shards.inspect.databases import copied
from shards.inspect.overlay import Overlay
from shards.model.exchanges.registry import PREDECLARED
from shards.model.queues.terms import recall_terms
from shards.store.definitions import Definitions, Stored
from shards.store.journal import JOURNAL_SUFFIX
from shards.store.message_store import MessageStore
from shards.store.position import LEVEL_SHIFT
from shards.store.priority_store import PriorityStore, QueueStore
from shards.store.recovery import RecoveryReport
from shards.store.register import Known, Register
from shards.store.replay import Replayed, gather
from shards.store.segment import ACKS_SUFFIX, DAMAGED_SUFFIX, MESSAGES_SUFFIX
from shards.store.segments import level_of

_SETTINGS: Final = StoreSettings()  # nothing is written, so none of them matters


def inspect_vhost(root: Path, name: str, *, verifies: bool) -> VHostAccount:
    """What is wrong is part of the account."""
    paths = VHostDirectory(root)
    account = VHostAccount(name, str(root))
    try:
        _Inspection(paths, account, verifies=verifies).run()
    except (StartRefused, OSError) as fault:
        account.refusal = str(fault)
    return account


class _Inspection:
    """The walk through one vhost."""

    def __init__(self, paths: VHostDirectory, account: VHostAccount, *, verifies: bool) -> None:
        self._paths = paths
        self._account = account
        self._verifies = verifies
        self._files = Overlay()
        self._report = RecoveryReport()  # of the journal

    def run(self) -> None:
        account, paths = self._account, self._paths
        stored = self._definitions()
        account.exchanges, account.bindings = len(stored.exchanges), len(stored.bindings)
        register = Register(self._files, str(paths.segments), tuple)
        entries = register.load()
        replayed = gather(self._files, str(paths.journal), self._report)
        account.ended_in_order = register.is_complete and not self._files.list(str(paths.journal))
        account.sentences += self._report.damages
        self._look_at_journal(replayed)
        self._verify_register()
        for queue in stored.queues:
            known = Known(entries.get(queue.number, {}), account.ended_in_order)
            store = StoreAccount("queue", queue.name, queue.number)
            priority_max = recall_terms(queue.arguments).priority_max
            place = paths.queues / str(queue.number)
            self._look_at_store(store, place, replayed.get(queue.number), known, priority_max)
        for exchange, directory in self._delayed(stored):
            number = int(directory) if directory.isdecimal() else 0
            store = StoreAccount("delayed", exchange, number)
            self._look_at_store(store, paths.delayed / directory, None, Known({}, is_complete=False), None)
        self._look_for_orphans(stored)

    def _definitions(self) -> Stored:
        source = self._paths.definitions
        if not source.exists():
            if any(self._paths.queues.glob("*")):
                raise StartRefused(ExitCode.STORE_DAMAGED, f"{source} is gone, and there are messages of queues.")
            return Stored([], [], [])
        with copied(source) as copy:
            definitions = Definitions(copy)
            try:
                return definitions.load()
            finally:
                definitions.close()

    def _delayed(self, stored: Stored) -> Iterator[tuple[str, str]]:
        """Exchanges at which messages wait, and the names of their directories."""
        names = {str(exchange.number): exchange.name for exchange in stored.exchanges}
        names.update({name: name for name in PREDECLARED})
        for directory in self._files.list(str(self._paths.delayed)):
            if directory in names:
                yield names[directory], directory

    # the journal and the register -------------------------------------------------------------------------------------

    def _look_at_journal(self, replayed: dict[int, Replayed]) -> None:
        files = sorted(self._paths.journal.glob("*" + JOURNAL_SUFFIX))
        self._account.journal = JournalAccount(
            files=len(files),
            file_bytes=sum(path.stat().st_size for path in files),
            entries=sum(store.entries for store in replayed.values()),
            stores=len(replayed),
        )
        if self._verifies:
            for path in files:
                self._account.damages += verify(str(path), JOURNAL, may_be_torn=True)

    def _verify_register(self) -> None:
        if self._verifies and self._paths.segments.exists():
            self._account.damages += verify(str(self._paths.segments), REGISTER, may_be_torn=True)

    # one queue --------------------------------------------------------------------------------------------------------

    def _look_at_store(
        self, account: StoreAccount, place: Path, replayed: Replayed | None, known: Known, priority_max: int | None
    ) -> None:
        self._account.stores.append(account)
        segments = [path for path in _ours(place, MESSAGES_SUFFIX) if path.is_file()]
        logs = [path for path in _ours(place, ACKS_SUFFIX) if path.is_file()]
        account.segments = len(segments)
        account.file_bytes = sum(path.stat().st_size for path in (*segments, *logs))
        self._account.set_aside += [str(path) for path in sorted(place.glob("*" + DAMAGED_SUFFIX))]
        report = RecoveryReport()
        try:
            if replayed is not None:
                for _path in replayed.put_in_place(self._files, str(place), report):
                    pass
                account.journal_entries = replayed.entries
            self._compare_with_register(place, known)
            self._recover(place, account, known, report, priority_max)
            self._note_start(account, report)
            if self._verifies:
                self._verify_files(segments, logs, known)
            account.settled = self._settled(place, account)
        except (StartRefused, OSError) as fault:
            account.refusal = str(fault)
        finally:
            self._files.forget_changes()
        self._account.sentences += report.damages

    def _recover(
        self, place: Path, account: StoreAccount, known: Known, report: RecoveryReport, priority_max: int | None
    ) -> None:
        store: QueueStore | None
        if priority_max is None:
            store = MessageStore.recover(self._files, str(place), _SETTINGS, report, known=known)
        else:
            store = PriorityStore.recover(
                self._files, str(place), _SETTINGS, report, priority_max=priority_max, known=known
            )
        if store is None:
            return
        account.segments_known = sum(level.segments.unread_count for level in store.levels())
        if self._verifies:
            for level in store.levels():
                level.read_all()
        account.messages, account.message_bytes = store.ready_count, store.ready_bytes
        if priority_max is not None:
            account.levels = {level.priority: level.ready_count for level in store.levels()}

    def _compare_with_register(self, place: Path, known: Known) -> None:
        """Where the next start believes the register, a look at sizes is all that can contradict it."""
        if not known.is_complete:
            return
        for facts in known.segments.values():
            for path, size, what in (
                (
                    place / f"{facts.number:010d}{MESSAGES_SUFFIX}",
                    facts.size,
                    f"{facts.live:,} messages are lost with it",
                ),
                (place / f"{facts.number:010d}{ACKS_SUFFIX}", facts.acks_end, "what it said was settled returns"),
            ):
                found = path.stat().st_size if path.exists() else 0
                if found < size:
                    state = f"has {found:,} bytes where {size:,} were written" if found else "is gone"
                    self._account.damages.append(Damage(str(path), found, size - found, f"{state}; {what}"))

    def _note_start(self, account: StoreAccount, report: RecoveryReport) -> None:
        if report.bytes_cut:
            account.start.append(f"cut {report.bytes_cut:,} bytes of writes that did not get to their end")
        if report.acks_pruned:
            account.start.append(f"drop {report.acks_pruned:,} acknowledgements of messages that did not get to disk")
        account.start += [f"remove {Path(path).name}: nothing is left in it" for path in self._files.unlinked]
        account.start += [f"set {Path(path).name} aside: it is damaged" for path in self._files.set_aside]

    def _settled(self, place: Path, account: StoreAccount) -> int:
        """Messages that are in files still and in the queue no more; damaged ones are among them."""
        names = [name for name in self._files.list(str(place)) if name.endswith(MESSAGES_SUFFIX)]
        return max(0, sum(entries_in(self._files, f"{place}/{name}") for name in names) - account.messages)

    def _verify_files(self, segments: list[Path], logs: list[Path], known: Known) -> None:
        lasts = {path for path in _last_of_each_level(segments) if int(path.stem) not in known.segments}
        for path in segments:
            self._account.damages += verify(str(path), SEGMENT, may_be_torn=path in lasts)
        for path in logs:
            # What is behind its last whole block after a sudden end is a write that was cut short.
            self._account.damages += verify(str(path), ACK_LOG, may_be_torn=not self._account.ended_in_order)

    # what belongs to nobody -------------------------------------------------------------------------------------------

    def _look_for_orphans(self, stored: Stored) -> None:
        queues = {str(queue.number) for queue in stored.queues}
        exchanges = {str(exchange.number) for exchange in stored.exchanges} | PREDECLARED.keys()
        for place, known in ((self._paths.queues, queues), (self._paths.delayed, exchanges)):
            self._account.orphans += [str(place / name) for name in self._files.list(str(place)) if name not in known]


def _ours(place: Path, suffix: str) -> Iterable[Path]:
    return sorted(path for path in place.glob("*" + suffix) if level_of(path.name) is not None)


def _last_of_each_level(segments: list[Path]) -> set[Path]:
    """A store's last segment can end in a write that was cut short, and a priority queue has a store for each level."""
    return set({int(path.stem) >> LEVEL_SHIFT: path for path in segments}.values())
