"""Room `read`: a log becomes frames that are not decoded yet, a rig, and the vehicle's motion.

Containers are read through `rosbags`, one file each (`bag1_file`, `mcap_file`, `sqlite_file`), and merged
by log time (`tape`). Nothing is ever written beside a log.
"""

from perception_batch.read.images.topics import CameraTopic, TopicInfo
from perception_batch.read.log import DriveLog, open_log
from perception_batch.read.rigs.rig_file import read_rig_file, write_rig
from perception_batch.read.source import CameraHead, FrameSource, Head

__all__ = [
    "CameraHead",
    "CameraTopic",
    "DriveLog",
    "FrameSource",
    "Head",
    "TopicInfo",
    "open_log",
    "read_rig_file",
    "write_rig",
]
