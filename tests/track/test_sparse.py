"""Drives of few or far timesteps: nothing is a ghost for want of a frame that could have shown it again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from track.track_scene import CAMERA, RIG, START_NS, UNCALIBRATED, Seen, Told, timestep, track

from perception_batch.calibration import Rig
from perception_batch.track.lives import Life
from perception_batch.types import TimestepResult

RIGS = pytest.mark.parametrize("rig", [RIG, UNCALIBRATED], ids=["calibrated", "uncalibrated"])


def seen_at(index: int, seconds: float, *things: tuple[float, float], rig: Rig) -> TimestepResult:
    """A timestep `seconds` after the start, with things at bearings (as parts of the image) and scores."""
    boxes = [
        Seen(
            (20.0, 8.0 - 16.0 * at),
            score=score,
            placed=rig is RIG,
            box=(900 * at, 300.0, 900 * at + 50, 340.0),
        )
        for at, score in things
    ]
    ego = {} if rig is RIG else {"ego": lambda _: None}
    return timestep(index, boxes, stamp_ns=START_NS + round(seconds * 1e9), **ego)  # type: ignore[arg-type]


def kept(told: Told) -> list[int]:
    """Objects that are left, by timestep."""
    for result in told.results:
        for camera, rows in result.fusion.object_of.items():
            assert [n < 0 for n in rows] == [r == "ghost" for r in result.fusion.suppressed[camera]]
    return [len(ids) for ids in told.tracks()]


@RIGS
@pytest.mark.parametrize("lag_s", [0.0, 1.0])
def test_what_one_timestep_shows_is_there(rig: Rig, lag_s: float) -> None:
    told = track([seen_at(0, 0, (0.2, 0.3), (0.8, 0.9), rig=rig)], rig, {"lag_s": lag_s})
    assert kept(told) == [2]
    assert sorted(s.observed for s in told.finished) == [1, 1]


@RIGS
def test_timesteps_further_apart_than_any_gap_are_believed_one_by_one(rig: Rig) -> None:
    """Neither at the same place nor at another would a thing be seen again."""
    drive = [seen_at(k, 5.0 * k, (0.2, 0.3), (0.2 + 0.15 * k, 0.9), rig=rig) for k in range(1, 5)]
    told = track(drive, rig)
    assert kept(told) == [2] * 4
    assert sorted(i for ids in told.tracks() for i in ids) == list(range(8))


@RIGS
def test_at_one_timestep_a_second_two_and_a_half_seconds_are_three_timesteps(rig: Rig) -> None:
    drive = [seen_at(k, 1.0 * k, *[(0.2, 0.3)] * (k < 8), (0.8, 0.9), rig=rig) for k in range(12)]
    told = track(drive, rig)
    assert kept(told) == [2] * 8 + [1] * 4
    assert len(told.finished) == 2


@RIGS
def test_at_one_timestep_a_second_what_comes_once_and_unsure_is_a_ghost(rig: Rig) -> None:
    drive = [seen_at(k, 1.0 * k, *[(0.2, 0.3)] * (k == 3), (0.8, 0.9), rig=rig) for k in range(12)]
    assert kept(track(drive, rig)) == [1] * 12


@RIGS
def test_what_comes_just_before_the_end_is_believed_and_what_had_gone_is_not(rig: Rig) -> None:
    """At 10 Hz: seen until the end, for less than would confirm it; and a box that went again before the end."""
    drive = [
        seen_at(k, 0.1 * k, *[(0.2, 0.3)] * (k >= 35), *[(0.5, 0.3)] * (k in (33, 34)), (0.8, 0.9), rig=rig)
        for k in range(40)
    ]
    assert kept(track(drive, rig)) == [1] * 35 + [2] * 5


@RIGS
def test_a_camera_that_stops_looking_is_no_evidence(rig: Rig) -> None:
    """It shows an unsure thing in its last frames, and the drive goes on without it."""
    drive = [
        seen_at(k, 0.1 * k, *[(0.2, 0.3)] * (25 <= k < 30), *[(0.8, 0.9)] * (k < 30), rig=rig)
        for k in range(80)
    ]
    told = track([result if k < 30 else without_front(result) for k, result in enumerate(drive)], rig)
    assert kept(told) == [1] * 25 + [2] * 5 + [0] * 50
    told = track(drive, rig)  # the frames go on, and it is not there
    assert kept(told) == [1] * 30 + [0] * 50


def without_front(result: TimestepResult) -> TimestepResult:
    """The same, from a drive in which the front camera has no frame."""
    left = {k: v for k, v in result.detections.items() if k != CAMERA}
    fusion = replace(
        result.fusion,
        object_of={k: v for k, v in result.fusion.object_of.items() if k != CAMERA},
        suppressed={k: v for k, v in result.fusion.suppressed.items() if k != CAMERA},
    )
    return replace(result, detections=left, fusion=fusion, image_hw=dict.fromkeys(left, (600, 960)))


def test_a_held_frame_shows_nothing_new() -> None:
    """The same frame in four timesteps is one sighting and one chance."""
    drive = []
    for k in range(40):
        result = seen_at(k, 0.1 * k, *[(0.2, 0.3)] * (k // 4 == 1), (0.8, 0.9), rig=UNCALIBRATED)
        held = START_NS + (k // 4) * 400_000_000
        drive.append(replace(result, frame_stamps_ns={CAMERA: held}))
    told = track(drive, UNCALIBRATED)
    (sure,) = told.finished
    assert sure.mean_score == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("chances", "seen", "cut", "verdict"),
    [(1, 1, False, "real"), (2, 1, False, "real"), (3, 1, True, "ghost"), (4, 2, True, "real"),
     (4, 2, False, "ghost"), (4, 3, False, "real"), (11, 4, False, "real"), (11, 3, True, "ghost")],
)  # fmt: skip
def test_how_many_sightings_of_how_many_chances(chances: int, seen: int, cut: bool, verdict: str) -> None:
    from perception_batch.config import TrackConfig

    life = Life(
        0, "vehicle", 10, chances=chances, sightings=seen, votes={"car": 0.9 * seen}, seen_ns=[10], missed=1
    )
    life.end(20, 1_000_000_000, TrackConfig(), cut=cut)
    assert life.verdict == verdict
