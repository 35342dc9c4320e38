"""Segments of a running drive, step by step: what lands, what is recalled, and what is trusted of neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perception_batch.detected_steps import DetectedStep
from perception_batch.ego_motion import Step
from perception_batch.resume import RunningSegments
from perception_batch.runs import Made, SegmentPlan, SegmentStore
from perception_batch.types import Detections, EncodedFrame, FrameSet

MADE = Made("w", "torch", "fp32")
BOX = Detections(np.ones((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int16))


def plan(count: int = 3) -> SegmentPlan:
    return SegmentPlan("f", "d", 0, 10, 0, count, 0, 0, None, {})


def step(index: int, stamp_ns: int, *, empty: bool = False) -> Step:
    frame = EncodedFrame("a", stamp_ns, stamp_ns, b"", "png", index, 4, 4, stamp_ns)  # type: ignore[arg-type]
    frames, status = ({}, "missing") if empty else ({"a": frame}, "ok")
    return Step(FrameSet(index, stamp_ns, frames, {"a": status}), None, {}, ())  # type: ignore[dict-item]


def run(folder: Path, stamps: Sequence[int], empty: Sequence[int] = ()) -> tuple[list[int], list[bool]]:
    """The segments that landed now, and of each timestep whether it was recalled."""
    landed: list[int] = []
    store = SegmentStore(folder, plan(), MADE)
    segments = RunningSegments(store, {}, lambda segment, _: landed.append(segment))
    source = iter([step(k, stamp, empty=k in empty) for k, stamp in enumerate(stamps)])
    recalled = [item for item in segments.recalled(source) if item.frame_set.frames]  # as `shots` does
    out = list(
        segments.landing(iter([DetectedStep(item, {"a": BOX}, {"a": (4, 4)}, {}, {}) for item in recalled]))
    )
    assert segments.images_recalled == sum(item.step.stored is not None for item in out)
    return landed, [item.step.stored is not None for item in out]


def test_all_that_has_landed_is_recalled(tmp_path: Path) -> None:
    stamps = [0, 5, 9, 10, 15, 29]
    assert run(tmp_path, stamps) == ([0, 1, 2], [False] * 6)
    assert run(tmp_path, stamps) == ([], [True] * 6)


def test_what_stands_before_and_behind_the_plan_is_in_its_ends(tmp_path: Path) -> None:
    assert run(tmp_path, [-50, 3, 12, 25, 90])[0] == [0, 1, 2]
    assert run(tmp_path, [-50, 3, 12, 25, 90]) == ([], [True] * 5)


def test_a_timestep_without_a_frame_is_not_stored_and_does_no_harm(tmp_path: Path) -> None:
    assert run(tmp_path, [0, 5, 9], empty=[1]) == ([0], [False, False])
    assert run(tmp_path, [0, 5, 9], empty=[1]) == ([], [True, True])


def test_half_a_segment_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    """A clock that goes back over a border."""
    stamps = [0, 5, 12, 7, 8, 14]
    run(tmp_path, stamps)
    assert SegmentStore(tmp_path, plan(), MADE).landed() == []
    assert run(tmp_path, stamps)[1] == [False] * 6


@pytest.mark.parametrize(
    ("second", "recalled", "landed"),
    [
        ([0, 5, 10, 12], [True, True, True, True], []),
        ([0, 6, 10, 12], [True, False, True, True], [0]),
        ([0, 10, 12], [True, True, True], [0]),
        ([0, 5, 8, 10, 12], [True, True, False, True, True], [0]),
        ([1, 5, 10], [False, False, True], [0, 1]),
    ],
)
def test_a_log_that_gives_other_timesteps(
    tmp_path: Path, second: list[int], recalled: list[bool], landed: list[int]
) -> None:
    run(tmp_path, [0, 5, 10, 12])
    assert run(tmp_path, second) == (landed, recalled)
    assert run(tmp_path, second) == ([], [True] * len(second))  # what was put right stays so


def test_a_run_that_is_closed_early_lands_nothing_half(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path, plan(), MADE)
    segments = RunningSegments(store)
    source = segments.landing(
        DetectedStep(step(k, stamp), {"a": BOX}, {"a": (4, 4)}, {}, {})
        for k, stamp in enumerate([0, 5, 10, 12])
    )
    for _ in range(3):
        next(source)
    source.close()  # type: ignore[attr-defined]
    assert store.landed() == [0]


def test_an_image_that_broke_since_is_not_what_was_stored(tmp_path: Path) -> None:
    run(tmp_path, [0, 5])
    segments = RunningSegments(SegmentStore(tmp_path, plan(), MADE))
    other = step(1, 5)
    held = replace(other, frame_set=replace(other.frame_set, status={"a": "held"}))
    found = list(segments.recalled(iter([step(0, 0), held])))
    assert [item.stored is not None for item in found] == [True, False]
