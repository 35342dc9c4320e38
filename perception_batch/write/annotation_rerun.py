"""``annotations.rrd``: boxes, objects, cameras and the vehicle's path for the Rerun viewer (the extra `rerun`)."""

from __future__ import annotations

import logging
import math
import uuid
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from perception_batch.calibration import Intrinsics
from perception_batch.errors import ConfigError, WriteError, printable
from perception_batch.geometry import SE3
from perception_batch.types import FusedObject, TimestepResult
from perception_batch.write.annotation_scene import (
    AnnotationFacts,
    cube_of,
    ellipse_of,
    name_of,
    placed_objects,
    shown_boxes,
    speed_of,
    topic_parts,
)
from perception_batch.write.atomic import PARTIAL_SUFFIX, disk_errors, put_in_place

FILE_NAME = "annotations.rrd"
_STAMPS_NS = range(-(1 << 63), 1 << 63)
_FLAT_M = 0.02
_log = logging.getLogger(__name__)


def check_rerun() -> None:
    """Whether the package is installed.

    Raises:
        ConfigError: it is not; says how.
    """
    if find_spec("rerun") is None:
        raise ConfigError(
            'write.rerun needs the package rerun-sdk: pip install "perception_batch[rerun]" (or pip install '
            "rerun-sdk), or leave write.rerun false"
        )


