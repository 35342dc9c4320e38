"""Where everything stands in the picture: computed once a run, so that all pictures have one size."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from perception_batch.calibration import Rig
from perception_batch.errors import ConfigError, printable

USUAL_ASPECT = 16 / 9
"""Of a camera whose size is not known because no image of it was seen."""
_HIGHEST = 0.64
"""Height of the picture over its width, at most: between 16:10 and 3:2, what screens show without loss."""
_GAP_PX = 2
# Bearings by words in camera names, degrees from forward to the left.
_WORDS = {"front": 0, "left": 90, "right": -90, "back": 180, "rear": 180}
_SHORT = {"fl": 45, "fr": -45, "bl": 135, "br": -135, "rl": 135, "rr": -135}


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of the picture, px."""

    x: int
    """Left."""
    y: int
    """Top."""
    width: int
    """Columns."""
    height: int
    """Rows."""

    def overlaps(self, other: Rect) -> bool:
        """Whether the two share a pixel."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of the picture."""

    size_wh: tuple[int, int]
    """Width and height of the picture, px; even."""
    header: Rect
    """The line at the top."""
    slots: Mapping[str, Rect]
    """Place of each camera's tile."""
    bird_eye: Rect | None
    """Place of the bird's-eye view."""
    table: Rect | None
    """Place of the list of objects."""
    text_px: int
    """Size of ordinary text, px."""


def make_layout(
    aspects: Mapping[str, float],
    rig: Rig,
    *,
    width_px: int = 1920,
    bird_eye: bool = True,
    rows: Sequence[Sequence[str]] | None = None,
) -> Layout:
    """Arrange the tiles of all cameras, and the bird's-eye view where the rig is calibrated.

    Args:
        aspects: width over height of each camera's image, in the order of the cameras (`USUAL_ASPECT` where it
            is not known).
        rig: bearings of the cameras put those that look ahead above those that look back.
        width_px: width of the picture; made even.
        bird_eye: whether a bird's-eye view is wanted.
        rows: cameras from left to right, row by row, instead; those that it leaves out are not shown.

    Raises:
        ConfigError: `rows` names a camera that is not there, or one twice.
    """
    width = max(160, width_px - width_px % 2)
    # In proportion, so that what is legible at one width is at every other, shown on the same screen.
    text_px = max(9, round(width / 112))
    header = Rect(0, 0, width, round(text_px * 2.3))
    names = list(aspects) if rows is None else _given(rows, aspects)
    rows = arrange(names, rig, _columns(len(names))) if rows is None else rows
    columns = max((len(row) for row in rows), default=1)
    # A hostile or odd image of one pixel's height must not decide the picture.
    aspect = min(max(float(np.median([aspects[n] for n in names] or [USUAL_ASPECT])), 0.5), 4.0)
    with_panel = bird_eye and bool(rig.cameras)
    room = round(_HIGHEST * width) - header.height
    below = _grid_size(width, room - (round(width * 0.2) if with_panel else 0), columns, len(rows), aspect)
    if not with_panel:
        return _finish(
            width, header, rows, Rect(0, header.height, width, below[1]), below, text_px, None, None
        )
    panel_w = round(width * 0.3)
    beside = _grid_size(width - panel_w, room, columns, len(rows), aspect)
    # Beside the tiles the view is larger, so the tiles may be a little smaller for it.
    if beside[0] * beside[1] > 0.8 * below[0] * below[1]:
        height = max(beside[1], round(panel_w * 0.8))
        grid = Rect(0, header.height, width - panel_w, height)
        view_h = height if height < panel_w * 1.35 else round(panel_w * 1.0)
        view = Rect(grid.width + _GAP_PX, header.height, panel_w - _GAP_PX, view_h)
        table = Rect(view.x, view.y + view_h + _GAP_PX, view.width, height - view_h - _GAP_PX)
        return _finish(width, header, rows, grid, beside, text_px, view, table if table.height > 0 else None)
    grid = Rect(0, header.height, width, below[1])
    top, strip = header.height + below[1] + _GAP_PX, round(width * 0.2) - _GAP_PX
    view = Rect(0, top, round(width * 2 / 3) - _GAP_PX, strip)
    table = Rect(view.width + _GAP_PX, top, width - view.width - _GAP_PX, strip)
    return _finish(width, header, rows, grid, below, text_px, view, table)


