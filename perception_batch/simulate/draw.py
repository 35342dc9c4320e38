"""A camera's picture of the world, with the id of every pixel and the boxes that follow from it.

Painter's algorithm in an order that holds for the eye (`order`): polygons are cut and bent by the lens, filled by
OpenCV with soft edges for colour and hard ones for ids. Boxes come from the ids and from the bent polygons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.calibration import Camera
from perception_batch.geometry import SE3
from perception_batch.simulate.arrange import arranged, body_boxes, ground_order, rising_ground
from perception_batch.simulate.backdrop import Backdrop
from perception_batch.simulate.gather import Gatherer, ShapeCache
from perception_batch.simulate.lens import Lens, Polygons
from perception_batch.simulate.outlines import (
    Box,
    Outlines,
    box_inside,
    fill_colors,
    fill_ids,
    outlines_of,
    rows_by,
    silhouette,
)
from perception_batch.simulate.scene import NO_OBJECT, Drawing, IdImage, Light, Mesh, World
from perception_batch.simulate.seen import Seen
from perception_batch.simulate.shade import hazed, lamp_pools, lit, shadows
from perception_batch.simulate.solids import solid_of_thing
from perception_batch.types import Image

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_LEAST_PX = 0.4
"""Things smaller than this in both directions are not drawn, nor have they truth."""
_CELL_PX = 8
"""Cells of a coarse image in which it is looked up what may lie near to what."""


@dataclass(frozen=True, slots=True, eq=False)
class _OwnView:
    """The own vehicle before one camera: painted last, always in the same place."""

    outlines: Outlines
    """Its polygons; `face` is their painting order."""
    normal_base: FloatArray
    """(F, 3) in the base frame."""
    color: FloatArray
    """(F, 3) before light."""


class Drawer:
    """Draws what one camera of the ego vehicle sees."""

    def __init__(
        self,
        camera: Camera,
        *,
        own_vehicle: Mesh | None = None,
        radius_m: float = 160.0,
        shadows: bool = True,
        shapes: ShapeCache | None = None,
    ) -> None:
        """`own_vehicle` is the own body in the base frame; nothing farther than `radius_m` is drawn.

        Drawers of one world should share `shapes`: a mesh is then made ready once, not once for each camera.

        Raises:
            ValueError: the radius is not positive.
        """
        if not radius_m > 0:
            raise ValueError(f"radius_m must be positive, got {radius_m}")
        self.camera = camera
        self.lens = Lens(camera.intrinsics)
        self.radius_m = radius_m
        self._shadows = shadows
        self._gatherer = Gatherer(self.lens, ShapeCache() if shapes is None else shapes)
        self._backdrop = Backdrop(self.lens, camera.base_SE3_camera)
        self._own = None if own_vehicle is None else self._own_view(own_vehicle)
        self.uncertain = 0
        """Pairs of faces of the last picture that cut each other, so that their order is a guess."""

    def draw(self, world: World, time_s: float) -> Drawing:
        """The picture at one instant; the camera moves with the ego vehicle."""
        width, height = self.camera.intrinsics.width_px, self.camera.intrinsics.height_px
        light, odom_SE3_base = world.light, world.ego(time_s).odom_SE3_base
        odom_SE3_camera = odom_SE3_base @ self.camera.base_SE3_camera
        things = world.things(time_s, self.radius_m)
        seen = self._gatherer.gather(world.scenery(time_s, self.radius_m), things, odom_SE3_camera)
        real = len(seen.count) - len(seen.far_count)
        shown, convex = self.lens.show(self.lens.clip(seen.corners[:real], seen.count[:real]))
        if len(seen.far_count):
            shown, convex = self._with_far(shown, convex, seen)
        outlines = outlines_of(shown, convex, width, height)
        outlines.large[outlines.face >= real] = True  # a thing far away has no other
        image = self._backdrop.sky(light, odom_SE3_base)
        ids: IdImage = np.zeros((height, width), np.int32)

        if seen.is_hilly:
            rising = rising_ground(seen, outlines, body_boxes(seen, outlines))
            ground = seen.ground.copy()
            ground[rising] = False  # from here on it stands among the bodies
            seen = replace(seen, ground=ground)
        colors = self._colors(seen, light, odom_SE3_base)
        fill_colors(image, outlines, ground_order(seen, outlines), colors)
        dark = None
        if self._shadows:
            below_m = self.camera.base_SE3_camera.inverse().translation_m
            dark = shadows(seen, light, odom_SE3_camera, self.lens, below_m, world.ground_z_m)
            pools = lamp_pools(seen, light, odom_SE3_camera, self.lens, below_m)
            self._backdrop.lighten(image, pools, light)
        self._backdrop.light_ground(image, light, dark)

        body_box = body_boxes(seen, outlines)
        arrangement = arranged(seen, outlines, body_box)
        self.uncertain, covered = arrangement.uncertain, arrangement.covered
        fill_colors(image, outlines, arrangement.sequence, colors)
        _fill_ids(ids, outlines, arrangement.sequence, seen, arrangement.covers, body_box)
        if self._own is not None:
            self._draw_own(self._own, image, ids, light, odom_SE3_base)
            covered = covered | _under(self._own.outlines.box_px, body_box)
        self._backdrop.mask_outside(image, ids)
        return self._with_truth(image, ids, seen, outlines, body_box, covered)

    # -- polygons -------------------------------------------------------------------------------------------

    def _with_far(
        self, shown: Polygons, convex: npt.NDArray[np.bool_], seen: Seen
    ) -> tuple[Polygons, npt.NDArray[np.bool_]]:
        """The hulls of far things added to the polygons."""
        uv = self.lens.project(seen.far_points).astype(np.float32)
        ends = np.cumsum(seen.far_count).tolist()
        hulls = [cv2.convexHull(uv[a:b])[:, 0] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        first = len(seen.count) - len(hulls)
        polygons = Polygons(
            np.concatenate([shown.points, *hulls]),
            np.concatenate([shown.count, np.array([len(h) for h in hulls], np.int64)]),
            np.concatenate([shown.face, np.arange(first, len(seen.count))]),
        )
        return polygons, np.concatenate([convex, np.ones(len(hulls), np.bool_)])

    # -- paint ----------------------------------------------------------------------------------------------

    def _colors(self, seen: Seen, light: Light, odom_SE3_base: SE3) -> list[tuple[int, ...]]:
        """Colour of each seen face under the light, faded by distance; the ground fades by pixel instead."""
        colors = lit(seen.color, seen.normal_odom, seen.shines, seen.leaf, light)
        colors = self._backdrop.lamp_light(colors, seen, light, odom_SE3_base)
        away = np.linalg.norm(seen.middle, axis=1)
        away = np.where(seen.ground & self._backdrop.fades(seen.middle), 0.0, away)
        colors = hazed(colors, away, seen.shines, light)
        return _tuples(colors)

    # -- own vehicle ----------------------------------------------------------------------------------------

    def _own_view(self, mesh: Mesh) -> _OwnView:
        """The own vehicle as this camera sees it."""
        solid = solid_of_thing(mesh, (20.0, 20.0, 20.0))
        camera_SE3_base = self.camera.base_SE3_camera.inverse()
        corners = camera_SE3_base.apply(solid.corners.reshape(-1, 3)).reshape(-1, 4, 3)
        normal = solid.normal @ camera_SE3_base.rotation.T
        faces = np.flatnonzero(np.einsum("fi,fi->f", normal, corners[:, 0]) < 0)
        away = np.linalg.norm(corners[faces].mean(axis=1), axis=1)
        faces = faces[np.argsort(-away, kind="stable")]
        width, height = self.camera.intrinsics.width_px, self.camera.intrinsics.height_px
        outlines = outlines_of(
            *self.lens.show(self.lens.clip(corners[faces], solid.count[faces])), width, height
        )
        return _OwnView(outlines, solid.normal[faces], solid.color[faces])

    def _draw_own(self, own: _OwnView, image: Image, ids: IdImage, light: Light, odom_SE3_base: SE3) -> None:
        none = np.zeros(len(own.color), np.bool_)
        colors = lit(own.color, own.normal_base @ odom_SE3_base.rotation.T, none, none, light)
        rows = np.argsort(own.outlines.face, kind="stable")
        fill_colors(image, own.outlines, rows, _tuples(colors))
        fill_ids(ids, own.outlines, rows, [NO_OBJECT] * len(rows))

    # -- truth ----------------------------------------------------------------------------------------------

    def _with_truth(
        self,
        image: Image,
        ids: IdImage,
        seen: Seen,
        outlines: Outlines,
        body_box: FloatArray,
        covered: npt.NDArray[np.bool_],
    ) -> Drawing:
        width, height = self.camera.intrinsics.width_px, self.camera.intrinsics.height_px
        visible: dict[int, Box] = {}
        amodal: dict[int, Box] = {}
        fraction: dict[int, float] = {}
        truncation: dict[int, float] = {}
        by_body: dict[int, IntArray] = {}
        scratch: npt.NDArray[np.uint8] = np.zeros((height, width), np.uint8)
        polygon_body = np.where(seen.ground[outlines.face], -1, seen.body[outlines.face])
        for body in np.flatnonzero((seen.object_id > 0) & ~np.isnan(body_box[:, 0])).tolist():
            object_id = int(seen.object_id[body])
            left, top, right, bottom = (body_box[body] + 0.5).tolist()
            box = (left, top, right, bottom)
            if left < 0 or top < 0 or right > width or bottom > height:
                by_body = by_body or rows_by(polygon_body)
                box = box_inside(outlines, by_body[body], width, height)
            if box[2] <= box[0] or box[3] <= box[1] or max(right - left, bottom - top) < _LEAST_PX:
                continue
            # OpenCV fills every pixel that a polygon touches, so one more on each side may carry the id.
            x0, y0 = max(int(left) - 1, 0), max(int(top) - 1, 0)
            x1, y1 = min(int(right) + 2, width), min(int(bottom) + 2, height)
            mine = (ids[y0:y1, x0:x1] == object_id).view(np.uint8)
            pixels = cv2.countNonZero(mine)
            whole = pixels
            if covered[body]:
                by_body = by_body or rows_by(polygon_body)
                whole = silhouette(outlines, by_body[body], (x0, y0, x1, y1), scratch)
            if not whole:
                continue
            amodal[object_id] = box
            fraction[object_id] = min(1.0, pixels / whole)
            truncation[object_id] = self._truncation(seen, body, (left, top, right, bottom), box)
            if pixels:
                bx, by, bw, bh = cv2.boundingRect(mine)
                drawn = (float(x0 + bx), float(y0 + by), float(x0 + bx + bw), float(y0 + by + bh))
                # What is seen of a thing lies within its own box, to a fraction of a pixel.
                within = (*map(max, drawn[:2], box[:2]), *map(min, drawn[2:], box[2:]))
                visible[object_id] = within if within[0] < within[2] and within[1] < within[3] else drawn
        return Drawing(image, ids, visible, amodal, fraction, truncation)

    def _truncation(self, seen: Seen, body: int, whole: Box, inside: Box) -> float:
        """Share of a thing's box outside of the image; the box itself is followed one image width beyond it.

        A distorted lens is followed only as far as its polynomial means something: a third beyond the corners.
        """
        width, height = self.camera.intrinsics.width_px, self.camera.intrinsics.height_px
        if whole == inside:
            return 0.0
        corners = seen.outer(body)
        ahead = corners if self.lens.is_wide else corners[corners[:, 2] > 0.1]
        if not len(ahead):
            return 1.0
        uv = (self.camera.intrinsics if self.lens.is_straight else self.lens).project(ahead) + 0.5
        low = np.clip(np.minimum(uv.min(axis=0), whole[:2]), (-width, -height), None)
        high = np.clip(np.maximum(uv.max(axis=0), whole[2:]), None, (2 * width, 2 * height))
        if len(ahead) < len(corners):  # it passes the camera: its side goes out of the image
            low = np.where(np.array(whole[:2]) < 0, np.minimum(low, (-width, -height)), low)
            high = np.where(
                np.array(whole[2:]) > (width, height), np.maximum(high, (2 * width, 2 * height)), high
            )
        area = float(np.prod(high - low))
        share = (inside[2] - inside[0]) * (inside[3] - inside[1]) / max(area, 1e-9)
        return float(min(max(1 - share, 0.0), 1.0))


def _tuples(colors: FloatArray) -> list[tuple[int, ...]]:
    """(F, 3) colours as OpenCV takes them fastest."""
    whole = np.clip(np.round(colors), 0, 255).astype(np.int64)
    return list(zip(*(whole[:, i].tolist() for i in range(3)), strict=True))


def _under(own_px: FloatArray, body_box: FloatArray) -> npt.NDArray[np.bool_]:
    """(B,) bodies whose box overlaps that of all `own_px` polygons."""
    if not len(own_px):
        return np.zeros(len(body_box), np.bool_)
    low, high = own_px[:, :2].min(axis=0), own_px[:, 2:].max(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray((body_box[:, :2] < high + 1).all(axis=1) & (body_box[:, 2:] > low - 1).all(axis=1))


def _fill_ids(
    ids: IdImage,
    outlines: Outlines,
    which: IntArray,
    seen: Seen,
    covers: npt.NDArray[np.bool_],
    body_box: FloatArray,
) -> None:
    body = seen.body[outlines.face[which]]
    written = covers[body] & outlines.large[which]
    which, body = which[written], body[written]
    # Scenery is written only where a thing may lie below it.
    things = body_box[(seen.object_id > 0) & ~np.isnan(body_box[:, 0])]
    keep = (seen.object_id[body] != NO_OBJECT) | _near_any(outlines.box_px[which], things, ids.shape)
    which, body = which[keep], body[keep]
    fill_ids(ids, outlines, which, seen.object_id[body].tolist())


def _near_any(box_px: FloatArray, others_px: FloatArray, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """(N,) whether boxes come within a few pixels of any of the others, within an image of (H, W)."""
    rows, columns = shape[0] // _CELL_PX + 1, shape[1] // _CELL_PX + 1
    most = (columns, rows, columns, rows)
    cells: npt.NDArray[np.uint8] = np.zeros((rows, columns), np.uint8)
    marked = np.floor((others_px + np.array([-1, -1, 1, 1])) / _CELL_PX)
    for left, top, right, bottom in np.clip(marked, 0, most).astype(np.int64).tolist():
        cells[top : bottom + 1, left : right + 1] = 1
    # How many marked cells lie in a box follows from the sums over all that lie above and to the left.
    total = cv2.integral(cells)
    left, top, right, bottom = np.clip(np.floor(box_px / _CELL_PX), 0, most).astype(np.int64).T
    right, bottom = np.minimum(right + 1, columns), np.minimum(bottom + 1, rows)
    count = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return np.asarray(count > 0)
