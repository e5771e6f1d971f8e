"""What a backup says about itself is verified to the last byte, and believed in nothing else."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ipc.data_directory import FORMAT_LINE, DataDirectory
from ipc.errors import ExitCode, StartRefused
from runtime.supervisor import manifest
from runtime.supervisor.data_lock import DataLock
from runtime.supervisor.restoring import restore


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What looks like a backup."""
    root = tmp_path / "backup"
    queue = root / "vhosts" / "1" / "queues" / "7"
    queue.mkdir(parents=True)
    (root / "directory.sqlite").write_bytes(b"accounts")
    (queue / "0000000001.messages").write_bytes(os.urandom(3_000_000))
    (queue / "empty").write_bytes(b"")
    manifest.write(root, (), 1.0, lambda: None)
    return root


def rewrite(source: Path, **changes: Any) -> None:
    path = source / manifest.NAME
    told = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(told | changes))


def refusal(source: Path, data: Path) -> tuple[ExitCode, str]:
    with pytest.raises(StartRefused) as refused:
        restore(source, DataDirectory(data))
    return ExitCode(refused.value.exit_code), str(refused.value)


def below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_backup_becomes_a_data_directory_and_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    before = below(source)

    found = restore(source, DataDirectory(tmp_path / "new" / "data"))

    after = below(tmp_path / "new" / "data")
    assert after.pop("format") == FORMAT_LINE.encode()
    assert after.pop("lock") == b""
    assert after | {manifest.NAME: before[manifest.NAME]} == before == below(source)
    assert [entry.path for entry in found.files] == sorted(after)
    assert not any(path.stat().st_nlink > 1 for path in (tmp_path / "new").rglob("*") if path.is_file())


def test_an_empty_directory_may_be_there_already(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "lost+found").mkdir(parents=True)

    restore(source, DataDirectory(data))

    assert (data / "format").exists()


@pytest.mark.parametrize("path", ["directory.sqlite", "vhosts/1/queues/7/0000000001.messages"])
@pytest.mark.parametrize("damage", ["changed", "longer", "shorter", "missing"])
def test_a_backup_that_is_not_what_it_was_is_refused_before_anything_is_written(
    source: Path, tmp_path: Path, path: str, damage: str
) -> None:
    content = (source / path).read_bytes()
    if damage == "missing":
        (source / path).unlink()
    else:
        changed = {"changed": bytes([content[0] ^ 1]) + content[1:], "longer": content + b"x", "shorter": content[:-1]}
        (source / path).write_bytes(changed[damage])

    code, sentence = refusal(source, tmp_path / "data")

    assert code is ExitCode.STORE_DAMAGED
    assert path in sentence
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("changes", "code", "complaint"),
    [
        ({"format": 2}, ExitCode.FORMAT_UNKNOWN, "format 2"),
        ({"data_format": 9}, ExitCode.FORMAT_UNKNOWN, "data of format 9"),
        ({"files": 7}, ExitCode.STORE_DAMAGED, "is damaged"),
        ({"files": [{"path": "../elsewhere", "size": 0, "sha256": ""}]}, ExitCode.STORE_DAMAGED, "'../elsewhere'"),
        ({"files": [{"path": "/etc/passwd", "size": 0, "sha256": ""}]}, ExitCode.STORE_DAMAGED, "'/etc/passwd'"),
        ({"files": [{"path": "a/../../b", "size": 0, "sha256": ""}]}, ExitCode.STORE_DAMAGED, "'a/../../b'"),
        ({"files": [{"path": "", "size": 0, "sha256": ""}]}, ExitCode.STORE_DAMAGED, "''"),
    ],
)
def test_a_manifest_of_another_version_or_one_that_leads_elsewhere_is_refused(
    source: Path, tmp_path: Path, changes: dict[str, Any], code: ExitCode, complaint: str
) -> None:
    rewrite(source, **changes)

    found, sentence = refusal(source, tmp_path / "data")

    assert found is code
    assert complaint in sentence
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff"])
def test_what_has_no_sound_manifest_is_no_backup(source: Path, tmp_path: Path, content: bytes | None) -> None:
    (source / manifest.NAME).unlink()
    if content is not None:
        (source / manifest.NAME).write_bytes(content)

    code, sentence = refusal(source, tmp_path / "data")

    assert code is ExitCode.STORE_DAMAGED
    assert manifest.NAME in sentence


def test_what_is_not_there_is_no_backup(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing", tmp_path / "data")[0] is ExitCode.STORE_DAMAGED


@pytest.mark.parametrize("content", [b'{"ebbmq":"\xff"}', b'{"x":' + b"[" * 10_000, b"", b"[]"])
def test_a_manifest_that_is_none_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / manifest.NAME).write_bytes(content)

    with pytest.raises(StartRefused) as refused:
        manifest.read(tmp_path)

    assert refused.value.exit_code is ExitCode.STORE_DAMAGED


def test_a_directory_with_anything_in_it_is_refused_and_left_as_it_is(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "letters").write_bytes(b"dear")

    code, sentence = refusal(source, data)

    assert code is ExitCode.DATA_DIRECTORY_UNUSABLE
    assert "'letters'" in sentence
    assert below(data) == {"letters": b"dear"}


def test_a_directory_that_somebody_uses_is_refused(source: Path, tmp_path: Path) -> None:
    with DataLock.take(DataDirectory(tmp_path / "data")) as lock:
        lock.sign()
        code, sentence = refusal(source, tmp_path / "data")

    assert code is ExitCode.DATA_DIRECTORY_IN_USE
    assert f"process {os.getpid()}" in sentence


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)

    assert refusal(source, tmp_path / "closed" / "data")[0] is ExitCode.DATA_DIRECTORY_UNUSABLE


def test_what_could_not_be_restored_as_a_whole_is_taken_back(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between verification and copy a file vanished."""
    data = tmp_path / "data"
    data.mkdir()
    victim = source / "vhosts" / "1" / "queues" / "7" / "empty"
    verify = manifest.verify

    def verify_and_lose(*arguments: Any) -> None:
        verify(*arguments)
        victim.unlink()

    monkeypatch.setattr(manifest, "verify", verify_and_lose)

    code, sentence = refusal(source, data)

    assert code is ExitCode.DATA_DIRECTORY_UNUSABLE
    assert "empty" in sentence
    assert set(below(data)) <= {"lock"}
    assert not (data / "vhosts").exists()
