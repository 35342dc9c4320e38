"""Light on faces: sun and sky on flat faces, fading into the haze, shadows on the ground."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.geometry import SE3
from perception_batch.simulate.lens import Lens
from perception_batch.simulate.scene import Light
from perception_batch.simulate.seen import Seen

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_LONGEST_SHADOW = 4.0
"""Shadows reach at most this many times a body's height, however low the sun stands."""
_TOWN, _TOWN_COLOR = 1.75, np.array([1.08, 0.97, 0.86])
"""How much a town's lamps add to the ambient light of the night, and their tint."""
_POOL_M = (8.5, 5.5, 3.0)
"""Radii of the circles of light below a street lamp, each a step brighter."""
_EIGHT_CORNERS = ((0, 1, 2, 3), (0, 3, 4, 7), (4, 5, 6, 7))
"""An octagon as three quads."""
_REACH_M = 70.0
"""Bodies farther than this cast no shadow; it would be a few pixels high."""
_LEAST_PX = 6.0
"""Nor do those that look smaller than this."""
_LEAST_FILL = 0.08
"""Bodies that fill less of their box cast no shadow: that of their box would be far too large."""
_HALF = 2
"""Shadows are filled in a picture of half the size: it softens them and costs a quarter."""


def sun_color(light: Light) -> FloatArray:
    """(3,) tint of the direct light: white when high, warm when low, cold at night."""
    if light.is_night:
        return np.array([0.75, 0.85, 1.1])
    low = float(np.clip(1 - light.sun_odom[2] / 0.45, 0, 1))
    return np.array([1.03, 1.0 - 0.14 * low, 0.95 - 0.33 * low])


def sky_color(light: Light) -> FloatArray:
    """(3,) tint of the light from everywhere: a little of the sky's own colour."""
    sky = np.array(light.sky_top, np.float64) * 0.5 + np.array(light.sky_horizon, np.float64) * 0.5
    tint: FloatArray = 0.65 + 0.35 * sky / max(float(sky.mean()), 1.0)
    return tint


def lit(
    color: FloatArray, normal_odom: FloatArray, shines: BoolArray, leaf: BoolArray, light: Light
) -> FloatArray:
    """(F, 3) colours of faces with (F, 3) normals: Lambert's law for the sun, more sky on what looks up."""
    sun = normal_odom @ light.sun_odom
    sun = np.where(leaf, 0.35 + 0.5 * np.abs(sun), np.maximum(sun, 0.0))
    up = 0.78 + 0.22 * normal_odom[:, 2]
    # By night a town's own lamps light it from everywhere; flat faces show it as a warm, brighter ambient.
    around = light.ambient * (_TOWN * _TOWN_COLOR if light.is_night else sky_color(light))
    out = color * (around * up[:, None] + light.direct * sun[:, None] * sun_color(light))
    if shines.any():
        glow = color[shines]
        out[shines] = np.maximum(out[shines], glow * 0.97)
    return out


def hazed(color: FloatArray, away_m: FloatArray, shines: BoolArray, light: Light) -> FloatArray:
    """(F, 3) colours seen through `away_m` of air; lamps pierce it."""
    keep = np.exp(-away_m / light.haze_m)
    keep = np.where(shines & light.is_night, np.sqrt(keep), keep)[:, None]
    faded: FloatArray = color * keep + np.array(light.sky_horizon, np.float64) * (1 - keep)
    return faded


def shadows(
    seen: Seen,
    light: Light,
    odom_SE3_camera: SE3,
    lens: Lens,
    below_m: FloatArray,
    ground_z_m: Callable[[float, float], float],
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]] | None:
    """Shadow mask at half size, 255 where it is darkest, and its first and last row; None where none falls.

    `below_m` is a point of the ground below the vehicle, in the optical frame; `ground_z_m` the height of the ground
    in odom. Each standing body's box casts a shadow on the plane of its own foot; a soft dark patch lies below every
    thing.
    """
    radius = np.linalg.norm(seen.half, axis=1)
    away = np.linalg.norm(seen.center, axis=1)
    large = 2 * radius * lens.intrinsics.fx_px > _LEAST_PX * away
    standing = ~seen.is_ground & (away - radius < _REACH_M) & (seen.fill > _LEAST_FILL) & large
    up = odom_SE3_camera.inverse().rotation[:, 2]
    standing &= ~_hangs(seen, standing, away, odom_SE3_camera, (up, below_m), ground_z_m)
    rows = np.flatnonzero(standing)
    if not len(rows):
        return None
    sun = odom_SE3_camera.rotation.T @ light.sun_odom
    mask = np.zeros((lens.intrinsics.height_px // _HALF, lens.intrinsics.width_px // _HALF), np.uint8)
    # The third axis of a box is the one that points up, or nearly.
    axes, half, center = seen.axes[rows], seen.half[rows], seen.center[rows]
    foot = center - axes[:, 2] * (half[:, 2:3] - 0.03)
    things = np.flatnonzero(seen.object_id[rows] > 0)
    contact = np.zeros((0, 4, 3))
    cast, strength = contact, 0
    sides = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], np.float64)

    def quads(at: FloatArray, grow: FloatArray) -> FloatArray:
        reach = half[:, :2] + grow[:, None]
        steps: FloatArray = (sides[None] * reach[:, None])[:, :, 0, None] * axes[:, None, 0]
        steps = steps + (sides[None] * reach[:, None])[:, :, 1, None] * axes[:, None, 1]
        corners: FloatArray = at[:, None] + steps
        return corners

    sun_up = float(sun @ up)
    if sun_up > 0.03 and light.direct > 0.05 and not light.is_night:
        along = sun / sun_up - up  # how far a shadow moves for a metre of height, backwards
        length = float(np.linalg.norm(along))
        along *= min(1.0, _LONGEST_SHADOW / max(length, 1e-9))
        shift = -along[None] * (2 * half[:, 2:3])
        bottom, top = quads(foot, np.zeros(len(foot))), quads(foot + shift, np.zeros(len(foot)))
        # A box's shadow is its foot, its roof's, and what the edges between them sweep.
        # Of those edges, the two that lie farthest to the sides bound it.
        across = np.cross(along, up)
        off = bottom @ across
        each = np.arange(len(foot))
        left, right = off.argmin(axis=1), off.argmax(axis=1)
        swept = np.stack([bottom[each, left], bottom[each, right], top[each, right], top[each, left]], axis=1)
        strength = int(np.clip(150 * light.direct / max(light.direct + light.ambient, 1e-6), 40, 150))
        cast = np.concatenate([bottom, top, swept])
    if len(things):
        contact = quads(foot, np.full(len(foot), 0.12))[things]
    layer = np.zeros_like(mask)
    _fill(
        (mask, layer),
        np.concatenate([cast, contact]),
        np.repeat([0, 1], [len(cast), len(contact)]),
        (strength, 120 if light.is_night else 165),
        lens,
    )
    if len(contact):
        np.maximum(mask, cv2.blur(layer, (5, 3)), out=mask)
    dark = np.flatnonzero(mask.any(axis=1))
    if not len(dark):
        return None
    return cv2.blur(mask, (3, 3)), (int(dark[0]), int(dark[-1]) + 1)


