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
from perception_batch.simulate import order
from perception_batch.simulate.backdrop import Backdrop
from perception_batch.simulate.gather import Gatherer, Seen, ShapeCache
from perception_batch.simulate.lens import Lens, Polygons, cut_to_image
from perception_batch.simulate.scene import NO_OBJECT, Drawing, IdImage, Light, Mesh, World
from perception_batch.simulate.shade import hazed, lamp_pools, lit, shadows
from perception_batch.simulate.solids import ranks, solid_of_thing
from perception_batch.types import Image

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Box = tuple[float, float, float, float]

_SHIFT = 4
"""Corners are given to OpenCV in sixteenths of a pixel."""
_LEAST_PX = 0.4
"""Things smaller than this in both directions are not drawn, nor have they truth."""
_LEAST_FACE_PX = 1.4
"""Faces smaller than this in both directions are left out of the colours: their neighbours' soft edges fill in."""
_PAINT_M2, _PATCH_M = 4.0, 6.0
"""Faces of the ground smaller than this are paint; patches of the ground are about this long."""
_HIDDEN_M = 0.1
"""Feet that lie less than this below a patch's plane are not looked at: wheels stand on bumps."""
_HIDDEN_PX = 1.5
"""Nor those that a patch would hide less than this of."""
_FAR_PX = 20000.0
"""Corners are held within this many pixels; clipping keeps them far nearer."""


@dataclass(frozen=True, slots=True, eq=False)
class _Outlines:
    """Polygons on the screen, ready for OpenCV."""

    points: npt.NDArray[np.int32]
    """(M, 2) corners, 1 / 2**_SHIFT px."""
    start: IntArray
    """(N + 1,) first corner of each, and the end."""
    convex: npt.NDArray[np.bool_]
    """(N,) whether every row of the image meets it at most twice, as OpenCV's fast filling wants it."""
    face: IntArray
    """(N,) face that it shows."""
    box_px: FloatArray
    """(N, 4) left, top, right, bottom of it, px (pixel centres)."""


