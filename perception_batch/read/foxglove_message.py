"""Small messages in protobuf and JSON as objects with their fields as attributes."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from perception_batch.read.containers.logfile import Channel

_MAX_SCHEMA_BYTES = 1 << 20
_STOCK = "foxglove_schemas_protobuf"


def reader_of(channel: Channel) -> Callable[[bytes], Any]:
    """What makes an object of a message of `channel`.

    Protobuf is read by the channel's own schema, else by the official one of that name.

    Raises:
        ValueError: neither is there, or the serialisation is another.
    """
    if channel.encoding == "json":
        return lambda data: json.loads(data, object_hook=lambda fields: SimpleNamespace(**fields))
    if channel.encoding != "protobuf":
        raise ValueError(f"no reader for {channel.encoding}")
    message_class = _own_class(channel) or _stock_class(channel.msgtype)
    if message_class is None:
        raise ValueError("its schema is neither in the file nor known")
    read: Callable[[bytes], Any] = message_class.FromString
    return read


def _own_class(channel: Channel) -> Any | None:
    """The message class that the channel's FileDescriptorSet describes; None where it describes none."""
    if not channel.schema or len(channel.schema) > _MAX_SCHEMA_BYTES:
        return None
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    try:
        files = {file.name: file for file in FileDescriptorSet.FromString(channel.schema).file}
        pool = DescriptorPool()
        for name in _dependencies_first(files):
            pool.AddSerializedFile(files[name].SerializeToString())
        return GetMessageClass(pool.FindMessageTypeByName(channel.msgtype))
    except Exception:  # a schema is foreign: whatever is wrong with it, the official one remains
        return None


def _dependencies_first(files: dict[str, Any]) -> list[str]:
    order: list[str] = []
    seen: set[str] = set()
    waiting = [(name, False) for name in reversed(files)]
    while waiting:
        name, done = waiting.pop()
        if done:
            order.append(name)
        elif name in files and name not in seen:
            seen.add(name)
            waiting.append((name, True))
            waiting.extend((needed, False) for needed in files[name].dependency)
    return order


def _stock_class(msgtype: str) -> Any | None:
    import importlib

    package, _, name = msgtype.partition(".")
    if package != "foxglove" or not name.isidentifier():
        return None
    try:
        return getattr(importlib.import_module(f"{_STOCK}.{name}_pb2"), name)
    except (ImportError, AttributeError):
        return None