def rest_of(size_wh: tuple[int, int], parts: Collection[Rect]) -> list[Rect]:
    """What of a picture none of its parts covers, which do not overlap, as rectangles."""
    width, height = size_wh
    rest: list[Rect] = []
    edges = sorted({0, height, *(p.y for p in parts), *(p.y + p.height for p in parts)})
    for top, end in pairwise(edges):
        left = 0
        for part in sorted((p for p in parts if p.y <= top and end <= p.y + p.height), key=lambda p: p.x):
            rest.append(Rect(left, top, part.x - left, end - top))
            left = part.x + part.width
        rest.append(Rect(left, top, width - left, end - top))
    return [part for part in rest if part.width]


def _given(rows: Sequence[Sequence[str]], aspects: Mapping[str, float]) -> list[str]:
    """The cameras that a given arrangement names."""
    names = [name for row in rows for name in row]
    for i, name in enumerate(names):
        if name not in aspects:
            raise ConfigError(
                f"render.layout: there is no camera {printable(name)}; there are {', '.join(map(printable, aspects))}"
            )
        if name in names[:i]:
            raise ConfigError(f"render.layout: {printable(name)} is named twice")
    return names


def _columns(n: int) -> int:
    """Three over three for six cameras, two over two for four, else a little wider than high."""
    return {0: 1, 1: 1, 2: 2, 3: 3, 4: 2}.get(n, math.ceil(math.sqrt(1.5 * n)))


def _grid_size(width: int, height: int, columns: int, rows: int, aspect: float) -> tuple[int, int]:
    """Width and height of the largest grid of tiles that fits."""
    tile_w = min(width / columns, height / max(rows, 1) * aspect)
    return math.floor(tile_w * columns), round(tile_w / aspect) * max(rows, 1)


def _finish(
    width: int,
    header: Rect,
    rows: Sequence[Sequence[str]],
    grid: Rect,
    tiles_wh: tuple[int, int],
    text_px: int,
    bird_eye: Rect | None,
    table: Rect | None,
) -> Layout:
    columns = max((len(row) for row in rows), default=1)
    tile_w, tile_h = tiles_wh[0] // columns, tiles_wh[1] // max(len(rows), 1)
    top = grid.y + (grid.height - tile_h * len(rows)) // 2
    slots: dict[str, Rect] = {}
    for i, row in enumerate(rows):
        left = grid.x + (grid.width - tile_w * len(row)) // 2
        for j, name in enumerate(row):
            slots[name] = Rect(left + j * tile_w, top + i * tile_h, tile_w, tile_h)
    bottom = max([grid.y + grid.height, *(r.y + r.height for r in (bird_eye, table) if r is not None)])
    return Layout((width, bottom + bottom % 2), header, slots, bird_eye, table, text_px)


def arrange(names: Sequence[str], rig: Rig, columns: int) -> list[list[str]]:
    """Cameras in rows: those that look ahead first, left ones on the left; as given where bearings are unknown.

    A bearing comes from the calibration or from words in the name (front, left, right, back, rear).
    """
    bearings = {name: _bearing_deg(name, rig) for name in names}
    known = {name: b for name, b in bearings.items() if b is not None}
    if len(known) < len(names) or len({round(b) for b in known.values()}) < 2:
        return [list(names[i : i + columns]) for i in range(0, len(names), columns)]
    ahead_first = sorted(names, key=lambda n: (round(abs(known[n])), names.index(n)))
    rows: list[list[str]] = []
    for i in range(0, len(names), columns):
        row = ahead_first[i : i + columns]
        looks_ahead = sum(abs(known[n]) for n in row) / len(row) <= 90
        # Seen from behind the wheel, and in the mirror: what is on the left stays on the left.
        row.sort(key=(lambda n: -known[n]) if looks_ahead else (lambda n: known[n] % 360))
        rows.append(row)
    return rows


def camera_yaw_rad(rig: Rig, name: str) -> float:
    """Bearing of a calibrated camera's optical axis in the base frame, from x towards y."""
    axis = rig.cameras[name].base_SE3_camera.rotation[:, 2]
    return math.atan2(axis[1], axis[0])


def _bearing_deg(name: str, rig: Rig) -> float | None:
    """Degrees from forward to the left, (-180, 180]; None where neither calibration nor name tells."""
    if name in rig.cameras:
        return math.degrees(camera_yaw_rad(rig, name))
    words = re.split(r"[^a-z]+", name.lower())
    for word in words:
        if word in _SHORT:
            return float(_SHORT[word])
    found = [w for w in _WORDS if any(w in word for word in words)]
    if not found:
        return None
    x = sum(math.cos(math.radians(_WORDS[w])) for w in found)
    y = sum(math.sin(math.radians(_WORDS[w])) for w in found)
    return math.degrees(math.atan2(round(y, 6), round(x, 6)))
