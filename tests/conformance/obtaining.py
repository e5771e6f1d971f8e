"""Gets a suite from its registry into a directory of its own, with everything it needs, once for each release.

The registries are whatever `pip` and `npm` are set up to use here. Nothing is installed outside the directory.
"""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

from tests.conformance.suites import Language, Suite

INSTALL_SECONDS_MAX: Final = 600
_DONE: Final = ".obtained"


class Obtained:
    """Where a suite lies: `sources` are what was unpacked, and `python` runs it, if it is Python."""

    def __init__(self, suite: Suite, place: Path) -> None:
        self.place = place
        self.sources = place / "sources"
        self.python = place / "venv" / "bin" / "python"
        self.tools = place / "tools"
        self.mocha = self.tools / "node_modules" / ".bin" / "mocha"
        self.receipt = f"{suite.distribution} {suite.version} {' '.join(suite.tools)} {sys.version_info[:2]}\n"

    def is_complete(self) -> bool:
        done = self.place / _DONE
        return done.exists() and done.read_text() == self.receipt


def obtain(suite: Suite, place: Path) -> Obtained:
    """Nothing to do if an earlier run got the same."""
    obtained = Obtained(suite, place)
    if obtained.is_complete():
        return obtained
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    _OBTAIN[suite.language](suite, obtained)
    (place / _DONE).write_text(obtained.receipt)
    return obtained


def _obtain_python(suite: Suite, obtained: Obtained) -> None:
    archives = obtained.place / "archive"
    release = f"{suite.distribution}=={suite.version}"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(*pip, "download", "--no-deps", "--no-binary", suite.distribution, "--dest", str(archives), release)
    archive = _unpack(archives, obtained.sources)
    _run(sys.executable, "-m", "venv", str(obtained.place / "venv"))
    _run(str(obtained.python), *pip[1:], "install", str(archive), *suite.tools)


def _obtain_node(suite: Suite, obtained: Obtained) -> None:
    archives = obtained.place / "archive"
    archives.mkdir()
    npm = ("npm", "--silent", "--no-audit", "--no-fund", "--no-update-notifier")
    _run(*npm, "pack", f"{suite.distribution}@{suite.version}", "--pack-destination", str(archives))
    _unpack(archives, obtained.sources)
    install = (*npm, "install", "--ignore-scripts", "--no-save")
    _run(*install, "--omit=dev", at=obtained.sources)
    # Beside the sources: what they name as tools for development is left out, even when it is asked for.
    obtained.tools.mkdir()
    _run(*install, "--prefix", str(obtained.tools), *suite.tools)


_OBTAIN: Final = {Language.PYTHON: _obtain_python, Language.NODE: _obtain_node}


def _unpack(archives: Path, into: Path) -> Path:
    """Both registries' archives hold one directory."""
    (archive,) = archives.iterdir()
    unpacked = archives.with_name("unpacked")
    with tarfile.open(archive) as opened:
        opened.extractall(unpacked, filter="data")
    (root,) = unpacked.iterdir()
    root.rename(into)
    unpacked.rmdir()
    return archive


def _run(*command: str, at: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=at,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS_MAX,
            check=False,
        )
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is not installed, and this suite needs it") from None
    except subprocess.TimeoutExpired:
        raise SystemExit(f"not within {INSTALL_SECONDS_MAX} s: {' '.join(command)}") from None
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
