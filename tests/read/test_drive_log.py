"""Whole logs of every container: all frames, once, in order; damaged ones give what they have."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_writer import START_NS, CameraSpec, Container, ring, still_bytes, write_log

from perception_batch.config import CameraConfig, ReadConfig
from perception_batch.errors import TopicNotFound
from perception_batch.read import open_log
from perception_batch.read.log import DriveLog
from perception_batch.types import EncodedFrame, RawPayload, StillPayload

CONTAINERS: list[Container] = ["mcap", "sqlite3", "bag1"]
SMALL = ReadConfig(head_s=0.3)
FLIPS = int(os.environ.get("FLIPS", "60"))


def frames_of(log: DriveLog, *args: int | None) -> list[EncodedFrame]:
    return [x for x in log.stream(log.select(None), *args) if isinstance(x, EncodedFrame)]


def key(frame: EncodedFrame) -> tuple[str, int, int, bytes]:
    return frame.camera, frame.stamp_ns, frame.log_ns, bytes(frame.payload.data)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("metadata", [True, False])
def test_every_frame_once_in_log_order(
    tmp_path: Path, container: Container, splits: int, metadata: bool
) -> None:
    cameras = [
        CameraSpec("front", drop=[2], log_delay_ms=[3, 40, 9]),
        CameraSpec("rear", phase_ms=20, encoding="png", format="jpeg"),
        CameraSpec("raw", encoding="rgb8", step_padding=7),
    ]
    path = write_log(
        tmp_path, container, cameras, frames=12, splits=splits, metadata=metadata, ego_speed_mps=5.0
    )
    before = state(tmp_path)
    with open_log([path], SMALL) as log:
        assert {n: c.count for n, c in log.cameras.items()} == {"front": 11, "rear": 12, "raw": 12}
        head = log.head(log.select(None))
        assert head.first_stamp_ns == START_NS
        assert not head.complete
        frames = frames_of(log)
        again = frames_of(log)
        assert log.losses == ()
    assert state(tmp_path) == before, "nothing is written beside the log"
    assert [key(f) for f in frames] == [key(f) for f in again]
    assert [f.log_ns for f in frames] == sorted(f.log_ns for f in frames)
    for spec in cameras:
        mine = [f for f in frames if f.camera == spec.name]
        kept = [i for i in range(12) if i not in set(spec.drop)]
        assert [f.stamp_ns for f in mine] == [spec.stamp_ns(i) for i in kept]
        assert [f.sequence for f in mine] == list(range(len(kept)))
        assert {(f.width_px, f.height_px, f.encoding, f.stamp_ok) for f in mine} == {
            (64, 48, spec.encoding, True)
        }
        for f, i in zip(mine, kept, strict=True):
            if isinstance(f.payload, StillPayload):
                from log_writer import picture

                assert bytes(f.payload.data) == still_bytes(spec, picture(spec, i))
            else:
                assert isinstance(f.payload, RawPayload)
                assert f.payload.step_bytes == 64 * 3 + 7


def read_so_far() -> int:
    if not sys.platform.startswith("linux"):
        pytest.skip("counts bytes by /proc/self/io")
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("encoding", ["jpeg", "rgb8"])
@pytest.mark.parametrize("splits", [1, 2])
def test_each_byte_is_read_once_and_at_most_one_per_cent_again(
    tmp_path: Path, container: Container, encoding: str, splits: int
) -> None:
    """One reading of everything, the fingerprint (0.5 %) included: images of 75 KB (jpeg) and 230 KB (rgb8)."""
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 255, (240, 320, 3), dtype=np.uint8) for _ in range(4)]
    cameras = ring(3, size=(320, 240), encoding=encoding, draw=lambda spec, i: noise[i % 4])
    frames = 150 if encoding == "jpeg" else 50
    path = write_log(tmp_path, container, cameras, frames=frames, ego_speed_mps=5.0, splits=splits)
    files = [p for p in [path, *tmp_path.rglob("*")] if p.suffix in (".bag", ".mcap", ".db3") and p.is_file()]
    size = sum(p.stat().st_size for p in set(files))
    assert size > 30_000_000
    config = ReadConfig(head_mb=5)
    for attempt in range(2):  # the first one imports modules
        before = read_so_far()
        with open_log([path], config) as log:
            names = log.select(None)
            log.head(names)
            assert len(log.rig(names).cameras) == 3
            count = sum(isinstance(x, EncodedFrame) for x in log.stream(names))
            log.fingerprint()
        read = read_so_far() - before
        assert count == 3 * frames
        if attempt:
            assert 0.97 * size < read <= 1.01 * size


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.none() | st.integers(-500, 32_000),
    stop=st.none() | st.integers(-500, 32_000),
    which=st.sampled_from(CONTAINERS),
)
def test_a_range_is_a_filter_on_stamps(
    tmp_path_factory: pytest.TempPathFactory, start: int | None, stop: int | None, which: Container
) -> None:
    base = tmp_path_factory.getbasetemp() / "ranges"
    path = base / which / ("log.bag" if which == "bag1" else "log")
    cameras = [
        CameraSpec("a", rate_hz=2, log_delay_ms=[5, 300, 800]),
        CameraSpec("b", rate_hz=3, phase_ms=77, log_delay_ms=1500),
    ]
    if not path.exists():
        write_log(base / which, which, cameras, frames=60, ego_speed_mps=2, ego_rate_hz=5)
    low = None if start is None else START_NS + start * 1_000_000
    high = None if stop is None else START_NS + stop * 1_000_000
    with open_log([path], ReadConfig(head_s=2)) as log:
        part = [key(f) for f in frames_of(log, low, high)]
        whole = [
            key(f)
            for f in frames_of(log)
            if (low is None or f.stamp_ns >= low) and (high is None or f.stamp_ns < high)
        ]
    assert part == whole


def test_a_late_start_does_not_read_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_log(tmp_path, "mcap", [CameraSpec("a", rate_hz=1)], frames=100)
    with open_log([path], ReadConfig(head_s=2)) as log:
        names = log.select(None)
        log.head(names)
        seen: list[int] = []
        original = log._files.opened[0].messages

        def spy(*args: object) -> object:
            for message in original(*args):  # type: ignore[arg-type]
                seen.append(message.log_ns)
                yield message

        monkeypatch.setattr(log._files.opened[0], "messages", spy)
        frames = frames_of(log, START_NS + 80 * 10**9, START_NS + 90 * 10**9)
    assert len(frames) == 10
    assert len(seen) < 60, "ten seconds and a margin, image and CameraInfo"


def test_clock_and_bad_stamps(tmp_path: Path) -> None:
    stamps = [START_NS + i * 10**8 for i in range(10)]
    one_bad = [0 if i == 3 else 2 * 10**18 if i == 5 else s for i, s in enumerate(stamps)]
    cameras = [
        CameraSpec("good", log_delay_ms=15),
        CameraSpec("zero", stamps_ns=[0] * 10),
        CameraSpec("some", stamps_ns=one_bad),
        CameraSpec("late", log_delay_ms=3),
    ]
    path = write_log(tmp_path, "bag1", cameras)
    config = {"late": CameraConfig(stamp_offset_ms=-12.5), "good": CameraConfig(rename="best")}
    with open_log([path], ReadConfig(), config) as log:
        head = log.head(log.select(None))
        frames = frames_of(log)
    assert {n: h.clock for n, h in head.cameras.items()} == {
        "best": "header", "zero": "log", "some": "header", "late": "header"
    }  # fmt: skip
    assert head.cameras["best"].skew_ns == 15_000_000
    assert head.first_stamp_ns == START_NS - 12_500_000
    assert len(head.cameras["some"].stamps_ns) == 8
    by_camera = {n: [f for f in frames if f.camera == n] for n in head.cameras}
    assert all(f.stamp_ns == f.log_ns and f.stamp_ok for f in by_camera["zero"])
    assert [f.stamp_ns for f in by_camera["some"]] == one_bad
    assert [i for i, f in enumerate(by_camera["some"]) if not f.stamp_ok] == [3, 5]
    assert [f.original_stamp_ns for f in by_camera["late"]] == stamps
    assert [f.stamp_ns for f in by_camera["late"]] == [s - 12_500_000 for s in stamps]
    with open_log([path], ReadConfig(clock="log")) as log:
        assert {h.clock for h in log.head(log.select(None)).cameras.values()} == {"log"}
    with open_log([path], ReadConfig(clock="header")) as log:
        zero = [f for f in frames_of(log) if f.camera == "zero"]
        assert [f.stamp_ok for f in zero] == [False] * 10


def test_depth_by_encoding_and_nameless_topic(tmp_path: Path) -> None:
    cameras = [
        CameraSpec("x", topic="/image_raw/compressed", frame_id="front_optical"),
        CameraSpec("tof", topic="/tof/image_raw", encoding="16UC1", info=False),
    ]
    path = write_log(tmp_path, "sqlite3", cameras)
    with open_log([path]) as log:
        assert list(log.cameras) == ["front_optical", "tof"]
        assert log.select(None) == ("front_optical",)
        assert log.cameras["tof"].why_not.startswith("depth")
        assert len(frames_of(log)) == 10
        assert log.select(["tof"]) == ("tof",)
        assert len(list(log.stream(["tof"]))) == 10
        with pytest.raises(TopicNotFound, match="no camera named rear; it has: front_optical, tof"):
            log.select(["rear"])
    with open_log([path], ReadConfig(), {"near": CameraConfig(topic="/tof/image_raw")}) as log:
        assert log.select(None) == ("front_optical", "near")


@pytest.mark.parametrize("container", ["mcap", "sqlite3"])
@pytest.mark.parametrize("bare", [False, True])
def test_messages_compressed_one_by_one(tmp_path: Path, container: Container, bare: bool) -> None:
    path = write_log(tmp_path, container, [CameraSpec("a")], compress_messages=True)
    if bare:
        path = next(p for p in path.iterdir() if p.suffix != ".yaml")
    with open_log([path]) as log:
        assert [f.width_px for f in frames_of(log)] == [64] * 10
        assert list(log.rig(["a"]).cameras) == ["a"]


def test_wal_beside_a_database_is_read_and_left_alone(tmp_path: Path) -> None:
    path = write_log(tmp_path, "sqlite3", [CameraSpec("a")])
    file = path / "log.db3"
    writer = sqlite3.connect(file)
    writer.execute("PRAGMA journal_mode=WAL")
    rows = writer.execute("SELECT topic_id, timestamp, data FROM messages").fetchall()
    writer.execute("PRAGMA wal_autocheckpoint=0")
    writer.executemany(
        "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)",
        [(topic, stamp + 10**10, data) for topic, stamp, data in rows],
    )
    writer.commit()
    killed = tmp_path / "killed"
    shutil.copytree(path, killed)  # as a killed recorder leaves it: database and -wal
    writer.close()
    (killed / "log.db3-shm").unlink(missing_ok=True)
    assert (killed / "log.db3-wal").stat().st_size > 0
    before = state(killed)
    with open_log([killed]) as log:
        assert len(frames_of(log)) == 20
    assert state(killed) == before
    clean = state(path)  # closed well, but still in WAL mode
    with open_log([path]) as log:
        assert len(frames_of(log)) == 20
    assert state(path) == clean


def test_a_path_that_is_a_uri_trap(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=rw#%41 b"
    write_log(tmp_path, "sqlite3", [CameraSpec("a")]).rename(path)
    with open_log([path]) as log:
        assert len(frames_of(log)) == 10


def test_foreign_schema_beside_the_cameras(tmp_path: Path) -> None:
    """One protobuf channel in a ros2 MCAP must not lose the cameras (rosbags alone refuses the file)."""
    path = write_log(tmp_path, "mcap", [CameraSpec("a", encoding="png")], odometry=True)
    file = path / "log.mcap"
    data = file.read_bytes()
    at = data.rindex(b"nav_msgs/msg/Odometry\x07\0\0\0ros2msg")
    name = len(b"nav_msgs/msg/Odometry") + 4
    file.write_bytes(data[: at + name] + b"protobf" + data[at + name + 7 :])
    with open_log([path]) as log:
        assert len(frames_of(log)) == 10


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    path = write_log(tmp_path / "one", "mcap", [CameraSpec("a")])
    other = write_log(tmp_path / "two", "mcap", [CameraSpec("a", drop=[4])])
    moved = tmp_path / "moved"
    shutil.copytree(path, moved)
    prints = []
    for p in (path, moved, other):
        with open_log([p]) as log:
            prints.append(log.fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_the_head_is_bounded(tmp_path: Path) -> None:
    cameras = [CameraSpec("a", size=(320, 240), encoding="rgb8")]
    path = write_log(tmp_path, "mcap", cameras, frames=30)
    with open_log([path], ReadConfig(head_mb=1)) as log:
        head = log.head(["a"])
        assert len(head.cameras["a"].stamps_ns) == 5
        assert log._tape is not None
        assert log._tape.kept_bytes < 1_300_000
        assert len(frames_of(log)) == 30


def test_a_definition_that_cannot_be_parsed_gives_way_to_the_stock_one(tmp_path: Path) -> None:
    path = write_log(tmp_path, "mcap", [CameraSpec("a")])
    file = path / "log.mcap"
    data = file.read_bytes()
    assert data.count(b"float64[9] k") >= 2
    file.write_bytes(data.replace(b"float64[9] k", b"float64[9( k"))
    with open_log([path]) as log:
        assert list(log.rig(["a"]).cameras) == ["a"]


def test_a_camera_that_begins_after_the_head(tmp_path: Path) -> None:
    late = CameraSpec("late", phase_ms=5000)
    path = write_log(tmp_path, "bag1", [CameraSpec("a"), late], frames=20)
    with open_log([path], SMALL) as log:
        head = log.head(log.select(None))
        assert (head.cameras["late"].clock, head.cameras["late"].width_px) == ("header", 64)
        assert list(log.rig(["a", "late"]).cameras) == ["a", "late"]
        assert [f.stamp_ns for f in frames_of(log) if f.camera == "late"] == [
            late.stamp_ns(i) for i in range(20)
        ]


@pytest.mark.parametrize("container", CONTAINERS)
def test_streaming_in_another_thread_and_stopping_early(tmp_path: Path, container: Container) -> None:
    path = write_log(tmp_path, container, [CameraSpec("a")], frames=30)
    with open_log([path], SMALL) as log:
        names = log.select(None)
        log.rig(names)
        with ThreadPoolExecutor(1) as pool:
            assert len(pool.submit(lambda: list(log.stream(names))).result()) == 30
        half = log.stream(names)
        next(half)
    with open_log([path], SMALL) as log:
        half = log.stream(names)
        next(half)
        half.close()  # type: ignore[attr-defined]
