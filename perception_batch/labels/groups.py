"""What is never split: the group of every image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import PurePath

import numpy as np

from perception_batch.errors import ConfigError, printable
from perception_batch.labels.label_run import LabelRun
from perception_batch.labels.label_settings import LabelSettings
from perception_batch.labels.run_rows import FloatArray, IntArray
from perception_batch.labels.selection import NO_POSITION, Images

_SHARED_FRAMES = ("map", "utm", "earth", "world")
"""Fixed frames that mean the same place in every drive."""
_DAY_NS = 86_400_000_000_000
_FARTHEST_POSE_NS = 2_000_000_000
"""An image farther in time from every known position has none: at 30 m/s that is most of a square."""


def group_images(
    images: Images,
    runs: Sequence[LabelRun],
    paths: Sequence[tuple[IntArray, FloatArray]],
    frames: Sequence[str],
    settings: LabelSettings,
) -> tuple[IntArray, tuple[str, ...]]:
    """(N,) place in the names of the groups; the names. Images without a position are left out where places are the groups.

    Args:
        images: of all runs.
        runs: the runs.
        paths: by run: stamps and places of the vehicle; empty where unknown.
        frames: by run: the fixed frame of its path.
        settings: what to group by.

    Raises:
        ConfigError: the runs do not tell what is asked for.
    """
    if settings.group_by == "drive":
        return images.run.astype(np.int64), tuple(run.name for run in runs)
    if settings.group_by == "vehicle":
        of_run = [_vehicle(run, settings.vehicle_regex) for run in runs]
        names = sorted(set(of_run))
        return np.array([names.index(v) for v in of_run], np.int64)[images.run], tuple(names)
    if settings.group_by == "day":
        days, place = np.unique(images.stamp_ns // _DAY_NS, return_inverse=True)
        return place.astype(np.int64), tuple(_day(day) for day in days.tolist())
    return _places(images, runs, paths, frames, settings.place_m)


def _day(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, timezone.utc).strftime("%Y-%m-%d")


def _vehicle(run: LabelRun, pattern: str | None) -> str:
    if pattern is None:
        name = PurePath(run.log).parent.name
        if not name:
            raise ConfigError(
                f"--group-by vehicle: the log of {printable(run.directory)} ({printable(run.log)}) is in no folder that "
                "could name the vehicle; say how with --vehicle REGEX"
            )
        return name
    try:
        found = re.search(pattern, run.log)
    except re.error as error:
        raise ConfigError(f"--vehicle {printable(pattern)}: no regular expression: {error}") from None
    if found is None:
        raise ConfigError(f"--vehicle {printable(pattern)} does not fit the log {printable(run.log)}")
    name = found[1] if found.groups() else found[0]
    if not name:
        raise ConfigError(
            f"--vehicle {printable(pattern)}: what it finds in the log {printable(run.log)} is empty, and names no vehicle"
        )
    return str(name)


def _places(
    images: Images,
    runs: Sequence[LabelRun],
    paths: Sequence[tuple[IntArray, FloatArray]],
    frames: Sequence[str],
    side_m: float,
) -> tuple[IntArray, tuple[str, ...]]:
    for run, (stamps, _), frame in zip(runs, paths, frames, strict=True):
        if not len(stamps):
            raise ConfigError(
                f"--group-by place needs the vehicle's motion, which {printable(run.directory)} does not know; group by "
                "drive or day"
            )
        if len(runs) > 1 and (frame not in _SHARED_FRAMES or frame != frames[0]):
            raise ConfigError(
                f"--group-by place: positions of {printable(run.directory)} are in the frame {printable(frame)!r}, whose "
                f"origin differs from drive to drive (wanted is one of {', '.join(_SHARED_FRAMES)}); group by drive"
            )
    cells = np.zeros((len(images), 2), np.int64)
    for number, (stamps, places) in enumerate(paths):
        own = images.run == number
        seconds = (stamps - stamps[0]) * 1e-9
        when = (images.stamp_ns[own] - stamps[0]) * 1e-9
        stamp = images.stamp_ns[own]
        after = np.searchsorted(stamps, stamp)
        around = stamps[np.maximum(after - 1, 0)], stamps[np.minimum(after, len(stamps) - 1)]
        nearest = np.minimum(np.abs(stamp - around[0]), np.abs(stamp - around[1]))
        lost = np.flatnonzero(own)[nearest > _FARTHEST_POSE_NS]
        images.out[lost[images.kept[lost]]] = NO_POSITION
        for axis in (0, 1):
            cells[own, axis] = np.floor(np.interp(when, seconds, places[:, axis]) / side_m).astype(np.int64)
    known, place = np.unique(cells, axis=0, return_inverse=True)
    return place.reshape(-1).astype(np.int64), tuple(
        f"{x * side_m:.12g}m_{y * side_m:.12g}m" for x, y in known.tolist()
    )