class RerunAnnotationWriter:
    """A `Writer` of ``annotations.rrd``.

    Timelines: ``stamp`` (UTC; boxes and cameras at their image's stamp, all else at the timestep's) and ``timestep``.
    Entities: ``world/vehicle`` (the path, where there is ego motion), ``world/vehicle/objects``, ``.../cameras/<camera>``
    (pinhole and mount) with its ``detections``; those of an uncalibrated camera are in ``images/<camera>``. Rerun gives its rows ids of its own, so two files of
    equal results differ in bytes.
    """

    def __init__(self, directory: Path, about: AnnotationFacts) -> None:
        """Open the file.

        Raises:
            ConfigError: rerun-sdk is not installed.
            WriteError: the disk is full or refuses.
        """
        check_rerun()
        import rerun as rr

        self.path = directory / FILE_NAME
        self._partial = directory / (FILE_NAME + PARTIAL_SUFFIX)
        self._rr: Any = rr
        self._about = about
        self._parts = topic_parts(about.cameras)
        self._placed: dict[str, SE3] = {}
        self._lenses: dict[str, Intrinsics] = {}
        self._left_out = 0
        with disk_errors(self.path):
            directory.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
        # Named by the drive, so that two files of one drive open as one recording's versions.
        identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{about.facts.drive}/{about.facts.first_stamp_ns}")
        # By size and not by time, else a slow run's file is ten times as large as a fast one's.
        batches = rr.ChunkBatcherConfig()
        batches.flush_tick = timedelta(hours=1)
        self._recording: Any = rr.RecordingStream(
            "perception_batch", recording_id=identity, batcher_config=batches
        )
        try:
            self._recording.save(str(self._partial))
            self._begin()
        except (RuntimeError, OSError) as error:
            self.discard()
            raise WriteError(f"{printable(self.path)}: {printable(error)}") from error
        except BaseException:
            self.discard()
            raise

    def _begin(self) -> None:
        rr, recording = self._rr, self._recording
        recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)

    def _entity(self, camera: str) -> str:
        """Where the camera stands; one without calibration has pixels and no place."""
        above = "world/vehicle/cameras" if camera in self._about.rig.cameras else "images"
        return f"{above}/{self._parts[camera]}"

    def write(self, result: TimestepResult) -> None:
        """Add one timestep.

        Raises:
            WriteError: the recording refuses; the file is gone then.
        """
        if self._recording is None:
            raise ValueError(f"{self.path.name}: written to after it was closed")
        try:
            self._write(result)
        except (RuntimeError, OSError) as error:
            self.discard()
            raise WriteError(f"{printable(self.path)}: {printable(error)}") from error
        except BaseException:
            self.discard()
            raise

    def _write(self, result: TimestepResult) -> None:
        rr, recording, about = self._rr, self._recording, self._about
        recording.set_time("timestep", sequence=result.index)
        images = dict(about.images(result))
        for camera, mount in sorted(about.mounts(result).items()):
            if self._placed.get(camera) is not mount and self._at(images.get(camera, result.stamp_ns)):
                self._placed[camera] = mount
                recording.log(self._entity(camera), self._transform(mount))
        for camera, lens in sorted(about.lenses(result).items()):
            if self._lenses.get(camera) != lens and self._at(images.get(camera, result.stamp_ns)):
                self._lenses[camera] = lens
                recording.log(self._entity(camera), self._pinhole(lens))
        for camera, stamp_ns in images.items():
            if self._at(stamp_ns):
                recording.log(f"{self._entity(camera)}/detections", self._boxes(result, camera))
        if not about.base_frame or not self._at(result.stamp_ns):
            return
        if result.ego is not None:
            recording.log("world/vehicle", self._transform(result.ego.odom_SE3_base))
        placed = [item for _, item in placed_objects(result)]
        for name, archetype in self._objects(placed).items():
            recording.log(f"world/vehicle/objects/{name}", archetype or rr.Clear(recursive=False))

    def _at(self, stamp_ns: int) -> bool:
        """Set the time of what is logged next; False where the format cannot hold it."""
        if stamp_ns not in _STAMPS_NS:
            self._left_out += 1
            return False
        self._recording.set_time("stamp", timestamp=np.datetime64(stamp_ns, "ns"))
        return True

    def _boxes(self, result: TimestepResult, camera: str) -> Any:
        boxes = shown_boxes(self._about.facts, result, camera)
        if not boxes:
            return self._rr.Clear(recursive=False)
        return self._rr.Boxes2D(
            array=[box.xyxy_px for box in boxes],
            array_format=self._rr.Box2DFormat.XYXY,
            labels=[box.text for box in boxes],
            colors=[self._about.color(box.label) for box in boxes],
        )

    def _objects(self, items: list[FusedObject]) -> dict[str, Any]:
        """What is drawn of the objects; None where there is nothing, which clears what was there."""
        rr, shapes = self._rr, [cube_of(item) for item in items]
        colors = [self._about.color(item.label) for item in items]
        boxes = rr.Boxes3D(
            centers=[item.position_m for item in items],
            half_sizes=[np.array(size) / 2 for size, _ in shapes],
            quaternions=[_about_z(yaw) for _, yaw in shapes],
            labels=[name_of(item.label, item.track_id) for item in items],
            colors=colors,
        )
        moving = [i for i, item in enumerate(items) if speed_of(item)]
        arrows = rr.Arrows3D(
            origins=[items[i].position_m for i in moving],
            vectors=[np.nan_to_num(items[i].velocity_mps) for i in moving],
            colors=[colors[i] for i in moving],
        )
        known = [(i, e) for i, item in enumerate(items) if (e := ellipse_of(item.covariance_m2))]
        ellipses = rr.Ellipsoids3D(
            centers=[items[i].position_m - (0, 0, shapes[i][0][2] / 2) for i, _ in known],
            half_sizes=[(long, short, _FLAT_M) for _, (long, short, _) in known],
            quaternions=[_about_z(angle) for _, (_, _, angle) in known],
            colors=[colors[i] for i, _ in known],
        )
        return {
            "boxes": boxes if items else None,
            "velocity": arrows if moving else None,
            "uncertainty": ellipses if known else None,
        }

    def _pinhole(self, lens: Intrinsics) -> Any:
        return self._rr.Pinhole(
            resolution=[lens.width_px, lens.height_px],
            focal_length=[lens.fx_px, lens.fy_px],
            # Rerun counts pixels from the outer corner, lenses from the first one's centre.
            principal_point=[lens.cx_px + 0.5, lens.cy_px + 0.5],
            camera_xyz=self._rr.ViewCoordinates.RDF,
            image_plane_distance=2.0,
        )

    def _transform(self, pose: SE3) -> Any:
        return self._rr.Transform3D(translation=pose.translation_m, quaternion=pose.quaternion_xyzw())

    def close(self) -> None:
        """Put the file in its place; a second call does nothing.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        if self._recording is None:
            return
        recording, self._recording = self._recording, None
        try:
            recording.flush()
            recording.disconnect()
            put_in_place(self._partial, self.path)
        except (RuntimeError, OSError) as error:
            raise WriteError(f"{printable(self.path)}: {printable(error)}") from error
        finally:
            self._partial.unlink(missing_ok=True)
        if self._left_out:
            _log.warning(
                "%s: %d entries left out: their stamps are beyond 64 bits", self.path.name, self._left_out
            )

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        if self._recording is None:
            return
        recording, self._recording = self._recording, None
        recording.disconnect()
        self._partial.unlink(missing_ok=True)


def _about_z(angle_rad: float) -> list[float]:
    """Quaternion (x, y, z, w) of a turn about z."""
    return [0.0, 0.0, math.sin(angle_rad / 2), math.cos(angle_rad / 2)]
