"""How one train of stamps lies against another: period, phase, jitter, drift and jumps, from a sample of stamps.

Everything here is robust: frames are lost, clocks jump, single stamps are wild. Stamps are int64 ns and differences are
taken in integers; only differences become floats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

FASTER = 0.75
"""A camera whose period is below this part of the timesteps' is faster: some of its frames are not due."""
SLOWER = 1.5
"""One whose period is above this part is slower: at some timesteps it is not due."""
MAX_DRIFT_PPM = 500.0
"""Crystals are good to 100 ppm; two trains that differ by more have different rates, not drifting clocks."""

_LAGS = (4, 16, 64)
_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_BLOCK = 16  # phases whose circular mean follows a drift without knowing it
_THEIL_SEN = 300  # points; all their pairs are taken
_OUTLIER_SIGMA = 4.0
_JUMP_SIGMA, _JUMP_NS = 6.0, 1_000_000.0
_MIN_FIT, _MIN_SPAN_S = 8, 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """A quantity that grows evenly with time, but for noise and jumps."""

    centre_ns: int
    """Where `value_ns` holds: the mean time of the samples used."""
    value_ns: float
    """Its mean there."""
    slope_ppm: float
    """How fast it grows: ns a millisecond, which is parts per million."""
    sd_ppm: float
    """Standard error of `slope_ppm`; infinite where the sample is too short to tell."""
    sigma_ns: float
    """Robust standard deviation about the line."""
    jumps: tuple[tuple[int, float], ...] = ()
    """(time, size) ns of the steps found in it."""


def period_ns(stamps: IntArray) -> int:
    """Usual distance of sorted stamps; 0 with fewer than two.

    The median distance, which jitter blurs, sharpened by the medians over ever more periods.
    """
    gaps = np.diff(stamps)
    period = float(np.median(gaps)) if len(gaps) else 0.0
    for lag in _LAGS:
        if period <= 0 or len(stamps) < 3 * lag:
            break
        over = (stamps[lag:] - stamps[:-lag]).astype(np.float64)
        period = float(np.median(over / np.maximum(1.0, np.rint(over / period))))
    return int(period)


def nearest_difference(a: IntArray, b: IntArray) -> IntArray:
    """For each of `a`, its distance from the nearest of `b` (both sorted, `b` not empty)."""
    i = np.searchsorted(b, a)
    before, after = b[np.clip(i - 1, 0, len(b) - 1)], b[np.clip(i, 0, len(b) - 1)]
    return np.where(np.abs(a - before) <= np.abs(a - after), a - before, a - after)


def phases(
    camera: IntArray, anchors: IntArray, camera_period: int, anchor_period: int
) -> tuple[IntArray, FloatArray]:
    """Times and phases (ns) of a camera's frames after the anchors, unwrapped, their median within half a period.

    The slower of the two trains is compared with the nearest of the faster. Stamps in an outage of the other
    train, farther than three quarters of its period from any, say nothing and are left out.
    """
    if not len(camera) or not len(anchors):
        return np.zeros(0, np.int64), np.zeros(0)
    if camera_period and anchor_period and camera_period < FASTER * anchor_period:
        at, difference, period = anchors, -nearest_difference(anchors, camera), camera_period
    else:
        at, difference, period = camera, nearest_difference(camera, anchors), anchor_period
    if not period:
        return at, difference.astype(np.float64)
    near = np.abs(difference) <= 0.75 * period
    if near.any():
        at, difference = at[near], difference[near]
    return at, _unwrap(difference.astype(np.float64), float(period))


def _unwrap(phase: FloatArray, period: float) -> FloatArray:
    """Phases without jumps by whole periods: about the circular mean of each block, blocks in succession."""
    starts = np.arange(0, len(phase), _BLOCK)
    turns = np.exp(phase * (2j * math.pi / period))
    centres = np.unwrap(np.angle(np.add.reduceat(turns, starts))) * period / (2 * math.pi)
    centre = np.repeat(centres, np.diff(np.append(starts, len(phase))))
    out = (phase - centre + period / 2) % period - period / 2 + centre
    middle = float(np.median(out))
    # 1e-9: half a period exactly may stay as it is, on either side
    return np.asarray(out - period * np.rint(middle / period * (1 - 1e-9)))


def sigma_about(values: FloatArray, centre: float) -> float:
    """Robust standard deviation: 1.4826 times the median absolute deviation."""
    return _MAD_TO_SIGMA * float(np.median(np.abs(values - centre))) if len(values) else 0.0


