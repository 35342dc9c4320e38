"""Which files of a folder are the log, whatever its metadata says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
import zstandard
from log_writer import CameraSpec, write_log

from perception_batch.errors import LogError
from perception_batch.read import open_log
from perception_batch.read.containers.discover import discover
from perception_batch.runs import find_drives
from perception_batch.types import EncodedFrame


def names(folder: Path) -> list[str]:
    return [path.name for path in discover([folder]).files]


def tree(folder: Path, *files: str, metadata: object = None) -> Path:
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).write_bytes(b"x")
    if metadata is not None:
        text = yaml.safe_dump({"rosbag2_bagfile_information": metadata})
        (folder / "metadata.yaml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "listed", "found"),
    [
        (["a_0.mcap", "a_1.mcap"], ["a_0.mcap", "a_1.mcap"], ["a_0.mcap", "a_1.mcap"]),
        (["a_0.mcap.zst"], ["a_0.mcap"], ["a_0.mcap.zst"]),
        (["a_0.mcap"], ["a_0.mcap.zstd"], ["a_0.mcap"]),
        (["a_0.db3", "a_0.db3.zstd"], ["a_0.db3.zstd"], ["a_0.db3.zstd"]),
        (["a_0.db3", "a_0.db3.zstd"], None, ["a_0.db3"]),
        # a recorder that was killed before it listed its last split; a converted copy is no split
        (["a_0.mcap", "a_1.mcap", "copy.mcap"], ["a_0.mcap"], ["a_0.mcap", "a_1.mcap"]),
        (["other.mcap"], ["a_0.mcap"], ["other.mcap"]),
        (["../x.mcap"[3:], "a.mcap"], ["../../x.mcap", "..", "", None, 3, ["x"]], ["x.mcap"]),
        (["a_0.bag", "a_1.bag.active"], None, ["a_0.bag", "a_1.bag.active"]),
        (["a.bag", "a.orig.bag", "b.orig.bag"], None, ["a.bag", "b.orig.bag"]),
        (["a.bag.active", "a.bag.orig.active"], None, ["a.bag.active"]),
        (["a.bag", "a.bag.active", "a.bag.lz4"], None, ["a.bag"]),
    ],
)
def test_files_of_a_folder(tmp_path: Path, files: list[str], listed: object, found: list[str]) -> None:
    metadata = None if listed is None else {"relative_file_paths": listed}
    assert names(tree(tmp_path / "log", *files, metadata=metadata)) == found


HOSTILE = {
    "nested": "[" * 200_000,
    "nested_blocks": "- " * 200_000,
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefghi", "bcdefghij", strict=True)
    )
    + "rosbag2_bagfile_information: {relative_file_paths: *j, compression_mode: *j}",
    "merges": "a: &a {x: 1}\n"
    + "".join(
        f"{c}: &{c} {{<<: [{','.join([f'*{p}'] * 9)}]}}\n"
        for p, c in zip("abcdefghi", "bcdefghij", strict=True)
    ),
    "objects": "rosbag2_bagfile_information: !!python/object/apply:os.system ['false']",
    "numbers": "rosbag2_bagfile_information: {topics_with_message_count: [{topic_metadata: {name: /a}, "
    f"message_count: {'9' * 5000}}}], files: [3, null]}}",
    "large": "x" * (17 << 20),
    "binary": "\0\1\2\x7f",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_metadata_does_not_lose_the_files(tmp_path: Path, what: str) -> None:
    path = write_log(tmp_path, "mcap", [CameraSpec("a")], frames=3)
    (path / "metadata.yaml").write_text(HOSTILE[what])
    with open_log([path]) as log:
        assert sum(isinstance(x, EncodedFrame) for x in log.stream(["a"])) == 3


@pytest.mark.parametrize("container", ["mcap", "sqlite3"])
@pytest.mark.parametrize("listed", [True, False])
def test_files_that_are_packed_as_a_whole(tmp_path: Path, container: str, listed: bool) -> None:
    path = write_log(tmp_path, container, [CameraSpec("a")], frames=20, splits=2)  # type: ignore[arg-type]
    for file in [p for p in path.iterdir() if p.suffix != ".yaml"]:
        file.with_name(file.name + ".zstd").write_bytes(zstandard.compress(file.read_bytes()))
        file.unlink()
    loaded = yaml.safe_load((path / "metadata.yaml").read_text())
    info = loaded["rosbag2_bagfile_information"]
    info["compression_mode"], info["compression_format"] = "FILE", "zstd"
    if listed:
        info["relative_file_paths"] = [name + ".zstd" for name in info["relative_file_paths"]]
    (path / "metadata.yaml").write_text(yaml.safe_dump(loaded))
    with open_log([path]) as log:
        assert sum(isinstance(x, EncodedFrame) for x in log.stream(["a"])) == 20
        assert log.losses == ()


def test_a_bag_that_was_never_closed_beside_its_other_splits(tmp_path: Path) -> None:
    folder = write_log(tmp_path, "bag1", [CameraSpec("a")], frames=30, splits=3)
    last = folder / "log_2.bag"
    data = bytearray(last.read_bytes())
    at = data.index(b"index_pos=") + 10
    end = int.from_bytes(data[at : at + 8], "little")
    data[at : at + 8] = bytes(8)
    last.unlink()
    (folder / "log_2.bag.active").write_bytes(data[:end])
    (drive,) = find_drives([folder])
    assert drive.name == "log"
    assert [p.name for p in drive.paths] == ["log_0.bag", "log_1.bag", "log_2.bag.active"]
    with open_log(drive.paths) as log:
        assert sum(isinstance(x, EncodedFrame) for x in log.stream(["a"])) == 30
        assert [(loss.topic, loss.count) for loss in log.losses] == [("*", 0)]
        assert "never closed" in log.losses[0].reason


def test_a_folder_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="holds no log"):
        names(tree(tmp_path / "log", "notes.txt", "a.zst"))
