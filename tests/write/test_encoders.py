"""Which encoder is taken, what it keeps of the times, how large its file may be, and the videos of single cameras."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from perception_batch.errors import WriteError
from perception_batch.types import Image
from perception_batch.write import DriveVideos, VideoWriter, clear_video_parts, remove_videos
from perception_batch.write import encoder as encoder_module
from perception_batch.write.encoder import choose_codec

WH = (320, 192)
START_NS = 1_700_000_000_123_456_789
STEPS = [0, 100_000_007, 233_000_000, 1_900_000_000, 2_000_000_000]


def settings(**changes: Any) -> Any:
    return SimpleNamespace(**{"crf": 24, "preset": "superfast", "codec": "auto", "max_mb": None, **changes})


def picture(i: int) -> Image:
    """Flat areas that move, so that every encoder comes near them."""
    image = np.full((WH[1], WH[0], 3), 60, np.uint8)
    image[40:120, 20 + 9 * i : 120 + 9 * i] = (210, 60, 50)
    image[130:170, 200:280] = (40, 90, 220)
    return image


def noise(i: int) -> Image:
    return np.random.default_rng(i).integers(0, 255, (WH[1], WH[0], 3), dtype=np.uint8)


def decoded(path: Path) -> tuple[str, list[float], list[Image]]:
    """Codec, times in seconds and pictures."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        frames = list(container.decode(stream))
        return (
            stream.codec_context.name,
            [float(frame.pts * stream.time_base) for frame in frames if frame.pts is not None],
            [frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for frame in frames],
        )


def encode(path: Path, made: Any, count: int = len(STEPS), draw: Any = picture) -> str:
    with VideoWriter(path, WH, made) as video:
        for i in range(count):
            video.write(START_NS + (STEPS[i] if i < len(STEPS) else i * 10**9), draw(i))
    return video.codec


@pytest.mark.parametrize(("codec", "name"), [("libx264", "h264"), ("mpeg4", "mpeg4")])
def test_times_are_true_whatever_the_encoder(tmp_path: Path, codec: str, name: str) -> None:
    assert encode(tmp_path / "v.mp4", settings(codec=codec)) == codec
    found, times, images = decoded(tmp_path / "v.mp4")
    assert found == name
    np.testing.assert_allclose(times, np.array(STEPS) / 1e9, atol=1e-5)
    for i, image in enumerate(images):
        assert np.abs(image.astype(int) - picture(i)).mean() < 6


def test_the_order_of_the_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    works: set[str] = set()
    monkeypatch.setattr(encoder_module, "_encodes", lambda codec, _: codec in works)
    monkeypatch.setattr(av, "codecs_available", {"h264_nvenc", "libx264", "mpeg4"})
    assert choose_codec(settings(), WH) == "libx264"  # there is a driver's name, and no card
    works.add("h264_nvenc")
    assert choose_codec(settings(), WH) == "h264_nvenc"
    assert choose_codec(settings(codec="libx264"), WH) == "libx264"
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    assert choose_codec(settings(), WH) == "mpeg4"
    assert choose_codec(settings(codec="h264_nvenc"), WH) is None


