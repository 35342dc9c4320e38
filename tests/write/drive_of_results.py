"""A made-up drive for the tests of this room: results with everything that may be present or absent."""

from __future__ import annotations

import math

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.types import (
    Detections,
    EgoPose,
    FrameStatus,
    FusedObject,
    Fusion,
    Observation,
    SuppressedReason,
    TimestepResult,
)
from perception_batch.write import DriveFacts

CAMERAS = ("front", "back", "a_left")  # not in alphabetical order, on purpose
FIRST_NS = 1_700_000_000_123_456_789
STEP_NS = 100_000_007
FACTS = DriveFacts("drive_1", FIRST_NS, {0: "person", 2: "car", 7: "truck"}, "base_link", True)


def detections(rng: np.random.Generator, n: int) -> Detections:
    """`n` random boxes in a 640x480 image, by falling score."""
    corner = rng.uniform(0, 400, (n, 2))
    size = rng.uniform(5, 80, (n, 2))
    return Detections(
        np.concatenate([corner, corner + size], axis=1).astype(np.float32),
        np.sort(rng.uniform(0.05, 1, n).astype(np.float32))[::-1].copy(),
        rng.choice(np.array([0, 2, 7, 11], np.int16), n),
    )


def result(index: int, rng: np.random.Generator, most: int = 6) -> TimestepResult:
    """One timestep; every fourth lacks detections, every third a camera, every fifth has a broken image."""
    stamp_ns = FIRST_NS + index * STEP_NS
    status: dict[str, FrameStatus] = dict.fromkeys(CAMERAS, "ok")
    if index % 3 == 1:
        status["back"] = "missing" if index % 2 else "not_due"
    if index % 5 == 2:
        status["a_left"] = "undecodable"
    stamps = {
        c: stamp_ns + 1_000_003 * i for i, c in enumerate(CAMERAS) if status[c] in ("ok", "undecodable")
    }
    found = {
        c: detections(rng, 0 if index % 4 == 3 else int(rng.integers(0, most)))
        for c in CAMERAS
        if status[c] == "ok"
    }
    objects: list[FusedObject] = []
    object_of: dict[str, np.ndarray[tuple[int], np.dtype[np.int32]]] = {}
    suppressed: dict[str, tuple[SuppressedReason, ...]] = {}
    for camera in sorted(found):
        of = np.full(len(found[camera]), -1, np.int32)
        reasons: list[SuppressedReason] = []
        for row, score in enumerate(found[camera].score.tolist()):
            if score < 0.25:
                reasons.append("low_score")
                continue
            reasons.append("")
            of[row] = len(objects)
            objects.append(_object(rng, camera, row, score, known=row % 2 == 0))
        object_of[camera], suppressed[camera] = of, tuple(reasons)
    ego = None
    if index % 2 == 0:
        pose = SE3.from_quaternion([0, 0, math.sin(0.1), math.cos(0.1)], [index * 1.5, 2.0, 0.1])
        ego = EgoPose(stamp_ns, "odom", pose, np.array([15.0, 0.0, 0.0]), "tf")
    return TimestepResult(
        index,
        stamp_ns,
        status,
        stamps,
        found,
        Fusion(tuple(objects), object_of, suppressed),
        ego,
        dict.fromkeys(found, (480, 640)),
    )


def _object(rng: np.random.Generator, camera: str, row: int, score: float, *, known: bool) -> FusedObject:
    nan3, nan33 = np.full(3, np.nan), np.full((3, 3), np.nan)
    return FusedObject(
        class_id=2,
        label="car",
        score=score,
        position_m=rng.uniform(-40, 40, 3) if known else nan3,
        covariance_m2=np.diag(rng.uniform(0.1, 9, 3)) if known else nan33,
        size_lwh_m=np.array([4.61, 1.95, 1.70]) if known else nan3,
        size_source="prior" if known else "unknown",
        yaw_rad=math.nan,
        observations=(Observation(camera, row),),
    )


def drive(n: int, *, seed: int = 0, most: int = 6) -> list[TimestepResult]:
    """`n` timesteps, the same for the same seed."""
    rng = np.random.default_rng(seed)
    return [result(index, rng, most) for index in range(n)]
