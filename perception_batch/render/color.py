"""Colours: the picture's own few, and one for each object that is the same in every camera."""

from __future__ import annotations

import math
from collections.abc import Sequence

from perception_batch.render.text import Color
from perception_batch.types import FusedObject, TimestepResult

BACKGROUND: Color = (18, 20, 24)
PANEL: Color = (26, 29, 34)
LINE: Color = (58, 63, 71)
FAINT: Color = (112, 119, 130)
TEXT: Color = (205, 210, 217)
BRIGHT: Color = (245, 247, 250)
WARNING: Color = (255, 176, 59)
NO_OBJECT: Color = (170, 176, 184)
INK: Color = (12, 13, 16)

# Saturated and light, so that they stand out from asphalt, sky and foliage and carry dark text. Few enough to be
# told apart; neighbours in the list are far apart in hue, so neighbours in the scene are too.
PALETTE: tuple[Color, ...] = (
    (255, 92, 87),  # red
    (64, 224, 208),  # turquoise
    (255, 214, 64),  # yellow
    (150, 130, 255),  # violet
    (110, 231, 105),  # green
    (255, 121, 218),  # pink
    (198, 245, 80),  # lime
    (84, 176, 255),  # azure
    (255, 166, 160),  # salmon
    (205, 92, 255),  # purple
    (255, 152, 67),  # orange
    (250, 236, 190),  # cream
)


def object_colors(result: TimestepResult) -> list[Color]:
    """A colour for each object of the timestep.

    A track keeps its colour for ever. Without tracks the colour follows the bearing, which changes slowly; no two
    objects share one while the palette lasts, and after that only such as are far apart.
    """
    count = len(PALETTE)
    used: list[list[float]] = [[] for _ in PALETTE]
    colors: list[Color] = []
    for item in result.fusion.objects:
        if item.track_id >= 0:
            colors.append(PALETTE[item.track_id % count])
            continue
        turn = _turn(result, item)
        wanted = int(turn * count) % count
        around = [(wanted + k) % count for k in range(count)]
        choice = max(around, key=lambda c: min((_apart(turn, other) for other in used[c]), default=1.0))
        used[choice].append(turn)
        colors.append(PALETTE[choice])
    return colors


def _apart(a: float, b: float) -> float:
    """How far two bearings are from each other, in turns: at most a half."""
    return abs((a - b + 0.5) % 1.0 - 0.5)


def _turn(result: TimestepResult, item: FusedObject) -> float:
    """Where the object is around the vehicle, 0..1: its bearing, or its place along the row of cameras."""
    if item.has_position:
        return math.atan2(item.position_m[1], item.position_m[0]) / math.tau + 0.5
    if not item.observations:
        return 0.0
    seen = item.observations[0]
    cameras: Sequence[str] = list(result.status)
    boxes = result.detections[seen.camera]
    width = result.image_hw.get(seen.camera, (0, 0))[1] or max(1.0, float(boxes.xyxy[:, 2].max()))
    center = float(boxes.xyxy[seen.detection, 0] + boxes.xyxy[seen.detection, 2]) / 2
    place = cameras.index(seen.camera) + min(max(center / width, 0.0), 1.0)
    return place / len(cameras) % 1.0
