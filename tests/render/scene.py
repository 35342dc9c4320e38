"""A drawn-up rig and scene for the tests of this room."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.geometry import SE3, DetectorView
from perception_batch.render import Layout, Mosaic, Tile, make_layout
from perception_batch.types import Detections, FrameStatus, FusedObject, Fusion, Observation, TimestepResult

STAMP_NS = 1_532_402_927_612_460_000
RING = {"front": 0, "front_left": 55, "front_right": -55, "back": 180, "back_left": 110, "back_right": -110}


def camera(name: str, yaw_deg: float, size_wh: tuple[int, int] = (1600, 900)) -> Camera:
    """A level pinhole camera at the origin's side, 1.5 m up."""
    c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    rotation = np.array([[s, 0.0, c], [-c, 0.0, s], [0.0, -1.0, 0.0]])
    width, height = size_wh
    lens = Intrinsics("pinhole", width, height, 0.6 * width, 0.6 * width, width / 2, height / 2)
    return Camera(name, lens, SE3(rotation, np.array([c, s, 1.5])), "test")


def rig_of(yaws_deg: Mapping[str, float]) -> Rig:
    return Rig("base_link", {name: camera(name, yaw) for name, yaw in yaws_deg.items()}, {})


def view_of(size_wh: tuple[int, int] = (1600, 900), long_side_px: int = 640) -> DetectorView:
    return DetectorView.fit((size_wh[1], size_wh[0]), long_side_px=long_side_px)


def grey_tile(view: DetectorView, level: int = 90) -> Tile:
    return Tile.of_input(np.full((*view.input_hw, 3), level, np.uint8), view)


def an_object(
    seen: Sequence[tuple[str, int]],
    xy_m: tuple[float, float] | None,
    *,
    track_id: int = -1,
    yaw: float = math.nan,
) -> FusedObject:
    known = xy_m is not None
    return FusedObject(
        2,
        "car",
        0.9,
        np.array([*xy_m, 0.8]) if xy_m is not None else np.full(3, np.nan),
        np.diag([1.0, 0.5, 0.1]) if known else np.full((3, 3), np.nan),
        np.array([4.6, 1.9, 1.7]) if known else np.full(3, np.nan),
        "prior" if known else "unknown",
        yaw,
        tuple(Observation(name, row) for name, row in seen),
        track_id=track_id,
    )


def a_result(
    status: Mapping[str, FrameStatus],
    boxes: Mapping[str, Sequence[tuple[float, float, float, float]]],
    object_of: Mapping[str, Sequence[int]],
    objects: Sequence[FusedObject],
    *,
    index: int = 3,
    stamp_ns: int = STAMP_NS,
) -> TimestepResult:
    shown = [name for name, state in status.items() if state in ("ok", "held")]
    found = {
        name: Detections(
            np.array(boxes.get(name, []), np.float32).reshape(-1, 4),
            np.linspace(0.9, 0.4, len(boxes.get(name, []))).astype(np.float32),
            np.full(len(boxes.get(name, [])), 2, np.int16),
        )
        for name in shown
    }
    fusion = Fusion(
        tuple(objects),
        {name: np.array(object_of.get(name, [-1] * len(found[name])), np.int32) for name in shown},
        {name: ("",) * len(found[name]) for name in shown},
    )
    stamps = {name: stamp_ns + 7_900_000 * i for i, name in enumerate(shown)}
    return TimestepResult(
        index, stamp_ns, status, stamps, found, fusion, None, dict.fromkeys(shown, (900, 1600))
    )


def a_mosaic(names: Sequence[str], rig: Rig, **more: str) -> tuple[Layout, Mosaic]:
    layout = make_layout(dict.fromkeys(names, 16 / 9), rig)
    drive = more.get("drive", "drive_1")
    return layout, Mosaic(layout, rig, drive=drive, first_stamp_ns=STAMP_NS - 10**9, labels={2: "car"})
