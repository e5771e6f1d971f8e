"""Which of the two speeds runs: hot modules compiled, or the same sources interpreted, and why.

A module is hot if a `.pxd` twin stands beside it: `pip install` compiles it where there is a C compiler, and otherwise
leaves it to the interpreter. With `EBBMQ_PURE=1` in its environment a process takes the sources of hot modules even
where compiled ones stand beside them. The package `ipc` chooses when it is imported, which is before any hot module,
in every process of the broker and of its tests; what is started from a process inherits the variable.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from typing import Final, NamedTuple

PURE_VARIABLE: Final = "EBBMQ_PURE"
HOT_PACKAGES: Final = ("ipc", "shards")
INLINED: Final = "ipc.wire.raw"  # its twin is compiled into every module that names it, and into none of its own

_ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Speed(NamedTuple):
    """How this installation's hot modules run, by name."""

    compiled: tuple[str, ...]
    interpreted: tuple[str, ...]
    outdated: tuple[str, ...]  # compiled ones of a checkout whose sources have changed since
    reason: str  # for what is interpreted

    @property
    def name(self) -> str:
        if not self.interpreted:
            return "compiled"
        return "mixed" if self.compiled else "interpreted"

    @property
    def is_full(self) -> bool:
        return not self.interpreted and not self.outdated

    def __str__(self) -> str:
        text = self.name
        if self.interpreted:
            text += f": {', '.join(self.interpreted) + ' ' if self.compiled else ''}{self.reason}"
        if self.outdated:
            text += f"; compiled from older sources than those beside them: {', '.join(self.outdated)}"
        return text


def choose_speed(environment: Mapping[str, str]) -> None:
    """Have this process import hot modules from source if the environment asks for it."""
    if not is_pure(environment) or _source_finder in sys.path_hooks:
        return
    sys.path_hooks.insert(0, _source_finder)
    for directory in filter(_is_ours, tuple(sys.path_importer_cache)):
        del sys.path_importer_cache[directory]


def is_pure(environment: Mapping[str, str]) -> bool:
    return environment.get(PURE_VARIABLE, "") not in ("", "0")


def read_speed(environment: Mapping[str, str], root: str = _ROOT) -> Speed:
    """How hot modules below `root` run in a process with this environment; looks at file names and times alone."""
    pure = is_pure(environment)
    compiled, interpreted, outdated = [], [], []
    for name, source in hot_modules(root):
        built = next(filter(os.path.exists, (source.removesuffix(".py") + suffix for suffix in EXTENSION_SUFFIXES)), "")
        if pure or not built:
            interpreted.append(name)
            continue
        compiled.append(name)
        if _is_checkout(root) and _changed(root, source, built):
            outdated.append(name)
    reason = f"{PURE_VARIABLE} is set" if pure else "not compiled when this was installed"
    return Speed(tuple(compiled), tuple(interpreted), tuple(outdated), reason)


def hot_modules(root: str = _ROOT) -> Iterator[tuple[str, str]]:
    """Name and source of each hot module, in order of their names."""
    for package in HOT_PACKAGES:
        for directory, below, files in os.walk(os.path.join(root, package)):
            below.sort()
            for file in sorted(files):
                stem, extension = os.path.splitext(os.path.join(directory, file))
                name = os.path.relpath(stem, root).replace(os.sep, ".")
                if extension == ".pxd" and name != INLINED:
                    yield name, stem + ".py"


def _is_checkout(root: str) -> bool:
    # Elsewhere an installer wrote all files, in any order, and their times say nothing.
    return os.path.exists(os.path.join(root, "setup.py"))


def _changed(root: str, source: str, built: str) -> bool:
    since = os.path.getmtime(built)
    sources = (source, source.removesuffix(".py") + ".pxd", os.path.join(root, *INLINED.split(".")) + ".pxd")
    return any(os.path.getmtime(path) > since for path in sources)


def _source_finder(directory: str) -> FileFinder:
    """A hook for `sys.path_hooks`: in our packages there are no extension modules."""
    if not _is_ours(directory):
        raise ImportError
    return FileFinder(directory, (SourceFileLoader, SOURCE_SUFFIXES), (SourcelessFileLoader, BYTECODE_SUFFIXES))


def _is_ours(directory: str) -> bool:
    inner = os.path.abspath(directory)
    return any((inner + os.sep).startswith(os.path.join(_ROOT, package, "")) for package in HOT_PACKAGES)
