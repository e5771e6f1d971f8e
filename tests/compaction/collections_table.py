"""The tables in docs/memory.md: collections, read off declarations and a loaded broker, and what goes beside them.

`python -m tests.compaction.collections_table --write` renews them, as `make memory-table` does. Kinds are those that
live objects have, so a collection that nothing was ever put into has no row to stand in, and the tests say so.
"""

import argparse
import tempfile
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from ipc.limits import DEQUE_COPY_ENTRIES_MAX
from ipc.log import configure_logging
from ipc.settings import CompactionSettings
from runtime.management.access import Gate
from runtime.management.broker import Broker
from runtime.owner import Owner
from shards.compaction.compactable import Compactable
from tests.compaction import given_back
from tests.compaction.heap_walk import owners
from tests.host.test_heap_walk import kinds_of_owners, loaded_shard
from tests.runtime.loaded_management import loaded_management
from tests.runtime.loaded_supervisor import kinds_of_owners as kinds_of_supervisors_owners
from tests.runtime.loaded_supervisor import loaded_supervisor, owners_of

PAGE: Final = Path(__file__).parents[2] / "docs" / "memory.md"
BEGIN: Final = "<!-- collections -->"
END: Final = "<!-- end of collections -->"
BESIDE_BEGIN: Final = "<!-- beside collections -->"
BESIDE_END: Final = "<!-- end of beside collections -->"
DECLARATIONS: Final = ("COLLECTIONS", "NESTED", "CACHES")
SHARD_TEST: Final = "tests/host/test_every_collection.py::test_it_shrinks"
MANAGEMENT_TEST: Final = "tests/runtime/test_every_collection.py::test_it_shrinks_behind_the_api"
SUPERVISOR_TEST: Final = "tests/runtime/test_every_collection.py::test_it_shrinks"


class Declared(NamedTuple):
    """One collection: the class that declares it, the attribute, and under which heading."""

    owner: type
    name: str
    heading: str

    @property
    def label(self) -> str:
        """As it stands in the identity of the test that proves it: `Queue._waiting`."""
        return f"{self.owner.__name__}.{self.name}"


def of_shards() -> list[Declared]:
    return sorted(
        (
            Declared(owner, name, heading)
            for owner in kinds_of_owners()
            for heading in DECLARATIONS
            for name in vars(owner).get(heading, ())
        ),
        key=lambda one: one.label,
    )


def of_supervisor() -> list[Declared]:
    return _declared_by(kinds_of_supervisors_owners())


def of_management() -> list[Declared]:
    """Those that only the process behind the API has."""
    return _declared_by([Broker, Gate])


def _declared_by(owners: Iterable[type[Owner]]) -> list[Declared]:
    return sorted(
        (
            Declared(owner, name, heading)
            for owner in owners
            for heading in DECLARATIONS
            for name in vars(owner).get(heading, ())
        ),
        key=lambda one: one.label,
    )


def table() -> str:
    lines = [
        "| owner | collection | kind | shrinks when larger than | from level | proven by |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as directory:
        with loaded_shard(Path(directory) / "shard") as shard:
            reached: list[Any] = list(owners(shard))
            lines += _rows(of_shards(), reached, SHARD_TEST)
        supervisor = loaded_supervisor(Path(directory) / "supervisor")
        lines += _rows(of_supervisor(), list(owners_of(supervisor)), SUPERVISOR_TEST)
        management = loaded_management(Path(directory) / "management")
        lines += _rows(of_management(), list(owners_of(management)), MANAGEMENT_TEST)
    return "\n".join(lines)


def _rows(declared: list[Declared], reached: list[Any], test: str) -> Iterator[str]:
    for one in declared:
        kinds = {type(held) for held in held_by(one, reached) if held is not None}
        kind = " or ".join(sorted(kind.__name__ for kind in kinds))
        cells = (f"`{one.owner.__module__}.{one.owner.__name__}`", f"`{one.name}`", _nested(one, kind))
        yield f"| {' | '.join((*cells, _threshold(one.owner, kinds), _level(one), f'`{test}[{one.label}]`'))} |"


def held_by(one: Declared, reached: list[Compactable] | list[Any]) -> Iterator[Any]:
    """What the owners that were reached hold there."""
    return (getattr(owner, one.name, None) for owner in reached if isinstance(owner, one.owner))


def _nested(one: Declared, kind: str) -> str:
    return f"{kind}, and those in it" if one.heading == "NESTED" else kind


def _threshold(owner: type, kinds: set[type]) -> str:
    settings = CompactionSettings()
    rule = f"{settings.ratio:g} × fresh + {settings.floor_bytes:,} B"
    if issubclass(owner, Owner):
        return rule
    if deque in kinds:
        return f"empty; from release on also up to {DEQUE_COPY_ENTRIES_MAX:,} entries"
    if kinds & {dict, OrderedDict, defaultdict, set}:
        return f"{rule}, with room for an eighth more"
    return rule


def _level(one: Declared) -> str:
    return "trim; emptied at critical" if one.heading == "CACHES" else "trim"


def stands_in(page: str, begin: str = BEGIN, end: str = END) -> str:
    """A table as a page has it."""
    return page.partition(begin)[2].partition(end)[0].strip()


def replaced(page: str, begin: str, end: str, text: str) -> str:
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="into docs/memory.md")
    configure_logging("error", "text")
    text, beside = table(), given_back.table()
    if not parser.parse_args().write:
        print(f"{text}\n\n{beside}")
        return
    page = replaced(PAGE.read_text(), BEGIN, END, text)
    PAGE.write_text(replaced(page, BESIDE_BEGIN, BESIDE_END, beside))


if __name__ == "__main__":
    main()
