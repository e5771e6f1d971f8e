"""Nobody keeps a declared collection across a moment at which a pass may replace it: read off the sources.

A pass replaces a collection by a smaller copy between two turns. A local name that was bound to `self.x` before a
`yield` or `await` and is used after it speaks of the old one: what is written to it is lost, what is read is stale.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [path for package in ("shards", "runtime", "ipc") for path in sorted((ROOT / package).rglob("*.py"))]
DECLARATIONS = {"COLLECTIONS", "NESTED", "CACHES"}
PAUSES = (ast.Yield, ast.YieldFrom, ast.Await, ast.AsyncFor, ast.AsyncWith)
VIEWS = {"values", "keys", "items"}
EXHAUSTED_AT_ONCE = {"match"}
"""Generators that one call asks for all they have: routing, within a publish."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Kept(NamedTuple):
    """`name`, bound to a declared collection at line `bound`, is used at line `used`, after a pause between them."""

    function: str
    name: str
    bound: int
    used: int


def declared(tree: ast.Module) -> set[str]:
    """Attributes that classes of a module declare."""
    found = set()
    for node in ast.walk(tree):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id in DECLARATIONS for target in targets):
            found |= {
                leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)
            }
    return found


ALL_DECLARED = set().union(*(declared(ast.parse(path.read_text())) for path in SOURCES))


def kept(source: str, names: set[str]) -> list[Kept]:
    """References to attributes of these names that outlive a pause, in generators and coroutines."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]
    return [
        one for function in functions if function.name not in EXHAUSTED_AT_ONCE for one in _kept_in(function, names)
    ]


def _kept_in(function: Function, names: set[str]) -> Iterator[Kept]:
    own = list(_own_nodes(function))
    pauses = [node for node in own if isinstance(node, PAUSES)]
    for node in own:
        if isinstance(node, ast.For) and _is_declared(node.iter, names):
            for pause in pauses:
                if node.lineno < pause.lineno <= (node.end_lineno or 0):
                    yield Kept(function.name, "an iterator", node.lineno, pause.lineno)
        if isinstance(node, ast.Assign | ast.NamedExpr):
            for name in _bound_by(node, names):
                yield from _used_after(function, own, pauses, name, node.lineno)


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    """Without those of functions in it, which have frames of their own."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


def _is_declared(value: ast.expr, names: set[str]) -> bool:
    """`self.x`, or a view of it; not what a call makes of it, such as `list(self.x)`."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in VIEWS:
        value = value.func.value
    return isinstance(value, ast.Attribute) and value.attr in names


def _bound_by(node: ast.Assign | ast.NamedExpr, names: set[str]) -> Iterator[str]:
    """Local names that speak of a declared collection from here on."""
    if isinstance(node, ast.NamedExpr):
        if _is_declared(node.value, names):
            yield node.target.id
        return
    for target in node.targets:
        pairs = list(_pairs(target, node.value))
        written = {element.attr for element, _ in pairs if isinstance(element, ast.Attribute)}
        for element, value in pairs:
            # Taken out, and another one put in its place: nobody replaces what is no longer an attribute.
            is_taken = isinstance(value, ast.Attribute) and value.attr in written
            if isinstance(element, ast.Name) and _is_declared(value, names) and not is_taken:
                yield element.id


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(target.elts, value.elts, strict=True)
    else:
        yield target, value


def _used_after(
    function: Function, own: list[ast.AST], pauses: Sequence[ast.expr | ast.stmt], name: str, bound: int
) -> Iterator[Kept]:
    rebound = [
        node.lineno
        for node in own
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
    ]
    for node in own:
        if not (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)):
            continue
        latest = max((line for line in rebound if line <= node.lineno), default=bound)
        if latest == bound and any(bound < pause.lineno < node.lineno for pause in pauses):
            yield Kept(function.name, name, bound, node.lineno)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_declared_collection_is_kept_across_a_pause(path: Path) -> None:
    assert kept(path.read_text(), ALL_DECLARED) == []


def test_there_is_something_to_look_for() -> None:
    assert {"_queues", "_tags", "routes", "_peers", "_places", "_guests"} <= ALL_DECLARED


# the checker itself ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "held = self.held\n        yield\n        held[1] = 2",
        "held = self.held.values()\n        yield from others()\n        print(held)",
        "if held := self.held:\n            yield\n            held.clear()",
        "for one in self.held:\n            yield one",
        "for one in self.held.items():\n            yield one",
        "a, held = 1, self.held\n        yield\n        held.pop()",
    ],
)
def test_a_reference_that_outlives_a_pause_is_found(body: str) -> None:
    assert kept(f"class A:\n    def f(self):\n        {body}\n", {"held"})


@pytest.mark.parametrize(
    "body",
    [
        "held = self.held\n        held[1] = 2\n        yield",
        "held = list(self.held)\n        yield\n        print(held)",
        "held, self.held = self.held, {}\n        yield\n        print(held)",
        "held = self.held\n        yield\n        held = self.held\n        held.pop()",
        "for one in list(self.held):\n            yield one",
        "yield\n        self.held[1] = 2",
    ],
)
def test_what_is_looked_up_again_or_copied_is_fine(body: str) -> None:
    assert not kept(f"class A:\n    def f(self):\n        {body}\n", {"held"})


def test_coroutines_are_watched_as_well() -> None:
    source = "async def f(self):\n    held = self.held\n    await other()\n    held.pop()\n"

    assert kept(source, {"held"}) == [Kept("f", "held", 2, 4)]