def test_nvenc_that_does_not_encode_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "_encodes", lambda *_: False)
    with pytest.raises(WriteError, match=r"render.codec h264_nvenc does not work here.*render.codec=auto"):
        VideoWriter(tmp_path / "v.mp4", WH, settings(codec="h264_nvenc"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preset", ["ultrafast", "superfast", "veryfast"])
def test_the_rate_factor_decides_the_size_whatever_the_preset(tmp_path: Path, preset: str) -> None:
    sizes = []
    for crf in (1, 12, 24, 36, 50, 51):
        encode(tmp_path / f"{crf}.mp4", settings(codec="libx264", preset=preset, crf=crf), draw=noise)
        sizes.append((tmp_path / f"{crf}.mp4").stat().st_size)
    assert all(a > 1.3 * b for a, b in itertools.pairwise(sizes[:5]))
    assert sizes[4] >= sizes[5]


@pytest.mark.parametrize("preset", ["ultrafast", "superfast"])
def test_a_rate_factor_of_zero_loses_nothing(tmp_path: Path, preset: str) -> None:
    with VideoWriter(tmp_path / "v.mp4", WH, settings(codec="libx264", preset=preset, crf=0)) as video:
        drawn = [
            av.VideoFrame.from_ndarray(noise(i), format="rgb24").reformat(format="yuv420p") for i in range(3)
        ]
        for i, frame in enumerate(drawn):
            video.put_yuv(frame, i * 9000)
    with av.open(str(tmp_path / "v.mp4")) as container:
        found = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert all((a == b.to_ndarray()).all() for a, b in zip(found, drawn, strict=True))


def test_what_a_picture_looks_like_does_not_rest_on_those_after_it(tmp_path: Path) -> None:
    """Nothing is looked at ahead of encoding: what was written of a drive when it was stopped is what is written of all of it."""
    made = settings(codec="libx264")
    encode(tmp_path / "calm.mp4", made, 6, picture)
    encode(tmp_path / "wild.mp4", made, 6, lambda i: picture(i) if i < 3 else noise(i))
    calm, wild = (decoded(tmp_path / name)[2] for name in ("calm.mp4", "wild.mp4"))
    assert all((a == b).all() for a, b in zip(calm[:3], wild[:3], strict=True))
    assert (calm[3] != wild[3]).any()


def test_a_probe_really_encodes() -> None:
    assert encoder_module._encodes("libx264", WH)
    assert not encoder_module._encodes("libx264", (0, 0))
    assert not encoder_module._encodes("no_such_codec", WH)


def whole(directory: Path, made: Any, count: int = len(STEPS), draw: Any = picture) -> Path:
    """The mosaic's video of a drive."""
    with DriveVideos(directory, WH, made) as videos:
        for i in range(count):
            videos.write(START_NS + (STEPS[i] if i < len(STEPS) else i * 10**9), draw(i))
    clear_video_parts(directory)
    return directory / "annotated.mp4"


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_video_is_no_larger_than_it_may_be(tmp_path: Path, codec: str) -> None:
    free = whole(tmp_path / "free", settings(codec=codec), 24, noise)
    limit = free.stat().st_size // 3
    small = whole(tmp_path / "small", settings(codec=codec, max_mb=limit / 1e6), 24, noise)
    assert limit // 4 < small.stat().st_size <= limit
    assert decoded(small)[1] == pytest.approx(decoded(free)[1], abs=2e-5)
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["annotated.mp4", "annotated.mp4"]


def test_one_that_is_small_enough_is_left_as_it_is(tmp_path: Path) -> None:
    found = [whole(tmp_path / str(mb), settings(max_mb=mb)).read_bytes() for mb in (None, 50.0)]
    assert found[0] == found[1]


def test_what_cannot_be_so_small_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(decoded(whole(tmp_path, settings(max_mb=0.001), 10, noise))[1]) == 10
    assert "more than render.max_mb allows" in caplog.text


def test_cameras_are_cut_from_the_mosaic(tmp_path: Path) -> None:
    tiles = {"front": (20, 40, 101, 81), "../<b>": (200, 130, 80, 40), "tiny": (0, 0, 4, 4)}
    with DriveVideos(tmp_path, WH, settings(crf=8), tiles) as videos:
        for i in range(3):
            videos.write(START_NS + i * 10**8, picture(i))
    assert sorted(p.name for p in (tmp_path / "annotated_cameras").iterdir()) == ["b.mp4", "front.mp4"]
    _, times, images = decoded(tmp_path / "annotated_cameras" / "front.mp4")
    assert times == pytest.approx([0, 0.1, 0.2], abs=1e-5)
    for i, image in enumerate(images):
        assert image.shape == (80, 100, 3)
        assert np.abs(image.astype(int) - picture(i)[40:120, 20:120]).mean() < 6
    remove_videos(tmp_path)
    clear_video_parts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_no_half_file(tmp_path: Path) -> None:
    videos = DriveVideos(tmp_path, WH, settings(), {"front": (0, 0, 160, 96)})
    videos.write(START_NS, picture(0))
    videos.discard()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
