"""One number a timestep: what the charts draw, against the time of the video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_batch.report.run_files import HAS_IMAGE, MISSING, FloatArray, IntArray, RunFiles

LONGEST_STEP_S = (1 << 30) / 90_000
"""The video shows longer steps as this, because MP4 holds no more."""
_HELD_PERIODS = 3.0
_MAX_CLASSES = 7
_MAX_POSE_GAP_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Of one run; T timesteps."""

    seconds: FloatArray
    """(T,) time in the video, from 0, rising."""
    until: FloatArray
    """(T,) up to when a timestep stands for the drive: the next one, or three usual steps."""
    spread_ms: FloatArray
    """(T,) latest less earliest stamp of the images; NaN for fewer than two."""
    without: IntArray
    """(T,) cameras without an image that were due."""
    speed_mps: FloatArray
    """(T,) of the vehicle; NaN where unknown."""
    ego: FloatArray
    """(T, 3) x, y (m, from the first known pose) and heading of the vehicle in its fixed frame; NaN where unknown."""
    images_per_s: FloatArray
    """(T,) images of all cameras used in a second of the drive, about each timestep."""
    classes: tuple[str, ...]
    """The commonest classes, then ``others`` where there are more."""
    per_class: IntArray
    """(T, K) objects of each of `classes`."""
    doubt: FloatArray
    """(T,) sum over objects of how far from sure they are, 0..1 each."""

    @property
    def duration_s(self) -> float:
        """Of the video."""
        return float(self.until[-1]) if len(self.until) else 0.0


def series_of(run: RunFiles) -> Series:
    """The series of a run with any number of timesteps."""
    stamps = run.stamps_ns
    gaps = np.clip(np.diff(stamps) / 1e9, 1 / 90_000, LONGEST_STEP_S)
    seconds = np.concatenate([[0.0], np.cumsum(gaps)])[: len(stamps)]
    usual = float(np.median(gaps)) if len(gaps) else 0.1
    last = gaps[-1] if len(gaps) else usual
    following = np.concatenate([seconds[1:], seconds[-1:] + last])
    until = np.minimum(following, seconds + _HELD_PERIODS * usual)
    if len(until):
        until[-1] = following[-1]
    classes, per_class = _classes(run)
    return Series(
        seconds,
        until,
        _spread_ms(run),
        (run.status >= MISSING).sum(axis=1).astype(np.int64),
        _speed(run),
        _ego(run),
        _images_per_s(run, seconds),
        classes,
        per_class,
        _doubt(run),
    )


def _spread_ms(run: RunFiles) -> FloatArray:
    known = np.isfinite(run.offset_s)
    latest = np.where(known, run.offset_s, -np.inf).max(axis=1, initial=-np.inf)
    earliest = np.where(known, run.offset_s, np.inf).min(axis=1, initial=np.inf)
    enough = known.sum(axis=1) >= 2
    return np.where(enough, np.where(enough, latest, 0) - np.where(enough, earliest, 0), np.nan) * 1e3


def _speed(run: RunFiles) -> FloatArray:
    known = np.isfinite(run.ego["speed_mps"])
    return _between(run, run.ego["time_s"][known], run.ego["speed_mps"][known])


def _ego(run: RunFiles) -> FloatArray:
    columns = [run.ego[name] for name in ("x_m", "y_m", "yaw_rad")]
    poses = np.stack([_between(run, run.ego["time_s"], values) for values in columns], axis=1)
    known = np.isfinite(poses).all(axis=1)
    poses[~known] = np.nan
    if known.any():
        poses[:, :2] -= poses[np.argmax(known), :2]
    return poses


def _between(run: RunFiles, time_s: FloatArray, values: FloatArray) -> FloatArray:
    """`values` at the timesteps; NaN further than a second from the nearest."""
    if not len(time_s):
        return np.full(run.steps, np.nan)
    after = np.clip(np.searchsorted(time_s, run.time_s), 1, max(1, len(time_s) - 1))
    after = np.minimum(after, len(time_s) - 1)
    away = np.minimum(
        np.abs(time_s[after] - run.time_s), np.abs(time_s[np.maximum(after - 1, 0)] - run.time_s)
    )
    return np.where(away <= _MAX_POSE_GAP_S, np.interp(run.time_s, time_s, values), np.nan)


def _images_per_s(run: RunFiles, seconds: FloatArray) -> FloatArray:
    """Counted over about a second around each timestep, or over three timesteps where they are slower."""
    if run.steps < 2:
        return np.full(run.steps, np.nan)
    images = np.concatenate([[0], np.cumsum((run.status <= HAS_IMAGE).sum(axis=1))])
    step = float(np.median(np.diff(seconds)))
    # Its ends lie half-way between timesteps, so that a rounding error moves no image in or out.
    half = (max(1, int(0.5 / step + 0.4)) + 0.5) * step
    first = np.searchsorted(seconds, seconds - half)
    stop = np.searchsorted(seconds, seconds + half, side="right")
    # At both ends the window reaches out of the drive, by less than half of it.
    inside = np.minimum(seconds + half, seconds[-1] + step / 2) - np.maximum(seconds - half, -step / 2)
    return np.asarray((images[stop] - images[first]) / inside)


def _classes(run: RunFiles) -> tuple[tuple[str, ...], IntArray]:
    totals = np.bincount(run.objects["label"], minlength=len(run.labels)) if len(run.labels) else np.zeros(0)
    order = np.argsort(-totals, kind="stable")
    shown = order if len(order) <= _MAX_CLASSES else order[: _MAX_CLASSES - 1]
    names = tuple(run.labels[i] for i in shown) + (("others",) if len(shown) < len(order) else ())
    column = np.full(len(run.labels), len(shown), np.int64)
    column[shown] = np.arange(len(shown))
    counts = np.zeros((run.steps, len(names)), np.int64)
    np.add.at(counts, (run.objects["step"], column[run.objects["label"]]), 1)
    return names, counts


def _doubt(run: RunFiles) -> FloatArray:
    """An object of score 0.5 is the most doubtful, one of 0 or 1 is not; one that hindsight filled in counts half."""
    score = np.nan_to_num(run.objects["score"], nan=0.5)
    weight = np.where(run.objects["filled"] > 0, 0.5, 1.0)
    doubt = np.clip(1 - 2 * np.abs(score - 0.5), 0, 1) * weight
    return np.bincount(run.objects["step"], weights=doubt, minlength=run.steps)[: run.steps].astype(float)
