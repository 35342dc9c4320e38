"""What is painted when: the ground, then everything that stands on it, by bodies and where needed by faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.simulate import order
from perception_batch.simulate.outlines import Outlines
from perception_batch.simulate.seen import Seen
from perception_batch.simulate.solids import ranks

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_PAINT_M2, _PATCH_M = 4.0, 6.0
"""Faces of the ground smaller than this are paint; patches of the ground are about this long."""
_HIDDEN_M = 0.1
"""Feet that lie less than this below a patch's plane are not looked at: wheels stand on bumps."""
_HIDDEN_PX = 1.5
"""Nor those that a patch would hide less than this of."""
_LONGEST_CHAIN = 24
"""Faces of a body or of several that overlap are ordered in at most so many layers; ten is much."""


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """The painting order of what stands."""

    sequence: IntArray
    """(N,) numbers of the polygons, the first to be painted first."""
    covers: npt.NDArray[np.bool_]
    """(B,) bodies that are things or may hide a part of one."""
    covered: npt.NDArray[np.bool_]
    """(B,) bodies of which a part may be hidden."""
    uncertain: int
    """Pairs of faces that cut each other, so that their order is a guess."""


def body_boxes(seen: Seen, outlines: Outlines) -> FloatArray:
    """(B, 4) px (pixel centres) around all polygons of each body that stands; NaN where none is seen."""
    box = np.full((len(seen.center), 4), np.nan)
    standing = np.flatnonzero(~seen.ground[outlines.face])
    body = seen.body[outlines.face[standing]]
    np.fmin.at(box[:, :2], body, outlines.box_px[standing, :2])
    np.fmax.at(box[:, 2:], body, outlines.box_px[standing, 2:])
    return box


def ground_order(seen: Seen, outlines: Outlines) -> IntArray:
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


def rising_ground(seen: Seen, outlines: Outlines, body_box: FloatArray) -> IntArray:
    """Faces of the ground that may hide a part of a thing behind them: its foot lies below their plane.

    Scenery is left alone: houses reach into the ground on a slope, and nothing true hangs on their feet.
    """
    rows = np.flatnonzero(seen.ground[outlines.face])
    bodies = np.flatnonzero(~np.isnan(body_box[:, 0]) & (seen.object_id > 0))
    if not len(rows) or not len(bodies):
        return np.zeros(0, np.int64)
    face, box = outlines.face[rows], outlines.box_px[rows, :, None]
    theirs = (body_box[bodies] + (0, 0, 0, -_HIDDEN_PX)).T
    away = np.linalg.norm(seen.middle[face], axis=1)
    meet = away[:, None] < np.linalg.norm(seen.center[bodies], axis=1)
    meet &= box[:, 0] < theirs[2]
    meet &= box[:, 1] < theirs[3]
    meet &= box[:, 2] > theirs[0]
    meet &= box[:, 3] > theirs[1]
    g, b = np.nonzero(meet)
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


def arranged(seen: Seen, outlines: Outlines, body_box: FloatArray) -> Arrangement:
    """The painting order of everything that stands."""
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

    places = int(place.max()) + 1 if bodies else 0
    shared = np.bincount(place[alive], minlength=places)[place] > 1
    # Where all of them are small scenery, distance tells enough.
    shared &= np.bincount(place[alive[~seen.small[alive]]], minlength=places)[place] > 0
    rank, uncertain = seen.rank, 0
    open_body = shared | ~seen.ranked
    if (open_body[seen.body] & ~seen.ground).any():
        rank, uncertain = _ranked_faces(seen, outlines, open_body, shared, place)
    face = outlines.face[standing]
    # The farther face first where nothing tells them apart: its soft edge then lies below the nearer one's.
    away = -np.round(np.linalg.norm(seen.middle[face], axis=1), 6)
    keys = (away, rank[face], place[seen.body[face]])
    return Arrangement(standing[np.lexsort(keys)], covers, covered, uncertain)


def _ranked_faces(
    seen: Seen,
    outlines: Outlines,
    open_body: npt.NDArray[np.bool_],
    shared: npt.NDArray[np.bool_],
    place: IntArray,
) -> tuple[IntArray, int]:
    """(F,) rank of each face in its body or place, compared face by face in open bodies, and how many are guesses."""
    box = np.full((len(seen.count), 4), np.nan)
    np.fmin.at(box[:, :2], outlines.face, outlines.box_px[:, :2])
    np.fmax.at(box[:, 2:], outlines.face, outlines.box_px[:, 2:])
    drawn = ~np.isnan(box[:, 0]) & ~seen.ground
    edges = seen.edges(open_body)
    # Faces that do not meet on the screen need no order, and orders that nobody needs can go round in rings.
    one, other = box[edges[:, 0]], box[edges[:, 1]]
    with np.errstate(invalid="ignore"):
        meet = (one[:, 0] < other[:, 2]) & (one[:, 1] < other[:, 3])
        meet &= (other[:, 0] < one[:, 2]) & (other[:, 1] < one[:, 3])
    edges = edges[meet]
    loose = np.flatnonzero(drawn & (shared | ~seen.complete)[seen.body])
    certain, uncertain = np.ones(len(edges), np.bool_), 0
    if len(loose):
        pairs = loose[order.overlapping_within(box[loose], place[seen.body[loose]])]
        one, other = seen.body[pairs[:, 0]], seen.body[pairs[:, 1]]
        pairs = pairs[(one != other) | ~seen.complete[one]]
        more, sure = order.face_order(pairs, seen.corners, seen.normal, seen.middle)
        uncertain = int((~sure).sum())
        edges, certain = np.concatenate([edges, more]), np.concatenate([certain, sure])
    found, lost = ranks(edges, len(seen.rank), most=_LONGEST_CHAIN)
    if len(lost):  # a ring of faces: leave out the guesses
        found, lost = ranks(edges[certain], len(seen.rank), most=_LONGEST_CHAIN)
    return np.where(open_body[seen.body], found, seen.rank), uncertain + len(lost)
