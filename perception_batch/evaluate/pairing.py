"""Which timestep goes with which truth frame, which picture with which, and which box with which object."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.errors import LogError
from perception_batch.evaluate.run_tables import RunPicture, RunStep, RunTables
from perception_batch.evaluate.settings import EvaluateSettings
from perception_batch.evaluate.truth import NO_CLASS, Classes, FloatArray, IntArray, Truth, TruthPicture
from perception_batch.geometry import box_iou

LARGEST_GAP_NS = 100_000_000
"""Frames match within half a period of the truth, and never farther apart than this."""
CLEARLY_FALSE_IOU = 0.1
"""A detection that overlaps no truth box of its group by more is a false one."""
_NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class PairedPicture:
    """One camera's detections beside what the picture truly shows."""

    run: RunPicture
    """What was detected."""
    truth: TruthPicture
    """What is there."""
    counts: npt.NDArray[np.bool_]
    """(M,) truth boxes that count: high enough, visible enough, of a known class."""
    truth_row: IntArray
    """(N,) the truth box that a detection belongs to, -1 for none."""
    unclear: npt.NDArray[np.bool_]
    """(N,) detections that belong to none, yet overlap one by more than `CLEARLY_FALSE_IOU`: badly placed, or the
    truth's box is loose (one drawn around a 3-D box is), so that they are neither right nor false."""

    @property
    def identity(self) -> IntArray:
        """(N,) the truth object of each detection, -1 for none."""
        if not len(self.truth.ids):
            return np.full(len(self.truth_row), _NOBODY)
        return np.where(self.truth_row >= 0, self.truth.ids[self.truth_row], _NOBODY)

    @property
    def decided(self) -> npt.NDArray[np.bool_]:
        """(N,) detections that belong to a truth box that counts."""
        if not len(self.counts):
            return np.zeros(len(self.truth_row), bool)
        return (self.truth_row >= 0) & self.counts[self.truth_row]


@dataclass(frozen=True, slots=True, eq=False)
class PairedStep:
    """One timestep beside its truth frame."""

    run: RunStep
    """What was found."""
    frame: int
    """Row of `Truth.frames`."""
    pictures: tuple[PairedPicture, ...]
    """Cameras that both know."""


