"""What tells one recording from another from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perception_batch.runs import fingerprint
from perception_batch.runs.fingerprint import Content, content_of, size_of

SIZE, PART = 8 << 20, (8 << 20) // 400


def seen(*paths: Path) -> Content:
    found = content_of(paths)
    assert found is not None
    return found


def big(path: Path, size: int = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(16) + bytes(size - 16))
    return path


@pytest.mark.parametrize(
    ("at", "tells"), [(0, True), (PART - 1, True), (SIZE - PART, True), (SIZE - 1, True), (SIZE // 2, False)]
)
def test_both_ends_tell_and_the_middle_is_not_read(tmp_path: Path, at: int, tells: bool) -> None:
    path = big(tmp_path / "a.mcap")
    before = seen(path)
    with path.open("r+b") as stream:
        stream.seek(at)
        (was,) = stream.read(1)
        stream.seek(at)
        stream.write(bytes([was ^ 0xFF]))  # the first bytes are random: any fixed one may be there already
    assert (seen(path).fingerprint != before.fingerprint) == tells


def test_size_tells_time_and_place_do_not(tmp_path: Path) -> None:
    path = big(tmp_path / "a.mcap")
    before = seen(path)
    os.utime(path, (1, 1))
    path = path.rename(tmp_path / "b.mcap")
    after = seen(path)
    assert after.fingerprint == before.fingerprint
    assert (after.modified_s, after.size_bytes, after.files) == (1.0, SIZE, 1)
    with path.open("ab") as stream:
        stream.write(b"\0")
    assert seen(path).fingerprint != before.fingerprint


@pytest.mark.parametrize("name", ["a.db3-wal", "a.start_ns", "a.stamps.csv"])
def test_what_belongs_to_a_file_counts(tmp_path: Path, name: str) -> None:
    path = big(tmp_path / "a.db3", 100)
    before = seen(path).fingerprint
    (tmp_path / "a.truth.json").write_text("{}")
    (tmp_path / "ab.start_ns").write_text("1")
    assert seen(path).fingerprint == before
    (tmp_path / name).write_text("1")
    one = seen(path).fingerprint
    (tmp_path / name).write_text("2")
    assert len({before, one, seen(path).fingerprint}) == 3


def test_a_folder_is_all_that_is_below_it(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    for name in ("metadata.yaml", "b_0.mcap", "deep/er/b_1.mcap"):
        big(folder / name, 100)
    before = seen(folder)
    assert (before.files, before.size_bytes, size_of([folder])) == (3, 300, 300)
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(folder / "pipe")
    assert seen(folder) == before
    (folder / "b_0.mcap").rename(folder / "c_0.mcap")
    assert seen(folder).fingerprint != before.fingerprint


def test_of_many_files_some_are_opened_and_all_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "MOST_ENDS", 4)
    for i in range(10):
        (tmp_path / "images" / "cam").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / "cam" / f"{i}.jpg").write_bytes(bytes(100))
    before = seen(tmp_path / "images").fingerprint
    (tmp_path / "images" / "cam" / "7.jpg").write_bytes(bytes(101))
    assert seen(tmp_path / "images").fingerprint != before
    monkeypatch.setattr(fingerprint, "MOST_FILES", 9)
    with pytest.raises(OSError, match="more than 9 files"):
        content_of([tmp_path / "images"])


def test_what_is_not_there_is_an_error_and_a_url_is_not_looked_at(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        content_of([tmp_path / "none.bag"])

    class Url:
        """As the paths of URLs are: the methods of a `Path` without being one."""

    assert content_of([Url()]) is None  # type: ignore[list-item]
