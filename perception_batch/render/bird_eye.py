"""The bird's-eye view: the vehicle, what its cameras see of the ground, and the objects. x forward is up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.calibration import Camera, Rig
from perception_batch.render import color
from perception_batch.render.layout import Rect
from perception_batch.render.text import Color, draw_text, text_size
from perception_batch.render.trails import Trails
from perception_batch.types import FusedObject, Image, TimestepResult

_SHIFT = 4  # OpenCV takes coordinates in 1/16 px, so slow objects do not jump
_EGO_LWH_M = (4.6, 1.9)  # drawn size of the vehicle: the ontology's car
_STEPS_M = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
_LONGEST_PX = 4000.0
_TURN = np.linspace(0, math.tau, 40, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


class BirdEye:
    """Draws the view into a panel of fixed size; all that does not change lies there already."""

    def __init__(self, width_px: int, height_px: int, rig: Rig, range_m: float, text_px: int) -> None:
        """`range_m` ahead of the vehicle reach to the upper edge."""
        self._size_wh = (width_px, height_px)
        self._text_px = max(9, text_px - 4)
        self._line_px = max(1, round(self._text_px / 13))  # 1 at the usual width
        looks_back = any(camera.base_SE3_camera.rotation[0, 2] < -0.2 for camera in rig.cameras.values())
        # A vehicle that sees nothing behind it stands at the lower edge.
        self._ego_px = (width_px / 2, height_px * (0.58 if looks_back else 0.88))
        self._px_per_m = (self._ego_px[1] - 1.2 * self._text_px) / range_m
        self.background = self._draw_background(rig)
        """(H, W, 3): what `draw` draws on."""
        self._trails = Trails()

    def pass_over(self, result: TimestepResult) -> None:
        """Take a timestep that is not drawn: the trails of later ones begin in it."""
        self._trails.remember(result)

    def draw(self, image: Image, result: TimestepResult, colors: Sequence[Color]) -> None:
        """Draw the objects with a position, one colour each, on a copy of the background; timesteps come in order."""
        shown = [
            (item, c) for item, c in zip(result.fusion.objects, colors, strict=True) if item.has_position
        ]
        self._trail(image, result, shown)
        self._uncertainty(image, shown)
        for item, tint in shown:
            self._body(image, item, tint)
        width, height = self._size_wh
        ego = self._to_px(np.zeros((1, 2)))[0]
        half = _EGO_LWH_M[0] * self._px_per_m
        placed = [Rect(round(ego[0] - half / 2), round(ego[1] - half), round(half), round(half * 1.6))]
        bodies = {id(item): self._body_rect(item) for item, _ in shown}
        for item, tint in sorted(shown, key=lambda pair: math.hypot(*pair[0].position_m[:2].tolist())):
            x, y = self._to_px(item.position_m[None, :2])[0]
            if not (0 <= x < width and 0 <= y < height):
                continue
            text = f"#{item.track_id} {item.label}" if item.track_id >= 0 else item.label
            w, h = text_size(text, self._text_px)
            gap = self._reach_px(item) + 4
            spots = (
                (x + gap, y - h / 2),
                (x - gap - w, y - h / 2),
                (x - w / 2, y - h - gap),
                (x - w / 2, y + gap),
            )
            for left, top in spots:
                spot = Rect(round(left), round(top), w, h)
                inside = spot.x >= 0 and spot.y >= 0 and spot.x + w <= width and spot.y + h <= height
                hides = (
                    *placed,
                    *(body for key, body in bodies.items() if key != id(item) and body is not None),
                )
                if inside and not any(spot.overlaps(other) for other in hides):
                    draw_text(image, text, (spot.x, spot.y), self._text_px, tint)
                    placed.append(spot)
                    break

    def _to_px(self, xy_m: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N, 2) base frame metres as (N, 2) px of the panel."""
        x_px = self._ego_px[0] - xy_m[:, 1] * self._px_per_m
        y_px = self._ego_px[1] - xy_m[:, 0] * self._px_per_m
        return np.stack([x_px, y_px], axis=1)

    def _polygon(self, xy_m: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
        """(N, 2) base frame metres in OpenCV's fixed point, contiguous, within what it can hold."""
        px = np.clip(self._to_px(xy_m), -_LONGEST_PX, 2 * _LONGEST_PX)
        return np.ascontiguousarray(np.round(px * (1 << _SHIFT)).astype(np.int32))

    def _trail(
        self, image: Image, result: TimestepResult, shown: Sequence[tuple[FusedObject, Color]]
    ) -> None:
        """Where the tracks were, fading with time."""
        past = self._trails.add(result)
        for item, tint in shown:
            if item.track_id not in past:
                continue
            points = self._polygon(past[item.track_id])
            parts = max(1, min(4, len(points) - 1))
            ends = np.linspace(0, len(points) - 1, parts + 1).round().astype(int).tolist()
            for number, (begin, end) in enumerate(pairwise(ends)):
                strength = 0.25 + 0.5 * (number + 1) / parts
                line = points[begin : end + 1]
                cv2.polylines(
                    image, [line], False, _faded(tint, strength), 2 * self._line_px, cv2.LINE_AA, _SHIFT
                )

    def _uncertainty(self, image: Image, shown: Sequence[tuple[FusedObject, Color]]) -> None:
        """Ellipses of one and two standard deviations of the horizontal positions."""
        known = [(item, tint) for item, tint in shown if np.isfinite(item.covariance_m2[:2, :2]).all()]
        if not known:
            return
        values, vectors = np.linalg.eigh(np.stack([item.covariance_m2[:2, :2] for item, _ in known]))
        sigma = np.sqrt(np.maximum(values, 0.0))
        centers = np.stack([item.position_m[:2] for item, _ in known])
        for n, strength in ((2.0, 0.4), (1.0, 0.75)):
            outlines = centers[:, None] + (_CIRCLE * (n * sigma)[:, None]) @ vectors.transpose(0, 2, 1)
            points = self._polygon(outlines.reshape(-1, 2)).reshape(len(known), -1, 2)
            for (_, tint), outline in zip(known, points, strict=True):
                cv2.polylines(
                    image, [outline], True, _faded(tint, strength), self._line_px, cv2.LINE_AA, _SHIFT
                )

    def _body(self, image: Image, item: FusedObject, tint: Color) -> None:
        """A box where the heading is known, else a dot as wide as the object; a line to where it is in 1 s."""
        if np.isfinite(item.velocity_mps[:2]).all():
            ends = np.stack([item.position_m[:2], item.position_m[:2] + item.velocity_mps[:2]])
            cv2.polylines(image, [self._polygon(ends)], False, tint, self._line_px, cv2.LINE_AA, _SHIFT)
        length, width = (float(v) for v in item.size_lwh_m[:2])
        if math.isfinite(item.yaw_rad) and math.isfinite(length) and math.isfinite(width):
            outline = self._polygon(_box(item.position_m[:2], length, width, item.yaw_rad))
            cv2.fillPoly(image, [outline], _faded(tint, 0.55), cv2.LINE_AA, _SHIFT)
            cv2.polylines(image, [outline], True, tint, self._line_px, cv2.LINE_AA, _SHIFT)
            return
        radius = max(3.5 * self._line_px, (width if math.isfinite(width) else 1.0) / 2 * self._px_per_m)
        center = self._polygon(item.position_m[None, :2])[0]
        spot = (int(center[0]), int(center[1]))
        scaled = round(min(radius, 200.0) * (1 << _SHIFT))
        cv2.circle(image, spot, scaled + (24 if not item.filled else 0), color.INK, -1, cv2.LINE_AA, _SHIFT)
        # What hindsight filled in was not seen: a ring instead of a disc.
        cv2.circle(image, spot, scaled, tint, self._line_px if item.filled else -1, cv2.LINE_AA, _SHIFT)

    def _body_rect(self, item: FusedObject) -> Rect | None:
        """The middle of the drawn object, which no name should hide; None outside the panel."""
        x, y = self._to_px(item.position_m[None, :2])[0].tolist()
        half = min(self._reach_px(item), 8.0)
        if not (0 <= x < self._size_wh[0] and 0 <= y < self._size_wh[1]):
            return None
        return Rect(round(x - half), round(y - half), round(2 * half), round(2 * half))

    def _reach_px(self, item: FusedObject) -> float:
        """How far the drawn object reaches from its centre."""
        span = item.size_lwh_m[:2] if math.isfinite(item.yaw_rad) else item.size_lwh_m[1:2]
        half = float(np.linalg.norm(span)) / 2 * self._px_per_m
        return min(max(half, 4.0), 40.0) if math.isfinite(half) else 4.0

    def _draw_background(self, rig: Rig) -> Image:
        width, height = self._size_wh
        image = np.full((height, width, 3), color.PANEL, np.uint8)
        reach = math.hypot(width, height) / self._px_per_m
        light = np.zeros((height, width), np.uint8)
        for camera in rig.cameras.values():
            wedge = field_of_view(camera, reach)
            if wedge is None:
                continue
            one = np.zeros_like(light)
            cv2.fillPoly(one, [self._polygon(wedge)], 9, cv2.LINE_AA, _SHIFT)
            light = light + one  # where two cameras look, it is twice as bright
        image += light[..., None]  # far from white, so nothing wraps around
        for camera in rig.cameras.values():
            wedge = field_of_view(camera, reach)
            if wedge is not None:
                cv2.polylines(
                    image, [self._polygon(wedge)], True, color.LINE, self._line_px, cv2.LINE_AA, _SHIFT
                )
        self._rings(image, reach)
        body = self._polygon(_box(np.zeros(2), *_EGO_LWH_M, 0.0))
        cv2.fillPoly(image, [body], color.TEXT, cv2.LINE_AA, _SHIFT)
        nose = np.array([[2.0, 0.0], [0.9, 0.7], [0.9, -0.7]])
        cv2.fillPoly(image, [self._polygon(nose)], color.PANEL, cv2.LINE_AA, _SHIFT)
        return image

    def _rings(self, image: Image, reach_m: float) -> None:
        """Circles of equal range, some three lines of text apart, every second with its metres."""
        step = next((s for s in _STEPS_M if s * self._px_per_m >= 3 * self._text_px), _STEPS_M[-1])
        center = self._polygon(np.zeros((1, 2)))[0]
        spot = (int(center[0]), int(center[1]))
        for k in range(1, min(60, math.ceil(reach_m / step)) + 1):
            radius = round(k * step * self._px_per_m * (1 << _SHIFT))
            cv2.circle(image, spot, radius, color.LINE, self._line_px, cv2.LINE_AA, _SHIFT)
        for k in range(2, min(60, math.ceil(reach_m / step)) + 1, 2):
            text = f"{k * step:g} m"
            w, h = text_size(text, self._text_px)
            # Along the diagonal backwards to the right, where neither the road ahead nor the sides are.
            reach = k * step * self._px_per_m * math.sqrt(0.5)
            for dx, dy in ((reach, reach), (reach, -reach)):
                x, y = round(self._ego_px[0] + dx - w / 2), round(self._ego_px[1] + dy - h / 2)
                if y >= 0 and y + h <= image.shape[0] and x + w <= image.shape[1]:
                    patch = image[max(y, 0) : y + h, max(x - 2, 0) : x + w + 2]
                    patch[...] = (patch.astype(np.int32) + 2 * np.array(color.PANEL)) // 3
                    draw_text(image, text, (x, y), self._text_px, color.FAINT)


def field_of_view(camera: Camera, reach_m: float) -> npt.NDArray[np.float64] | None:
    """(N, 2) outline of what a camera sees of the ground plane, metres in the base frame; None if of no use.

    The rays of the middle row, cut at `reach_m`; columns outside the lens's image circle are left out.
    """
    lens = camera.intrinsics
    columns = np.linspace(0, lens.width_px - 1, 33)
    rays = lens.unproject(np.stack([columns, np.full_like(columns, lens.cy_px)], axis=1))
    directions = (rays @ camera.base_SE3_camera.rotation.T)[:, :2]
    lengths = np.linalg.norm(directions, axis=1)
    good = np.isfinite(lengths) & (lengths > 0.1)  # a camera that looks straight down has no bearing
    if good.sum() < 2:
        return None
    origin = camera.base_SE3_camera.translation_m[:2]
    outline = origin + directions[good] / lengths[good, None] * reach_m
    return np.concatenate([origin[None, :], outline])


def _box(
    center_m: npt.NDArray[np.float64], length_m: float, width_m: float, yaw: float
) -> npt.NDArray[np.float64]:
    """(4, 2) corners of a rectangle, metres."""
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * (length_m / 2, width_m / 2)
    turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    moved: npt.NDArray[np.float64] = center_m + corners @ turn.T
    return moved


def _faded(tint: Color, strength: float) -> Color:
    """`tint` over the panel's colour."""
    r, g, b = (round(c * strength + p * (1 - strength)) for c, p in zip(tint, color.PANEL, strict=True))
    return (r, g, b)
