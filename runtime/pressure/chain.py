"""Which sources this machine has, best first: systemd's, our own cgroup's, the whole system's."""

import base64
import binascii
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from ipc.messages.commands import Level
from runtime.pressure.averages import SYSTEM_PRESSURE
from runtime.pressure.cgroups import of_this_process, own_cgroup
from runtime.pressure.sources import (
    FULL_TRIGGER,
    SOME_TRIGGER,
    EventsFile,
    Source,
    SourceUnavailable,
    TriggerFile,
    systemd_source,
)


class Opened(Struct):
    """What is being watched; no sources: nobody is asked (`name` "none"), or memory is polled ("poll")."""

    name: str
    sources: list[Source]
    reasons: list[str]  # why better ones are not there

    def close(self) -> None:
        for source in self.sources:
            source.close()


def open_best(wanted: str, environment: Mapping[str, str]) -> Opened:
    """The first of the chain that works, beginning with the one that is wanted; polling always works."""
    if wanted == "none":
        return Opened("none", [], ["switched off by compaction.pressure_source"])
    if wanted in ("auto", "systemd") and environment.get("MEMORY_PRESSURE_WATCH") == "/dev/null":
        return Opened("none", [], ["switched off by MEMORY_PRESSURE_WATCH"])
    reasons: list[str] = []
    for name, opener in _from(wanted):
        try:
            return Opened(name, opener(environment), reasons)
        except SourceUnavailable as fault:
            reasons.append(f"{name}: {fault}")
    return Opened("poll", [], reasons)


def systemd(environment: Mapping[str, str]) -> list[Source]:
    """Raises SourceUnavailable unless systemd (254 and later) asks us to watch something."""
    path = environment.get("MEMORY_PRESSURE_WATCH")
    if not path:
        raise SourceUnavailable("MEMORY_PRESSURE_WATCH is not set")
    try:
        greeting = base64.b64decode(environment.get("MEMORY_PRESSURE_WRITE", ""), validate=True)
    except binascii.Error as fault:
        raise SourceUnavailable(f"MEMORY_PRESSURE_WRITE is not base64: {fault}") from fault
    return [systemd_source(path, greeting)]


def cgroup(_environment: Mapping[str, str]) -> list[Source]:
    """Pressure of our own cgroup, and its limits' events where it has the memory controller."""
    directory = own_cgroup(*of_this_process())
    if directory is None:
        raise SourceUnavailable("cgroup 2 is not mounted")
    return cgroup_sources(directory)


def cgroup_sources(directory: Path) -> list[Source]:
    """The same for any cgroup's directory."""
    sources = _triggers("cgroup", directory / "memory.pressure")
    try:
        sources.append(EventsFile(directory / "memory.events"))
    except SourceUnavailable:
        pass  # the root has none, and nobody without the memory controller
    return sources


def system(_environment: Mapping[str, str]) -> list[Source]:
    """Pressure of the whole machine."""
    return _triggers("system", SYSTEM_PRESSURE)


def _triggers(name: str, path: Path) -> list[Source]:
    first = TriggerFile(name, path, SOME_TRIGGER)
    try:
        return [first, TriggerFile(name, path, FULL_TRIGGER, Level.RELEASE)]
    except SourceUnavailable:  # one is enough to be warned
        return [first]


_CHAIN: Final[tuple[tuple[str, Callable[[Mapping[str, str]], list[Source]]], ...]] = (
    ("systemd", systemd),
    ("cgroup", cgroup),
    ("system", system),
)


def _from(wanted: str) -> tuple[tuple[str, Callable[[Mapping[str, str]], list[Source]]], ...]:
    names = [name for name, _ in _CHAIN]
    if wanted == "poll":
        return ()
    return _CHAIN[names.index(wanted) :] if wanted in names else _CHAIN
