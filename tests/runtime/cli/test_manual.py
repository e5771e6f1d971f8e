"""The manual pages: written from the code, whole, and in a form that formatters take."""

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from ipc.errors import ExitCode
from runtime.cli.ctl.elsewhere import ELSEWHERE
from runtime.cli.ctl.main import COMMANDS, ebbmqctl
from runtime.cli.main import ebbmq
from runtime.cli.manual import EXIT_CODES, PAGES, Page, page_of, write

ROOT = Path(__file__).parents[3]
KEPT = ROOT / "conf" / "man"
GROFF = shutil.which("groff")
NAMES = [page.program.name for page in PAGES]


def plain(name: str) -> str:
    """The page's text without what formatters read."""
    written = (KEPT / f"{name}.1").read_text()
    return re.sub(r"\\f[BIR]", "", written).replace("\\-", "-").replace("\\(aq", "'").replace("\\(dq", '"')


def below(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    """Every command that can be called."""
    if not isinstance(command, click.Group):
        return [(path, command)]
    with click.Context(command) as context:
        names = command.list_commands(context)
        children = [(name, command.get_command(context, name)) for name in names]
    return [found for name, child in children if child for found in below(child, f"{path} {name}".strip())]


def test_pages_are_up_to_date_with_the_code(tmp_path: Path) -> None:
    """`make man` writes them."""
    write(tmp_path)

    assert {file.name for file in KEPT.iterdir()} == {file.name for file in tmp_path.iterdir()}
    for file in tmp_path.iterdir():
        assert (KEPT / file.name).read_text() == file.read_text(), f"{file.name}: run `make man`"


@pytest.mark.parametrize("program", [ebbmq, ebbmqctl], ids=NAMES)
def test_a_page_has_every_command_with_every_option(program: click.Group) -> None:
    assert program.name is not None
    entries = re.split(r"^\.TP$", plain(program.name), flags=re.MULTILINE)
    terms = {entry.strip().splitlines()[0] for entry in entries if entry.strip()}
    spellings = {word for term in terms for word in re.findall(r"--?[\w?][\w-]*", term)}
    for path, command in below(program, ""):
        assert any(term == path or term.startswith(f"{path} ") for term in terms), path
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert spellings.issuperset(option.opts), (path, option.opts)


def test_what_is_not_here_stands_in_the_page() -> None:
    page = plain("ebbmqctl")
    for name in ELSEWHERE:
        assert re.search(rf"(^|, ){name}(,|$)", page, flags=re.MULTILINE), name
    assert not COMMANDS.keys() & ELSEWHERE.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_ascii_and_names_what_readers_look_for(name: str) -> None:
    page = plain(name)
    assert page.isascii()
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", '"EXIT STATUS"', "ENVIRONMENT", "FILES",
                  "EXAMPLES", '"SEE ALSO"'):  # fmt: skip
        assert f"\n.SH {title}\n" in page


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
@pytest.mark.skipif(GROFF is None, reason="groff is not installed")
def test_a_formatter_has_nothing_to_complain_about(page: Page) -> None:
    command = [str(GROFF), "-ww", "-man", "-z", str(KEPT / f"{page.program.name}.1")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_exit_codes_are_told_in_the_words_of_the_readme() -> None:
    section = (ROOT / "README.md").read_text().split("### Exit codes\n")[1].split("\n#")[0]
    told = dict(re.findall(r"^\| (\d+) \| (.*) \|$", section, re.MULTILINE))
    assert {str(int(code)): words for code, words in EXIT_CODES.items()} == told
    assert list(EXIT_CODES) == list(ExitCode)


@pytest.mark.parametrize(
    ("path", "command"), below(ebbmq, ""), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_of_ebbmq_and_every_option_says_what_it_is_for(path: str, command: click.Command) -> None:
    assert command.help
    assert command.help.strip().endswith("."), path
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, (path, option.opts)
        else:
            assert (option.metavar or option.name or "").strip("[]").upper() in command.help, (path, option.name)


def test_a_page_is_made_of_what_a_command_says() -> None:
    """What is to be typed is bold, and nothing in it is a request to the formatter."""
    command = click.Command("odd", help=".Dotted and 'quoted': type `odd \\x` - really.\n\nMore.")
    program = click.Group("program", commands=[command], help="Says…")
    page = page_of(PAGES[0]._replace(program=program))

    assert "\n\\&.Dotted and \\(aqquoted\\(aq: type \\fBodd \\ex\\fR \\- really.\n.sp\nMore.\n" in page
    assert "Says\\[u2026]\n" in page
