"""What the README promises in tables is what the code does."""

import re
from pathlib import Path

from ipc.errors import ExitCode
from ipc.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text()


def section(title: str) -> str:
    return README.split(f"### {title}\n")[1].split("\n#")[0]


def test_every_exit_code_is_documented_and_no_other() -> None:
    documented = [int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)]
    assert documented == sorted(ExitCode)


def test_settings_that_it_names_exist() -> None:
    named = re.findall(r"`(main|amqp|connection|store|compaction|alarms|users)\.(\w+)`", README)
    assert named
    for group, key in named:
        assert hasattr(getattr(Settings(), group), key), f"{group}.{key}"


def test_local_links_lead_somewhere() -> None:
    root = Path(__file__).parents[2]
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (root / target).exists(), target
