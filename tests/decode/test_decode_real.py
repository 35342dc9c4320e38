"""Real cameras' images: every sound one decodes, every damaged one has its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from perception_batch.decode import decode_frame
from perception_batch.errors import DecodeError
from perception_batch.types import EncodedFrame, RawPayload, StillPayload

pytestmark = pytest.mark.real


def frames(path: Path) -> Iterator[EncodedFrame]:
    """All images of a log, the short way."""
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        wanted = [c for c in reader.connections if c.msgtype.endswith(("/Image", "/CompressedImage"))]
        for connection, _, message in reader.messages(wanted):
            m = reader.deserialize(message, connection.msgtype)
            if connection.msgtype.endswith("/CompressedImage"):
                yield EncodedFrame("cam", 0, 0, StillPayload(m.data.tobytes()), "jpeg", 0, 0, 0, 0)
            else:
                payload = RawPayload(m.data, m.step, bool(m.is_bigendian))
                yield EncodedFrame("cam", 0, 0, payload, m.encoding, 0, m.width, m.height, 0)


@pytest.mark.parametrize(
    ("name", "hw", "count"),
    [
        ("ddad_surround", (1216, 1936), 18),
        ("nuscenes_sample.bag", (900, 1600), 6),
        ("nuscenes_n008", (900, 1600), 24),
        ("kitti_0926", (375, 1242), 28),
    ],
)
def test_real_jpegs(recordings: Path, name: str, hw: tuple[int, int], count: int) -> None:
    found = 0
    for frame in frames(recordings / name):
        image = decode_frame(frame, 64).image
        assert image.shape == (*hw, 3)
        found += 1
        if found == 1:
            assert isinstance(frame.payload, StillPayload)
            bgr = cv2.imdecode(np.frombuffer(frame.payload.data, np.uint8), cv2.IMREAD_COLOR)
            assert (bgr[:, :, ::-1] == image).all()
    assert found == count


def test_real_raw_mono8(recordings: Path) -> None:
    images = [decode_frame(frame, 64).image for frame in frames(recordings / "odd/t265_stereo_fisheye.bag")]
    assert {image.shape for image in images} == {(800, 848, 3)}
    assert all(10 < image.mean() < 245 for image in images)


@pytest.mark.parametrize("name", ["ros2_one_of_each.mcap", "all_types_damaged_images"])
def test_odd_logs_give_pixels_or_reasons(recordings: Path, name: str) -> None:
    path = recordings / "odd" / name
    logs = [path] if path.is_file() else [p.parent for p in path.rglob("metadata.yaml")]
    outcomes: Counter[str] = Counter()
    for log in logs:
        for frame in frames(log):
            try:
                decode_frame(frame, 64)
            except DecodeError as error:
                outcomes[error.reason] += 1
            else:
                outcomes["ok"] += 1
    if name == "all_types_damaged_images":
        assert set(outcomes) == {"short_data", "broken_jpeg"}, outcomes
    else:
        assert outcomes["ok"] == 2, outcomes
