from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_maker import encode, letters, write_video

from perception_batch.decode import pictures
from perception_batch.errors import LogError
from perception_batch.read import open_log
from perception_batch.read.containers.logfile import Message, open_log_file
from perception_batch.read.containers.video_file import NO_START_NS, VideoFile, video_format
from perception_batch.types import EncodedFrame, VideoPayload

LIMIT = 1 << 26
MS = 1_000_000
START = 1_700_000_000_123_456_789


def opened(path: Path) -> VideoFile:
    file = open_log_file(path, LIMIT)
    assert isinstance(file, VideoFile)
    return file


def read(path: Path) -> list[Message]:
    file = opened(path)
    return list(file.messages(file.channels))


def shown_ns(messages: list[Message]) -> list[int]:
    return sorted(message.publish_ns for message in messages)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_all_pictures_come_with_their_times(tmp_path: Path, suffix: str, b_frames: int) -> None:
    path = tmp_path / f"front{suffix}"
    write_video(path, b_frames=b_frames)
    path.with_suffix(".start_ns").write_text(f"{START}\n")
    file = opened(path)
    assert [(c.topic, c.msgtype, c.encoding) for c in file.channels] == [
        ("/front", "video packet h264", "file")
    ]
    messages = list(file.messages(file.channels))
    assert len(messages) == file.message_count == 20
    assert file.losses == ()
    assert messages[0].publish_ns == START
    assert all(abs(ns - START - 100 * MS * n) <= MS for n, ns in enumerate(shown_ns(messages)))
    logs = [m.log_ns for m in messages]
    assert logs == sorted(logs)
    assert file.start_ns == logs[0]
    assert logs[-1] < file.stop_ns
    if b_frames:
        assert [m.publish_ns for m in messages] != shown_ns(messages)


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    times = [0, 33, 100, 101, 900, 5000]
    write_video(tmp_path / "front.mkv", 6, times_ms=times)
    assert shown_ns(read(tmp_path / "front.mkv")) == [NO_START_NS + t * MS for t in times]


def test_without_stamps_videos_begin_together(tmp_path: Path) -> None:
    write_video(tmp_path / "left.mp4", 3)
    write_video(tmp_path / "right.mkv", 3)
    for name in ("left.mp4", "right.mkv"):
        assert read(tmp_path / name)[0].publish_ns == NO_START_NS
        assert opened(tmp_path / name).stamp_source == "1970"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("b_frames", [0, 3])
def test_each_picture_has_its_stamp_in_the_order_shown(tmp_path: Path, suffix: str, b_frames: int) -> None:
    path = tmp_path / f"front{suffix}"
    write_video(path, 30, gop=15, b_frames=b_frames)
    by_file = (
        sorted(range(30), key=lambda n: [m.publish_ns for m in read(path)][n]) if b_frames else range(30)
    )
    stamps = [START + n * 33 * MS + (n * 7919) % 1000 for n in range(30)]
    (tmp_path / "front.stamps.txt").write_text("# ns\n" + "\n".join(map(str, stamps)))
    messages = read(path)
    assert shown_ns(messages) == stamps
    assert [messages[n].publish_ns for n in by_file] == stamps
    assert [m.log_ns for m in messages] == stamps


def test_stamps_with_headings_and_columns(tmp_path: Path) -> None:
    write_video(tmp_path / "front.mp4", 3)
    (tmp_path / "front.stamps.csv").write_text(
        "frame,time\n0,1700000000.25\n1,1700000000.5\n2,1700000000.750000001\n"
    )
    assert shown_ns(read(tmp_path / "front.mp4")) == [
        1_700_000_000_250_000_000,
        1_700_000_000_500_000_000,
        1_700_000_000_750_000_001,
    ]


def test_too_few_stamps_leave_pictures_without(tmp_path: Path) -> None:
    write_video(tmp_path / "front.mp4", 5)
    (tmp_path / "front.stamps.txt").write_text("\n".join(str(START + n) for n in range(3)))
    file = opened(tmp_path / "front.mp4")
    assert [m.publish_ns for m in file.messages(file.channels)] == [START, START + 1, START + 2, 0, 0]
    assert "2 picture(s) have no stamp" in file.losses[0].reason


