"""Videos in parts: a run that was stopped ends with the packets of one that was not, and nothing foreign is taken for a part."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from write.drive_of_results import drive

from perception_batch.errors import EXIT_RETRY, WriteError
from perception_batch.types import Image
from perception_batch.write import DriveVideos, VideoParts, VideoWriter, clear_video_parts, drawn_from
from perception_batch.write import video_join as join_module
from perception_batch.write import videos as videos_module

WH = (160, 96)
START_NS = 1_700_000_000_123_456_789
RNG = np.random.default_rng(3)
STEPS_NS = np.concatenate([[0], RNG.integers(30_000_000, 190_000_000, 60), [2_500_000_001, 70_000_000]])
STAMPS = [START_NS + int(t) for t in np.cumsum(STEPS_NS)]  # 9 s, uneven, with a gap
TILES = {"front": (0, 0, 80, 48), "back": (80, 48, 80, 48)}
Packet = tuple[int, int, int, bool, bytes]


def segment_of(stamp_ns: int) -> int:
    """Segments of 2 s; that of the gap is empty."""
    return (stamp_ns - START_NS) // 2_000_000_000


def settings(**changes: Any) -> Any:
    return SimpleNamespace(
        **{"crf": 24, "preset": "superfast", "codec": "libx264", "max_mb": None, **changes}
    )


def picture(i: int) -> Image:
    image = np.full((WH[1], WH[0], 3), 60, np.uint8)
    image[20:60, (7 * i) % 100 : (7 * i) % 100 + 40] = (210, 60, 50)
    image[50:90, 100:140] = (40, (9 * i) % 256, 220)
    return image


def draw(
    directory: Path,
    stop: int | None = None,
    *,
    made: Any = None,
    key: Any = None,
    source: Callable[[int], bytes] = lambda i: b"%d" % i,
    end: Callable[[DriveVideos], None] = DriveVideos.close,
    stamps: Sequence[int] = STAMPS,
) -> tuple[list[int], DriveVideos]:
    """A run that ends, or is killed (`discard`: as after a kill, but for what is half-written); gives what it drew."""
    parts = VideoParts(directory, segment_of, key)
    videos = DriveVideos(directory, WH, settings() if made is None else made, TILES, parts)
    drawn = []
    for i, stamp in enumerate(stamps[:stop]):
        wanted = parts.wants(stamp)
        drawn += [i] if wanted else []
        videos.write(stamp, picture(i) if wanted else None, source(i))
    (videos.discard() if stop is not None and end is DriveVideos.close else end(videos))
    return drawn, videos


def packets(path: Path) -> list[Packet]:
    with av.open(str(path)) as video:
        found = [p for p in video.demux(video=0) if p.size]
        return [(p.pts or 0, p.dts or 0, p.duration or 0, p.is_keyframe, bytes(p)) for p in found]


def times(path: Path) -> list[float]:
    with av.open(str(path)) as video:
        return [float(f.time or 0) for f in video.decode(video=0)]


def videos_of(directory: Path) -> dict[str, list[Packet]]:
    paths = [directory / "annotated.mp4", *sorted((directory / "annotated_cameras").iterdir())]
    return {path.name: packets(path) for path in paths}


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("stops", [(5,), (17,), (19, 30), (21, 21, 62)])
def test_stopped_and_not(tmp_path: Path, codec: str, stops: Sequence[int]) -> None:
    made = settings(codec=codec)
    draw(tmp_path / "whole", made=made)
    for stop in stops:
        draw(tmp_path / "cut", stop, made=made)
        assert not (tmp_path / "cut" / "annotated.mp4").exists()
    drawn, _ = draw(tmp_path / "cut", made=made)
    assert videos_of(tmp_path / "cut") == videos_of(tmp_path / "whole")
    first = segment_of(STAMPS[max(stops) - 1])  # what was open then, and all after it, is drawn
    assert drawn == [i for i, stamp in enumerate(STAMPS) if segment_of(stamp) >= first]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_joined_pictures_stand_at_their_real_times_and_can_be_sought(tmp_path: Path, codec: str) -> None:
    draw(tmp_path, made=settings(codec=codec, crf=12))
    expected = [(stamp - START_NS) / 1e9 for stamp in STAMPS]
    for name in ("annotated.mp4", "annotated_cameras/front.mp4"):
        found = packets(tmp_path / name)
        assert len(found) == len(STAMPS)
        pts = [p[0] for p in found]
        assert pts == sorted(set(pts)) == [p[1] for p in found]
        assert times(tmp_path / name) == pytest.approx(expected, abs=2e-5)
        segments = [segment_of(stamp) for stamp in STAMPS]
        keys = [i for i, p in enumerate(found) if p[3]]
        assert set(keys) >= {segments.index(s) for s in set(segments)}
    with av.open(str(tmp_path / "annotated.mp4")) as video:
        stream = video.streams.video[0]
        assert stream.time_base is not None
        assert stream.frames == len(STAMPS)
        assert stream.duration == found[-1][0] + found[-1][2]
        for i in (40, 3, 62, 21, 0):
            video.seek(round(expected[i] / stream.time_base), stream=stream)
            frame = next(f for f in video.decode(stream) if (f.time or 0) > expected[i] - 1e-4)
            image = frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
            assert np.abs(image.astype(int) - picture(i)).mean() < 4
    data = (tmp_path / "annotated.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_drive_of_one_segment_is_not_written_twice(tmp_path: Path) -> None:
    few = STAMPS[:10]
    draw(tmp_path, stamps=few)
    part = VideoParts(tmp_path).path(0, 0)
    assert part.stat().st_ino == (tmp_path / "annotated.mp4").stat().st_ino
    with VideoWriter(tmp_path / "alone.mp4", WH, settings()) as video:
        for i, stamp in enumerate(few):
            video.write(stamp, picture(i))
    assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "annotated.mp4").read_bytes()


def test_a_file_system_without_second_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "a", stamps=STAMPS[:10])

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "link", refuse)
    draw(tmp_path / "b", stamps=STAMPS[:10])
    assert videos_of(tmp_path / "a") == videos_of(tmp_path / "b")


@pytest.mark.parametrize(
    "changes",
    [
        {"key": {"settings": "b"}},
        {"key": None},
        {"made": settings(crf=30)},
        {"made": settings(codec="mpeg4")},
        {},
    ],
)
def test_other_settings_draw_anew(tmp_path: Path, changes: dict[str, Any]) -> None:
    draw(tmp_path, 40, key={"settings": "a"})
    drawn, _ = draw(tmp_path, **{"key": {"settings": "a"}, **changes})
    assert (drawn[0] > 0) is (not changes)
    assert len(packets(tmp_path / "annotated.mp4")) == len(STAMPS)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "record", "other", "huge", "list"])
def test_what_is_no_whole_part_is_drawn_again(tmp_path: Path, damage: str) -> None:
    draw(tmp_path / "whole")
    cut = tmp_path / "cut"
    draw(cut, 62)
    parts = VideoParts(cut)
    record, file = parts.folder / "part_00001.json", parts.path(1, 1)
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[:-9])
    elif damage == "flipped":
        file.write_bytes(data[:900] + bytes([data[900] ^ 1]) + data[901:])
    elif damage == "gone":
        file.unlink()
    elif damage == "record":
        record.write_bytes(record.read_bytes()[:50])
    elif damage == "other":
        record.write_bytes((parts.folder / "part_00000.json").read_bytes())
    elif damage == "huge":
        record.write_bytes(b"[" * (2 << 20))
    else:
        record.write_bytes(b'{"key": [], "drawn_from": 1, "files": 7}')
    drawn, _ = draw(cut)
    assert {segment_of(STAMPS[i]) for i in drawn} == {1, segment_of(STAMPS[61])} | {segment_of(STAMPS[-1])}
    assert videos_of(cut) == videos_of(tmp_path / "whole")


def test_other_results_are_noticed_from_where_they_differ(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def other(i: int) -> bytes:
        return b"new" if i == last else b"%d" % i

    last = max(i for i, stamp in enumerate(STAMPS) if segment_of(stamp) == 1)
    draw(tmp_path / "cut", 62)
    landed = {segment_of(stamp) for stamp in STAMPS[:62]} - {segment_of(STAMPS[61])}
    drawn, videos = draw(tmp_path / "cut", source=other)
    assert not {segment_of(STAMPS[i]) for i in drawn} & landed
    assert set(videos.missing) == landed - {0}
    assert not (tmp_path / "cut" / "annotated.mp4").exists()
    assert "part_00001.json: was drawn from other results" in caplog.text
    drawn, videos = draw(tmp_path / "cut", source=other)
    assert {segment_of(STAMPS[i]) for i in drawn} == landed - {0}
    assert videos.missing == []
    draw(tmp_path / "whole", source=other)
    assert videos_of(tmp_path / "cut") == videos_of(tmp_path / "whole")


def test_stamps_that_go_back_over_a_border(tmp_path: Path) -> None:
    stamps = [*STAMPS[:30], *STAMPS[25:60], STAMPS[2], *STAMPS[61:]]
    draw(tmp_path / "whole", stamps=stamps)
    assert len(packets(tmp_path / "whole" / "annotated.mp4")) == len(stamps)
    draw(tmp_path / "cut", 50, stamps=stamps)
    _, videos = draw(tmp_path / "cut", stamps=stamps)
    if videos.missing:  # a picture was not drawn because its own segment had landed: then all is drawn
        clear_video_parts(tmp_path / "cut")
        draw(tmp_path / "cut", stamps=stamps)
    assert videos_of(tmp_path / "cut") == videos_of(tmp_path / "whole")


def test_stopping_leaves_what_was_drawn_and_the_parts(tmp_path: Path) -> None:
    def interrupt(videos: DriveVideos) -> None:
        videos.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    draw(tmp_path, 45, end=interrupt)
    assert times(tmp_path / "annotated.mp4") == pytest.approx(
        [(s - START_NS) / 1e9 for s in STAMPS[:45]], abs=2e-5
    )
    draw(tmp_path, 30, end=interrupt)  # within what has landed
    assert 0 < len(times(tmp_path / "annotated.mp4")) <= 30
    drawn, _ = draw(tmp_path)
    assert min(drawn) > 30
    draw(tmp_path / "whole")
    assert videos_of(tmp_path) == videos_of(tmp_path / "whole")


@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_trouble_while_parts_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise trouble

    (tmp_path / "annotated.mp4").write_bytes(b"before")
    with monkeypatch.context() as patched:
        patched.setattr(join_module, "_copy", fail)
        with pytest.raises((WriteError, KeyboardInterrupt)) as caught:
            draw(tmp_path)
    if isinstance(caught.value, WriteError):
        assert caught.value.exit_status == EXIT_RETRY
        assert "disk is full" in str(caught.value)
    assert (tmp_path / "annotated.mp4").read_bytes() == b"before"
    assert not list(tmp_path.rglob("*.partial"))
    drawn, _ = draw(tmp_path)
    assert drawn == []
    assert len(times(tmp_path / "annotated.mp4")) == len(STAMPS)


def test_a_full_disk_while_a_part_lands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land, full = VideoParts.land, True

    def refuse(self: VideoParts, segment: int, *rest: Any) -> None:
        if full and segment == 2:
            raise WriteError("the disk is full", exit_status=75)
        land(self, segment, *rest)

    monkeypatch.setattr(VideoParts, "land", refuse)
    with pytest.raises(WriteError, match="full"):
        draw(tmp_path)
    full = False
    drawn, _ = draw(tmp_path)
    assert {segment_of(STAMPS[i]) for i in drawn} == {2, 3, segment_of(STAMPS[-1])}


def test_an_encoder_whose_parts_cannot_be_joined_draws_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(videos_module, "stream_head", lambda *_: b"")
    draw(tmp_path, 62)
    assert "cannot be joined" in caplog.text
    drawn, _ = draw(tmp_path)
    assert drawn == list(range(len(STAMPS)))
    assert [p.name for p in (tmp_path / ".video_parts").glob("*.json")] == ["part_00000.json"]


def test_parts_of_other_encoders_are_not_joined(tmp_path: Path) -> None:
    paths = []
    for number, size in enumerate([WH, (320, 192)]):
        paths.append((tmp_path / f"{number}.mp4", 90_000 * number))
        with VideoWriter(paths[-1][0], size, settings()) as video:
            video.write(START_NS, np.zeros((size[1], size[0], 3), np.uint8))
    with pytest.raises(WriteError, match="cannot be joined"):
        join_module.join(paths, tmp_path / "v.mp4", 90_000)
    assert not (tmp_path / "v.mp4").exists()


def test_what_a_picture_is_drawn_from() -> None:
    result = next(r for r in drive(30) if r.fusion.objects and r.detections)
    assert drawn_from(result) == drawn_from(
        replace(result, lidar={}, status=dict(reversed([*result.status.items()])))
    )
    first = result.fusion.objects[0]
    camera = next(name for name, boxes in result.detections.items() if len(boxes))
    boxes = result.detections[camera]
    others = [
        replace(result, index=result.index + 1),
        replace(result, stamp_ns=result.stamp_ns + 1),
        replace(result, status={**result.status, camera: "held"}),
        replace(result, detections={**result.detections, camera: replace(boxes, score=boxes.score * 0.999)}),
        *(
            replace(result, fusion=replace(result.fusion, objects=(item, *result.fusion.objects[1:])))
            for item in (
                replace(first, track_id=first.track_id + 1),
                replace(first, filled=not first.filled),
                replace(first, position_m=np.nextafter(first.position_m, np.inf)),
                replace(first, label="tram"),
            )
        ),
    ]
    found = {drawn_from(other) for other in (result, *others)}
    assert len(found) == len(others) + 1
    assert all(len(one) == 32 for one in found)


def test_records_say_what_they_are(tmp_path: Path) -> None:
    draw(tmp_path, 40, key={"settings": "a"})
    record = json.loads((tmp_path / ".video_parts" / "part_00000.json").read_text())
    assert record["key"]["settings"] == "a"
    assert record["key"]["schema"] == 1
    assert [item["bytes"] for item in record["files"]] == [
        (tmp_path / ".video_parts" / f"part_00000_{k}.mp4").stat().st_size for k in range(3)
    ]
