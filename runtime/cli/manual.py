"""Writes the manual pages in conf/man from what the commands say of themselves, one page a program.

`python -m runtime.cli.manual DIRECTORY` writes `ebbmq.1` and `ebbmqctl.1`; `make man` calls it for conf/man. Libraries
make a page of each command, and 150 of them are nothing to read.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from ipc.errors import ExitCode
from ipc.version import VERSION
from runtime.cli.ctl.context import GlobalOption
from runtime.cli.ctl.elsewhere import ROWS
from runtime.cli.ctl.main import SECTIONS, ebbmqctl
from runtime.cli.main import ebbmq

Lines = Iterator[str]

_CODES_OF_CTL: Final = (
    ExitCode.OK,
    ExitCode.FAILED,
    ExitCode.USAGE,
    ExitCode.NO_BROKER,
    ExitCode.CONTROL_DENIED,
    ExitCode.ANSWER_INCOMPLETE,
    ExitCode.UNAVAILABLE,
)

EXIT_CODES: Final = {
    ExitCode.OK: "ended as asked",
    ExitCode.FAILED: "something no other code names",
    ExitCode.USAGE: "unknown flag or command",
    ExitCode.SETTINGS_INVALID: "bad settings",
    ExitCode.PORT_IN_USE: "port in use",
    ExitCode.DATA_DIRECTORY_IN_USE: "data directory in use by another broker",
    ExitCode.DATA_DIRECTORY_UNUSABLE: "data directory unusable: read-only, full, not a directory, not ours",
    ExitCode.FORMAT_UNKNOWN: "data of an unknown format: written by a newer version, or by something else",
    ExitCode.STORE_DAMAGED: "store damaged",
    ExitCode.SHARD_UNRECOVERABLE: "a shard kept dying beyond `main.shard_restarts_per_minute_max`",
    ExitCode.KERNEL_FEATURE_MISSING: "a feature of the kernel is missing",
    ExitCode.NO_BROKER: "a command found no broker that runs on the data directory",
    ExitCode.CONTROL_DENIED: "the control socket belongs to another user",
    ExitCode.ANSWER_INCOMPLETE: "a shard did not answer; what was printed is without it",
    ExitCode.NOT_READY: "`ebbmq status --ready` found a broker that recovers or drains",
    ExitCode.UNAVAILABLE: "`ebbmqctl`: a command for something that is not here, or a check that does not pass",
}
"""The same words as in README.md."""


class Row(NamedTuple):
    """A term and what is said of it."""

    term: str
    said: str


class Page(NamedTuple):
    """What no command knows of itself."""

    program: click.Group
    summary: str
    environment: Sequence[Row]
    files: Sequence[Row]
    examples: Sequence[Row]
    see_also: str


PAGES: Final = (
    Page(
        ebbmq,
        "message broker whose memory ebbs",
        (
            Row("EBBMQ_CONFIG", "The settings file, as `--config` names it."),
            Row(
                "EBBMQ_SECTION_KEY", "Any setting, such as `EBBMQ_AMQP_PORT`; flags win over it, and it over the file."
            ),
            Row("EBBMQ_PURE", "Where it is 1, compiled modules are not used."),
        ),
        (
            Row("/etc/ebbmq/ebbmq.toml", "Settings, as the systemd unit names them; conf/ebbmq.toml explains each."),
            Row("~/.local/share/ebbmq", "The data directory, unless `main.data_dir` names another one."),
        ),
        (
            Row("ebbmq serve --shards 4 --data-dir /srv/ebbmq", "Run a broker."),
            Row("ebbmq user add alice --tag administrator", "Add an account, whether or not the broker runs."),
            Row("ebbmq backup /backup/today", "Copy everything while clients go on."),
        ),
        "ebbmqctl",
    ),
    Page(
        ebbmqctl,
        "look after a broker by the commands of rabbitmqctl and lavinmqctl",
        (
            Row("EBBMQCTL_URI", "Where to ask over HTTP, as `--uri` says it."),
            Row("EBBMQ_CONFIG", "The settings file, which names the data directory."),
        ),
        (Row("DATA/http.sock", "The socket in the data directory over which the broker is asked, by its own user."),),
        (
            Row("ebbmqctl list_queues name messages consumers", "List queues of the virtual host /."),
            Row("ebbmqctl -p shop list_queues --formatter json", "The same of another one, for programs."),
            Row("ebbmqctl check_alarms && ebbmqctl check_running", "Ask for health."),
            Row(
                "ebbmqctl export_definitions broker.json",
                "Save all that is declared; import_definitions takes it back.",
            ),
        ),
        "ebbmq",
    ),
)


# pages ----------------------------------------------------------------------------------------------------------------


def page_of(page: Page) -> str:
    """The whole page, for the formatter `man` uses."""
    name = page.program.name
    assert name is not None
    with click.Context(page.program, info_name=name, **page.program.context_settings) as context:
        return "\n".join(_lines(page, name, context)) + "\n"


def _lines(page: Page, name: str, context: click.Context) -> Lines:
    program = page.program
    yield '.\\" Written by `make man` from the help texts of the commands: change those.'
    yield f'.TH {name.upper()} 1 "" "EbbMQ {VERSION}" "EbbMQ"'
    yield from (".nh", ".ad l")  # neither are names divided nor lines stretched
    yield from _section("NAME", [f"{name} \\- {_escaped(page.summary)}"])
    yield from _section("SYNOPSIS", [f".B {name}", "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]"])
    yield from _section("DESCRIPTION", _paragraphs(program.help or ""))
    yield from _section("OPTIONS", _options(program.get_params(context), context))
    yield ".SH COMMANDS"
    yield from _ctl_commands(program, context) if program is ebbmqctl else _commands(program, context)
    if program is ebbmqctl:
        yield from _section("COMMANDS THAT ARE NOT HERE", _elsewhere())
    codes = _CODES_OF_CTL if program is ebbmqctl else [code for code in ExitCode if code is not ExitCode.UNAVAILABLE]
    yield from _section("EXIT STATUS", _rows(Row(str(int(code)), f"{EXIT_CODES[code]}.") for code in codes))
    yield from _section("ENVIRONMENT", _rows(page.environment))
    yield from _section("FILES", _rows(page.files))
    yield from _section("EXAMPLES", _rows(page.examples))
    yield from _section("SEE ALSO", [f".BR {page.see_also} (1)"])


def _section(title: str, lines: Iterable[str]) -> Lines:
    yield f'.SH "{title}"' if " " in title else f".SH {title}"
    yield from lines


def _ctl_commands(program: click.Group, context: click.Context) -> Lines:
    for section in SECTIONS:
        yield f'.SS "{_escaped(section.title)}"'
        for name in section.names.split():
            yield from _command(_child(program, context, name), "")


def _commands(program: click.Group, context: click.Context) -> Lines:
    """Those that stand alone first, and then each group under a title of its own."""
    children = [_child(program, context, name) for name in program.list_commands(context)]
    for child in children:
        if not isinstance(child.command, click.Group):
            yield from _command(child, "")
    for child in children:
        if isinstance(child.command, click.Group):
            yield from _group(child.command, child)


def _group(group: click.Group, context: click.Context) -> Lines:
    assert context.info_name is not None
    yield f'.SS "{_escaped(context.info_name)}"'
    yield from _paragraphs(group.help or "")
    yield from _options(group.params, context)
    for name in group.list_commands(context):
        yield from _command(_child(group, context, name), f"{context.info_name} ")


def _child(group: click.Group, context: click.Context, name: str) -> click.Context:
    command = group.get_command(context, name)
    assert command is not None
    return click.Context(command, info_name=name, parent=context)


def _command(context: click.Context, path: str) -> Lines:
    """How it is called, what it does, and its own options further to the right."""
    command = context.command
    pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    yield ".TP"
    yield " ".join(
        [f"\\fB{_escaped(path + (context.info_name or ''))}\\fR", *(f"\\fI{_escaped(one)}\\fR" for one in pieces)]
    )
    first, *others = (command.help or "").strip().split("\n\n")
    yield _text(first)
    for paragraph in others:
        yield ".sp"  # a paragraph that stays where it is
        yield _text(paragraph)
    own = [option for option in command.params if not isinstance(option, GlobalOption)]
    options = list(_options(own, context))
    if options:
        yield ".RS"
        yield from options
        yield ".RE"


def _options(parameters: Iterable[click.Parameter], context: click.Context) -> Lines:
    for option in parameters:
        if isinstance(option, click.Option) and (record := option.get_help_record(context)) is not None:
            names, said = record
            yield ".TP"
            yield re.sub(r"(?<![\w-])--?[\w?][\w-]*", lambda match: f"\\fB{_escaped(match[0])}\\fR", names)
            yield _text(said)


def _elsewhere() -> Lines:
    yield "Commands of RabbitMQ and LavinMQ that have no meaning here end with 69 and one of these sentences."
    for row in ROWS:
        yield ".TP"
        yield ", ".join(f"\\fB{_escaped(name)}\\fR" for name in row.names.split())
        yield _text(row.sentence[0].upper() + row.sentence[1:])


def _rows(rows: Iterable[Row]) -> Lines:
    for row in rows:
        yield ".TP"
        yield f".B {_escaped(row.term)}"
        yield _text(row.said)


# text -----------------------------------------------------------------------------------------------------------------


def _paragraphs(said: str) -> Lines:
    for paragraph in said.strip().split("\n\n"):
        yield ".PP"
        yield _text(paragraph)


def _text(said: str) -> str:
    """One line; what stands between backquotes is to be typed, and comes out bold."""
    escaped = _escaped(" ".join(said.split()))
    line = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped)
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _escaped(said: str) -> str:
    """Neither requests nor typographic dashes, and ASCII only."""
    plain = said.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace('"', "\\(dq")
    return "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in plain)


def write(directory: Path) -> None:
    """A file for each program."""
    directory.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        (directory / f"{page.program.name}.1").write_text(page_of(page))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
