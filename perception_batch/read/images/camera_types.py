"""Which message types hold camera images, and what kind of image each holds."""

from __future__ import annotations

from typing import Literal

from perception_batch.read.containers.logfile import STILL_FILE, VIDEO_FILE
from perception_batch.read.small_message import COMPRESSED, IMAGE

Family = Literal["still", "video", "raw"]

FFMPEG_PACKET = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"

_FAMILIES: dict[str, Family] = {
    COMPRESSED: "still",
    "foxglove.CompressedImage": "still",
    "foxglove_msgs/msg/CompressedImage": "still",
    STILL_FILE: "still",
    "foxglove.CompressedVideo": "video",
    "foxglove_msgs/msg/CompressedVideo": "video",
    FFMPEG_PACKET: "video",
    IMAGE: "raw",
    "foxglove.RawImage": "raw",
    "foxglove_msgs/msg/RawImage": "raw",
}

CAMERA_TYPES = (
    "sensor_msgs Image or CompressedImage, Foxglove CompressedImage, CompressedVideo or RawImage, "
    "ffmpeg_image_transport FFMPEGPacket"
)
"""For messages to people."""


def family_of(msgtype: str) -> Family | None:
    """What kind of image a message type holds; None for other types."""
    if msgtype.startswith(VIDEO_FILE + " "):
        return "video"
    return _FAMILIES.get(msgtype)


def is_file_type(msgtype: str) -> bool:
    """True for image files and video files, whose topics are names of files and folders."""
    return msgtype == STILL_FILE or msgtype.startswith(VIDEO_FILE + " ")
