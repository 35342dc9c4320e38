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

# Saturated and light, so that they stand out from asphalt, sky and foliage and carry black text;
# neighbours in the list differ in hue by at least 100 degrees, so neighbours in the scene do too.
PALETTE: tuple[Color, ...] = (
    (255, 92, 87),
    (64, 224, 208),
    (255, 214, 64),
    (150, 130, 255),
    (110, 231, 105),
    (255, 121, 218),
    (84, 176, 255),
    (255, 152, 67),
    (72, 235, 160),
    (235, 110, 255),
    (190, 240, 70),
    (120, 205, 255),
    (255, 138, 148),
    (0, 214, 255),
    (240, 226, 130),
    (196, 164, 255),
)


def object_colors(result: TimestepResult) -> list[Color]:
    """A colour for each object of the timestep.

    A track keeps its colour for ever. Without tracks the colour follows the bearing, which changes slowly, and
    no two objects share one while the palette lasts.
    """
    objects = result.fusion.objects
    colors: list[Color | None] = [
        PALETTE[item.track_id % len(PALETTE)] if item.track_id >= 0 else None for item in objects
    ]
    taken: set[int] = set()
    for number, item in enumerate(objects):
        if colors[number] is not None:
            continue
        wanted = int(_turn(result, item) * len(PALETTE)) % len(PALETTE)
        free = [k for k in range(len(PALETTE)) if (wanted + k) % len(PALETTE) not in taken]
        choice = (wanted + (free[0] if free else 0)) % len(PALETTE)
        taken.add(choice)
        if len(taken) == len(PALETTE):
            taken.clear()
        colors[number] = PALETTE[choice]
    return [color or NO_OBJECT for color in colors]


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
