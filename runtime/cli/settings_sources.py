"""Where settings come from: flags win over the environment, that over the file, that over the defaults.

Every refusal names the source, the key and what was expected, in one sentence.
"""

import difflib
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct, structs

from ipc.errors import ExitCode, StartRefused
from ipc.settings import Settings, ShrinkSettings, VHostStoreSettings

ENVIRONMENT_PREFIX: Final = "EBBMQ_"
CONFIG_VARIABLE: Final = "EBBMQ_CONFIG"

SECTIONS: Final[dict[str, type[Struct]]] = {field.name: field.type for field in structs.fields(Settings)}
FIELD_TYPES: Final[dict[str, dict[str, Any]]] = {
    name: {
        field.name: typing.get_type_hints(section, include_extras=True)[field.name] for field in structs.fields(section)
    }
    for name, section in SECTIONS.items()
}

TABLES: Final[dict[Any, str]] = {
    ShrinkSettings: "{dict = {ratio = 3.0}}",
    VHostStoreSettings: '{orders = {durability = "os"}}',
}
NOUNS: Final[dict[Any, str]] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}

# Pairs of which the first may not exceed the second.
ORDERED: Final = (
    ("main.shard_restart_seconds_min", "main.shard_restart_seconds_max"),
    ("connection.outbox_bytes_low", "connection.outbox_bytes_high"),
)


class Assignment(NamedTuple):
    """One value for one key; `text` when it came as a string that still has to be read as what the key wants."""

    source: str
    section: str
    key: str
    value: Any
    text: bool


class SettingsSources(Struct, frozen=True):
    """All sources of one start; `read()` again when SIGHUP asks for it."""

    config: str | None
    environment: Mapping[str, str]
    flags: tuple[Assignment, ...]

    def read(self) -> Settings:
        """The settings in force. Raises StartRefused (SETTINGS_INVALID)."""
        values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for assignment in self._assignments():
            values[assignment.section][assignment.key] = _converted(assignment)
        sections: dict[str, Any] = {section: SECTIONS[section](**values[section]) for section in SECTIONS}
        settings = Settings(**sections)
        _refuse_contradictions(settings)
        return settings

    def _assignments(self) -> Iterator[Assignment]:
        if self.config is not None:
            yield from from_file(self.config)
        yield from from_environment(self.environment)
        yield from self.flags


def from_file(path: str) -> Iterator[Assignment]:
    """Every key of a TOML file."""
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as fault:
        raise refused(path, f"cannot be read: {fault.strerror}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise refused(path, f"is not TOML: {fault}") from fault
    for section, values in document.items():
        if section not in SECTIONS:
            raise refused(path, f"unknown section [{section}]; expected {_one_of(section, SECTIONS)}")
        if not isinstance(values, dict):
            raise refused(path, f"{section}: expected a section [{section}]")
        for key, value in values.items():
            yield checked(Assignment(path, section, key, value, text=False))


def from_environment(environment: Mapping[str, str]) -> Iterator[Assignment]:
    """Every `EBBMQ_SECTION_KEY`; what else has our prefix is not for us (`EBBMQ_PURE`, Kubernetes' service links)."""
    for variable, value in sorted(environment.items()):
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if variable.startswith(ENVIRONMENT_PREFIX) and key and section in SECTIONS:
            yield checked(Assignment(f"environment variable {variable}", section, key, value, text=True))


def from_flag(flag: str, name: str, value: object) -> Assignment:
    """A flag of its own, such as `--amqp-port`, which sets `name` (`section.key`)."""
    section, _, key = name.partition(".")
    return Assignment(flag, section, key, value, text=isinstance(value, str))


def from_set(pair: str) -> Assignment:
    """`--set section.key=value`."""
    name, equals, value = pair.partition("=")
    section, _, key = name.strip().partition(".")
    if not equals or not key:
        raise refused("--set", f"expected section.key=value, got {pair!r}")
    if section not in SECTIONS:
        raise refused("--set", f"unknown section {section!r}; expected {_one_of(section, SECTIONS)}")
    return checked(Assignment("--set", section, key, value.strip(), text=True))


def checked(assignment: Assignment) -> Assignment:
    """The same assignment, if its key exists."""
    known = FIELD_TYPES[assignment.section]
    if assignment.key not in known:
        expected = _one_of(assignment.key, known)
        raise refused(assignment.source, f"unknown key {assignment.section}.{assignment.key}; expected {expected}")
    return assignment


def refused(source: str, complaint: str) -> StartRefused:
    return StartRefused(ExitCode.SETTINGS_INVALID, f"{source}: {complaint}")


def _converted(assignment: Assignment) -> Any:
    kind = FIELD_TYPES[assignment.section][assignment.key]
    value = assignment.value
    if assignment.text and typing.get_origin(kind) is tuple:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if assignment.text and typing.get_origin(kind) is dict:
        value = _table(value)
    try:
        return msgspec.convert(value, kind, strict=not assignment.text)
    except msgspec.ValidationError as fault:
        name = f"{assignment.section}.{assignment.key}"
        raise refused(assignment.source, f"{name}: expected {expectation(kind)}, not {assignment.value!r}") from fault


def _table(text: str) -> Any:
    """What stands for a table in one line, as in a file; the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def expectation(kind: Any) -> str:
    """What a key of this type wants, in words: `a whole number from 1 to 256`."""
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "a list of strings"
    if typing.get_origin(kind) is dict:
        return f"a table such as {TABLES[typing.get_args(kind)[1]]}"
    if typing.get_origin(kind) is not typing.Annotated:
        return NOUNS[kind]
    bare, *metas = typing.get_args(kind)
    low = next((meta.ge for meta in metas if meta.ge is not None), None)
    high = next((meta.le for meta in metas if meta.le is not None), None)
    if high is not None:
        return f"{NOUNS[bare]} from {low} to {high}"
    return f"{NOUNS[bare]} of at least {low:g}"


def _refuse_contradictions(settings: Settings) -> None:
    for low, high in ORDERED:
        if _value(settings, low) > _value(settings, high):
            raise refused(
                "settings", f"{low}: expected at most {high} ({_value(settings, high)}), not {_value(settings, low)}"
            )


def _value(settings: Settings, name: str) -> Any:
    section, _, key = name.partition(".")
    return getattr(getattr(settings, section), key)


def _one_of(wrong: str, known: Mapping[str, object]) -> str:
    """The likeliest of the known names, or all of them."""
    close = difflib.get_close_matches(wrong, known, n=1)
    return repr(close[0]) if close else "one of " + ", ".join(known)