@dataclass(frozen=True, slots=True, eq=False)
class _OwnView:
    """The own vehicle before one camera: painted last, always in the same place."""

    outlines: _Outlines
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
        outlines = _outlines(shown, convex, width, height)
        image = self._backdrop.sky(light, odom_SE3_base)
        ids: IdImage = np.zeros((height, width), np.int32)

        if seen.is_hilly:
            rising = _rising(seen, outlines, self._body_boxes(seen, outlines))
            ground = seen.ground.copy()
            ground[rising] = False  # from here on it stands among the bodies
            seen = replace(seen, ground=ground)
        colors = self._colors(seen, light, odom_SE3_base)
        self._fill(image, outlines, _ground_order(seen, outlines), colors)
        if self._shadows:
            below_m = self.camera.base_SE3_camera.inverse().translation_m
            dark = shadows(seen, light, odom_SE3_camera, self.lens, below_m)
            self._backdrop.darken(image, dark)
            self._backdrop.lighten(image, lamp_pools(seen, light, odom_SE3_camera, self.lens, below_m))
        self._backdrop.light_ground(image, light)

        body_box = self._body_boxes(seen, outlines)
        sequence, covers, covered = self._order(seen, outlines, body_box)
        self._fill(image, outlines, sequence, colors)
        self._fill_ids(ids, outlines, sequence, seen, covers, body_box)
        if self._own is not None:
            self._draw_own(self._own, image, ids, light, odom_SE3_base)
            covered |= _under(self._own.outlines.box_px, body_box)
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

    def _body_boxes(self, seen: Seen, outlines: _Outlines) -> FloatArray:
        """(B, 4) px (pixel centres) around all polygons of each body that stands; NaN where none is seen."""
        box = np.full((len(seen.center), 4), np.nan)
        standing = np.flatnonzero(~seen.ground[outlines.face])
        body = seen.body[outlines.face[standing]]
        np.fmin.at(box[:, :2], body, outlines.box_px[standing, :2])
        np.fmax.at(box[:, 2:], body, outlines.box_px[standing, 2:])
        return box

    # -- order ----------------------------------------------------------------------------------------------

    def _order(
        self, seen: Seen, outlines: _Outlines, body_box: FloatArray
    ) -> tuple[IntArray, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Numbers of the standing polygons in painting order; (B,) bodies that hide a thing; (B,) hidden ones."""
        bodies = len(body_box)
        is_thing = seen.object_id > 0
        covers, covered = is_thing.copy(), np.zeros(bodies, np.bool_)
        standing = np.flatnonzero(~seen.ground[outlines.face])
        alive = np.flatnonzero(~np.isnan(body_box[:, 0]))
        local = order.overlapping(body_box[alive] + (-1, -1, 1, 1))
        pairs = alive[local]
        second, first = order.in_front(pairs, seen.center, seen.axes, seen.half)
        place = np.zeros(bodies, np.int64)
        place[alive], _ = order.body_groups(len(alive), local, second, first)
        a, b = pairs[:, 0], pairs[:, 1]
        covers[b[is_thing[a] & (place[b] >= place[a])]] = True
        covers[a[is_thing[b] & (place[a] >= place[b])]] = True
        covered[a[place[b] >= place[a]]] = True
        covered[b[place[a] >= place[b]]] = True

        shared = np.bincount(place[alive], minlength=int(place.max()) + 1 if bodies else 0)[place] > 1
        rank = seen.rank.copy()
        open_body = shared | ~seen.ranked
        self.uncertain = 0
        if (open_body[seen.body] & ~seen.ground).any():
            self._rank_faces(rank, seen, outlines, open_body, shared, place)
        face = outlines.face[standing]
        # The farther face first where nothing tells them apart: its soft edge then lies below the nearer one's.
        away = -np.round(np.linalg.norm(seen.middle[face], axis=1), 6)
        keys = (away, rank[face], place[seen.body[face]])
        return standing[np.lexsort(keys)], covers, covered

    def _rank_faces(
        self,
        rank: IntArray,
        seen: Seen,
        outlines: _Outlines,
        open_body: npt.NDArray[np.bool_],
        shared: npt.NDArray[np.bool_],
        place: IntArray,
    ) -> None:
        """Set the rank of the faces of bodies that must be compared face by face."""
        box = np.full((len(seen.count), 4), np.nan)
        np.fmin.at(box[:, :2], outlines.face, outlines.box_px[:, :2])
        np.fmax.at(box[:, 2:], outlines.face, outlines.box_px[:, 2:])
        drawn = ~np.isnan(box[:, 0]) & ~seen.ground
        edges = seen.edges[open_body[seen.body[seen.edges[:, 0]]]]
        # Faces that do not meet on the screen need no order, and orders that nobody needs can go round in rings.
        one, other = box[edges[:, 0]], box[edges[:, 1]]
        with np.errstate(invalid="ignore"):
            meet = (one[:, :2] < other[:, 2:]).all(axis=1) & (other[:, :2] < one[:, 2:]).all(axis=1)
        edges = edges[meet]
        loose = np.flatnonzero(drawn & (shared | ~seen.complete)[seen.body])
        certain = np.ones(len(edges), np.bool_)
        if len(loose):
            by_place = _rows_by(place[seen.body[loose]])
            pairs = np.concatenate([loose[rows][order.overlapping(box[loose[rows]])] for rows in by_place.values()])
            one, other = seen.body[pairs[:, 0]], seen.body[pairs[:, 1]]
            pairs = pairs[(one != other) | ~seen.complete[one]]
            more, sure = order.face_order(pairs, seen.corners, seen.normal)
            self.uncertain = int((~sure).sum())
            edges, certain = np.concatenate([edges, more]), np.concatenate([certain, sure])
        found, lost = ranks(edges, len(rank))
        if len(lost):  # a ring of faces: leave out the guesses
            found, lost = ranks(edges[certain], len(rank))
        self.uncertain += len(lost)
        rank[open_body[seen.body]] = found[open_body[seen.body]]

    # -- paint ----------------------------------------------------------------------------------------------

    def _colors(self, seen: Seen, light: Light, odom_SE3_base: SE3) -> list[tuple[int, ...]]:
        """Colour of each seen face under the light, faded by distance; the ground fades by pixel instead."""
        colors = lit(seen.color, seen.normal_odom, seen.shines, seen.leaf, light)
        colors = self._backdrop.lamp_light(colors, seen, light, odom_SE3_base)
        away = np.linalg.norm(seen.middle, axis=1)
        away = np.where(seen.ground & self._backdrop.fades(seen.middle), 0.0, away)
        colors = hazed(colors, away, seen.shines, light)
        return _tuples(colors)

    @staticmethod
    def _fill(image: Image, outlines: _Outlines, which: IntArray, colors: list[tuple[int, ...]]) -> None:
        points, fill, fill_any, soft = outlines.points, cv2.fillConvexPoly, cv2.fillPoly, cv2.LINE_AA
        size = outlines.box_px[which, 2:] - outlines.box_px[which, :2]
        which = which[(size > _LEAST_FACE_PX).any(axis=1)]
        for begin, end, convex, face in zip(
            outlines.start[which].tolist(),
            outlines.start[which + 1].tolist(),
            outlines.convex[which].tolist(),
            outlines.face[which].tolist(),
            strict=True,
        ):
            if convex:
                fill(image, points[begin:end], colors[face], soft, _SHIFT)
            else:
                fill_any(image, [points[begin:end]], colors[face], soft, _SHIFT)

    @staticmethod
    def _fill_ids(
        ids: IdImage,
        outlines: _Outlines,
        which: IntArray,
        seen: Seen,
        covers: npt.NDArray[np.bool_],
        body_box: FloatArray,
    ) -> None:
        body = seen.body[outlines.face[which]]
        which, body = which[covers[body]], body[covers[body]]
        # Scenery is written only where a thing may lie below it.
        scenery = np.flatnonzero(seen.object_id[body] == NO_OBJECT)
        things = body_box[(seen.object_id > 0) & ~np.isnan(body_box[:, 0])] + (-1, -1, 1, 1)
        box = outlines.box_px[which[scenery]]
        meet = (box[:, None, :2] < things[None, :, 2:]).all(axis=2) & (
            things[None, :, :2] < box[:, None, 2:]
        ).all(axis=2)
        keep = np.ones(len(which), np.bool_)
        keep[scenery] = meet.any(axis=1)
        which, body = which[keep], body[keep]
        _paint(ids, outlines, which, seen.object_id[body].tolist())

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
        outlines = _outlines(
            *self.lens.show(self.lens.clip(corners[faces], solid.count[faces])), width, height
        )
        return _OwnView(outlines, solid.normal[faces], solid.color[faces])

    def _draw_own(self, own: _OwnView, image: Image, ids: IdImage, light: Light, odom_SE3_base: SE3) -> None:
        none = np.zeros(len(own.color), np.bool_)
        colors = lit(own.color, own.normal_base @ odom_SE3_base.rotation.T, none, none, light)
        rows = np.argsort(own.outlines.face, kind="stable")
        self._fill(image, own.outlines, rows, _tuples(colors))
        _paint(ids, own.outlines, rows, [NO_OBJECT] * len(rows))

    # -- truth ----------------------------------------------------------------------------------------------

    def _with_truth(
        self,
        image: Image,
        ids: IdImage,
        seen: Seen,
        outlines: _Outlines,
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
                by_body = by_body or _rows_by(polygon_body)
                box = _box_inside(outlines, by_body[body], width, height)
            if box[2] <= box[0] or box[3] <= box[1] or max(right - left, bottom - top) < _LEAST_PX:
                continue
            # OpenCV fills every pixel that a polygon touches, so one more on each side may carry the id.
            x0, y0 = max(int(left) - 1, 0), max(int(top) - 1, 0)
            x1, y1 = min(int(right) + 2, width), min(int(bottom) + 2, height)
            mine = (ids[y0:y1, x0:x1] == object_id).view(np.uint8)
            pixels = cv2.countNonZero(mine)
            whole = pixels
            if covered[body]:
                by_body = by_body or _rows_by(polygon_body)
                whole = _silhouette(outlines, by_body[body], (x0, y0, x1, y1), scratch)
            if not whole:
                continue
            amodal[object_id] = box
            fraction[object_id] = min(1.0, pixels / whole)
            truncation[object_id] = self._truncation(seen, body, (left, top, right, bottom), box)
            if pixels:
                bx, by, bw, bh = cv2.boundingRect(mine)
                tight = (
                    max(x0 + bx, box[0]),
                    max(y0 + by, box[1]),
                    min(x0 + bx + bw, box[2]),
                    min(y0 + by + bh, box[3]),
                )
                if tight[2] > tight[0] and tight[3] > tight[1]:
                    visible[object_id] = tight
                else:
                    visible[object_id] = (
                        float(x0 + bx),
                        float(y0 + by),
                        float(x0 + bx + bw),
                        float(y0 + by + bh),
                    )
        return Drawing(image, ids, visible, amodal, fraction, truncation)

    def _truncation(self, seen: Seen, body: int, whole: Box, inside: Box) -> float:
        """Share of a thing's box outside of the image; the box itself is followed one image width beyond it."""
        width, height = self.camera.intrinsics.width_px, self.camera.intrinsics.height_px
        if whole == inside:
            return 0.0
        corners = seen.outer(body)
        ahead = corners if self.lens.is_wide else corners[corners[:, 2] > 0.1]
        uv = self.lens.project(ahead) + 0.5
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


def _outlines(shown: Polygons, convex: npt.NDArray[np.bool_], width: int, height: int) -> _Outlines:
    """Polygons in px ready to be filled; those that miss the image are left out."""
    count, face, points = shown.count, shown.face, shown.points
    if not len(count):
        return _Outlines(np.zeros((0, 2), np.int32), np.zeros(1, np.int64), convex, face, np.zeros((0, 4)))
    low = np.minimum.reduceat(points, shown.start)
    high = np.maximum.reduceat(points, shown.start)
    keep = (high > -0.5).all(axis=1) & (low[:, 0] < width - 0.5) & (low[:, 1] < height - 0.5)
    if not keep.all():
        points = points[np.repeat(keep, count)]
        count, face, convex, low, high = count[keep], face[keep], convex[keep], low[keep], high[keep]
    sixteenths = np.round(np.clip(points, -_FAR_PX, _FAR_PX) * (1 << _SHIFT)).astype(np.int32)
    start = np.concatenate([[0], np.cumsum(count)])
    return _Outlines(sixteenths, start, convex, face, np.concatenate([low, high], axis=1))


def _ground_order(seen: Seen, outlines: _Outlines) -> IntArray:
    """Polygons of the ground in painting order: as the scenery lists them; on hills, from far to near."""
    rows = np.flatnonzero(seen.ground[outlines.face])
    face = outlines.face[rows]
    if not seen.is_hilly:
        return rows[np.argsort(face, kind="stable")]
    away = np.linalg.norm(seen.middle[face], axis=1)
    corners = seen.corners[face]
    area = np.linalg.norm(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]), axis=1) / 2
    # Paint comes after the patches around it, also where its middle is farther away than theirs.
    away = np.where(area < _PAINT_M2, away - _PATCH_M, away)
    return rows[np.lexsort((face, -away))]


