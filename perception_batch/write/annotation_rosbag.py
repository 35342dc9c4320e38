"""``annotations_rosbag2/``: the results as ``vision_msgs`` in a bag that ``ros2 bag play`` takes beside the log."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from perception_batch.types import TimestepResult
from perception_batch.write.annotation_scene import PREFIX, AnnotationFacts, topic_parts
from perception_batch.write.atomic import PARTIAL_SUFFIX, disk_errors, put_in_place
from perception_batch.write.vision_messages import DETECTIONS_2D, DETECTIONS_3D, VisionMessages

DIRECTORY_NAME = "annotations_rosbag2"
_STAMPS_NS = range((1 << 31) * 1_000_000_000)
"""ROS holds signed seconds in 32 bits, the bag's log time is unsigned."""
_log = logging.getLogger(__name__)


class RosbagAnnotationWriter:
    """A `Writer` of ``annotations_rosbag2``: a folder with an MCAP file and ``metadata.yaml``.

    It is written beside its place and renamed when it is whole. Equal results give equal bytes.
    """

    def __init__(self, directory: Path, about: AnnotationFacts) -> None:
        """Open the bag.

        Raises:
            WriteError: the disk is full or refuses.
        """
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
        from rosbags.rosbag2 import Writer as BagWriter

        self.path = directory / DIRECTORY_NAME
        # The bag's file has the folder's name, so the folder has its own within one that says it is not whole.
        self._partial = directory / (DIRECTORY_NAME + PARTIAL_SUFFIX)
        self._about = about
        self._messages = VisionMessages(about)
        self._left_out = 0
        with disk_errors(self.path):
            shutil.rmtree(self._partial, ignore_errors=True)  # of a run that was killed
            bag = BagWriter(self._partial / DIRECTORY_NAME, version=9, storage_plugin=StoragePlugin.MCAP)
            bag.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            bag.open()
        self._bag: Any = bag
        try:
            store, topics = self._messages.typestore, topic_parts(about.cameras)
            self._of_camera = {
                name: bag.add_connection(
                    f"/{PREFIX}/{topics[name]}/detections_2d", DETECTIONS_2D, typestore=store
                )
                for name in about.cameras
            }
            self._of_objects = (
                bag.add_connection(f"/{PREFIX}/detections_3d", DETECTIONS_3D, typestore=store)
                if about.base_frame
                else None
            )
        except BaseException:
            self.discard()
            raise

    def write(self, result: TimestepResult) -> None:
        """Add the messages of one timestep.

        Raises:
            WriteError: the disk is full or refuses; the bag is gone then.
        """
        if self._bag is None:
            raise ValueError(f"{self.path.name}: written to after it was closed")
        try:
            with disk_errors(self.path):
                for camera, stamp_ns in self._about.images(result):
                    if self._holds(stamp_ns):
                        data = self._messages.detections_2d(result, camera, stamp_ns)
                        self._bag.write(self._of_camera[camera], stamp_ns, data)
                if self._of_objects is not None and self._holds(result.stamp_ns):
                    data = self._messages.detections_3d(result)
                    self._bag.write(self._of_objects, result.stamp_ns, data)
        except BaseException:
            self.discard()
            raise

    def _holds(self, stamp_ns: int) -> bool:
        self._left_out += stamp_ns not in _STAMPS_NS
        return stamp_ns in _STAMPS_NS

    def close(self) -> None:
        """Put the bag in its place; a second call does nothing.

        Raises:
            WriteError: the disk is full or refuses; the bag is gone then.
        """
        if self._bag is None:
            return
        bag, self._bag = self._bag, None
        try:
            with disk_errors(self.path):
                bag.close()
                whole = self._partial / DIRECTORY_NAME
                for file in sorted(whole.iterdir()):
                    put_in_place(file, file)  # flushed to the disk before the folder has its name
                shutil.rmtree(self.path, ignore_errors=True)
                whole.replace(self.path)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)
        if self._left_out:
            _log.warning(
                "%s: %d messages left out: ROS holds stamps from 1970 to 2038", self.path.name, self._left_out
            )

    def discard(self) -> None:
        """Leave nothing behind; does nothing after `close`."""
        if self._bag is None:
            return
        bag, self._bag = self._bag, None
        try:
            bag.close()
        except (OSError, ValueError) as error:
            _log.debug("%s: while discarding: %s", self.path.name, error)
        shutil.rmtree(self._partial, ignore_errors=True)
