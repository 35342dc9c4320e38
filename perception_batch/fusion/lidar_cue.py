"""The third cue: a range from the lidar's points inside a box.

`measure` needs points and runs once, where the log is read; what it finds (`LidarRanges`) is stored with the
detections. `with_lidar` joins that with what the box itself tells, and needs nothing else.

The points of a box are those that the camera sees inside it: project them, and keep the middle of the box, because
its rim shows what is beside and below. Along the ray they lie in layers: what stands before the thing (few), its
near side (many), what is behind (any number). The range is where the nearest layer of weight begins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray, Intrinsics, Rig
from perception_batch.fusion.cues import Cues
from perception_batch.fusion.ranges import Ranges
from perception_batch.fusion.sizes import INSET_LENGTH, INSET_WIDTH, Sizes
from perception_batch.geometry import SE3
from perception_batch.lidar import LidarRanges, MovedSweep
from perception_batch.types import Detections, Observation

_INNER = 0.15  # of the box's width and height, left out at every side
_FEWEST = 3  # points that make a range
_LAYER_M, _LAYER_SHARE = 0.6, 0.02  # depth of a layer, at least and of the range: a vehicle's near side
_WEIGHT = 0.25  # of the heaviest layer's points: a nearer layer of fewer is a pole, a branch, a mirror
_NEAR_QUANTILE = 0.1  # of a layer's ranges: the near face, less the noise of single points
_SENSOR_SIGMA_M = 0.05
_CALIBRATION_RAD = math.radians(0.3)
_WITHIN = 0.35  # of a layer's spread: how well its near face is known
# In the time between sweep and picture the thing itself moves (a vehicle in town, one standard deviation), and where the
# vehicle's own motion is unknown it does too. A sweep takes 0.1 s, and not all of its points are of its stamp.
_THING_MPS, _OWN_MPS = 6.0, 12.0
_WITHIN_SWEEP_S = 0.02
_BELIEVED_SIGMAS = 4.0  # further from what the box tells: the points are of something else


def measure(
    detections: Mapping[str, Detections],
    image_hw: Mapping[str, tuple[int, int]],
    base_now_SE3_camera: Mapping[str, SE3],
    sweeps: Mapping[str, MovedSweep],
    rig: Rig,
) -> dict[str, LidarRanges]:
    """Lidar ranges of the boxes of one timestep, for the cameras that have a sweep.

    Args:
        detections: every box kept, by camera.
        image_hw: height and width of each image, px.
        base_now_SE3_camera: as for `Fuser.fuse`.
        sweeps: by camera.
        rig: the lenses.
    """
    out: dict[str, LidarRanges] = {}
    for camera, found in sorted(detections.items()):
        moved, entry = sweeps.get(camera), rig.cameras.get(camera)
        if moved is None or entry is None or camera not in base_now_SE3_camera or not len(found):
            continue
        lens, (height, width) = entry.intrinsics, image_hw[camera]
        if (lens.height_px, lens.width_px) != (height, width):
            try:
                lens = lens.scaled_to(width, height)
            except ValueError:  # fusion says it, once
                continue
        now_SE3_camera = base_now_SE3_camera[camera]
        xy, range_m = _seen(moved, lens, now_SE3_camera)
        blur_s = math.hypot(moved.apart_s, _WITHIN_SWEEP_S)
        speed = _THING_MPS if moved.motion_known else math.hypot(_THING_MPS, _OWN_MPS)
        ranges = out[camera] = _of_boxes(found.xyxy.astype(np.float64), xy, range_m, speed * blur_s)
        ranges.apart_s[ranges.points > 0] = moved.apart_s
    return out


def _seen(moved: MovedSweep, lens: Intrinsics, now_SE3_camera: SE3) -> tuple[FloatArray, FloatArray]:
    """(M, 2) px (box convention) and (M,) horizontal range of the points in the image, by rising x."""
    camera_SE3_then = now_SE3_camera.inverse() @ moved.now_SE3_then
    points = moved.sweep.points_m
    turn, shift = (
        camera_SE3_then.rotation.astype(np.float32),
        camera_SE3_then.translation_m.astype(np.float32),
    )
    depth = points @ turn[2] + shift[2]
    rows = np.arange(len(points)) if lens.model == "equidistant" else np.flatnonzero(depth > 0.1)
    optical = (points[rows] @ turn.T + shift).astype(np.float64)
    if lens.model != "equidistant":  # the lens costs; most points are out of its view anyway
        wide = 1.5 * math.hypot(lens.width_px, lens.height_px) / min(lens.fx_px, lens.fy_px)
        near = np.abs(optical[:, 0]) + np.abs(optical[:, 1]) < wide * optical[:, 2]
        optical = optical[near]
    uv = lens.project(optical) + 0.5
    with np.errstate(invalid="ignore"):
        inside = (uv >= 0).all(axis=1) & (uv[:, 0] <= lens.width_px) & (uv[:, 1] <= lens.height_px)
    uv, optical = uv[inside], optical[inside]
    in_base = optical @ now_SE3_camera.rotation.T
    order = np.argsort(uv[:, 0], kind="stable")
    return uv[order], np.hypot(in_base[:, 0], in_base[:, 1])[order]


def _of_boxes(xyxy: FloatArray, xy: FloatArray, range_m: FloatArray, blur_m: float) -> LidarRanges:
    """Ranges of N boxes from the (M,) points of their image."""
    out = LidarRanges.nothing(len(xyxy))
    size = xyxy[:, 2:] - xyxy[:, :2]
    low, high = xyxy[:, :2] + _INNER * size, xyxy[:, 2:] - _INNER * size
    first, last = np.searchsorted(xy[:, 0], low[:, 0], "left"), np.searchsorted(xy[:, 0], high[:, 0], "right")
    for row, (start, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        y = xy[start:stop, 1]
        found = near_face(range_m[start:stop][(y >= low[row, 1]) & (y <= high[row, 1])])
        if found is not None:
            near, spread, count = found
            own = _WITHIN * spread / math.sqrt(max(1.0, 0.1 * count)) + 0.5 / count
            out.range_m[row], out.spread_m[row], out.points[row] = near, spread, count
            out.sigma_m[row] = math.sqrt(
                _SENSOR_SIGMA_M**2 + own**2 + blur_m**2 + (_CALIBRATION_RAD * near) ** 2
            )
    return out


def near_face(range_m: FloatArray) -> tuple[float, float, int] | None:
    """Where the nearest layer of weight begins, how deep its middle half is, and of how many points it is made.

    Args:
        range_m: (K,) ranges of a box's points, in any order.

    Returns:
        None where there are too few points.
    """
    if len(range_m) < _FEWEST:
        return None
    r = np.sort(range_m)
    stop = np.searchsorted(r, r + np.maximum(_LAYER_M, _LAYER_SHARE * r), "right")
    weight = stop - np.arange(len(r))
    heaviest = int(weight.max())
    start = int(np.argmax(weight >= max(_FEWEST, _WEIGHT * heaviest)))
    if weight[start] < _FEWEST:
        return None
    layer = r[start : int(stop[start])]
    near, low, high = np.quantile(layer, [_NEAR_QUANTILE, 0.25, 0.75]).tolist()
    return near, high - low, len(layer)


@dataclass(frozen=True, slots=True)
class Told:
    """What the lidar says of N boxes, of several cameras."""

    range_m: FloatArray
    """(N,) horizontal range to the near face at the sweep's stamp; NaN without."""
    sigma_m: FloatArray
    """(N,) its standard deviation; NaN without."""
    apart_s: FloatArray
    """(N,) the camera's exposure less the sweep's stamp; NaN without."""

    @classmethod
    def of(cls, lidar: Mapping[str, LidarRanges], seen: Sequence[tuple[Observation]]) -> Told:
        """For the boxes of these observations."""
        out = cls(*np.full((3, len(seen)), np.nan))
        for row, (box,) in enumerate(seen):
            found = lidar.get(box.camera)
            if found is not None:
                out.range_m[row] = found.range_m[box.detection]
                out.sigma_m[row] = found.sigma_m[box.detection]
                out.apart_s[row] = found.apart_s[box.detection]
        return out

    def moved(self, velocity_mps: FloatArray, toward: FloatArray) -> Told:
        """At the cameras' exposures, where the velocities over ground ((3, N), base axes; 0 where unknown) are these.

        Args:
            velocity_mps: see above.
            toward: (2, N) direction of the boxes in the plane.
        """
        away = velocity_mps[0] * toward[0] + velocity_mps[1] * toward[1]
        return replace(self, range_m=self.range_m + away * self.apart_s)

    def to_contact(self, sizes: Sizes, azimuth_rad: FloatArray, yaw_rad: FloatArray) -> Told:
        """To where the things stand, as the other cues mean it: wheels are behind the bumper that the lidar hits.

        Args:
            sizes: of the class that each box is taken for.
            azimuth_rad: (N,) of the boxes.
            yaw_rad: (N,) heading where it is known, else NaN.
        """
        turn = np.where(np.isfinite(yaw_rad), yaw_rad - azimuth_rad, 0.0)
        known = np.isfinite(yaw_rad)
        along = np.where(known, np.abs(np.cos(turn)), 2 / math.pi)  # the mean over all headings
        across = np.where(known, np.abs(np.sin(turn)), 2 / math.pi)
        standing = np.where(sizes.on_ground, 1.0, 0.0)
        long_part, wide_part = INSET_LENGTH * sizes.length_m, INSET_WIDTH * sizes.width_m
        inset = standing * (along * long_part + across * wide_part)
        # 0.31: standard deviation of |cos| over all headings; overhangs differ by a third among cars.
        unsure = standing * long_part * np.where(known, 0.33, math.hypot(0.31, 0.33))
        return replace(self, range_m=self.range_m + inset, sigma_m=np.hypot(self.sigma_m, unsure))

    def take(self, rows: npt.NDArray[np.int64]) -> Told:
        """The given rows, in that order."""
        return Told(self.range_m[rows], self.sigma_m[rows], self.apart_s[rows])


