"""``annotations.mcap``: boxes, objects, lenses and transforms as a layer over the original log in Foxglove or Lichtblick."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from perception_batch.calibration import Intrinsics
from perception_batch.errors import printable
from perception_batch.geometry import SE3
from perception_batch.types import TimestepResult
from perception_batch.write.annotation_scene import PREFIX, AnnotationFacts, clean, first_stamp, topic_parts
from perception_batch.write.atomic import AtomicFile, disk_errors

FILE_NAME = "annotations.mcap"
_CHUNK_BYTES = 1 << 20
_STAMPS_NS = range(1 << 63)
"""What the format's unsigned log time and a reader's signed one both hold."""
_log = logging.getLogger(__name__)


class McapAnnotationWriter:
    """A `Writer` of ``annotations.mcap``.

    Every image of the log that a timestep uses has one `foxglove.ImageAnnotations` with the image's own stamp, in the
    message and as log and publish time. Chunks of 1 MB, compressed with zstd, so memory is that of a chunk and of the
    index (some 100 bytes a chunk). Equal results give equal bytes.
    """

    def __init__(self, directory: Path, about: AnnotationFacts) -> None:
        """Open the file.

        Raises:
            WriteError: the disk is full or refuses.
        """
        from mcap.writer import CompressionType
        from mcap.writer import Writer as McapWriter

        self.path = directory / FILE_NAME
        self._about = about
        self._frames = about.frames()
        self._topics = topic_parts(about.cameras)
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._moved: set[str] = set()
        self._lenses: dict[str, Intrinsics] = {}
        self._begun = False
        self._left_out = 0
        self._file: AtomicFile | None = AtomicFile(self.path)
        try:
            with disk_errors(self.path):
                self._mcap: Any = McapWriter(
                    self._file.stream, chunk_size=_CHUNK_BYTES, compression=CompressionType.ZSTD
                )
                self._mcap.start(profile="", library="perception_batch")
        except BaseException:
            self.discard()
            raise

    def write(self, result: TimestepResult) -> None:
        """Add the messages of one timestep.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        if self._file is None:
            raise ValueError(f"{self.path.name}: written to after it was closed")
        try:
            with disk_errors(self.path):
                self._write(result)
        except BaseException:
            self.discard()
            raise

    def _write(self, result: TimestepResult) -> None:
        from perception_batch.write import foxglove_messages as messages

        about, images = self._about, dict(self._about.images(result))
        if not self._begun:
            self._begun = True
            self._begin(result, first_stamp([*images.values()], result.stamp_ns))
        base = about.base_frame
        if result.ego is not None and base:
            pose = {base: result.ego.odom_SE3_base}
            fixed = clean(result.ego.frame_id)
            self._add("tf", messages.frame_transforms(fixed, pose, result.stamp_ns), result.stamp_ns)
        for camera, mount in self._mounts_now(result).items():
            stamp_ns = images.get(camera, result.stamp_ns)
            self._add(
                "tf", messages.frame_transforms(base, {self._frames[camera]: mount}, stamp_ns), stamp_ns
            )
        for camera, lens in sorted(about.lenses(result).items()):
            if camera in images and self._lenses.get(camera) != lens:
                self._add_lens(camera, lens, images[camera])
        for camera, stamp_ns in images.items():
            message = messages.image_annotations(about, result, camera, stamp_ns)
            self._add(f"{self._topics[camera]}/detections", message, stamp_ns, camera)
        if base:
            self._add("objects", messages.scene_update(about, result), result.stamp_ns)

    def _begin(self, result: TimestepResult, stamp_ns: int) -> None:
        """What hardly ever changes, before the first image: viewers that jump look for the last message of a topic."""
        from perception_batch.write import foxglove_messages as messages

        rig = self._about.rig
        for name, lens in sorted(self._about.lenses(result).items()):
            self._add_lens(name, lens, stamp_ns)
        if rig.cameras:
            poses = {self._frames[name]: rig.cameras[name].base_SE3_camera for name in sorted(rig.cameras)}
            self._add("tf", messages.frame_transforms(self._about.base_frame, poses, stamp_ns), stamp_ns)

    def _add_lens(self, camera: str, lens: Intrinsics, stamp_ns: int) -> None:
        from perception_batch.write import foxglove_messages as messages

        self._lenses[camera] = lens
        message = messages.camera_calibration(lens, self._frames[camera], stamp_ns)
        self._add(f"{self._topics[camera]}/calibration", message, stamp_ns, camera)

    def _mounts_now(self, result: TimestepResult) -> dict[str, SE3]:
        """The cameras that are, or were just before, elsewhere than the rig says."""
        mounts = self._about.mounts(result)
        told = {name: mounts[name] for name in sorted(mounts) if name in result.mounts or name in self._moved}
        self._moved = {name for name in told if name in result.mounts}
        return told

    def _add(self, topic: str, message: Any, stamp_ns: int, camera: str = "") -> None:
        if stamp_ns not in _STAMPS_NS:
            self._left_out += 1
            return
        if topic not in self._channels:
            self._channels[topic] = self._register(topic, message, camera)
        data = message.SerializeToString(deterministic=True)
        self._mcap.add_message(
            self._channels[topic], log_time=stamp_ns, data=data, publish_time=stamp_ns, sequence=0
        )

    def _register(self, topic: str, message: Any, camera: str) -> int:
        from mcap_protobuf.schema import register_schema

        kind = type(message).DESCRIPTOR.full_name
        if kind not in self._schemas:
            self._schemas[kind] = register_schema(self._mcap, type(message))
        metadata = {"camera": printable(camera)} if camera else {}
        channel: int = self._mcap.register_channel(
            topic=f"/{PREFIX}/{topic}",
            message_encoding="protobuf",
            schema_id=self._schemas[kind],
            metadata=metadata,
        )
        return channel

    def close(self) -> None:
        """Put the file in its place; a second call does nothing.

        Raises:
            WriteError: the disk is full or refuses; the file is gone then.
        """
        if self._file is None:
            return
        facts = self._about.facts
        try:
            with disk_errors(self.path):
                self._mcap.add_metadata(
                    "perception_batch",
                    {"drive": clean(facts.drive), "base_frame": self._about.base_frame, "schema": "1"},
                )
                self._mcap.finish()
        except BaseException:
            self.discard()
            raise
        file, self._file = self._file, None
        file.commit()
        if self._left_out:
            _log.warning(
                "%s: %d messages left out: their stamps are before 1970", self.path.name, self._left_out
            )

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        if self._file is not None:
            file, self._file = self._file, None
            file.discard()
