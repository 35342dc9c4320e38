"""The drive as a rosbag2 folder: sqlite3 or MCAP storage, with metadata.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from perception_batch.simulate.log_file import Message
from perception_batch.simulate.ros_messages import RosMessages


class Ros2Log(RosMessages):
    """The folder ``<name>`` with one storage file, metadata version 9."""

    def __init__(self, path: Path, storage: Literal["sqlite3", "mcap"]) -> None:
        from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
        from rosbags.rosbag2 import StoragePlugin, Writer

        super().__init__(ros1=False)
        self.path = path
        plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
        self._writer = Writer(path, version=9, storage_plugin=plugin)
        self._writer.open()
        self._connections: dict[str, Any] = {}
        forever = QosTime(9223372036, 854775807)  # how rosbag2 writes an endless duration
        # tf2's listeners ask for latched static transforms (tf2_ros, StaticTransformBroadcaster).
        self._latched = Qos(
            QosHistory.KEEP_LAST,
            1,
            QosReliability.RELIABLE,
            QosDurability.TRANSIENT_LOCAL,
            forever,
            forever,
            QosLiveliness.AUTOMATIC,
            forever,
            avoid_ros_namespace_conventions=False,
        )

    def write(self, log_ns: int, message: Message) -> None:
        """Put a message into the log."""
        connection = self._connections.get(message.topic)
        if connection is None:
            qos = (self._latched,) if message.topic == "/tf_static" else ()
            connection = self._writer.add_connection(
                message.topic, message.kind, typestore=self.store, offered_qos_profiles=qos
            )
            self._connections[message.topic] = connection
        self._writer.write(connection, log_ns, message.data)

    def close(self) -> None:
        """Finish the log."""
        self._writer.close()

    def abort(self) -> None:
        """Close what is open."""
        self._writer.abort()