def test_more_stamps_than_pictures_is_a_loss(tmp_path: Path) -> None:
    write_video(tmp_path / "front.mp4", 5)
    (tmp_path / "front.stamps.txt").write_text("\n".join(str(START + n) for n in range(8)))
    file = opened(tmp_path / "front.mp4")
    assert len(list(file.messages(file.channels))) == 5
    assert [(loss.topic, loss.count) for loss in file.losses] == [("/front", 3)]


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.stamps.txt", "one\ntwo\n"), ("a.stamps.txt", ""), ("a.start_ns", "now"), ("a.start_ns", "")],
)
def test_broken_stamps_are_refused(tmp_path: Path, name: str, text: str) -> None:
    write_video(tmp_path / "a.mp4", 2)
    (tmp_path / name).write_text(text)
    with pytest.raises(LogError, match="stamp"):
        opened(tmp_path / "a.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_range_is_the_same_part_of_the_whole(tmp_path: Path, suffix: str, b_frames: int) -> None:
    path = tmp_path / f"a{suffix}"
    write_video(path, 200, b_frames=b_frames)
    file = opened(path)
    whole = list(file.messages(file.channels))
    for low, high in ((0, 200), (5, 12), (25, 26), (97, 99), (131, 170), (198, 200)):
        start = whole[low].log_ns
        stop = whole[high].log_ns if high < 200 else None
        part = list(file.messages(file.channels, start, stop))
        expected = [m for m in whole if m.log_ns >= start and (stop is None or m.log_ns < stop)]
        assert [(m.publish_ns, m.data) for m in part] == [(m.publish_ns, m.data) for m in expected]
    assert file.losses == ()


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".h264"), ("h265", ".hevc")])
def test_bare_streams(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"front{suffix}"
    path.write_bytes(b"".join(packet.data for packet in encode(codec, 12)))
    file = opened(path)
    messages = list(file.messages(file.channels))
    assert len(messages) == file.message_count == 12
    assert file.channels[0].msgtype == f"video packet {codec}"
    steps = {b.publish_ns - a.publish_ns for a, b in itertools.pairwise(messages)}
    assert len(steps) == 1
    assert file.start_ns == NO_START_NS


@pytest.mark.parametrize("options", [{"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}])
def test_a_cut_video_gives_what_is_there(tmp_path: Path, options: dict[str, str]) -> None:
    whole = tmp_path / "whole.mp4"
    write_video(whole, 40, options=options)
    data = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) * 6 // 10])
    before = [m.data for m in read(whole)]
    file = opened(cut)
    after = [m.data for m in file.messages(file.channels)]
    assert 5 < len(after) < 40
    assert after[:-1] == before[: len(after) - 1]  # the last may be cut itself
    if "faststart" in options["movflags"]:
        assert file.losses[0].count == 40 - len(after)


def test_a_cut_mkv_says_so(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 60)
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) // 2])
    file = opened(tmp_path / "a.mkv")
    assert 10 < len(list(file.messages(file.channels))) < 60
    assert "cut off" in file.losses[0].reason


def test_a_video_without_its_index_is_one_clear_line(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 10)
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(LogError, match="index is at the end"):
        opened(tmp_path / "a.mp4")


def test_random_damage_never_escapes(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for suffix in (".mp4", ".mkv", ".ts"):
        write_video(tmp_path / f"a{suffix}", 10)
        good = (tmp_path / f"a{suffix}").read_bytes()
        for _ in range(25):
            data = bytearray(good)
            for at in rng.integers(12, len(data), 8):
                data[at] ^= 1 << int(rng.integers(8))
            (tmp_path / f"b{suffix}").write_bytes(data[: int(rng.integers(len(data) // 2, len(data)))])
            with suppress(LogError):
                assert len(read(tmp_path / f"b{suffix}")) <= 20


def test_a_playlist_is_no_video(tmp_path: Path) -> None:
    for text in (b"#EXTM3U\n/etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"):
        (tmp_path / "list.mp4").write_bytes(text)
        assert video_format(tmp_path / "list.mp4", text[:16]) is None
        with pytest.raises(LogError, match="not a log"):
            open_log_file(tmp_path / "list.mp4", LIMIT)


def test_media_without_a_picture(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(LogError, match="without a video track"):
        opened(tmp_path / "a.mp4")


def test_a_folder_of_videos_is_a_log(tmp_path: Path) -> None:
    for name in ("front", "back"):
        write_video(tmp_path / f"{name}.mp4", 12, b_frames=2)
    with open_log([tmp_path]) as log:
        assert sorted(log.cameras) == ["back", "front"]
        out: list[Any] = list(pictures(log.stream(["back", "front"]), max_image_mpx=1))
        assert letters(out) == "P" * 24
        assert {f.camera for f in out} == {"back", "front"}
        assert all((f.width_px, f.height_px) == (128, 96) for f in out)
        assert log.losses == ()
        assert len(log.fingerprint()) == 64
        first = log.fingerprint()
    (tmp_path / "front.start_ns").write_text(str(START))
    with open_log([tmp_path]) as log:
        assert log.fingerprint() != first


@pytest.mark.real
def test_real_video(recordings: Path) -> None:
    with open_log([recordings / "dashcam_lanes.mp4"]) as log:
        frames = [f for f in log.stream(["dashcam_lanes"]) if isinstance(f, EncodedFrame)]
        assert len(frames) == 221
        assert [
            n for n, f in enumerate(frames) if isinstance(f.payload, VideoPayload) and f.payload.is_key
        ] == list(range(0, 221, 30))
        assert {b.stamp_ns - a.stamp_ns for a, b in itertools.pairwise(frames)} == {40 * MS}
        out: list[Any] = list(pictures(iter(frames), max_image_mpx=1))
        assert letters(out) == "P" * 221
