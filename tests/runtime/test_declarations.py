"""Whatever an object of the runtime keeps in a collection is declared for passes, or excused here by its name."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

RUNTIME = Path(__file__).parents[2] / "runtime"
NOT_PROCESSES = ("cli", "decisions")
"""What lives as long as a command does, and rules that keep nothing but what they are told to."""
COLLECTIONS = {"dict", "set", "list", "deque", "OrderedDict", "Counter", "defaultdict"}

EXCUSED = {
    # bounded by what the program or its settings name
    "Described.parameters": "of each route, as the program has them",
    "Described.responses": "the same",
    "Fleet._shards": "as many as the settings say",
    "Inquiries._owed": "a number for each shard",
    "Management._http": "listeners",
    "Management._metrics": "listeners",
    "Passes.counts": "by triggers and levels",
    "Passes.freed_bytes_by_kind": "by kinds of collections",
    "Pass.reports": "one of each process, for as long as the pass is remembered",
    "Supervisor._alarm_limits": "by names of settings",
    # gone with what they are for
    "Accounts._changes": "one import's",
    "ApiError.details": "one answer's",
    "ApiError.headers": "one answer's",
    "Collected._families": "one scrape's",
    "Control._pending": "one conversation's of a command",
    "Declarations._begun": "one import's",
    "Declarations._bindings": "one import's",
    "Declarations._exchanges": "one import's",
    "Declarations._queues": "one import's",
    "Importing._declarations": "one import's",
    "Importing._new": "one import's",
    "Problems.found": "one import's",
    "_Answer.pieces": "one question's",
    "_Answer.replies": "one question's",
    "_Answer.silent": "one question's",
    "_Inquiry.answers": "one question's",
    "_Inquiry.awaited": "one question's",
    "_Tally.freed": "one pass's",
}


class Assigned(NamedTuple):
    """An attribute that is given a collection somewhere in its class."""

    label: str
    is_declared: bool


def assigned() -> Iterator[Assigned]:
    for path in sorted(RUNTIME.rglob("*.py")):
        if path.relative_to(RUNTIME).parts[0] in NOT_PROCESSES:
            continue
        for found in ast.walk(ast.parse(path.read_text())):
            if isinstance(found, ast.ClassDef):
                declared = set(declared_by(found))
                for name in dict.fromkeys(given(found)):
                    yield Assigned(f"{found.name}.{name}", name in declared)


def declared_by(owner: ast.ClassDef) -> Iterator[str]:
    for statement in owner.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="COLLECTIONS" | "CACHES")], value=names):
                yield from ast.literal_eval(names)


def given(owner: ast.ClassDef) -> Iterator[str]:
    """Names of `self` to which a collection is assigned."""
    for found in ast.walk(owner):
        match found:
            case (
                ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=ast.expr() as value)
                | ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name), value=ast.expr() as value)
            ) if is_collection(value):
                yield name


def is_collection(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id in COLLECTIONS
    return isinstance(value, ast.Dict | ast.Set | ast.List | ast.DictComp | ast.SetComp | ast.ListComp)


ASSIGNED = list(assigned())


@pytest.mark.parametrize("one", ASSIGNED, ids=lambda one: one.label)
def test_it_is_declared_or_excused_by_name(one: Assigned) -> None:
    is_excused = one.label in EXCUSED

    assert one.is_declared or is_excused, "declare it, or say here why not"
    assert not (one.is_declared and is_excused)


def test_every_excuse_is_needed() -> None:
    assert set(EXCUSED) <= {one.label for one in ASSIGNED}