def _hangs(
    seen: Seen,
    standing: BoolArray,
    away: FloatArray,
    odom_SE3_camera: SE3,
    plane: tuple[FloatArray, FloatArray],
    ground_z_m: Callable[[float, float], float],
) -> BoolArray:
    """(B,) bodies whose foot is in the air: lamps on poles, traffic lights.

    `plane` is the upward direction and a point of the ground below the vehicle, in the optical frame.
    """
    up, below_m = plane
    # The own vehicle stands on the ground; what has its foot far above any slope from there hangs in the air.
    foot = seen.center - seen.axes[:, 2] * seen.half[:, 2:]
    lift = (foot - below_m) @ up
    hangs: BoolArray = lift > 1.5 + 0.08 * away
    for body in np.flatnonzero(standing & ~hangs & (lift > 1.5) & (seen.object_id > 0)).tolist():
        x, y, z = odom_SE3_camera.apply(foot[body : body + 1])[0].tolist()
        hangs[body] = z - ground_z_m(x, y) > 1.0
    return hangs


def lamp_pools(
    seen: Seen, light: Light, odom_SE3_camera: SE3, lens: Lens, below_m: FloatArray
) -> npt.NDArray[np.uint8] | None:
    """(H / 2, W / 2) light of street lamps on the ground below them, 255 where it is brightest; None by day."""
    if not light.is_night:
        return None
    lamps = np.flatnonzero(seen.shines & (seen.normal_odom[:, 2] < -0.7) & (seen.object_id[seen.body] == 0))
    up = odom_SE3_camera.inverse().rotation[:, 2]
    height = (seen.middle[lamps] - below_m) @ up
    near = (height > 2.5) & (np.linalg.norm(seen.middle[lamps], axis=1) < _REACH_M)
    lamps, height = lamps[near], height[near]
    if not len(lamps):
        return None
    foot = seen.middle[lamps] - height[:, None] * up
    side = np.cross(up, [0.0, 0.0, 1.0]) if abs(up[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    ahead = np.cross(side, up)
    turn = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    mask = np.zeros((lens.intrinsics.height_px // _HALF, lens.intrinsics.width_px // _HALF), np.uint8)
    rings = []
    for radius in _POOL_M:
        ring = radius * (np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * ahead)
        rings.append((foot[:, None, None] + ring[np.array(_EIGHT_CORNERS)][None]).reshape(-1, 4, 3))
    step = np.repeat(np.arange(len(rings)), len(rings[0]))
    _fill(
        (mask,) * len(rings), np.concatenate(rings), step, tuple(70 + 55 * k for k in range(len(rings))), lens
    )
    return np.asarray(cv2.blur(cv2.blur(mask, (13, 9)), (13, 9)), np.uint8)


def _fill(
    masks: Sequence[npt.NDArray[np.uint8]],
    quads: FloatArray,
    layer: IntArray,
    values: Sequence[int],
    lens: Lens,
) -> None:
    """Fill each quad into the mask of its (N,) layer with that layer's value, layers from the first on."""
    shown, convex = lens.show(lens.clip(quads, np.full(len(quads), 4, np.int64)))
    points = np.round(((shown.points + 0.5) / _HALF - 0.5) * 16).clip(-300000, 300000).astype(np.int32)
    of = layer[shown.face]
    order = np.argsort(of, kind="stable")
    for start, count, is_convex, k in zip(
        shown.start[order].tolist(),
        shown.count[order].tolist(),
        convex[order].tolist(),
        of[order].tolist(),
        strict=True,
    ):
        if is_convex:
            cv2.fillConvexPoly(masks[k], points[start : start + count], values[k], cv2.LINE_8, 4)
        else:
            cv2.fillPoly(masks[k], [points[start : start + count]], values[k], cv2.LINE_8, 4)
