"""The looped log: the recording's own images, at stamps that go on."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from log_writer import START_NS, CameraSpec, ring, write_log

IMAGE = "sensor_msgs/msg/CompressedImage"


@pytest.fixture
def looper(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("loop_recording")


def read(path: Path) -> list[tuple[str, int, Any]]:
    """Topic, log time and message of all messages, as delivered."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
        return [(c.topic, t, reader.deserialize(raw, c.msgtype)) for c, t, raw in reader.messages()]


def stamp_ns(message: Any) -> int:
    header = message.transforms[0].header if hasattr(message, "transforms") else message.header
    return int(header.stamp.sec * 10**9 + header.stamp.nanosec)


def of_type(messages: list[tuple[str, int, Any]], kind: str) -> dict[str, list[tuple[int, Any]]]:
    """Log time and message, by topic."""
    out: dict[str, list[tuple[int, Any]]] = {}
    for topic, log_ns, message in messages:
        if message.__msgtype__ == kind:
            out.setdefault(topic, []).append((log_ns, message))
    return out


@pytest.mark.parametrize("container", ["mcap", "bag1"])
def test_images_repeat_byte_for_byte_at_stamps_that_go_on(
    looper: Any, tmp_path: Path, container: Any
) -> None:
    recording = write_log(tmp_path, container, ring(3), frames=4, ego_speed_mps=10.0)
    looped = looper.loop_recording(recording, tmp_path / "long", 25)
    assert (looped.cameras, looped.images, looped.timesteps, looped.period_ns) == (3, 27, 9, 100_000_000)
    before, after = of_type(read(recording), IMAGE), of_type(read(looped.path), IMAGE)
    assert after.keys() == before.keys()
    for topic, messages in after.items():
        own = before[topic]
        assert len(messages) == 9
        for k, (log_ns, message) in enumerate(messages):
            assert bytes(message.data) == bytes(own[k % 4][1].data)
            assert message.format == own[k % 4][1].format
            # The camera's own phase and its own delay to the log time, without a jump where the turns meet.
            assert stamp_ns(message) == stamp_ns(own[0][1]) + k * 100_000_000
            assert log_ns - stamp_ns(message) == own[k % 4][0] - stamp_ns(own[k % 4][1])


@pytest.mark.parametrize("container", ["mcap", "bag1"])
def test_calibration_and_transforms_stay(looper: Any, tmp_path: Path, container: Any) -> None:
    recording = write_log(tmp_path, container, ring(2), frames=4, ego_speed_mps=10.0)
    messages = read(looper.loop_recording(recording, tmp_path / "long", 20).path)
    assert [log_ns for _, log_ns, _ in messages] == sorted(log_ns for _, log_ns, _ in messages)
    kinds = [message.__msgtype__ for _, _, message in messages]
    static = [i for i, (topic, _, _) in enumerate(messages) if topic == "/tf_static"]
    assert len(static) == 1
    assert static[0] < kinds.index(IMAGE)
    infos = of_type(messages, "sensor_msgs/msg/CameraInfo")
    images = of_type(messages, IMAGE)
    for name in ("cam_0", "cam_1"):
        beside = [message for _, message in infos[f"/{name}/camera_info"]]
        assert [stamp_ns(m) for m in beside] == [
            stamp_ns(m) for _, m in images[f"/{name}/image_raw/compressed"]
        ]
        assert beside[0].k[0] == pytest.approx(0.9 * 64)
    # Poses cover all timesteps, and each stands to its image as in the recording: 10 m/s, 1 m a timestep.
    poses = sorted(
        (stamp_ns(message), message.transforms[0].transform.translation.x)
        for topic, _, message in messages
        if topic == "/tf"
    )
    for k in range(10):
        at = START_NS + k * 100_000_000
        near = min(poses, key=lambda pose: abs(pose[0] - at))
        assert abs(near[0] - at) < 20_000_000
        assert near[1] == pytest.approx(k % 4 + (near[0] - at) / 1e8, abs=1e-6)


def test_irregular_and_short_recordings_come_at_10_hz(looper: Any, tmp_path: Path) -> None:
    seconds = (0, 3, 8, 11)
    delays = [1000 * gap - 100 * i + 3 for i, gap in enumerate(seconds)]  # from the regular 10 Hz
    cameras = [
        CameraSpec(
            name,
            stamps_ns=[START_NS + gap * 10**9 + phase_ms * 10**6 for gap in seconds],
            phase_ms=phase_ms,
            log_delay_ms=delays,
        )
        for name, phase_ms in (("a", 0), ("b", 40))
    ]
    recording = write_log(tmp_path, "sqlite3", cameras, frames=4)
    looped = looper.loop_recording(recording, tmp_path / "long", 20)
    found = of_type(read(looped.path), IMAGE)
    for topic, phase_ns in (("/a/image_raw/compressed", 0), ("/b/image_raw/compressed", 40_000_000)):
        assert [stamp_ns(m) for _, m in found[topic]] == [
            START_NS + phase_ns + k * 100_000_000 for k in range(10)
        ]
    assert looper.choose_period_ns([0]) == looper.choose_period_ns([0, 50]) == 100_000_000
    assert looper.choose_period_ns([0, 50_000_000, 101_000_000]) == 50_500_000


def test_recordings_that_cannot_be_looped(
    looper: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_log(tmp_path, "mcap", [CameraSpec("cam", encoding="rgb8")], frames=2)
    assert looper.main([str(raw), str(tmp_path / "out")]) == 1
    assert "CompressedImage" in capsys.readouterr().err
    assert looper.main([str(tmp_path / "nothing"), str(tmp_path / "out")]) == 1
    assert "is no log" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
