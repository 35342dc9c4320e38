"""What a camera's frames look like, one after the other, against what was put there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_batch.read.images.survey import FROZEN_FROM, STRETCHES_KEPT, CameraSurvey, Surveyor
from perception_batch.types import BrokenPayload, EncodedFrame, StillPayload, VideoPayload

T0 = 1_700_000_000_000_000_000
MS = 1_000_000


def frame(i: int, stamp_ms: float | None = None, data: bytes | None = None) -> EncodedFrame:
    stamp = T0 + round((100 * i if stamp_ms is None else stamp_ms) * MS)
    picture = f"picture {i}".encode() if data is None else data
    return EncodedFrame("a", stamp, stamp, StillPayload(picture), "jpeg", i, 8, 6, stamp)


def survey(frames: list[EncodedFrame]) -> CameraSurvey:
    surveyor = Surveyor()
    for item in frames:
        surveyor.take(item)
    return surveyor.result()


def test_a_healthy_camera() -> None:
    got = survey([frame(i) for i in range(50)])
    assert (got.frames, got.gaps, got.duplicates, got.frozen, got.out_of_order) == (50, 0, 0, 0, 0)
    assert got.rate_hz == pytest.approx(10.0)
    assert got.period_jitter_ns == 0
    assert got.sizes_px == {"8x6": 50}
    assert got.encodings == {"jpeg": 50}
    assert got.key_interval is None


def test_gaps_say_when_and_how_many() -> None:
    got = survey([frame(i) for i in range(50) if i not in (10, 11, 12, 30)])
    assert got.gaps == 2
    assert got.missing_in_gaps == 4
    assert [(g.start_ns, g.stop_ns, g.count) for g in got.longest_gaps] == [
        (T0 + 900 * MS, T0 + 1300 * MS, 3),
        (T0 + 2900 * MS, T0 + 3100 * MS, 1),
    ]


def test_frozen_stretches_are_equal_bytes_in_a_row() -> None:
    frames = [frame(i, data=b"same" if 5 <= i < 12 or i in (20, 21) else None) for i in range(30)]
    got = survey(frames)
    assert got.frozen == 1  # two equal ones may be a message sent twice
    (stretch,) = got.longest_frozen
    assert (stretch.start_ns, stretch.stop_ns, stretch.count) == (T0 + 500 * MS, T0 + 1100 * MS, 7)


def test_a_camera_frozen_to_the_end_is_seen_whenever_it_is_asked() -> None:
    surveyor = Surveyor()
    for i in range(6):
        surveyor.take(frame(i, data=b"x"))
    assert surveyor.result().frozen == 1


def test_duplicates_order_and_bad_stamps() -> None:
    frames = [frame(i) for i in range(10)]
    frames.insert(5, replace(frames[4], sequence=99))
    frames.append(frame(10, stamp_ms=350))
    frames.append(replace(frame(11, stamp_ms=-1e9), unused="bad_stamp"))
    got = survey(frames)
    assert (got.duplicates, got.out_of_order, got.bad_stamps, got.frames) == (1, 1, 1, 13)
    assert got.gaps == 0


def test_messages_without_an_image_are_counted() -> None:
    frames = [frame(0), replace(frame(1), payload=BrokenPayload("broken_message")), frame(2)]
    got = survey(frames)
    assert (got.unparsed, got.frames) == (1, 3)


def test_key_frames_of_a_video() -> None:
    frames = [
        replace(frame(i), payload=VideoPayload(b"packet", "h264", is_key=i in (3, 13, 25)), encoding="h264")
        for i in range(30)
    ]
    got = survey(frames)
    assert got.key_interval == pytest.approx(11.0)
    assert got.before_first_key == 3
    assert got.frozen == 0  # equal packets say nothing


@given(st.lists(st.integers(0, 3), max_size=60))
def test_frozen_counts_equal_a_plain_loop(pictures: list[int]) -> None:
    got = survey([frame(i, data=bytes([value])) for i, value in enumerate(pictures)])
    runs: list[int] = []
    for i, value in enumerate(pictures):
        if i and pictures[i - 1] == value:
            runs[-1] += 1
        else:
            runs.append(1)
    assert got.frozen == sum(run >= FROZEN_FROM for run in runs)
    assert [s.count for s in got.longest_frozen] == [run for run in runs if run >= FROZEN_FROM]


def test_only_the_longest_are_listed() -> None:
    stamps = [i * 100.0 + 1000 * (i // 2) + (i // 2) ** 2 for i in range(600)]
    got = survey([frame(i, stamp_ms=s) for i, s in enumerate(stamps)])
    assert got.gaps > STRETCHES_KEPT
    assert len(got.longest_gaps) == STRETCHES_KEPT
    assert min(g.stop_ns - g.start_ns for g in got.longest_gaps) > 1200 * MS


def test_one_frame_and_none() -> None:
    assert survey([frame(0)]).rate_hz is None
    assert survey([]).frames == 0
