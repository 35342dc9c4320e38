"""How far off positions are, and whether their covariances say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from perception_batch.errors import printable
from perception_batch.evaluate.bootstrap import interval, weighted_median, weighted_share
from perception_batch.evaluate.pairing import PairedStep
from perception_batch.evaluate.report import Band, ObjectPosition, PositionFigures, Skipped
from perception_batch.evaluate.settings import EvaluateSettings
from perception_batch.evaluate.truth import FloatArray, IntArray, Truth

CHI2_95_2 = 5.991464547107979
"""95 % quantile of the chi-square distribution with two degrees of freedom: -2 ln 0.05."""
_OLD_TRACK_S = 3.0
_LARGEST_STEP_NS = 500_000_000
_BANDS_M = (0.0, 10.0, 20.0, 40.0, 60.0, 1e9)


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """Fused objects with a position beside the truth objects that they are, one row each."""

    objects: IntArray
    """(N,) truth object."""
    classes: IntArray
    """(N,) class number of the truth."""
    true_m: FloatArray
    """(N, 2) x, y of the truth at the timestep's stamp."""
    found_m: FloatArray
    """(N, 2)."""
    covariance_m2: FloatArray
    """(N, 2, 2)."""
    track_age_s: FloatArray
    """(N,) since the track's first object; NaN without a track."""
    without: int
    """Truth objects (timesteps of them) that were seen and got no position."""


