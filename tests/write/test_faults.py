"""Full disks, read-only folders and errors in the middle: one clear error, nothing half-written is left."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from write.drive_of_results import FACTS, drive

from perception_batch.errors import EXIT_RETRY, EXIT_USAGE, WriteError
from perception_batch.types import TimestepResult
from perception_batch.write import (
    JsonLinesWriter,
    Manifest,
    ResultTableWriter,
    Writer,
    WriterGroup,
    write_manifest,
)
from perception_batch.write import table_file as table_file_module
from perception_batch.write.atomic import AtomicFile, disk_errors, write_whole

OPENERS: dict[str, Callable[[Path], Writer]] = {
    "detections": lambda d: ResultTableWriter(d, FACTS, "detections"),
    "objects": lambda d: ResultTableWriter(d, FACTS, "objects"),
    "jsonl": lambda d: JsonLinesWriter(d, FACTS, "jsonl"),
    "jsonl.zst": lambda d: JsonLinesWriter(d, FACTS, "jsonl.zst"),
}


class FullDisk(io.RawIOBase):
    """A file on a disk with room for `room` bytes."""

    def __init__(self, room: int, code: int) -> None:
        self._room, self._code = room, code

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if size > self._room:
            raise OSError(self._code, os.strerror(self._code))
        self._room -= size
        return size

    def tell(self) -> int:
        return 0


def fill_disk(patch: pytest.MonkeyPatch, room: int, code: int = errno.ENOSPC) -> None:
    opened = AtomicFile.__init__

    def with_full_disk(self: AtomicFile, path: Path) -> None:
        opened(self, path)
        self.stream.close()
        self.stream = FullDisk(room, code)  # type: ignore[assignment]

    patch.setattr(AtomicFile, "__init__", with_full_disk)


@pytest.mark.parametrize("name", OPENERS)
@pytest.mark.parametrize("room", [0, 100, 2000])
@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, EXIT_RETRY), (errno.EROFS, EXIT_USAGE)])
def test_full_disk(
    name: str, room: int, code: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, room, code)
    monkeypatch.setattr(table_file_module, "TIMESTEPS_PER_GROUP", 4)
    with (
        pytest.raises(WriteError, match=r"disk is full|cannot write here") as caught,
        WriterGroup([lambda: OPENERS[name](tmp_path)]) as group,
    ):
        for result in drive(300):
            group.write(result)
    assert caught.value.exit_status == status
    assert list(tmp_path.iterdir()) == []  # the room is given back


def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:  # a folder without permission would not stop the superuser
        patch.setattr(Path, "open", refuse)
        for opener in OPENERS.values():
            with pytest.raises(WriteError, match="cannot write here") as caught:
                opener(tmp_path)
            assert caught.value.exit_status == EXIT_USAGE
        with pytest.raises(WriteError, match="cannot write here"):
            write_manifest(tmp_path, Manifest("d", "failed"))


def test_other_os_errors_stay_themselves(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output") as caught, disk_errors(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert not isinstance(caught.value, WriteError)


class Broken:
    """A writer that fails where it is told to."""

    def __init__(self, path: Path, *, write: int = -1, close: bool = False) -> None:
        self.path = path
        self._write, self._close = write, close
        self.closed = self.discarded = 0

    def write(self, result: TimestepResult) -> None:
        if result.index == self._write:
            raise WriteError("write failed")

    def close(self) -> None:
        self.closed += 1
        if self._close:
            raise WriteError("close failed")

    def discard(self) -> None:
        self.discarded += 1


@pytest.mark.parametrize("at", [0, 5, 9])
@pytest.mark.parametrize("error", [RuntimeError("stopped"), KeyboardInterrupt()])
def test_error_in_the_body_keeps_the_rows_so_far(tmp_path: Path, at: int, error: BaseException) -> None:
    broken = Broken(tmp_path / "x")
    openers = [*(lambda o=o: o(tmp_path) for o in OPENERS.values()), lambda: broken]
    with pytest.raises(type(error)), WriterGroup(openers) as group:
        for result in drive(10):
            if result.index == at:
                raise error
            group.write(result)
    assert broken.closed == 1
    assert sorted(p.suffix for p in tmp_path.iterdir() if p.suffix == ".partial") == []
    steps = set(pq.read_table(tmp_path / "detections.parquet")["timestep"].to_pylist())
    assert steps <= set(range(at))
    assert pq.read_table(tmp_path / "objects.parquet") is not None


@pytest.mark.parametrize("at", [0, 5, 9])
def test_a_writer_that_fails_does_not_keep_the_others_open(tmp_path: Path, at: int) -> None:
    first, last = Broken(tmp_path / "a", write=at), Broken(tmp_path / "b", close=True)
    openers = [lambda: first, lambda: OPENERS["detections"](tmp_path), lambda: last]
    with pytest.raises(WriteError, match="write failed"), WriterGroup(openers) as group:
        for result in drive(10):
            group.write(result)
    assert first.closed == last.closed == 1
    assert pq.read_table(tmp_path / "detections.parquet") is not None


def test_failing_closes_are_reported_and_all_closed(tmp_path: Path) -> None:
    writers = [Broken(tmp_path / "a", close=True), Broken(tmp_path / "b", close=True), Broken(tmp_path / "c")]
    with pytest.raises(WriteError, match="close failed"), WriterGroup([lambda w=w: w for w in writers]):
        pass
    assert [w.closed for w in writers] == [1, 1, 1]


def test_a_writer_that_does_not_open_removes_those_before_it(tmp_path: Path) -> None:
    def refuse() -> Writer:
        raise WriteError("does not open")

    with pytest.raises(WriteError, match="does not open"):
        WriterGroup([lambda: OPENERS["detections"](tmp_path), refuse]).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    write_whole(path, b"old")
    with monkeypatch.context() as patch:
        fill_disk(patch, 0)
        with pytest.raises(WriteError):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_writers_are_writers(tmp_path: Path) -> None:
    for opener in OPENERS.values():
        writer = opener(tmp_path)
        assert isinstance(writer, Writer)
        writer.discard()
        writer.close()  # does nothing any more
        with pytest.raises(ValueError, match="closed"):
            writer.write(drive(1)[0])
    assert list(tmp_path.iterdir()) == []
