"""The drive as a ROS 1 bag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perception_batch.simulate.log_file import Message
from perception_batch.simulate.ros_messages import RosMessages


class BagLog(RosMessages):
    """``<name>.bag``, format 2.0, chunks without compression (pictures are compressed already)."""

    def __init__(self, path: Path) -> None:
        from rosbags.rosbag1 import Writer

        super().__init__(ros1=True)
        self.path = path
        self._writer = Writer(path)
        self._writer.open()
        self._connections: dict[str, Any] = {}
        self._finished_chunks = 0

    def write(self, log_ns: int, message: Message) -> None:
        """Put a message into the log."""
        connection = self._connections.get(message.topic)
        if connection is None:
            latched = 1 if message.topic == "/tf_static" else 0
            connection = self._writer.add_connection(
                message.topic, message.kind, typestore=self.store, callerid="/simulate", latching=latched
            )
            self._connections[message.topic] = connection
        self._writer.write(connection, log_ns, message.data)
        self._forget()

    def _forget(self) -> None:
        """Let go of the offsets of written chunks: the index needs their number only, and hours have millions."""
        while self._finished_chunks < len(self._writer.chunks) - 1:
            chunk = self._writer.chunks[self._finished_chunks]
            for number, offsets in list(chunk.connections.items()):
                chunk.connections[number] = range(len(offsets))  # type: ignore[assignment]
            self._finished_chunks += 1

    def close(self) -> None:
        """Finish the log."""
        self._writer.close()

    def abort(self) -> None:
        """Close what is open."""
        self._writer.abort()
