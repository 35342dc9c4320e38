"""Stamps of a trigger topic, of any type and serialisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from log_writer import START_NS, CameraSpec, Container, Extra, message_types, write_log
from simulate.flat_stage import flat_stage

from perception_batch.read import DriveLog, open_log
from perception_batch.read.containers.logfile import Channel
from perception_batch.read.trigger import TriggerReader
from perception_batch.simulate.drive import simulate
from perception_batch.simulate.settings import SimulateSettings
from perception_batch.types import Trigger

MS = 1_000_000
CONTAINERS: tuple[Container, ...] = ("mcap", "sqlite3", "bag1")


def header(types: Any, container: str, stamp_ns: int, frame: str = "lidar") -> Any:
    time = types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
    make = types["std_msgs/msg/Header"]
    return make(7, time, frame) if container == "bag1" else make(time, frame)


def message(types: Any, container: str, kind: str, stamp_ns: int) -> Any:
    head = header(types, container, stamp_ns)
    if kind == "Header":
        return head
    if kind == "Time":
        time = types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
        return types["std_msgs/msg/Time"](time) if container == "bag1" else time
    if kind == "TimeReference":
        device = types["builtin_interfaces/msg/Time"](5, 6)
        return types["sensor_msgs/msg/TimeReference"](head, device, "gps")
    if kind == "PointCloud2":
        points = np.zeros(160, np.uint8)
        return types["sensor_msgs/msg/PointCloud2"](head, 1, 10, [], False, 16, 160, points, True)
    return types["std_msgs/msg/String"]("go")


def log_with(folder: Path, container: Container, kind: str, stamps: list[int], late_ns: int = 4 * MS) -> Path:
    types = message_types(container).types
    extras = [Extra("/trigger", s + late_ns, message(types, container, kind, s)) for s in stamps]
    return write_log(
        folder, container, [CameraSpec("a"), CameraSpec("b", phase_ms=7)], frames=20, extra=extras
    )


def triggers(log: DriveLog) -> list[tuple[int, int]]:
    found = [item for item in log.stream(log.select(None)) if isinstance(item, Trigger)]
    return [(item.stamp_ns, item.log_ns) for item in found]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", ["Header", "Time", "TimeReference", "PointCloud2"])
def test_the_stamp_in_the_message(tmp_path: Path, container: Container, kind: str) -> None:
    stamps = [START_NS + i * 100 * MS - 3 * MS for i in range(20)]
    with open_log([log_with(tmp_path, container, kind, stamps)], trigger_topic="/trigger") as log:
        head = log.head(log.select(None))
        assert head.triggers_ns == tuple((s, s + 4 * MS) for s in stamps)
        assert triggers(log) == [(s, s + 4 * MS) for s in stamps]
        assert log.losses == ()


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_type_without_a_stamp_has_the_log_time(tmp_path: Path, container: Container) -> None:
    stamps = [START_NS + i * 100 * MS for i in range(20)]
    with open_log([log_with(tmp_path, container, "String", stamps)], trigger_topic="/trigger") as log:
        assert triggers(log) == [(s + 4 * MS, s + 4 * MS) for s in stamps]


@pytest.mark.parametrize("container", ["bag", "sqlite3", "mcap", "foxglove"])
def test_the_simulators_trigger(tmp_path: Path, container: Any) -> None:
    settings = SimulateSettings(
        preset="front", duration_s=1.0, size_px=(64, 40), noise=False, container=container, trigger_topic=True
    )
    path = simulate(tmp_path / "out", settings, stage=flat_stage())
    with open_log([path], trigger_topic="/trigger") as log:
        stamps = [stamp for stamp, _ in triggers(log)]
    assert len(stamps) == 10
    assert set(np.diff(stamps)) == {100 * MS}
    assert stamps[0] % 1000 == 789  # no float has touched it


def test_no_trigger_unless_asked_for(tmp_path: Path) -> None:
    with open_log([log_with(tmp_path, "mcap", "Header", [START_NS])]) as log:
        assert triggers(log) == []
        assert log.head(log.select(None)).triggers_ns == ()


def test_a_cameras_own_topic(tmp_path: Path) -> None:
    path = write_log(tmp_path, cameras=[CameraSpec("a"), CameraSpec("b")], frames=6)
    with open_log([path], trigger_topic="/a/image_raw/compressed") as log:
        items = list(log.stream(log.select(None)))
    assert [i.stamp_ns for i in items if isinstance(i, Trigger)] == [
        START_NS + i * 100 * MS for i in range(6)
    ]
    assert sum(getattr(i, "camera", "") == "a" for i in items) == 6


def test_wild_stamps_are_counted(tmp_path: Path) -> None:
    stamps = [START_NS + i * 100 * MS for i in range(20)]
    wild = list(stamps)
    wild[5], wild[9] = 0, stamps[9] + 3_600_000 * MS
    types = message_types("mcap").types
    extras = [
        Extra("/trigger", s + 4 * MS, message(types, "mcap", "Header", w))
        for s, w in zip(stamps, wild, strict=True)
    ]
    path = write_log(tmp_path, cameras=[CameraSpec("a")], frames=20, extra=extras)
    with open_log([path], trigger_topic="/trigger") as log:
        got = [stamp for stamp, _ in triggers(log)]
        (loss,) = log.losses
    assert got == [s for i, s in enumerate(stamps) if i not in (5, 9)]
    assert (loss.topic, loss.count) == ("/trigger", 2)


def test_a_clock_that_steps_for_cameras_and_trigger_alike(tmp_path: Path) -> None:
    def stepped(i: int) -> int:
        return START_NS + i * 100 * MS + (30_000 * MS if i >= 20 else 0)

    types = message_types("mcap").types
    extras = [
        Extra("/trigger", START_NS + i * 100 * MS + 4 * MS, message(types, "mcap", "Header", stepped(i)))
        for i in range(30)
    ]
    camera = CameraSpec("a", stamps_ns=[stepped(i) for i in range(30)])
    path = write_log(tmp_path, cameras=[camera], frames=30, extra=extras)
    with open_log([path], trigger_topic="/trigger") as log:
        items = list(log.stream(("a",)))
        assert {step.camera for step in log.clock_steps} == {"a", "/trigger"}
    frames = [i.stamp_ns for i in items if not isinstance(i, Trigger)]
    assert [i.stamp_ns for i in items if isinstance(i, Trigger)] == frames
    assert frames == [START_NS + i * 100 * MS for i in range(30)]


@pytest.mark.parametrize("encoding", ["cdr", "ros1", "protobuf", "json", "file"])
@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0\1\0\0\1\2", b"[]", b'{"timestamp": 3}', b"\xff" * 40, b"{" * 9000]
)
def test_bytes_that_are_nothing(encoding: Any, data: bytes) -> None:
    from perception_batch.read.containers.logfile import Message

    kind = "foxglove.PointCloud" if encoding in ("protobuf", "json") else "std_msgs/msg/Header"
    reader = TriggerReader("/t", "auto")
    told = Message(START_NS, Channel(1, "/t", kind, encoding, "", False), data)
    reader.look_at(told)
    reader.decide()
    made = reader.make(told)
    assert made is None or isinstance(made, Trigger)
