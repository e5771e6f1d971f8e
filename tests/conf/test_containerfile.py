"""What the container file takes, sets and promises, as far as it can be seen without an engine."""

import json
import re
import shlex
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from ipc.settings import Settings
from runtime.cli.main import COMMANDS
from runtime.cli.settings_sources import SettingsSources
from runtime.supervisor.supervisor import DRAIN_MARGIN_SECONDS

ROOT = Path(__file__).parents[2]
ENGINES_SECONDS = 10.0  # docker and podman send KILL this long after the signal to stop
DOCUMENT = (ROOT / "docs" / "deployment.md").read_text()


class Step:
    """One instruction of the file, its lines joined."""

    def __init__(self, line: str) -> None:
        self.name, _, self.text = line.partition(" ")
        self.text = self.text.strip()

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def steps() -> list[Step]:
    lines = (ROOT / "conf" / "Containerfile").read_text().splitlines()
    joined = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    return [Step(line) for line in joined.splitlines() if line.strip()]


@pytest.fixture
def stages() -> list[list[Step]]:
    """Steps of each stage, what stands above the first one left out."""
    found: list[list[Step]] = []
    for step in steps():
        if step.name == "FROM":
            found.append([])
        if found:
            found[-1].append(step)
    return found


@pytest.fixture
def copied() -> list[str]:
    """Paths that are copied from the context."""
    return [
        source
        for step in steps()
        if step.name == "COPY" and not step.text.startswith("--from")
        for source in step.words[:-1]
    ]


@pytest.fixture
def last(stages: list[list[Step]]) -> dict[str, str]:
    """Steps of the stage that becomes the image, by name."""
    return {step.name: step.text for step in stages[-1]}


@pytest.fixture
def environment(last: dict[str, str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(last["ENV"]))


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """What a broker makes of the image's environment; a variable that means nothing is refused here."""
    return SettingsSources(None, environment, ()).read()


def test_it_copies_only_what_git_tracks(copied: list[str]) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    assert copied
    for path in copied:
        tracked = subprocess.run(["git", "ls-files", "--", path], cwd=ROOT, capture_output=True, text=True, check=True)
        assert tracked.stdout, f"{path} would be missing in a fresh checkout"


def test_it_copies_what_the_installation_needs(copied: list[str]) -> None:
    """Packages, what builds them, the pins, and the files that pyproject.toml names."""
    needed = {"ipc", "shards", "runtime", "setup.py", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"}
    assert set(copied) == needed


def test_the_context_holds_what_is_copied_and_nothing_else(copied: list[str]) -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(rule[1:] for rule in rules if rule.startswith("!")) == sorted(copied)
    kept_out = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    for built in ("traffic.cpython-311-x86_64-linux-gnu.so", "__pycache__", "runs.c"):
        assert any(fnmatch(built, rule) for rule in kept_out), built


def test_both_stages_start_from_one_image_so_that_what_is_compiled_fits(stages: list[list[Step]]) -> None:
    assert [stage[0].words[0] for stage in stages] == ["${BASE}", "${BASE}"]


def test_every_package_is_pinned_and_every_hot_module_compiled(stages: list[list[Step]]) -> None:
    installing = [step.text for step in stages[0] if step.name == "RUN" and "pip install" in step.text]
    assert len(installing) == 2
    assert all("--constraint requirements.lock" in text for text in installing)
    assert "EBBMQ_MUST_COMPILE=1" in installing[-1]
    assert "--no-build-isolation" in installing[-1]


def test_the_image_has_no_compiler(stages: list[list[Step]]) -> None:
    for step in stages[-1]:
        assert not re.search(r"\b(gcc|apt-get|pip)\b", step.text), step.text


def test_it_runs_as_nobody_in_particular_by_number(last: dict[str, str]) -> None:
    user, group = map(int, last["USER"].split(":"))
    assert user != 0 != group
    assert f"--owner {user} --group {group}" in last["RUN"]


def test_the_data_is_on_the_volume(last: dict[str, str], settings: Settings) -> None:
    assert settings.main.data_dir == last["VOLUME"]
    assert last["RUN"].endswith(f" {last['VOLUME']}")


def test_it_listens_everywhere_on_the_port_it_exposes(last: dict[str, str], settings: Settings) -> None:
    assert settings.amqp.bind == "0.0.0.0,::"
    assert settings.amqp.port == int(last["EXPOSE"])


def test_an_account_whose_password_everybody_knows_is_let_in_from_loopback_only(settings: Settings) -> None:
    assert settings.users == Settings().users
    assert settings.users.default_user in settings.users.loopback_only


def test_it_has_drained_before_an_engine_loses_patience(settings: Settings) -> None:
    assert settings.main.drain_seconds + DRAIN_MARGIN_SECONDS < ENGINES_SECONDS


def test_signals_reach_the_supervisor_and_no_shell_stands_in_between(last: dict[str, str]) -> None:
    entry, command = json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])
    assert (entry, command) == (["ebbmq"], ["serve"])
    assert last["STOPSIGNAL"] == "SIGTERM"


def test_health_is_asked_with_a_command_that_exists(last: dict[str, str]) -> None:
    command = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
    assert command[0] == "ebbmq"
    assert command[1] in COMMANDS


def test_what_the_image_sets_differs_from_the_defaults_and_is_documented(environment: dict[str, str]) -> None:
    ours = {name: value for name, value in environment.items() if name.startswith("EBBMQ_")}
    section = DOCUMENT.split("## Container\n")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(EBBMQ_\w+)` \| `([^`]+)` \|", section, re.MULTILINE))
    assert documented == ours


def test_settings_and_variables_that_the_page_names_exist() -> None:
    """A variable of an unknown section would be left alone, so the sections are spelled out here."""
    named = set(re.findall(r"\bEBBMQ_(?:MAIN|AMQP|STORE|COMPACTION|ALARMS|USERS)_[A-Z_]+[A-Z]\b", DOCUMENT))
    assert named
    for name in named - {"EBBMQ_AMQP_SERVICE_HOST"}:
        section, _, key = name.removeprefix("EBBMQ_").lower().partition("_")
        assert hasattr(getattr(Settings(), section), key), name
    for group, key in re.findall(r"`(main|amqp|connection|store|compaction|alarms|users)\.(\w+)`", DOCUMENT):
        assert hasattr(getattr(Settings(), group), key), f"{group}.{key}"


def test_local_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", DOCUMENT):
        assert (ROOT / "docs" / target).exists(), target
