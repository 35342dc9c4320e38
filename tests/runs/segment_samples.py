"""Made-up contents of segments, with everything that may be present or absent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.runs.segment_content import DetectedTimestep, SegmentContent
from perception_batch.runs.segments import SegmentPlan
from perception_batch.types import Detections, EgoPose, FrameRow, FrameStatus, Loss, PictureQuality

FIRST_NS = 1_700_000_000_123_456_789
CAMERAS = ("front", "back", "a_left")  # not in alphabetical order, on purpose
PLAN = SegmentPlan("f" * 64, "d" * 64, FIRST_NS, 60_000_000_000, 0, 5, 1_000, 2_000, None, {"a": 1.5})


def boxes(rng: np.random.Generator, n: int) -> Detections:
    """`n` random boxes by falling score."""
    return Detections(
        rng.uniform(0, 400, (n, 4)).astype(np.float32),
        np.sort(rng.uniform(0.05, 1, n).astype(np.float32))[::-1].copy(),
        rng.integers(-1, 80, n).astype(np.int16),
    )


def quality(rng: np.random.Generator) -> PictureQuality:
    """Any; a black picture now and then."""
    numbers = (
        rng.uniform(0, (2000, 0.5, 0.5)).astype(np.float32) if rng.random() < 0.8 else np.array([0, 1, 0])
    )
    return PictureQuality(*numbers.tolist())


def timestep(rng: np.random.Generator, index: int) -> DetectedTimestep:
    """One timestep; every other lacks something."""
    status: dict[str, FrameStatus] = dict.fromkeys(CAMERAS, "ok")
    broken = {}
    if index % 3 == 1:
        status["back"] = "missing"
    if index % 4 == 2:
        status["back"] = "held"
    if index % 5 == 2:
        status["a_left"] = "undecodable"
        broken["a_left"] = "broken_jpeg"
    stamp_ns = FIRST_NS + index * 100_000_007
    stamps = {c: stamp_ns - 1_000_003 * i for i, c in enumerate(CAMERAS) if status[c] != "missing"}
    seen = [c for c in stamps if c not in broken]
    found = {c: boxes(rng, int(rng.integers(0, 9)) if index % 7 else 0) for c in seen}
    sizes = dict.fromkeys(seen, (480, 640))
    return DetectedTimestep(stamp_ns, status, stamps, found, sizes, broken, {c: quality(rng) for c in seen})


def frame_rows(step: DetectedTimestep, index: int) -> list[FrameRow]:
    """Rows settled with it."""
    used = FrameRow(
        "front",
        step.stamp_ns,
        step.stamp_ns + 5,
        index,
        "used",
        "",
        640,
        480,
        "jpeg",
        step.quality.get("front"),
    )
    bad = replace(
        used,
        stamp_ns=-7,
        timestep=-1,
        status="unused",
        reason="bad_stamp",
        width_px=0,
        height_px=0,
        quality=None,
    )
    return [bad, used] if index % 3 == 0 else [used]


def pose(stamp_ns: int, index: int) -> EgoPose:
    """A pose; every other without a velocity."""
    turn = 0.01 * index
    where = SE3.from_quaternion([0, 0.01, math.sin(turn), math.cos(turn)], [index / 3, 1e-9, -1e6])
    speed = np.full(3, math.nan) if index % 2 else np.array([1 / 3, 0.0, -0.0])
    return EgoPose(stamp_ns, "odom", where, speed, "tf")


def content(n: int = 20, seed: int = 0) -> SegmentContent:
    """A segment of `n` timesteps, the same for the same seed."""
    rng = np.random.default_rng(seed)
    steps = tuple(timestep(rng, i) for i in range(n))
    return SegmentContent(
        steps,
        tuple(row for i, step in enumerate(steps) for row in frame_rows(step, i)),
        tuple(pose(step.stamp_ns, i) for i, step in enumerate(steps)),
        (Loss("/cam", 0, 1 << 62, 3, "x\x1b"), Loss("*", 0, 0, 0, "")),
    )


def same_boxes(a: Detections, b: Detections) -> bool:
    """Equal to the bit, types included."""
    pairs = ((a.xyxy, b.xyxy), (a.score, b.score), (a.class_id, b.class_id))
    return all(x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in pairs)


def same(a: SegmentContent, b: SegmentContent) -> bool:
    """Equal to the bit, in the order of everything."""
    if (a.rows, a.losses, len(a.timesteps), len(a.poses)) != (
        b.rows,
        b.losses,
        len(b.timesteps),
        len(b.poses),
    ):
        return False
    for x, y in zip(a.timesteps, b.timesteps, strict=True):
        if (x.stamp_ns, list(x.status.items()), x.frame_stamps_ns, x.image_hw, x.undecodable, x.quality) != (
            (y.stamp_ns, list(y.status.items()), y.frame_stamps_ns, y.image_hw, y.undecodable, y.quality)
        ):
            return False
        if x.detections.keys() != y.detections.keys():
            return False
        if not all(same_boxes(x.detections[c], y.detections[c]) for c in x.detections):
            return False
    for p, q in zip(a.poses, b.poses, strict=True):
        if (p.stamp_ns, p.frame_id, p.source) != (q.stamp_ns, q.frame_id, q.source):
            return False
        if p.velocity_mps.tobytes() != q.velocity_mps.tobytes():
            return False
        u, v = p.odom_SE3_base, q.odom_SE3_base
        if (
            u.rotation.tobytes() != v.rotation.tobytes()
            or u.translation_m.tobytes() != v.translation_m.tobytes()
        ):
            return False
    return True