def robust_mean(values: FloatArray) -> float:
    """Mean of those within four robust standard deviations of the median; the median's safety, the mean's sharpness."""
    middle = float(np.median(values))
    kept = values[np.abs(values - middle) <= _OUTLIER_SIGMA * sigma_about(values, middle)]
    return float(kept.mean()) if len(kept) else middle


def fit_line(at_ns: IntArray, values_ns: FloatArray) -> Line:
    """Line through a sample in order of time, outliers and jumps left out.

    Theil-Sen (Sen 1968) over evenly chosen points gives the first slope; what it leaves is searched for jumps and
    outliers; least squares over the rest, with an own level between jumps, gives the last one and its error.
    """
    n = len(at_ns)
    if not n:
        return Line(0, 0.0, 0.0, math.inf, 0.0)
    seconds = (at_ns - at_ns[0]) / 1e9
    if n < _MIN_FIT or seconds[-1] < _MIN_SPAN_S:
        value = robust_mean(values_ns)
        return Line(int(at_ns[n // 2]), value, 0.0, math.inf, sigma_about(values_ns, value))
    slope = _theil_sen(seconds, values_ns)
    kept, part = np.ones(n, bool), np.zeros(n, np.int64)
    sigma = 0.0
    for _ in range(3):
        rest = values_ns - slope * seconds
        part = _parts(rest)
        level = np.array([np.median(rest[part == k]) for k in range(int(part[-1]) + 1)])
        off = rest - level[part]
        sigma = sigma_about(off, 0.0)
        kept = np.abs(off) <= _OUTLIER_SIGMA * sigma
        t, y = seconds[kept].copy(), values_ns[kept].copy()
        for k in range(len(level)):
            own = part[kept] == k
            if own.any():
                t[own] -= t[own].mean()
                y[own] -= y[own].mean()
        moment = float(t @ t)
        if moment <= 0:
            break
        slope = float(t @ y) / moment
    else:
        main = kept & (part == np.bincount(part[kept]).argmax())
        residual = y - slope * t
        freedom = max(1, len(t) - len(level) - 1)
        sd = math.sqrt(float(residual @ residual) / freedom / moment)
        return Line(
            int(at_ns[0]) + round(float(seconds[main].mean()) * 1e9),
            float(values_ns[main].mean()),
            slope / 1000,
            sd / 1000,
            sigma,
            _jumps(at_ns, rest, part, level),
        )
    value = robust_mean(values_ns)
    return Line(int(at_ns[n // 2]), value, 0.0, math.inf, sigma_about(values_ns, value))


def _theil_sen(seconds: FloatArray, values: FloatArray) -> float:
    """Median slope over all pairs of at most `_THEIL_SEN` points; closer than a tenth of the span they say little."""
    pick = np.unique(np.linspace(0, len(seconds) - 1, min(len(seconds), _THEIL_SEN)).astype(np.int64))
    i, j = np.triu_indices(len(pick), 1)
    run = seconds[pick][j] - seconds[pick][i]
    far = run > 0.1 * seconds[-1]
    if not far.any():
        return 0.0
    rise = values[pick][j] - values[pick][i]
    return float(np.median(rise[far] / run[far]))


def _parts(rest: FloatArray) -> IntArray:
    """Which part between two jumps each sample belongs to, from 0.

    A jump is a difference of successive block medians far beyond their noise and above a millisecond.
    """
    n = len(rest)
    size = max(8, n // 60)
    starts = np.arange(0, max(1, n - size // 2), size)
    edges = np.append(starts[1:], n)
    medians = np.array([np.median(rest[a:b]) for a, b in zip(starts, edges, strict=True)])
    owner = np.repeat(np.arange(len(starts)), edges - starts)
    noise = sigma_about(rest - medians[owner], 0.0) * 1.25 / math.sqrt(size)
    limit = max(_JUMP_NS, _JUMP_SIGMA * math.sqrt(2) * noise)
    part = np.zeros(len(starts), np.int64)
    for k in range(1, len(starts)):
        # Over two blocks: the one that holds the jump has a median of either side, or between them.
        part[k] = part[k - 1] + (abs(medians[k] - medians[k - 1]) > limit)
    return part[owner]


def _jumps(
    at_ns: IntArray, rest: FloatArray, part: IntArray, level: FloatArray
) -> tuple[tuple[int, float], ...]:
    """Time and size of each step; a part shorter than a block is the block that holds the step, and no part."""
    counts = np.bincount(part)
    whole = [k for k in range(len(counts)) if counts[k] > max(8, len(rest) // 60)]
    out: list[tuple[int, float]] = []
    for a, b in pairwise(whole):
        step = float(level[b] - level[a])
        if abs(step) > _JUMP_NS:
            first = int(np.flatnonzero(part == b)[0])
            out.append((int(at_ns[first]), step))
    return tuple(out)