def _rising(seen: Seen, outlines: _Outlines, body_box: FloatArray) -> IntArray:
    """Faces of the ground that may hide a part of a thing behind them: its foot lies below their plane.

    Scenery is left alone: houses reach into the ground on a slope, and nothing true hangs on their feet.
    """
    rows = np.flatnonzero(seen.ground[outlines.face])
    bodies = np.flatnonzero(~np.isnan(body_box[:, 0]) & (seen.object_id > 0))
    if not len(rows) or not len(bodies):
        return np.zeros(0, np.int64)
    face, box = outlines.face[rows], outlines.box_px[rows]
    theirs = body_box[bodies] + (0, 0, 0, -_HIDDEN_PX)
    meet = (box[:, None, :2] < theirs[None, :, 2:]).all(axis=2) & (
        theirs[None, :, :2] < box[:, None, 2:]
    ).all(axis=2)
    away = np.linalg.norm(seen.middle[face], axis=1)
    g, b = np.nonzero(meet & (away[:, None] < np.linalg.norm(seen.center[bodies], axis=1)[None]))
    face, body = face[g], bodies[b]
    axes, half = seen.axes[body], seen.half[body]
    foot = seen.center[body] - axes[:, 2] * half[:, 2:]
    side = np.stack(
        [
            foot + u * axes[:, 0] * half[:, :1] + v * axes[:, 1] * half[:, 1:2]
            for u in (-1, 1)
            for v in (-1, 1)
        ]
    )
    height = np.einsum("kpi,pi->kp", side - seen.middle[face], seen.normal[face]).min(axis=0)
    return np.unique(face[height < -_HIDDEN_M])


