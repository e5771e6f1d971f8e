"""Both speeds of one hot module in one process, and what its twin says of its functions.

Arguments are made from the C types in the `.pxd`, so that a new function, or a new parameter, is tried without a word.
"""

import importlib
import importlib.util
import re
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Final, NamedTuple

_FUNCTION = re.compile(r"^cpdef\s+[\w.\[\]: ]*?(\w+)\(([^)]*)\)", re.MULTILINE)
_PARAMETER = re.compile(r"^(.+?)\s*\b(\w+)$")

BOUNDARIES: Final = (0, 1, 2, 3, 7, 8, 21, 22, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**48, 2**63 - 1)
RANGES: Final = {
    "Py_ssize_t": (-(2**62), 2**62),  # a place in a buffer: the sum of two is still a number
    "int": (-(2**31), 2**31 - 1),
    "uint64_t": (0, 2**64 - 1),
    "uint32_t": (0, 2**32 - 1),
    "uint16_t": (0, 2**16 - 1),
    "uint8_t": (0, 255),
}
VIEWS: Final = {"uint64_t[::1]": "Q", "uint32_t[::1]": "I", "uint16_t[::1]": "H"}


class Function(NamedTuple):
    """One function of a hot module at both speeds; `parameters`: name and C type."""

    name: str
    compiled: Callable[..., Any]
    interpreted: Callable[..., Any]
    parameters: tuple[tuple[str, str], ...]


def functions(name: str, source: str) -> Iterator[Function]:
    """The functions of a hot module that Python may call and that are compiled."""
    compiled = importlib.import_module(name)
    interpreted = from_source(f"interpreted.{name}", Path(source))
    for function, parameters in _FUNCTION.findall(Path(source).with_suffix(".pxd").read_text()):
        yield Function(
            function, getattr(compiled, function), getattr(interpreted, function), tuple(parameters_in(parameters))
        )


def from_source(name: str, source: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def parameters_in(text: str) -> Iterator[tuple[str, str]]:
    for parameter in filter(None, map(str.strip, text.split(","))):
        match = _PARAMETER.match(parameter)
        assert match is not None, parameter
        yield match[2], match[1]


def argument(kind: str, random: Random) -> Any:
    """Something of this C type, as likely as not at a boundary."""
    if kind in RANGES:
        return number(kind, random)
    if kind == "bint":
        return random.random() < 0.5
    if kind.removeprefix("const ") in VIEWS:
        return numbers(VIEWS[kind.removeprefix("const ")], random)
    if kind == "array.array":
        return numbers("Q", random)
    if kind in ("bytes", "const unsigned char[::1]"):
        return random.randbytes(random.choice((0, 1, 4, 20, 64, 300)))
    if kind in ("bytearray", "unsigned char[::1]"):
        return bytearray(random.randbytes(random.choice((0, 1, 20, 300))))
    raise AssertionError(f"an argument of type {kind} is not known how to make")


def number(kind: str, random: Random) -> int:
    low, high = RANGES[kind]
    wanted = (
        random.choice(BOUNDARIES) + random.choice((-1, 0, 0, 0, 1)) if random.random() < 0.4 else random.randrange(70)
    )
    if random.random() < 0.1:
        wanted = -wanted
    return min(max(wanted, low), high)


def numbers(typecode: str, random: Random) -> "array[int]":
    size = array(typecode).itemsize
    length = random.choice((0, 1, 2, 10, 40))
    if random.random() < 0.3:
        return array(typecode, random.randbytes(length * size))
    first = random.choice((0, 1, 2 ** (8 * size) - 1000))
    return array(typecode, [first + random.randrange(60) for _ in range(length)])


def outcome(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
    """What it gave and what it made of its arguments; or that it refused, which both speeds say in their own words."""
    given = [fresh(argument) for argument in arguments]
    try:
        result = function(*given)
    except Exception as refusal:  # noqa: BLE001 - which one it is, is what is compared
        return ("refused", kind_of(refusal))
    # Where a function gives nothing, its compiled form gives 0.
    return (
        result or 0,
        *(bytes(argument) for argument in given if isinstance(argument, array | bytearray | memoryview)),
    )


def kind_of(refusal: Exception) -> str:
    return "out of range" if isinstance(refusal, IndexError | struct.error | OverflowError) else type(refusal).__name__


def fresh(argument: Any) -> Any:
    """A copy that may be changed, of exactly the size it must have."""
    return argument[:] if isinstance(argument, array | bytearray) else argument
