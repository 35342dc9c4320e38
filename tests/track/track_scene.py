"""Timesteps of made-up things on a plane, as a fuser would give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.config import TrackConfig
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.track import Tracker, open_tracker
from perception_batch.types import (
    Detections,
    EgoPose,
    FloatArray,
    FusedObject,
    Fusion,
    Observation,
    TimestepResult,
)

START_NS = 1_700_000_000_123_456_789
CLASS_IDS = {"person": 0, "bicycle": 1, "car": 2, "truck": 7}
CAMERA = "cam_front"
OPTICAL = SE3(np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.array([1.5, 0.0, 1.5]))
RIG = Rig(
    "base_link",
    {
        CAMERA: Camera(
            CAMERA, Intrinsics("pinhole", 960, 600, 700.0, 700.0, 479.5, 299.5, ()), OPTICAL, "test"
        )
    },
    {},
)
UNCALIBRATED = Rig("", {}, {CAMERA: "no calibration"})


@dataclass(frozen=True)
class Seen:
    """One box of one thing at one timestep, in the fixed frame."""

    place_m: tuple[float, float]
    label: str = "car"
    score: float = 0.9
    own_sigma: float = 0.02
    """Of the range's logarithm and of the bearing's tenth."""
    size_sigma: float = 0.0
    placed: bool = True
    box: tuple[float, float, float, float] | None = None
    camera: str = CAMERA


def still_ego(stamp_ns: int) -> EgoPose:
    """The vehicle at the origin."""
    return EgoPose(stamp_ns, "odom", SE3.identity(), np.zeros(3), "tf")


def timestep(
    index: int,
    seen: Sequence[Seen],
    *,
    stamp_ns: int | None = None,
    ego: Callable[[int], EgoPose | None] = still_ego,
    rate_hz: float = 10.0,
) -> TimestepResult:
    """One timestep with an object for each thing, in the order given."""
    stamp = START_NS + round(index * 1e9 / rate_hz) if stamp_ns is None else stamp_ns
    pose = ego(stamp)
    base_SE3_odom = SE3.identity() if pose is None else pose.odom_SE3_base.inverse()
    objects = []
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for item in seen:
        place = base_SE3_odom.apply(np.array([*item.place_m, 0.8]))
        of_camera = boxes.setdefault(item.camera, [])
        box = item.box or _box(place)
        of_camera.append((*box, item.score, CLASS_IDS[item.label]))
        objects.append(_object(item, place, Observation(item.camera, len(of_camera) - 1)))
    cameras = sorted({CAMERA, *boxes})
    found = {}
    for camera in cameras:
        rows = np.array(boxes.get(camera, []), np.float64).reshape(-1, 6)
        found[camera] = Detections(
            rows[:, :4].astype(np.float32), rows[:, 4].astype(np.float32), rows[:, 5].astype(np.int16)
        )
    object_of = {camera: np.full(len(d), -1, np.int32) for camera, d in found.items()}
    for number, thing in enumerate(objects):
        for o in thing.observations:
            object_of[o.camera][o.detection] = number
    suppressed = {camera: ("",) * len(d) for camera, d in found.items()}
    return TimestepResult(
        index,
        stamp,
        dict.fromkeys(cameras, "ok"),
        dict.fromkeys(cameras, stamp),
        found,
        Fusion(tuple(objects), object_of, suppressed),
        pose,
        dict.fromkeys(cameras, (600, 960)),
    )


def _box(place: FloatArray) -> tuple[float, float, float, float]:
    """About what a camera that looks forward would show; what is beside or behind has a box of its own."""
    ahead = max(float(place[0]) - 1.5, 1.0)
    u, half = 480 - 700 * float(place[1]) / ahead, 350 * 1.8 / ahead
    return (u - half, 300.0 + 700 * 0.0 / ahead, u + half, 300.0 + 700 * 1.5 / ahead)


def _object(item: Seen, place: FloatArray, observation: Observation) -> FusedObject:
    reach = float(np.hypot(place[0], place[1]))
    along = np.array([place[0], place[1], 0.0]) / reach
    across = np.array([-along[1], along[0], 0.0])
    sigma = item.own_sigma * reach
    own = sigma**2 * np.outer(along, along) + (0.1 * sigma) ** 2 * np.outer(across, across)
    own[2, 2] += 0.01
    shared = np.stack([item.size_sigma * reach * along, np.zeros(3)])
    nothing = np.full(3, np.nan)
    return FusedObject(
        class_id=CLASS_IDS[item.label],
        label=item.label,
        score=item.score,
        position_m=place if item.placed else nothing,
        covariance_m2=own + shared.T @ shared if item.placed else np.full((3, 3), np.nan),
        size_lwh_m=np.array(Ontology().classes[item.label].size_lwh_m),
        size_source="prior",
        yaw_rad=float("nan"),
        observations=(observation,),
        own_m2=own if item.placed else np.full((3, 3), np.nan),
        shared_m=shared if item.placed else np.full((2, 3), np.nan),
    )


@dataclass
class Told:
    """What a tracker made of a drive."""

    results: list[TimestepResult]
    tracker: Tracker
    finished: list = field(default_factory=list)

    def tracks(self) -> list[list[int]]:
        """By timestep, the ids of its objects."""
        return [[o.track_id for o in r.fusion.objects] for r in self.results]

    def of_track(self, track_id: int) -> dict[int, FusedObject]:
        """By index of the timestep, the objects of one track."""
        return {r.index: o for r in self.results for o in r.fusion.objects if o.track_id == track_id}


def track(
    drive: Sequence[TimestepResult], rig: Rig = RIG, settings: Mapping[str, float] | None = None
) -> Told:
    """The whole drive through a new tracker."""
    tracker = open_tracker(rig, Ontology(), TrackConfig(**(settings or {})))
    told = Told([], tracker)
    for result in drive:
        told.results += tracker.push(result)
        told.finished += tracker.take_finished()
    told.results += tracker.flush()
    told.finished += tracker.take_finished()
    return told
