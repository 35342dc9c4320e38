"""A drawn world for the fusion tests: boxes with exact corners, projected by plain 4x4 matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.types import Detections

LABELS = {0: "person", 1: "bicycle", 2: "car", 3: "motorcycle", 5: "bus", 7: "truck", 9: "traffic light"}
NUMBERS = {label: number for number, label in LABELS.items()}
ONTOLOGY = Ontology()


@dataclass
class Thing:
    """A box in the base frame."""

    label: str
    center_m: tuple[float, float, float]
    size_lwh_m: tuple[float, float, float]
    yaw_rad: float = 0.0

    @classmethod
    def standing(
        cls,
        label: str,
        x: float,
        y: float,
        yaw: float = 0.0,
        *,
        size: Sequence[float] | None = None,
        z: float = 0.0,
    ) -> Thing:
        """Of the class's mean size (or `size`), on the ground at height `z`."""
        lwh = tuple(size) if size is not None else ONTOLOGY.classes[label].size_lwh_m
        return cls(label, (x, y, z + lwh[2] / 2), lwh, yaw)


def pose(x: float, y: float, z: float, yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> SE3:
    """base_SE3_camera of a camera that looks along yaw, `pitch_deg` downwards, turned about its axis by roll."""
    a, p, r = map(math.radians, (yaw_deg, pitch_deg, roll_deg))
    forward = np.array([math.cos(a) * math.cos(p), math.sin(a) * math.cos(p), -math.sin(p)])
    right = np.array([math.sin(a), -math.cos(a), 0.0])
    down = np.cross(forward, right)
    x_axis = math.cos(r) * right + math.sin(r) * down
    y_axis = -math.sin(r) * right + math.cos(r) * down
    return SE3(np.stack([x_axis, y_axis, forward], axis=1), np.array([x, y, z], float))


def pinhole(width: int = 1600, height: int = 900, f: float = 1266.0) -> Intrinsics:
    return Intrinsics("pinhole", width, height, f, f, width / 2 - 0.5, height / 2 - 0.5)


def ring(z: float = 1.55, ground_z_m: float = math.nan) -> Rig:
    """Six cameras all round with small overlaps, as on common survey cars."""
    places = {
        "cam_front": (1.7, 0.0, 0.0, 1266.0),
        "cam_front_left": (1.5, 0.5, 55.0, 1266.0),
        "cam_front_right": (1.5, -0.5, -55.0, 1266.0),
        "cam_back": (0.0, 0.0, 180.0, 800.0),
        "cam_back_left": (1.0, 0.5, 110.0, 1266.0),
        "cam_back_right": (1.0, -0.5, -110.0, 1266.0),
    }
    cameras = {
        name: Camera(name, pinhole(f=f), pose(x, y, z, yaw), "drawn")
        for name, (x, y, yaw, f) in places.items()
    }
    return Rig("base_link", cameras, {}, ground_z_m)


def surface(thing: Thing, n: int = 5) -> np.ndarray:
    """(N, 3) points all over the six faces, corners included.

    What stands on the ground does so on wheels or feet, which are inside the outline: a car's wheels stand behind
    its bumpers by a sixth of its length.
    """
    g = np.linspace(-0.5, 0.5, n)
    cube = np.array([(a, b, c) for a in g for b in g for c in g if 0.5 in (abs(a), abs(b), abs(c))])
    if ONTOLOGY.classes[thing.label].on_ground:
        feet = cube[cube[:, 2] == -0.5] * (2 / 3, 0.9, 1.0)
        body = np.where(cube[:, 2:] == -0.5, cube * (1.0, 1.0, 0.7), cube)
        cube = np.concatenate([feet, body])
    points = cube * thing.size_lwh_m
    c, s = math.cos(thing.yaw_rad), math.sin(thing.yaw_rad)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return points @ turn.T + thing.center_m


def project(points: np.ndarray, camera: Camera, base_SE3_camera: SE3) -> np.ndarray:
    """(M, 2) px in the box convention of the points before the lens: one 4x4 product per point."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = base_SE3_camera.rotation, base_SE3_camera.translation_m
    inverse = np.linalg.inv(matrix)
    k = camera.intrinsics
    out = []
    for point in points:
        x, y, z, _ = inverse @ np.append(point, 1.0)
        if k.model == "equidistant":
            r = math.hypot(x, y)
            theta = math.atan2(r, z)
            if theta > 1.6:
                continue
            t2 = theta * theta
            rd = theta * (1 + sum(c * t2 ** (i + 1) for i, c in enumerate(k.distortion)))
            a, b = (x / r * rd, y / r * rd) if r > 1e-9 else (0.0, 0.0)
        else:
            if z < 0.1:
                continue
            a, b = x / z, y / z
        out.append((k.fx_px * a + k.cx_px + 0.5, k.fy_px * b + k.cy_px + 0.5))
    return np.array(out).reshape(-1, 2)


def box_of(thing: Thing, camera: Camera, base_SE3_camera: SE3 | None = None) -> np.ndarray | None:
    """(4,) its box in the image, clipped; None where it does not show (or shows less than 4 px)."""
    uv = project(surface(thing), camera, base_SE3_camera or camera.base_SE3_camera)
    if not len(uv):
        return None
    w, h = camera.intrinsics.width_px, camera.intrinsics.height_px
    if len(uv) < len(surface(thing)):  # partly behind: the rest leaves the image on some side
        uv = np.concatenate([uv, np.clip(uv, [-w, -h], [2 * w, 2 * h])])
    x0, y0 = np.clip(uv.min(axis=0), 0, [w, h])
    x1, y1 = np.clip(uv.max(axis=0), 0, [w, h])
    return np.array([x0, y0, x1, y1]) if x1 - x0 >= 4 and y1 - y0 >= 4 else None


@dataclass
class Seen:
    """What the detector says of a scene, and which thing each box is."""

    detections: dict[str, Detections]
    truth: dict[str, list[int]]
    image_hw: dict[str, tuple[int, int]]
    poses: dict[str, SE3] = field(default_factory=dict)


def see(
    things: Sequence[Thing],
    rig: Rig,
    *,
    score: float = 0.8,
    noise: np.random.Generator | None = None,
    true_poses: dict[str, SE3] | None = None,
) -> Seen:
    """Boxes of all things in all cameras, nothing hidden by anything; with noise, edges err by 2 px and 3 %."""
    detections, truth, hw = {}, {}, {}
    for name, camera in rig.cameras.items():
        rows = []
        w, h = camera.intrinsics.width_px, camera.intrinsics.height_px
        for number, thing in enumerate(things):
            box = box_of(thing, camera, (true_poses or {}).get(name))
            if box is None:
                continue
            if noise is not None:
                free = ~np.isclose(box, [0, 0, w, h])
                extent = np.tile(box[2:] - box[:2], 2)
                box = box + free * noise.normal(size=4) * np.hypot(2.0, 0.03 * extent)
                box = np.clip(box, 0, [w, h, w, h])
                if box[2] - box[0] < 2 or box[3] - box[1] < 2:
                    continue
            s = score if noise is None else float(noise.uniform(0.4, 0.95))
            rows.append((s, number, box))
        rows.sort(key=lambda row: -row[0])
        detections[name] = detections_of([(things[n].label, s, b) for s, n, b in rows])
        truth[name] = [n for _, n, _ in rows]
        hw[name] = (h, w)
    return Seen(detections, truth, hw, {name: c.base_SE3_camera for name, c in rig.cameras.items()})


def detections_of(rows: Sequence[tuple[str, float, Sequence[float]]]) -> Detections:
    """From label, score, box."""
    return Detections(
        np.array([b for _, _, b in rows], np.float32).reshape(-1, 4),
        np.array([s for _, s, _ in rows], np.float32),
        np.array([NUMBERS[label] for label, _, _ in rows], np.int16),
    )
