"""What every container offers to the drive: make a message, write it. Topics and frames are the same in all.

==========================================  ==================================================================
topic                                       what
==========================================  ==================================================================
``/<camera>/image_raw/compressed``          JPEG or PNG
``/<camera>/image_raw``                     raw pixels
``/<camera>/video``                         in-log video
``/<camera>/camera_info``                   calibration
``/tf_static``                              ``base_link`` to ``<camera>_optical``, once
``/tf``, ``/odom``                          ``odom`` to ``base_link``; the same with velocities
``/trigger``                                the true time of each cycle (an option)
==========================================  ==================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from perception_batch.calibration import Camera, Rig
from perception_batch.simulate.encode import Picture
from perception_batch.simulate.scene import EgoState

ODOM_FRAME = "odom"


@dataclass(frozen=True, slots=True)
class Message:
    """One message, ready to be written; its bytes do not depend on when that is."""

    topic: str
    """Topic."""
    kind: str
    """Which of the container's types."""
    stamp_ns: int
    """Stamp in its header."""
    data: bytes | memoryview
    """Serialised."""


class LogFile(Protocol):
    """An open log of one container. Messages must be written in the order of their log times."""

    path: Path
    """The log: a file, or the folder of a rosbag2."""

    def picture(self, camera: str, stamp_ns: int, picture: Picture) -> Message:
        """A camera's picture."""

    def calibration(self, camera: Camera, stamp_ns: int) -> Message:
        """A camera's lens."""

    def mounts(self, rig: Rig, stamp_ns: int) -> Message:
        """Where the cameras sit."""

    def motion(self, stamp_ns: int, ego: EgoState, base_frame: str) -> tuple[Message, ...]:
        """Where the own vehicle is, and how it moves."""

    def trigger(self, stamp_ns: int) -> Message:
        """The trigger goes out."""

    def write(self, log_ns: int, message: Message) -> None:
        """Put a message into the log."""

    def close(self) -> None:
        """Finish the log."""

    def abort(self) -> None:
        """Close what is open; the log is of no use."""


def optical_frame(camera: str) -> str:
    """Frame id of a camera's pictures."""
    return f"{camera}_optical"


def image_topic(camera: str, family: str) -> str:
    """Topic of a camera's pictures."""
    last = {"still": "image_raw/compressed", "raw": "image_raw", "video": "video"}[family]
    return f"/{camera}/{last}"


def matrices(camera: Camera) -> tuple[list[float], list[float]]:
    """Row-major K (9) and P (12) of a camera; P is that of a rectified picture with the same focal length."""
    i = camera.intrinsics
    k = [i.fx_px, 0.0, i.cx_px, 0.0, i.fy_px, i.cy_px, 0.0, 0.0, 1.0]
    p = [i.fx_px, 0.0, i.cx_px, 0.0, 0.0, i.fy_px, i.cy_px, 0.0, 0.0, 0.0, 1.0, 0.0]
    return k, p
