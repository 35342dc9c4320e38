"""Logs that are damaged, cut short or no logs at all: a clear error, or what they have and a counted loss."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from log_writer import START_NS, CameraSpec, Container, Extra, write_log

from perception_batch.config import ReadConfig
from perception_batch.errors import LogError, PerceptionBatchError
from perception_batch.read import open_log
from perception_batch.read.log import DriveLog
from perception_batch.types import EncodedFrame

CONTAINERS: list[Container] = ["mcap", "sqlite3", "bag1"]
SMALL = ReadConfig(head_s=0.3)
FLIPS = int(os.environ.get("FLIPS", "60"))


def frames_of(log: DriveLog, *args: int | None) -> list[EncodedFrame]:
    return [x for x in log.stream(log.select(None), *args) if isinstance(x, EncodedFrame)]


def test_broken_images_and_messages_are_still_frames(tmp_path: Path) -> None:
    cameras = [
        CameraSpec("jpeg", broken=[1], malformed=[2]),
        CameraSpec("raw", encoding="bgr8", broken=[1], malformed=[2]),
    ]
    with open_log([write_log(tmp_path, "mcap", cameras, frames=4)]) as log:
        frames = frames_of(log)
    for name, encoding in (("jpeg", "jpeg"), ("raw", "bgr8")):
        mine = [f for f in frames if f.camera == name]
        assert [f.encoding for f in mine] == [encoding, encoding, "unknown", encoding]
        assert (mine[2].width_px, mine[2].payload.reason, mine[2].stamp_ok) == (0, "broken_message", True)
        assert mine[2].stamp_ns == START_NS + 200_000_000


def test_a_compression_bomb_is_one_lost_message(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    bomb = zstandard.compress(bytes(50_000_000))
    bombs = [Extra("/bomb/image_raw", START_NS + 5 * 10**8, bomb, "sensor_msgs/msg/Image")]
    path = write_log(tmp_path, "mcap", [CameraSpec("a")], extra=bombs)
    with open_log([path], ReadConfig(max_image_mpx=1)) as log:
        frames = frames_of(log)
        assert len(frames) == 10
        lost = {loss.topic: loss.count for loss in log.losses}
        assert lost == {"/bomb/image_raw": 1}
        assert "claims 50000000 bytes" in log.losses[0].reason


def test_absent_splits_are_losses(tmp_path: Path) -> None:
    path = write_log(tmp_path, "mcap", [CameraSpec("a"), CameraSpec("b")], frames=30, splits=3)
    whole = open_log([path])
    total = len(frames_of(whole))
    whole.close()
    (path / "log_1.mcap").unlink()
    with open_log([path]) as log:
        frames = frames_of(log)
        lost = {loss.topic: loss for loss in log.losses}
    assert len(frames) + sum(lost[f"/{n}/image_raw/compressed"].count for n in "ab") == total == 60
    loss = lost["/a/image_raw/compressed"]
    assert START_NS < loss.start_ns < loss.stop_ns < START_NS + 3 * 10**9
    assert "log_1.mcap" in loss.reason


def test_an_unreadable_file_of_several_is_a_loss(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "bags", "bag1", [CameraSpec("a")], frames=30, splits=3)
    middle = folder / "log_1.bag"
    middle.write_bytes(bytes(2000) + middle.read_bytes()[2000:])
    with open_log(sorted(folder.glob("*.bag"))) as log:
        assert 15 < len(frames_of(log)) < 25
        assert [loss.topic for loss in log.losses] == ["*"]
        assert "log_1.bag" in log.losses[0].reason


@pytest.mark.parametrize(("container", "mark"), [("mcap", b"\x28\xb5\x2f\xfd"), ("bag1", b"BZh9")])
def test_a_broken_chunk_keeps_what_came_and_counts_the_rest(
    tmp_path: Path, container: Container, mark: bytes
) -> None:
    rng = np.random.default_rng(2)
    noise = [rng.integers(0, 255, (240, 320, 3), dtype=np.uint8) for _ in range(3)]
    spec = CameraSpec("a", size=(320, 240), encoding="rgb8", draw=lambda s, i: noise[i % 3])
    path = write_log(tmp_path, container, [spec], frames=40, compress_chunks=True)
    file = path if path.is_file() else path / "log.mcap"
    data = bytearray(file.read_bytes())
    chunk = data.index(mark, len(data) // 2)
    data[chunk : chunk + 12] = bytes(12)
    file.write_bytes(data)
    with open_log([file], SMALL) as log:
        frames = frames_of(log)
        lost = {loss.topic: loss for loss in log.losses}
    assert 25 < len(frames) < 40
    loss = lost["/a/image_raw"]
    assert len(frames) + loss.count == 40, "what the index lists is there or lost"
    gap = [a.log_ns for a, b in pairwise(frames) if b.log_ns - a.log_ns > 150_000_000]
    assert len(gap) == 1, "the chunks after it are read"
    assert gap[0] <= loss.start_ns < loss.stop_ns
    assert "chunk" in loss.reason


def test_a_message_that_cannot_be_parsed_is_counted(tmp_path: Path) -> None:
    bad = [Extra("/tf", START_NS + 10**8, b"\0\1\0\0\xff\xff\xff\xff", "tf2_msgs/msg/TFMessage")]
    path = write_log(tmp_path, "mcap", [CameraSpec("a")], extra=bad, ego_speed_mps=3)
    with open_log([path]) as log:
        out = list(log.stream(log.select(None)))
        assert sum(isinstance(x, EncodedFrame) for x in out) == 10
        assert sum(not isinstance(x, EncodedFrame) for x in out) > 30
        assert [(loss.topic, loss.count) for loss in log.losses] == [("/tf", 1)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.bag", b"", "empty"),
        ("text.mcap", b"hello, this is a text file\n" * 10, "not a log"),
        ("cut.bag", b"#ROSBAG V2.0\n", "damaged or cut off"),
        ("old.bag", b"#ROSBAG V1.2\n" + bytes(100), "version"),
        ("cut.mcap", b"\x89MCAP0\r\n\x01", "damaged or cut off"),
        ("odd.db3", b"SQLite format 3\0" + bytes(100), "damaged or cut off"),
        ("film.mp4", b"\0\0\0\x20ftypisom" + bytes(40), "damaged or cut off"),
        ("log.mcap.zstd", b"\x28\xb5\x2f\xfd" + bytes(20), "unpack"),
    ],
)
def test_what_is_no_log_is_one_clear_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LogError, match=says) as caught:
        open_log([path])
    assert "\n" not in str(caught.value)


def test_paths_without_logs(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no such file"):
        open_log([tmp_path / "nope"])
    with pytest.raises(LogError, match="holds no log"):
        open_log([tmp_path])
    with pytest.raises(LogError):
        open_log([])
    path = write_log(tmp_path, "mcap", [], odometry=True)
    with pytest.raises(LogError, match=r"no camera topic.*/odom \(nav_msgs/msg/Odometry\)"):
        open_log([path])
    (path / "log.mcap").unlink()
    with pytest.raises(LogError, match="none of the files"):
        open_log([path])
    (path / "metadata.yaml").write_text("rosbag2_bagfile_information: {compression_mode: FILE}")
    with pytest.raises(LogError, match="holds no log"):
        open_log([path])


@pytest.mark.parametrize("text", ["", "[]", "a: [", "rosbag2_bagfile_information: 3", "\0", "x: *y"])
def test_damaged_metadata_does_not_lose_the_files(tmp_path: Path, text: str) -> None:
    path = write_log(tmp_path, "sqlite3", [CameraSpec("a")])
    (path / "metadata.yaml").write_text(text)
    with open_log([path]) as log:
        assert len(frames_of(log)) == 10


@pytest.mark.parametrize("container", CONTAINERS)
def test_cut_anywhere_is_a_clear_error_or_frames(tmp_path: Path, container: Container) -> None:
    path = write_log(tmp_path, container, [CameraSpec("a", encoding="png")], frames=3)
    file = path if path.is_file() else next(p for p in path.iterdir() if p.suffix != ".yaml")
    data = file.read_bytes()
    for share in (0.02, 0.2, 0.5, 0.9, 0.99, 0.999):
        cut = tmp_path / f"cut{share}{file.suffix}"
        cut.write_bytes(data[: int(len(data) * share)])
        try:
            with open_log([cut]) as log:
                frames_of(log)
        except LogError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("container", CONTAINERS)
def test_flipped_bytes_are_a_clear_error_or_frames(tmp_path: Path, container: Container) -> None:
    cameras = [CameraSpec("a", size=(16, 16)), CameraSpec("b", size=(8, 8), encoding="mono8")]
    path = write_log(tmp_path, container, cameras, frames=3, ego_speed_mps=1.0, ego_rate_hz=10)
    file = path if path.is_file() else next(p for p in path.iterdir() if p.suffix != ".yaml")
    data = file.read_bytes()
    for seed in range(FLIPS):
        rng = np.random.default_rng(seed)
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 8):
            broken[at] = rng.integers(0, 256)
        target = tmp_path / f"broken{file.suffix}"
        target.write_bytes(broken)
        try:
            with open_log([target]) as log:
                names = log.select(None)
                log.rig(names)
                for item in log.stream(names):
                    assert -(2**63) <= item.stamp_ns < 2**63
        except PerceptionBatchError as error:
            assert "\n" not in str(error)
