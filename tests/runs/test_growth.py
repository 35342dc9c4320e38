"""A drive is taken when it has stopped growing, whatever the clock of the wall does."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from log_writer import CameraSpec, write_log

from perception_batch.runs.growth import GrowthWatcher, Look, look_at

OPEN, CLOSED = Look((("a", 1),), False), Look((("a", 1),), True)


def test_the_waits() -> None:
    watcher = GrowthWatcher(quiet_s=10, unclosed_s=100)
    assert watcher.observe("a", CLOSED, 0) == "growing"
    assert watcher.observe("a", CLOSED, 9.9) == "quiet"
    assert watcher.observe("a", CLOSED, 10) == "ready"
    assert watcher.observe("a", Look((("a", 2),), True), 11) == "growing"
    assert watcher.observe("a", Look((("a", 2),), True), 20) == "quiet"
    assert watcher.observe("b", OPEN, 0) == "growing"
    assert watcher.observe("b", OPEN, 10) == "open"
    assert watcher.observe("b", OPEN, 99) == "open"
    assert watcher.observe("b", OPEN, 100) == "ready"
    watcher.forget({"a"})
    assert watcher.observe("b", OPEN, 101) == "growing"


def test_a_clock_that_went_back_starts_nothing_early() -> None:
    watcher = GrowthWatcher(quiet_s=10, unclosed_s=100)
    watcher.observe("a", CLOSED, 1000)
    assert watcher.observe("a", CLOSED, 5) == "quiet"
    assert watcher.observe("a", CLOSED, 14.9) == "quiet"
    assert watcher.observe("a", CLOSED, 15) == "ready"


def test_without_a_wait_what_is_closed_is_taken_at_once() -> None:
    assert GrowthWatcher(0, 100).observe("a", CLOSED, 0) == "ready"
    assert GrowthWatcher(0, 100).observe("a", OPEN, 0) == "growing"


@pytest.mark.parametrize("container", ["bag1", "mcap", "sqlite3"])
def test_real_logs_are_closed_and_cut_ones_are_not(tmp_path: Path, container: str) -> None:
    log = write_log(tmp_path / "log", container, [CameraSpec("front")], frames=5)  # type: ignore[arg-type]
    assert look_at([log]).closed
    file = next(
        p for p in (log.rglob("*") if log.is_dir() else [log]) if p.suffix in (".bag", ".mcap", ".db3")
    )
    whole = file.read_bytes()
    if container == "bag1":
        at = whole.index(b"index_pos=") + 10
        file.write_bytes(whole[:at] + bytes(8) + whole[at + 8 :])
    elif container == "mcap":
        file.write_bytes(whole[:-20])
    else:
        file.with_name(file.name + "-wal").write_bytes(b"not yet")
    assert not look_at([log]).closed
    if log.is_dir():
        file.write_bytes(whole)
        file.with_name(file.name + "-wal").unlink(missing_ok=True)
        assert look_at([log]).closed
        (log / "metadata.yaml").unlink()
        assert not look_at([log]).closed


def test_a_database_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "a.db3"
    base = sqlite3.connect(path)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("CREATE TABLE a (b)")
    base.commit()
    assert not look_at([path]).closed
    base.close()
    assert look_at([path]).closed


@pytest.mark.parametrize(
    ("name", "data", "closed"),
    [
        ("a.bag.active", b"#ROSBAG V2.0\n", False),
        ("a.mcap", b"", False),
        ("a.mp4.part", b"x", False),
        ("a.mp4", b"x", True),
        ("a.mcap", b"\x89MCAP0\r\n", False),
        ("a.mcap", b"odd", True),
    ],
)
def test_single_files(tmp_path: Path, name: str, data: bytes, closed: bool) -> None:
    (tmp_path / name).write_bytes(data)
    assert look_at([tmp_path / name]).closed == closed


def test_a_file_that_has_gone_is_a_change_and_new_ones_are_too(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(b"x")
    before = look_at([folder])
    assert before.closed
    (folder / "1.jpg").write_bytes(b"")
    assert look_at([folder]) != before
    gone = look_at([tmp_path / "none.bag"])
    assert not gone.closed
    assert gone.sizes == ((str(tmp_path / "none.bag"), -1),)
