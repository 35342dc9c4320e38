"""Small messages (calibration, transforms, odometry) of any serialisation, from the definition in the file.

Those of ROS are read through `rosbags`; Foxglove's calibration and transforms come out in the shape of their twins
in ROS (`perception_batch.read.rigs.foxglove`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from perception_batch.read.containers.logfile import Channel, Serialization
from perception_batch.read.foxglove_message import reader_of
from perception_batch.read.rigs.foxglove import (
    CALIBRATION_TYPES,
    ROS_DEFINITIONS,
    TRANSFORM_TYPES,
    TRANSFORMS_TYPES,
    adapted,
)

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
ODOMETRY = "nav_msgs/msg/Odometry"
CAMERA_INFO_TYPES = (CAMERA_INFO, *CALIBRATION_TYPES)
"""All that `small_message` gives as a CameraInfo."""
_ROS_TF_TYPES = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
TF_TYPES = (*_ROS_TF_TYPES, *TRANSFORM_TYPES, *TRANSFORMS_TYPES)
"""All that `small_message` gives as a TFMessage."""

MAX_SMALL_BYTES = 4 << 20
"""A transform or calibration message larger than this is damaged."""

_IDL_SEPARATOR = "=" * 80 + "\n"


def small_message(channel: Channel, data: bytes) -> Any:
    """The message as an object with its fields as attributes, as rosbags gives it.

    Raises:
        ValueError: neither the file's definition nor the stock one fits, or the bytes are damaged.
    """
    if len(data) > MAX_SMALL_BYTES:
        raise ValueError(f"{channel.msgtype} of {len(data)} bytes")
    try:
        of_type = channel.encoding, channel.msgtype, channel.definition, channel.is_idl, channel.schema
        return adapted(channel.msgtype, _reader(*of_type)(data))
    except Exception as error:
        raise ValueError(f"{channel.msgtype} cannot be parsed: {error}") from error


@lru_cache(maxsize=128)  # the drives of a night bring the same definitions, which cost up to 20 ms each
def _reader(
    encoding: Serialization, msgtype: str, definition: str, is_idl: bool, schema: bytes
) -> Callable[[bytes], Any]:
    channel = Channel(0, "", msgtype, encoding, definition, is_idl, schema)
    if channel.encoding not in ("ros1", "cdr"):
        return reader_of(channel)
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = None
    if channel.definition:
        try:
            own = get_typestore(Stores.EMPTY)
            own.register(_own_types(channel))
            own.get_msgdef(channel.msgtype)
            store = own
        except Exception:  # a definition is foreign text: whatever is wrong with it, the stock one remains
            store = None
    if store is None:
        store = get_typestore(Stores.ROS1_NOETIC if channel.encoding == "ros1" else Stores.LATEST)
        if channel.msgtype in _ROS_TF_TYPES and channel.msgtype not in store.types:
            store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", channel.msgtype))
        if channel.msgtype in ROS_DEFINITIONS:
            store.register(get_types_from_msg(ROS_DEFINITIONS[channel.msgtype], channel.msgtype))
    deserialize = store.deserialize_ros1 if channel.encoding == "ros1" else store.deserialize_cdr
    return lambda data: deserialize(data, msgtype)


def first_field(channel: Channel) -> str:
    """Type of the first field of a ROS message, such as ``std_msgs/msg/Header``; empty where it is not known."""
    from rosbags.typesys import Stores, get_typestore

    types: dict[str, Any] = {}
    if channel.definition:
        try:
            types = _own_types(channel)
        except Exception:  # as above
            types = {}
    if channel.msgtype not in types:
        store = get_typestore(Stores.ROS1_NOETIC if channel.encoding == "ros1" else Stores.LATEST)
        types = store.fielddefs
    _, fields = types.get(channel.msgtype, ((), ()))
    kind = fields[0][1][1] if fields else ""
    return kind if isinstance(kind, str) else ""


def _own_types(channel: Channel) -> Any:
    from rosbags.typesys import get_types_from_idl, get_types_from_msg

    if not channel.is_idl:
        return get_types_from_msg(channel.definition, channel.msgtype)
    if not channel.definition.startswith(_IDL_SEPARATOR):
        return get_types_from_idl(channel.definition)
    types: dict[str, Any] = {}
    for part in channel.definition.split(_IDL_SEPARATOR)[1:]:
        types.update(get_types_from_idl(part.split("\n", 1)[1]))
    return types


def stamp_of(header: Any) -> int:
    """A header's stamp, ns."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
