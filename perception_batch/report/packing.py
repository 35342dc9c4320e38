"""The rows that the page's script draws from, small: quantised, as differences along each track, deflated.

One block of bytes holds all columns one after another; a list says where each begins and of which type it is (the
names of JavaScript's typed arrays, little endian). `assets/rows.js` is the other side.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.report.run_files import FloatArray, IntArray, RunFiles
from perception_batch.report.series import Series

POSITION_STEP_M = 0.05
SPEED_STEP_MPS = 0.05
SIGMA_STEP_M = 0.02
MAX_OBJECT_ROWS = 400_000
"""More are thinned by leaving whole timesteps out, so that a page of a long drive still opens."""
HAS_POSITION, HAS_ELLIPSE, HAS_VELOCITY, IS_FILLED = 1, 2, 4, 8
_YAW_STEPS = 255
_UNKNOWN_YAW = 255
_TYPES = {"u1": "Uint8Array", "u2": "Uint16Array", "u4": "Uint32Array", "f4": "Float32Array"}


@dataclass(frozen=True, slots=True)
class Packed:
    """What goes into the page."""

    columns: list[dict[str, Any]]
    """``name, type, offset, length`` of each column."""
    rows: str
    """The block: deflated (raw), base64."""
    track_ids: list[int]
    """Ids of tracks by the number that the rows use, from 1."""
    every: int
    """Objects are there for each so-manieth timestep."""


def pack(run: RunFiles, series: Series, video_seconds: FloatArray) -> Packed:
    """All columns of a run.

    Args:
        run: its tables.
        series: its figures by timestep.
        video_seconds: (T,) when the video shows each timestep.
    """
    objects, every = _thinned(run)
    tracks, number = np.unique(objects["track_id"], return_inverse=True)
    has_none = bool(len(tracks)) and tracks[0] < 0
    number = number if has_none else number + 1
    columns: dict[str, npt.NDArray[Any]] = {
        "tick": np.diff(np.round(video_seconds * 90_000), prepend=0).astype("<u4"),
        "status": np.ascontiguousarray(run.status.T).reshape(-1).astype("u1"),
        "spread": _scaled(series.spread_ms, 0.1),
        "speed": _scaled(series.speed_mps, 0.01),
        "rate": _scaled(series.images_per_s, 0.1),
        "ego": series.ego.T.reshape(-1).astype("<f4"),
        "count": np.bincount(objects["step"], minlength=run.steps)[: run.steps].astype("<u4"),
        "track": number.astype("<u4"),
    }
    with np.errstate(over="ignore", invalid="ignore"):  # numbers beyond all measure are clipped
        columns |= _object_columns(objects, number)
    block, where = bytearray(), []
    for name, values in columns.items():
        block += b"\0" * (-len(block) % 4)  # typed arrays begin at multiples of their size
        kind = values.dtype.str.lstrip("<|")
        where.append({"name": name, "type": _TYPES[kind], "offset": len(block), "length": len(values)})
        block += values.tobytes()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    rows = base64.b64encode(deflate.compress(bytes(block)) + deflate.flush()).decode()
    return Packed(where, rows, [int(t) for t in tracks if t >= 0], every)


def _thinned(run: RunFiles) -> tuple[dict[str, npt.NDArray[Any]], int]:
    total = len(run.objects["step"])
    every = max(1, math.ceil(total / MAX_OBJECT_ROWS))
    if every == 1:
        return run.objects, 1
    keep = run.objects["step"] % every == 0
    return {name: values[keep] for name, values in run.objects.items()}, every


def _object_columns(objects: dict[str, npt.NDArray[Any]], number: IntArray) -> dict[str, npt.NDArray[Any]]:
    before = _before(number)
    x, y, vx, vy = (objects[name] for name in ("x_m", "y_m", "vx_mps", "vy_mps"))
    major, minor, turn = _ellipses(*(objects[name] for name in ("cov_xx", "cov_xy", "cov_yy")))
    yaw = objects["yaw_rad"]
    placed = np.isfinite(x) & np.isfinite(y)
    flags = (
        HAS_POSITION * placed
        + HAS_ELLIPSE * (placed & np.isfinite(major))
        + HAS_VELOCITY * (placed & np.isfinite(vx) & np.isfinite(vy))
        + IS_FILLED * (objects["filled"] > 0)
    )
    turns = np.where(
        np.isfinite(yaw), np.round(np.nan_to_num(yaw) / math.tau * _YAW_STEPS) % _YAW_STEPS, _UNKNOWN_YAW
    )
    return {
        "x": _along(x / POSITION_STEP_M, before),
        "y": _along(y / POSITION_STEP_M, before),
        "vx": _along(vx / SPEED_STEP_MPS, before),
        "vy": _along(vy / SPEED_STEP_MPS, before),
        "major": _along(major / SIGMA_STEP_M, before),
        "minor": _along(minor / SIGMA_STEP_M, before),
        "turn": np.round(np.nan_to_num(turn) / math.pi * 255).astype("u1"),
        "yaw": turns.astype("u1"),
        "long": _tenths(objects["length_m"]),
        "wide": _tenths(objects["width_m"]),
        "label": np.minimum(objects["label"], 255).astype("u1"),
        "score": np.round(np.clip(np.nan_to_num(objects["score"]), 0, 1) * 200).astype("u1"),
        "flags": flags.astype("u1"),
    }


def _before(number: IntArray) -> IntArray:
    """(N,) the row before on the same track; -1 for the first, and for what is on none (0)."""
    order = np.argsort(number, kind="stable")
    before = np.full(len(number), -1, np.int64)
    same = number[order[1:]] == number[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    before[number == 0] = -1
    return before


def _along(values: FloatArray, before: IntArray) -> npt.NDArray[np.uint16]:
    """Rounded to int16 and told as difference to the row before on the track, modulo 2^16."""
    held = np.round(np.clip(np.nan_to_num(values), -32_767, 32_767)).astype(np.int64)
    return ((held - np.where(before >= 0, held[before], 0)) & 0xFFFF).astype("<u2")


def _scaled(values: FloatArray, unit: float) -> npt.NDArray[np.uint16]:
    """In steps of `unit`; 65535 where unknown."""
    held = np.round(np.clip(np.nan_to_num(values) / unit, 0, 65_534))
    return np.where(np.isfinite(values), held, 65_535).astype("<u2")


def _tenths(values: FloatArray) -> npt.NDArray[np.uint8]:
    return np.round(np.clip(np.nan_to_num(values) * 10, 0, 255)).astype("u1")


def _ellipses(xx: FloatArray, xy: FloatArray, yy: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Standard deviations along the axes of the horizontal covariance, and the turn of the long one, 0..pi.

    Closed form of the eigenvalues of a symmetric 2x2 matrix; NaN where the covariance is unknown.
    """
    middle, reach = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    turn = np.mod(0.5 * np.arctan2(2 * xy, xx - yy), math.pi)
    return np.sqrt(np.maximum(middle + reach, 0)), np.sqrt(np.maximum(middle - reach, 0)), turn