def _tuples(colors: FloatArray) -> list[tuple[int, ...]]:
    """(F, 3) colours as OpenCV takes them fastest."""
    return list(map(tuple, np.clip(np.round(colors), 0, 255).astype(np.int64).tolist()))


def _under(own_px: FloatArray, body_box: FloatArray) -> npt.NDArray[np.bool_]:
    """(B,) bodies whose box overlaps that of all `own_px` polygons."""
    if not len(own_px):
        return np.zeros(len(body_box), np.bool_)
    low, high = own_px[:, :2].min(axis=0), own_px[:, 2:].max(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray((body_box[:, :2] < high + 1).all(axis=1) & (body_box[:, 2:] > low - 1).all(axis=1))


def _paint(ids: IdImage, outlines: _Outlines, which: IntArray, values: list[int]) -> None:
    points, fill, fill_any, hard = outlines.points, cv2.fillConvexPoly, cv2.fillPoly, cv2.LINE_8
    for begin, end, convex, value in zip(
        outlines.start[which].tolist(),
        outlines.start[which + 1].tolist(),
        outlines.convex[which].tolist(),
        values,
        strict=True,
    ):
        if convex:
            fill(ids, points[begin:end], value, hard, _SHIFT)
        else:
            fill_any(ids, [points[begin:end]], value, hard, _SHIFT)


def _rows_by(label: IntArray) -> dict[int, IntArray]:
    """Rows of each label."""
    rows = np.argsort(label, kind="stable")
    ends = np.flatnonzero(np.diff(label[rows], append=np.iinfo(np.int64).max)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    return {int(label[rows[s]]): rows[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True)}


def _box_inside(outlines: _Outlines, which: IntArray, width: int, height: int) -> Box:
    """Box around what of the polygons lies inside the image, corners; empty where nothing does."""
    rows = [outlines.points[outlines.start[row] : outlines.start[row + 1]] for row in which.tolist()]
    count = outlines.start[which + 1] - outlines.start[which]
    whole = Polygons(np.concatenate(rows) / float(1 << _SHIFT), count, outlines.face[which])
    inside = cut_to_image(whole, width, height).points + 0.5
    if not len(inside):
        return (0.0, 0.0, 0.0, 0.0)
    (left, top), (right, bottom) = inside.min(axis=0).tolist(), inside.max(axis=0).tolist()
    return (left, top, right, bottom)


def _silhouette(
    outlines: _Outlines, which: IntArray, roi: tuple[int, int, int, int], scratch: npt.NDArray[np.uint8]
) -> int:
    """Pixels that the polygons fill by themselves within `roi`; `scratch` is an empty image and is left empty."""
    x0, y0, x1, y1 = roi
    points = outlines.points
    for begin, end, convex in zip(
        outlines.start[which].tolist(),
        outlines.start[which + 1].tolist(),
        outlines.convex[which].tolist(),
        strict=True,
    ):
        if convex:
            cv2.fillConvexPoly(scratch, points[begin:end], 1, cv2.LINE_8, _SHIFT)
        else:
            cv2.fillPoly(scratch, [points[begin:end]], 1, cv2.LINE_8, _SHIFT)
    part = scratch[y0:y1, x0:x1]
    filled = cv2.countNonZero(part)
    part[:] = 0
    return filled
