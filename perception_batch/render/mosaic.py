"""The picture of one timestep: a line of facts, every camera with its boxes, the bird's-eye view, the objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import cv2
import numpy as np

from perception_batch.calibration import Rig
from perception_batch.render import color
from perception_batch.render.bird_eye import BirdEye
from perception_batch.render.color import object_colors
from perception_batch.render.layout import Layout, Rect, rest_of
from perception_batch.render.text import Color, draw_text, fit_text, text_size
from perception_batch.render.tile import Tile
from perception_batch.types import FusedObject, Fusion, Image, TimestepResult

_STATUS = {
    "missing": ("MISSING", color.WARNING),
    "not_due": ("NOT DUE", color.FAINT),
    "undecodable": ("UNDECODABLE", color.WARNING),
}
_SHADE = (np.arange(256)[None, :, None] * 5 // 16 + np.array(color.INK) * 11 // 16).astype(np.uint8)
"""(1, 256, 3): what lies under a camera's name, by what lay there."""


class Mosaic:
    """Draws timesteps, in order; of those before, only the trails of the bird's-eye view are kept."""

    def __init__(
        self,
        layout: Layout,
        rig: Rig,
        *,
        drive: str,
        first_stamp_ns: int,
        labels: Mapping[int, str],
        range_m: float = 50.0,
    ) -> None:
        """Draw the parts that do not change.

        Args:
            layout: from `make_layout`.
            rig: for the bird's-eye view.
            drive: name of the drive.
            first_stamp_ns: where the drive's time starts, ns.
            labels: the model's class names, for boxes that belong to no object.
            range_m: how far ahead the bird's-eye view reaches.
        """
        self.layout = layout
        self._drive = drive
        self._first_stamp_ns = first_stamp_ns
        self._labels = labels
        self._line_px = max(2, round(layout.text_px / 9))  # 2 at the usual width
        width, height = layout.size_wh
        self._background = np.full((height, width, 3), color.BACKGROUND, np.uint8)
        for rect in layout.slots.values():
            _hatch(_part(self._background, rect))
        if layout.table is not None:
            _part(self._background, layout.table)[...] = color.PANEL
        self._beside = rest_of(layout.size_wh, layout.slots.values())
        """Where there are no cameras."""
        self._bird_eye: BirdEye | None = None
        panel = layout.bird_eye
        if panel is not None:
            self._bird_eye = BirdEye(panel.width, panel.height, rig, range_m, layout.text_px)
            _part(self._background, panel)[...] = self._bird_eye.background

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the pictures, px."""
        return self.layout.size_wh

    def pass_over(self, result: TimestepResult) -> None:
        """Take a timestep whose picture is there already; those after it look as if it had been drawn."""
        if self._bird_eye is not None:
            self._bird_eye.pass_over(result)

    def draw(self, tiles: Mapping[str, Tile], result: TimestepResult) -> Image:
        """(H, W, 3) uint8 RGB of one timestep.

        Args:
            tiles: by camera, for those whose image was decoded.
            result: what is known of the timestep.
        """
        return self._drawn(tiles, result)

    def blank(self) -> Image:
        """The picture of an empty timestep: all that is the same in every one, which is layout, rig, names and letters."""
        return self._drawn({}, TimestepResult(0, 0, {}, {}, {}, Fusion((), {}, {}), None))

    def _drawn(self, tiles: Mapping[str, Tile], result: TimestepResult) -> Image:
        image = np.empty_like(self._background)
        for rect in self._beside:
            _part(image, rect)[...] = _part(self._background, rect)
        colors = object_colors(result)
        self._header(image, result)
        for camera, rect in self.layout.slots.items():
            self._camera(_part(image, rect), camera, tiles.get(camera), result, colors)
        if self._bird_eye is not None and self.layout.bird_eye is not None:
            self._bird_eye.draw(_part(image, self.layout.bird_eye), result, colors)
        if self.layout.table is not None:
            self._table(_part(image, self.layout.table), result, colors)
        return image

    def _header(self, image: Image, result: TimestepResult) -> None:
        rect, size = self.layout.header, self.layout.text_px
        y, gap = (rect.height - round(size * 1.3)) // 2, round(size * 1.5)
        stamps = [result.frame_stamps_ns[c] for c, s in result.status.items() if s == "ok"]
        spread_ms = (max(stamps) - min(stamps)) / 1e6 if stamps else 0.0
        due = sum(status != "not_due" for status in result.status.values())
        n = len(result.fusion.objects)
        right = [f"{n} object{'s' * (n != 1)}", f"{len(stamps)}/{due} cameras", f"spread {spread_ms:.1f} ms"]
        x = rect.width - gap // 2
        for text in right:
            x -= text_size(text, size)[0]
            tint = color.WARNING if text.endswith("cameras") and len(stamps) < due else color.TEXT
            draw_text(image, text, (x, y), size, tint)
            x -= gap
        left = [
            f"timestep {result.index}",
            _utc(result.stamp_ns),
            f"t = {(result.stamp_ns - self._first_stamp_ns) / 1e9:.3f} s",
        ]
        room = x - gap - sum(text_size(text, size)[0] + gap for text in left)
        name = fit_text(self._drive, max(room, rect.width // 8), size, bold=True)
        at = draw_text(image, name, (gap // 2, y), size, color.BRIGHT, bold=True) + gap
        for text in left:
            if at + text_size(text, size)[0] > x:
                break
            at = draw_text(image, text, (at, y), size, color.TEXT) + gap

    def _camera(
        self, part: Image, camera: str, tile: Tile | None, result: TimestepResult, colors: Sequence[Color]
    ) -> None:
        status = result.status.get(camera, "missing")
        height, width = part.shape[:2]
        size = self.layout.text_px - 1
        note, tint = _offset(result, camera), color.TEXT
        if status == "held":
            note, tint = f"{note}  held", color.WARNING
        if tile is None or status in _STATUS:
            part[...] = _part(self._background, self.layout.slots[camera])
            _pill(part, camera, note, size, tint)
            text, tint = _STATUS.get(status, ("NO IMAGE", color.FAINT))
            w, h = text_size(text, size + 5, bold=True)
            draw_text(part, text, ((width - w) // 2, (height - h) // 2), size + 5, tint, bold=True)
            _frame(part)
            return
        scale = min(width / tile.aspect, height)
        w, h = max(1, round(scale * tile.aspect)), max(1, round(scale))
        x, y = (width - w) // 2, (height - h) // 2
        if (w, h) != (width, height):
            part[...] = np.array(color.BACKGROUND, np.uint8)
        seen = part[y : y + h, x : x + w]
        if tile.image.shape[:2] == (h, w):
            seen[...] = tile.image
        else:
            shrinks = w < 0.7 * tile.image.shape[1]
            way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            cv2.resize(tile.image, (w, h), dst=seen, interpolation=way)
        placed = [_pill_rect(part, camera, note, size)]
        self._boxes(seen, (x, y), part, camera, tile, result, colors, placed)
        _pill(part, camera, note, size, tint)
        _frame(part)

    def _boxes(
        self,
        seen: Image,
        origin: tuple[int, int],
        part: Image,
        camera: str,
        tile: Tile,
        result: TimestepResult,
        colors: Sequence[Color],
        placed: list[Rect],
    ) -> None:
        boxes = result.detections.get(camera)
        if boxes is None or not len(boxes):
            return
        height, width = seen.shape[:2]
        suppressed = result.fusion.suppressed.get(camera, ("",) * len(boxes))
        object_of = result.fusion.object_of.get(camera, np.full(len(boxes), -1, np.int32))
        at = tile.to_slot(boxes.xyxy, (width, height))
        area = (at[:, 2] - at[:, 0]) * (at[:, 3] - at[:, 1])
        kept = [i for i in np.argsort(-area, kind="stable").tolist() if not suppressed[i]]
        drawn: list[tuple[int, Rect, Color]] = []
        for i in kept:
            x0, y0, x1, y1 = (round(float(v)) for v in at[i])
            rect = Rect(x0 + origin[0], y0 + origin[1], max(x1 - x0, 2), max(y1 - y0, 2))
            tint = colors[object_of[i]] if object_of[i] >= 0 else color.NO_OBJECT
            corner = (rect.x + rect.width - 1, rect.y + rect.height - 1)
            thick = self._line_px if min(rect.width, rect.height) >= 7 * self._line_px else 1
            if thick > 1:  # a dark rim lifts the box off bright ground, but would fill a small one
                cv2.rectangle(part, (rect.x, rect.y), corner, color.INK, thick + 2)
            cv2.rectangle(part, (rect.x, rect.y), corner, tint, thick)
            drawn.append((i, rect, tint))
        size = max(9, self.layout.text_px - 4)
        for i, rect, tint in drawn:
            number = int(object_of[i])
            item = result.fusion.objects[number] if number >= 0 else None
            text = _name(item, self._labels, int(boxes.class_id[i]), float(boxes.score[i]))
            # The name of a far thing is not worth hiding its neighbours for.
            shy = rect.height < 1.5 * size
            others = [other for k, other, _ in drawn if k != i] if shy else []
            _label(part, rect, text, size, tint, placed, others)

    def _table(self, part: Image, result: TimestepResult, colors: Sequence[Color]) -> None:
        """Objects, nearest first, as many as fit."""
        size = max(9, self.layout.text_px - 3)
        line, pad = round(size * 1.65), round(size * 0.9)
        width = part.shape[1]
        if part.shape[0] < 3 * line:
            return
        # Right edges of the numbers and left edges of the texts, in widths of a letter.
        unit = text_size("0", size)[0]
        label_x, score_x, range_x = pad + 2 * unit, pad + 20 * unit, pad + 29 * unit
        seen_x = range_x + 2 * unit
        y = pad // 2 + 2
        draw_text(part, "object", (label_x, y), size, color.FAINT)
        for text, right in (("score", score_x), ("range", range_x)):
            draw_text(part, text, (right - text_size(text, size)[0], y), size, color.FAINT)
        draw_text(part, "seen by", (seen_x, y), size, color.FAINT)
        y += line
        order = sorted(range(len(colors)), key=lambda i: (_range_m(result.fusion.objects[i]), i))
        fits = (part.shape[0] - y - pad // 2) // line
        shown = order if len(order) <= fits else order[: max(fits - 1, 0)]
        for i in shown:
            item, tint = result.fusion.objects[i], colors[i]
            middle = y + round(size * 0.66)
            cv2.circle(part, (pad + unit // 2, middle), max(3, size // 3), tint, -1, cv2.LINE_AA)
            name = f"#{item.track_id} {item.label}" if item.track_id >= 0 else item.label
            draw_text(part, fit_text(name, 13 * unit, size), (label_x, y), size, color.BRIGHT)
            score, far = f"{item.score:.2f}", _range_m(item)
            draw_text(part, score, (score_x - text_size(score, size)[0], y), size, color.TEXT)
            text = f"{far:.1f} m" if math.isfinite(far) else "-"
            draw_text(part, text, (range_x - text_size(text, size)[0], y), size, color.TEXT)
            cameras = ", ".join(o.camera for o in item.observations) or "filled in"
            draw_text(part, fit_text(cameras, width - seen_x - pad, size), (seen_x, y), size, color.TEXT)
            y += line
        if len(shown) < len(order):
            draw_text(part, f"and {len(order) - len(shown)} more", (label_x, y), size, color.FAINT)
        elif not order:
            draw_text(part, "none", (label_x, y), size, color.FAINT)


def _part(image: Image, rect: Rect) -> Image:
    """The pixels of a rectangle, to draw into."""
    return image[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]


def _hatch(part: Image) -> None:
    """Grey with diagonal stripes: nothing that a camera could have seen."""
    height, width = part.shape[:2]
    stripes = np.array([(46, 49, 54), (38, 41, 46)], np.uint8)[np.arange(height + width) // 9 % 2]
    for row in range(height):
        part[row] = stripes[row : row + width]


def _frame(part: Image) -> None:
    """A dark line round a tile, over its edge, so that tiles need no gaps and no resizing."""
    cv2.rectangle(part, (0, 0), (part.shape[1] - 1, part.shape[0] - 1), color.BACKGROUND, 1)


def _pill_rect(part: Image, name: str, note: str, size: int) -> Rect:
    """The place of `_pill`."""
    name = fit_text(name, part.shape[1] * 6 // 10, size, bold=True)
    (name_w, height), gap = text_size(name, size, bold=True), size // 2
    width = name_w + text_size(note, size)[0] + gap * (3 if note else 2) + 2
    return Rect(0, 0, min(width, part.shape[1]), min(height + gap // 2 + 2, part.shape[0]))


def _pill(part: Image, name: str, note: str, size: int, tint: Color) -> None:
    """The camera's name and its offset on a dark ground in the corner."""
    ground = _part(part, _pill_rect(part, name, note, size))
    ground[...] = cv2.LUT(ground, _SHADE)
    gap = size // 2
    name = fit_text(name, part.shape[1] * 6 // 10, size, bold=True)
    x = draw_text(part, name, (gap, gap // 4 + 1), size, color.BRIGHT, bold=True)
    if note:
        draw_text(part, note, (x + gap, gap // 4 + 1), size, tint)


def _offset(result: TimestepResult, camera: str) -> str:
    if camera not in result.frame_stamps_ns:
        return ""
    offset_ms = (result.frame_stamps_ns[camera] - result.stamp_ns) / 1e6
    return f"{offset_ms + 0.0:+.1f} ms"


def _name(item: FusedObject | None, labels: Mapping[int, str], class_id: int, score: float) -> str:
    if item is None:
        return f"{labels.get(class_id, str(class_id))} {score:.2f}"
    return f"#{item.track_id} {item.label} {score:.2f}" if item.track_id >= 0 else f"{item.label} {score:.2f}"


def _label(
    part: Image, box: Rect, text: str, size: int, tint: Color, placed: list[Rect], others: Sequence[Rect]
) -> None:
    """A box's name on its colour, above it, else in or below it; left out where it would hide another name.

    It does not cover `others` either.
    """
    w, h = text_size(text, size)
    w, h = w + 6, h + 1
    height, width = part.shape[:2]
    left = min(max(box.x - 1, 0), max(width - w, 0))
    right = min(max(box.x + box.width - w + 1, 0), max(width - w, 0))
    above, below = box.y - h, box.y + box.height
    spots = [(left, above), (right, above), (left, below), (right, below)]
    if box.width >= w and box.height >= 2 * h:
        spots.insert(2, (left + 1, max(box.y, 0) + 1))
    for x, y in spots:
        spot = Rect(x, y, w, h)
        if y < 0 or y + h > height or any(spot.overlaps(o) for o in (*placed, *others)):
            continue
        _part(part, spot)[...] = tint
        draw_text(part, text, (x + 3, y), size, color.INK)
        placed.append(spot)
        return


def _range_m(item: FusedObject) -> float:
    """Horizontal distance, m; infinite where unknown, so that it sorts last."""
    return math.hypot(*item.position_m[:2].tolist()) if item.has_position else math.inf


def _utc(stamp_ns: int) -> str:
    """The stamp as a date; as a number where no calendar reaches."""
    seconds, rest = divmod(stamp_ns, 1_000_000_000)
    try:
        when = datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{stamp_ns} ns"
    return f"{when:%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d} UTC"