def score_positions(
    steps: Sequence[PairedStep],
    truth: Truth,
    settings: EvaluateSettings,
    *,
    has_positions: bool,
) -> PositionFigures | Skipped:
    """Range, position and coverage, up to the settings' range."""
    if not has_positions:
        return Skipped("the run has no positions: its cameras are not calibrated")
    if not any(np.isfinite(frame.center_m).all(axis=1).any() for frame in truth.frames):
        return Skipped("the truth has no 3-D positions")
    rows = locate(steps, truth, settings)
    if not len(rows.objects):
        return Skipped(
            f"no truth object that counts, within {settings.max_range_m:g} m, was detected and got a position"
        )
    relative = range_error(rows)
    size = np.abs(relative)
    distance: FloatArray = np.linalg.norm(rows.found_m - rows.true_m, axis=1)
    inside = covered(rows)
    has = np.asarray(np.isfinite(rows.covariance_m2).all(axis=(1, 2)), bool)
    old = np.logical_and(has, rows.track_age_s >= _OLD_TRACK_S)
    true_range = np.linalg.norm(rows.true_m, axis=1)

    def bounds(rows_used: npt.NDArray[np.bool_], hits: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
        return interval(
            rows.objects[rows_used],
            weighted_share(hits[rows_used]),
            resamples=settings.resamples,
            seed=settings.seed,
        )

    return PositionFigures(
        rows=len(size),
        truth_objects=len(np.unique(rows.objects)),
        without_position=rows.without,
        range_error_median=float(np.median(size)),
        range_error_interval=interval(
            rows.objects, weighted_median(size), resamples=settings.resamples, seed=settings.seed
        ),
        range_error_bias=float(np.median(relative)),
        range_error_largest=float(size.max()),
        position_error_median_m=float(np.median(distance)),
        position_error_p95_m=float(np.quantile(distance, 0.95)),
        coverage_95=float(inside[has].mean()) if has.any() else None,
        coverage_95_interval=bounds(has, inside),
        coverage_95_old_tracks=float(inside[old].mean()) if old.any() else None,
        old_track_rows=int(old.sum()),
        bands=tuple(
            Band(low, min(high, settings.max_range_m), int(take.sum()), float(np.median(size[take])))
            for low, high in pairwise(_BANDS_M)
            if (take := (true_range >= low) & (true_range < high)).any()
        ),
        objects=tuple(
            ObjectPosition(
                object_id=printable(truth.object_names[number]),
                label=printable(truth.object_labels[number]),
                rows=int((take := rows.objects == number).sum()),
                range_m=float(np.median(true_range[take])),
                range_error=float(np.median(relative[take])),
                range_error_largest=float(size[take].max()),
                position_error_m=float(np.median(distance[take])),
                coverage_95=float(inside[take & has].mean()) if (take & has).any() else None,
            )
            for number in np.unique(rows.objects).tolist()
        ),
    )


def range_error(rows: Located) -> FloatArray:
    """(N,) found range over true range, less one. Range is the horizontal distance from the base's origin."""
    ranges: FloatArray = np.linalg.norm(rows.found_m, axis=1) / np.linalg.norm(rows.true_m, axis=1) - 1
    return ranges


def covered(rows: Located) -> npt.NDArray[np.bool_]:
    """(N,) whether the truth lies within the 95 % ellipse of x and y; False without a covariance."""
    xx, xy, yy = rows.covariance_m2[:, 0, 0], rows.covariance_m2[:, 0, 1], rows.covariance_m2[:, 1, 1]
    dx, dy = (rows.true_m - rows.found_m).T
    determinant = xx * yy - xy * xy
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / determinant
        inside: npt.NDArray[np.bool_] = (determinant > 0) & (squared <= CHI2_95_2)
    return inside


def locate(steps: Sequence[PairedStep], truth: Truth, settings: EvaluateSettings) -> Located:
    """Pair fused objects with truth objects through the boxes that they are made of.

    An object is the truth object that most of its observations belong to (the first of equals, by camera).
    """
    first_seen: dict[int, int] = {}
    out: list[tuple[int, int, FloatArray, FloatArray, FloatArray, float]] = []
    without = 0
    for step in steps:
        for track in step.run.tracks[step.run.tracks >= 0].tolist():
            first_seen.setdefault(track, step.run.stamp_ns)
        votes, counting = object_votes(step)
        row_of = {number: row for row, number in enumerate(step.run.object_ids.tolist())}
        where = positions_at(truth, step.frame, step.run.stamp_ns)
        for number, counter in sorted(votes.items()):
            identity = max(counter, key=lambda who: (counter[who], -list(counter).index(who)))
            if identity not in counting or identity not in where or number not in row_of:
                continue
            of_class, true = where[identity]
            distance = float(np.hypot(true[0], true[1]))
            if not 0 < distance <= settings.max_range_m:
                continue
            row = row_of[number]
            found = step.run.position_m[row]
            if not np.isfinite(found).all():
                without += 1
                continue
            track = int(step.run.tracks[row])
            age = (step.run.stamp_ns - first_seen[track]) * 1e-9 if track >= 0 else float("nan")
            out.append((identity, of_class, true[:2], found[:2], step.run.covariance_m2[row], age))
    return Located(
        np.array([r[0] for r in out], np.int64),
        np.array([r[1] for r in out], np.int64),
        np.array([r[2] for r in out], np.float64).reshape(-1, 2),
        np.array([r[3] for r in out], np.float64).reshape(-1, 2),
        np.array([r[4] for r in out], np.float64).reshape(-1, 2, 2),
        np.array([r[5] for r in out], np.float64),
        without,
    )


def object_votes(step: PairedStep) -> tuple[dict[int, Counter[int]], set[int]]:
    """By fused object, how many of its observations belong to which truth object; and which truth objects count."""
    votes: dict[int, Counter[int]] = {}
    counting: set[int] = set()
    for picture in step.pictures:
        counting.update(picture.truth.ids[picture.counts].tolist())
        for number, identity in zip(picture.run.objects.tolist(), picture.identity.tolist(), strict=True):
            if number >= 0 and identity >= 0:
                votes.setdefault(number, Counter())[identity] += 1
    return votes, counting


def positions_at(truth: Truth, frame: int, stamp_ns: int) -> dict[int, tuple[int, FloatArray]]:
    """Class and position of the frame's objects at `stamp_ns`, by truth object; without those of unknown position.

    Between two frames half a second apart or less, positions in the base frame are taken as moving in a line;
    elsewhere they stay as the frame has them.
    """
    here = truth.frames[frame]
    known = np.isfinite(here.center_m).all(axis=1)
    where = {
        identity: (int(of_class), center)
        for identity, of_class, center in zip(
            here.ids[known].tolist(), here.classes[known].tolist(), here.center_m[known], strict=True
        )
    }
    other = frame + (1 if stamp_ns > here.stamp_ns else -1)
    if stamp_ns == here.stamp_ns or not 0 <= other < len(truth.frames):
        return where
    there = truth.frames[other]
    part = (stamp_ns - here.stamp_ns) / (there.stamp_ns - here.stamp_ns)
    if abs(there.stamp_ns - here.stamp_ns) > _LARGEST_STEP_NS or part > 1:
        return where
    for identity, center in zip(there.ids.tolist(), there.center_m, strict=True):
        if identity in where and np.isfinite(center).all():
            of_class, now = where[identity]
            where[identity] = (of_class, now + part * (center - now))
    return where
