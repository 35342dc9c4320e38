"""One file of a log: what every container offers, and how a file's container is recognised."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from perception_batch.errors import LogError, PerceptionBatchError, printable
from perception_batch.read.containers.byte_source import ByteSource
from perception_batch.types import Loss

READABLE = ".bag (ROS 1), .mcap and .db3 (ROS 2), a rosbag2 folder, videos (MP4, MKV), or folders of images"
MAX_NS = 2**63 - 1


Serialization = Literal["ros1", "cdr", "protobuf", "json", "file"]
"""``file``: a message is one image file or one packet of a video, and its stamp is `Message.publish_ns`."""

STILL_FILE = "image file"
"""`Channel.msgtype` of image files."""
VIDEO_FILE = "video packet"
"""`Channel.msgtype` of video files, followed by a space and the codec: ``video packet h264``."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic in one file."""

    id: int
    """The container's own number."""
    topic: str
    """Topic name."""
    msgtype: str
    """Normalised, such as ``sensor_msgs/msg/Image`` or ``foxglove.RawImage``."""
    encoding: Serialization
    """How the messages are serialised."""
    definition: str
    """The ROS message definition that the file carries; empty where none."""
    is_idl: bool
    """True where `definition` is IDL, not the msg language."""
    schema: bytes = b""
    """What the file says of a type that is not ROS's: a serialised FileDescriptorSet, or a JSON schema."""
    extradata: bytes = b""
    """Of a video file's track: parameter sets that stand outside its packets."""


class Message(NamedTuple):
    """One message as the file holds it."""

    log_ns: int
    """When it was recorded, ns."""
    channel: Channel
    """Topic and type."""
    data: bytes
    """Serialised message, decompressed."""
    publish_ns: int = 0
    """When its sender published it, ns, or the time of a picture file; 0 where the container does not know."""


class LogFile(Protocol):
    """An open file of a log."""

    path: Path
    """The file."""
    channels: tuple[Channel, ...]
    """Topics whose serialisation is known; those without messages too."""
    start_ns: int
    """Log time of the first message; `MAX_NS` in a file without messages."""
    stop_ns: int
    """Just after the log time of the last message; 0 in a file without messages."""
    message_count: int
    """Messages in the file, of all topics together."""
    counts_by_index: bool
    """True where `counts` costs nothing; False where it may read a part of the file for it."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What is known so far to be lost of this file: it may grow, and its counts too, while the file is read.

        An entry's topic is ``*`` where it is unknown, and its times are 0 where they are. Its reason does not
        name the file: `DriveFiles` puts that before it.
        """
        ...

    def counts(self) -> Mapping[int, int]:
        """Messages by `Channel.id`; a channel without messages may be absent."""
        ...

    def messages(
        self, channels: Sequence[Channel], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """Messages of `channels` with start_ns <= log time < stop_ns, in log-time order."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


def normalize_type(name: str) -> str:
    """Old type names (``sensor_msgs/Image``) in today's form (``sensor_msgs/msg/Image``)."""
    package, _, rest = name.partition("/")
    return name if not rest or "/" in rest else f"{package}/msg/{rest}"


def reason_of(error: BaseException) -> str:
    """An exception of a library as part of one line."""
    text = printable(" ".join(str(error).split())).rstrip(".")
    text = text if len(text) <= 200 else text[:197] + "..."
    return text or type(error).__name__


def open_log_file(path: Path, max_message_bytes: int) -> LogFile:
    """Open one file, whatever its name, by its first bytes.

    Args:
        path: an existing file.
        max_message_bytes: largest size that a compressed message may have when unpacked.

    Raises:
        LogError: no log, or a damaged one; one clear line.
        UnsupportedEncoding: a readable file of a kind that this version does not read.
    """
    if not path.is_file() and path.is_dir():  # in this order: see `discover`
        from perception_batch.read.containers.image_folder import ImageFolder

        return ImageFolder(path, max_message_bytes)
    with ByteSource(path) as source:
        magic = source.read(0, 16)
    if not magic:
        raise LogError(path, "the file is empty")
    try:
        if magic.startswith(b"#ROSBAG V"):
            from perception_batch.read.containers.bag1_file import Bag1File

            return Bag1File(path)
        if magic.startswith(b"\x89MCAP0\r\n"):
            from perception_batch.read.containers.mcap_file import McapFile

            return McapFile(path, max_message_bytes)
        if magic.startswith(b"SQLite format 3\0"):
            from perception_batch.read.containers.sqlite_file import SqliteFile

            return SqliteFile(path, max_message_bytes)
        if magic.startswith((b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")):
            from perception_batch.read.containers.whole_file import open_packed

            return open_packed(path, max_message_bytes)
        from perception_batch.read.containers.video_file import VideoFile, video_format

        if video := video_format(path, magic):
            return VideoFile(path, video, max_message_bytes)
    except PerceptionBatchError:
        raise
    except Exception as error:
        # An index that points before the beginning of its file makes an invalid seek: damage, not the disk.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise LogError(path, f"damaged or cut off: {reason_of(error)}") from error
    raise LogError(path, f"not a log; this version reads {READABLE}")