def tolerance_ns(truth: Truth) -> int:
    """How far apart matching frames may be."""
    return min(LARGEST_GAP_NS, truth.period_ns // 2) if truth.period_ns else LARGEST_GAP_NS


def pair(run: RunTables, truth: Truth, classes: Classes, settings: EvaluateSettings) -> list[PairedStep]:
    """Timesteps that have a truth frame. No truth frame is used twice: the nearest timestep has it.

    Raises:
        LogError: the run and the truth have no time in common, or no camera.
    """
    found = pictures_by_stamp(run, truth) if truth.knows_pictures else _pictures_by_frame(run, truth)
    best: dict[int, tuple[int, int]] = {}
    frame_of: dict[int, int] = {}
    for row, step in enumerate(run.steps):
        frame = _frame_of(step, found.get(row, {}), truth)
        if frame is None:
            continue
        gap = abs(truth.frames[frame].stamp_ns - step.stamp_ns)
        if frame not in best or gap < best[frame][0]:
            if frame in best:
                del frame_of[best[frame][1]]
            best[frame] = (gap, row)
            frame_of[row] = frame
    if not frame_of:
        raise LogError(truth.path, _nothing_in_common(run, truth))
    cameras = {picture.camera for picture in truth.pictures}
    if truth.pictures and not cameras & set(run.cameras):
        raise LogError(
            truth.path,
            f"has no camera of the run: it knows {', '.join(sorted(cameras))}, the run {', '.join(run.cameras)}",
        )
    return [
        PairedStep(
            run.steps[row],
            frame,
            tuple(
                pair_boxes(picture, truth.pictures[found[row][picture.camera]], classes, settings)
                for picture in run.steps[row].pictures
                if picture.camera in found.get(row, {})
            ),
        )
        for row, frame in sorted(frame_of.items())
    ]


def pictures_by_stamp(run: RunTables, truth: Truth) -> dict[int, dict[str, int]]:
    """By row of `run.steps`, then camera: the truth's picture, found by the camera's own stamps."""
    stamps: dict[str, tuple[IntArray, IntArray]] = {}
    for camera in run.cameras:
        rows = [row for row, picture in enumerate(truth.pictures) if picture.camera == camera]
        times = np.array([truth.pictures[row].stamp_ns for row in rows], np.int64)
        order = np.argsort(times, kind="stable")
        stamps[camera] = times[order], np.array(rows, np.int64)[order]
    found: dict[int, dict[str, int]] = {}
    limit = tolerance_ns(truth)
    for number, step in enumerate(run.steps):
        for picture in step.pictures:
            times, places = stamps[picture.camera]
            i = nearest(times, picture.stamp_ns)
            if i is not None and abs(int(times[i]) - picture.stamp_ns) <= limit:
                found.setdefault(number, {})[picture.camera] = int(places[i])
    return found


def _pictures_by_frame(run: RunTables, truth: Truth) -> dict[int, dict[str, int]]:
    """As `pictures_by_stamp` where the truth knows only one stamp for all cameras."""
    stamps = np.array([frame.stamp_ns for frame in truth.frames], np.int64)
    rows = {(picture.frame, picture.camera): row for row, picture in enumerate(truth.pictures)}
    limit = tolerance_ns(truth)
    found: dict[int, dict[str, int]] = {}
    for number, step in enumerate(run.steps):
        frame = nearest(stamps, step.stamp_ns)
        if frame is not None and abs(int(stamps[frame]) - step.stamp_ns) <= limit:
            found[number] = {
                picture.camera: rows[frame, picture.camera]
                for picture in step.pictures
                if (frame, picture.camera) in rows
            }
    return found


def _frame_of(step: RunStep, pictures: dict[str, int], truth: Truth) -> int | None:
    """The frame of most of the pictures (the earliest of equals), else the nearest one in time."""
    votes = Counter(truth.pictures[row].frame for row in pictures.values() if truth.pictures[row].in_set)
    if votes:
        return min(votes, key=lambda frame: (-votes[frame], frame))
    stamps = np.array([frame.stamp_ns for frame in truth.frames], np.int64)
    i = nearest(stamps, step.stamp_ns)
    return i if i is not None and abs(int(stamps[i]) - step.stamp_ns) <= tolerance_ns(truth) else None


def nearest(sorted_stamps: IntArray, stamp_ns: int) -> int | None:
    """Position of the nearest stamp, the earlier of equals; None among none."""
    if not len(sorted_stamps):
        return None
    after = int(np.searchsorted(sorted_stamps, stamp_ns))
    near = [i for i in (after - 1, after) if 0 <= i < len(sorted_stamps)]
    return min(near, key=lambda i: abs(int(sorted_stamps[i]) - stamp_ns))


def _nothing_in_common(run: RunTables, truth: Truth) -> str:
    def span(stamps: list[int]) -> str:
        return f"{min(stamps)} to {max(stamps)} ns" if stamps else "nothing"

    return (
        f"no timestep lies within {tolerance_ns(truth) / 1e6:g} ms of a truth frame: the truth spans "
        f"{span([frame.stamp_ns for frame in truth.frames])}, the run {span([s.stamp_ns for s in run.steps])}; "
        "is it of this drive?"
    )


def pair_boxes(
    run: RunPicture, truth: TruthPicture, classes: Classes, settings: EvaluateSettings
) -> PairedPicture:
    """Give each detection the truth box that it belongs to, within groups of classes.

    What fusion used goes first, one to one, with the largest sum of overlaps; then a detection that is left over
    (the same car found twice) goes to the truth box that it overlaps most.
    """
    from scipy.optimize import linear_sum_assignment

    counts = (
        (truth.box_px[:, 3] - truth.box_px[:, 1] >= settings.min_height_px)
        & (truth.visible >= settings.min_visible)
        & (truth.classes != NO_CLASS)
    )
    row = np.full(len(run.box_px), _NOBODY, np.int64)
    unclear = np.zeros(len(row), bool)
    if len(run.box_px) and len(truth.box_px):
        overlap = overlaps(run, truth, classes, settings.min_iou)
        # What fusion did not use (there are many boxes of low score) must not push what it used to a neighbour.
        used = np.flatnonzero(run.objects >= 0)
        rows, columns = linear_sum_assignment(overlap[used], maximize=True)
        good = overlap[used][rows, columns] > 0
        row[used[rows[good]]] = columns[good]
        left = (row == _NOBODY) & (overlap.max(axis=1) > 0)
        row[left] = overlap[left].argmax(axis=1)
        touched = overlaps(run, truth, classes, CLEARLY_FALSE_IOU).max(axis=1) > 0
        unclear = (row == _NOBODY) & touched
    return PairedPicture(run, truth, counts, row, unclear)


def overlaps(run: RunPicture, truth: TruthPicture, classes: Classes, min_iou: float) -> FloatArray:
    """(N, M) overlap of each detection and truth box; 0 below `min_iou` and between groups.

    A truth box without a class takes any detection: nobody knows what it is.
    """
    overlap = box_iou(run.box_px, truth.box_px)
    same = classes.groups[run.classes][:, None] == classes.groups[truth.classes][None, :]
    same |= (truth.classes == NO_CLASS)[None, :]
    return np.where(same & (overlap >= min_iou), overlap, 0.0)
