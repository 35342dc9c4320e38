"""Room `read`: a log becomes frames that are not decoded yet, a rig, and the vehicle's motion.

`containers` holds one module (or a few) for each kind of file; all give `Message`s in log-time order, whatever is
left of the file, and say what is lost. `images` makes frames of messages, `rigs` calibration, `motion` ego poses;
`log` joins them. Nothing is ever written beside a log.
"""

from perception_batch.read.containers.picture_files import holds_pictures
from perception_batch.read.containers.place import log_path
from perception_batch.read.images.survey import CameraSurvey, Stretch, Surveyor
from perception_batch.read.images.topics import CameraTopic, TopicInfo
from perception_batch.read.log import DriveLog, open_log
from perception_batch.read.motion.report import EgoReport
from perception_batch.read.rigs.rig_file import read_rig_file, rig_file_sha256, write_rig
from perception_batch.read.source import CameraHead, FrameSource, Head

__all__ = [
    "CameraHead",
    "CameraSurvey",
    "CameraTopic",
    "DriveLog",
    "EgoReport",
    "FrameSource",
    "Head",
    "Stretch",
    "Surveyor",
    "TopicInfo",
    "holds_pictures",
    "log_path",
    "open_log",
    "read_rig_file",
    "rig_file_sha256",
    "write_rig",
]