def with_lidar(ranges: Ranges, cues: Cues, lidar_says: Told) -> Ranges:
    """Ranges of N boxes with what the lidar says, as an independent cue.

    Args:
        ranges: from ground and height.
        cues: of the same boxes; what gives a bearing only (a fisheye's rim) takes no range from the lidar either.
        lidar_says: of the same boxes, where they stand.
    """
    range_m, sigma_m = lidar_says.range_m, lidar_says.sigma_m
    told = np.isfinite(range_m) & np.isfinite(sigma_m) & cues.seen & ~cues.bearing_only
    if not told.any():
        return ranges
    lidar = np.where(told, np.maximum(range_m, 0.3), 1.0)
    lidar_var = np.where(told, sigma_m / lidar, 1.0) ** 2
    known = ranges.known
    # In inverse range, as the other cues; all errors are judged at one common range.
    box_u, lidar_u = 1 / np.where(known, ranges.near_m, 1.0), 1 / lidar
    box_var = np.where(known, ranges.relative, 1.0) ** 2
    spread_var = (box_var + lidar_var) * np.minimum(box_u, lidar_u) ** 2
    apart = (box_u - lidar_u) ** 2 / np.maximum(spread_var, 1e-12)
    told &= np.where(known, apart <= _BELIEVED_SIGMAS**2, lidar <= 1.5 * ranges.bound_m)
    both = told & known
    share = np.where(both, box_var / (box_var + lidar_var), np.where(told, 1.0, 0.0))  # of the lidar
    u = np.where(both, share * lidar_u + (1 - share) * box_u, np.where(told, lidar_u, box_u))
    rest2 = np.where(told, (1 - share) ** 2, 1.0)
    # Birge ratio, as between the other cues: what disagrees is less sure.
    scale = np.where(both, np.clip(apart, 1.0, 4.0), 1.0)
    mine = np.where(told, share**2 * lidar_var, 0.0)
    # What is known by the lidar alone has no part of the box's guess.
    box, lasting, size, pitch, ground = (
        np.where(told & ~known, 0.0, part * rest2) * scale
        for part in (ranges.boxes, ranges.lasting_box, ranges.size, ranges.pitch, ranges.ground)
    )
    # A near face that is hit askew stays so from picture to picture: half of the lidar's error lasts.
    boxes, lasting = box + mine * scale, lasting + 0.5 * mine * scale
    relative = np.where(told, np.sqrt(size + boxes + pitch + ground), ranges.relative)
    near = np.where(told, 1 / u, ranges.near_m)
    return replace(
        ranges,
        near_m=near,
        known=known | told,
        bound_m=np.where(told, np.maximum(ranges.bound_m, near), ranges.bound_m),
        relative=relative,
        boxes=np.where(told, boxes, ranges.boxes),
        lasting_box=np.where(told, np.minimum(lasting, boxes), ranges.lasting_box),
        size=np.where(told, size, ranges.size),
        pitch=np.where(told, pitch, ranges.pitch),
        ground=np.where(told, ground, ranges.ground),
    )
