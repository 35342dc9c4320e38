"""The video, decoded again: its pictures, its times, its colours and its first bytes."""

from __future__ import annotations

import errno
import os
import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest

from perception_batch.errors import EXIT_RETRY, WriteError
from perception_batch.types import Image
from perception_batch.write import VideoWriter

WH = (320, 192)
TICKS_PER_S = 90_000
SETTINGS = SimpleNamespace(crf=18, preset="superfast", codec="auto")
START_NS = 1_700_000_000_123_456_789


def picture(i: int) -> Image:
    """Smooth structure, a patch of strong colour, and something that moves."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (6, 10, 3), dtype=np.uint8), WH, interpolation=cv2.INTER_CUBIC)
    image[20:80, 20:100] = (230, 30, 40)
    image[100:160, 20:100] = (30, 40, 220)
    image[90:150, 120 + 5 * i : 160 + 5 * i] = (20, 200, 40)
    return image


def encode(path: Path, stamps: list[int], settings: Any = SETTINGS) -> None:
    with VideoWriter(path, WH, settings) as video:
        for i, stamp in enumerate(stamps):
            video.write(stamp, picture(i))


def decode(path: Path) -> tuple[list[int], list[Image], Any]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        facts = SimpleNamespace(
            time_base=stream.time_base, duration=stream.duration, codec=stream.codec_context.name,
            profile=stream.codec_context.profile, pix_fmt=stream.codec_context.pix_fmt,
            matrix=int(frames[0].colorspace), range=int(frames[0].color_range),
        )  # fmt: skip
        images = [
            frame.reformat(format="rgb24", src_colorspace="ITU709", dst_color_range="JPEG").to_ndarray()
            for frame in frames
        ]
        return [frame.pts for frame in frames], images, facts


def psnr_db(a: Image, b: Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def boxes_of(path: Path) -> list[bytes]:
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        names.append(name)
        at += size
    return names


def test_pictures_stand_at_their_real_times(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    # Steady, jittering, a gap of seconds, and a slow end.
    steps = [
        100_000_000,
        *rng.integers(30_000_000, 140_000_000, 20).tolist(),
        7_300_000_001,
        100_000_007,
        50_000_000,
    ]
    stamps = [START_NS, *(START_NS + np.cumsum(steps)).tolist()]
    encode(tmp_path / "v.mp4", stamps)
    pts, images, facts = decode(tmp_path / "v.mp4")
    assert facts.time_base == Fraction(1, TICKS_PER_S)
    expected = [float(Fraction(s - START_NS, 10**9) * TICKS_PER_S) for s in stamps]
    np.testing.assert_allclose(pts, expected, atol=0.5)
    assert facts.duration == pts[-1] + (pts[-1] - pts[-2])  # the last picture lasts as long as the one before
    for i, image in enumerate(images):
        assert psnr_db(image, picture(i)) > 33


def test_colours_survive_and_are_tagged(tmp_path: Path) -> None:
    encode(tmp_path / "v.mp4", [START_NS, START_NS + 10**8])
    _, images, facts = decode(tmp_path / "v.mp4")
    assert (facts.codec, facts.pix_fmt, facts.matrix, facts.range) == ("h264", "yuv420p", 1, 1)
    for row, column in ((50, 60), (130, 60)):
        np.testing.assert_allclose(images[0][row, column], picture(0)[row, column], atol=5)


def test_it_plays_from_the_first_byte(tmp_path: Path) -> None:
    encode(tmp_path / "v.mp4", [START_NS + i * 10**8 for i in range(70)])
    names = boxes_of(tmp_path / "v.mp4")
    assert names.index(b"moov") < names.index(b"mdat")
    with av.open(str(tmp_path / "v.mp4")) as container:
        keys = [
            packet.pts for packet in container.demux(video=0) if packet.is_keyframe and packet.pts is not None
        ]
    assert keys == [0, 270_000, 540_000]


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    stamps = [START_NS + i * 10**8 for i in range(12)]
    for name in ("a.mp4", "b.mp4"):
        encode(tmp_path / name, stamps, SimpleNamespace(**{**vars(SETTINGS), "crf": 24, "preset": "medium"}))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert len(decode(tmp_path / "a.mp4")[0]) == 12


def test_one_picture_lasts_a_second(tmp_path: Path) -> None:
    encode(tmp_path / "v.mp4", [START_NS])
    pts, _, facts = decode(tmp_path / "v.mp4")
    assert pts == [0]
    assert facts.duration == TICKS_PER_S


def test_no_picture_no_file(tmp_path: Path) -> None:
    encode(tmp_path / "v.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_steps_that_mp4_cannot_hold_lose_no_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    day_ns = 86_400 * 10**9
    encode(tmp_path / "v.mp4", [START_NS, START_NS + 1, START_NS + 3 * day_ns, START_NS + 3 * day_ns + 10**8])
    pts, _, _ = decode(tmp_path / "v.mp4")
    assert pts == [0, 1, 1 + (1 << 30), 9001 + (1 << 30)]
    assert "MP4 cannot hold" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("stopped"), KeyboardInterrupt()])
def test_stopping_keeps_what_is_there(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), VideoWriter(tmp_path / "v.mp4", WH, SETTINGS) as video:
        for i in range(5):
            video.write(START_NS + i * 10**8, picture(i))
        raise error
    assert len(decode(tmp_path / "v.mp4")[0]) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_without_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"gif"})
    with pytest.raises(WriteError, match="libx264"):
        VideoWriter(tmp_path / "v.mp4", WH, SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_the_encoder_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "v.mp4", (321, 192), SETTINGS)
    with pytest.raises(WriteError, match="refuses"):
        VideoWriter(tmp_path / "v.mp4", (40_000, 20_000), SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = VideoWriter(tmp_path / "v.mp4", WH, SETTINGS)

    class Full:
        def mux(self, packet: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self, inner: Any = video._container) -> None:
            inner.close()

    video._container = Full()
    with pytest.raises(WriteError, match="disk is full") as caught, video:
        for i in range(5):
            video.write(START_NS + i * 10**8, picture(i))
    assert caught.value.exit_status == EXIT_RETRY
    assert list(tmp_path.iterdir()) == []
