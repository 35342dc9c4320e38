"""Schemas and channels of an MCAP file, wherever in it they stand."""

from __future__ import annotations

from perception_batch.read.containers.logfile import Channel, Serialization, normalize_type
from perception_batch.read.containers.mcap_records import (
    CHANNEL,
    SCHEMA,
    BadRecord,
    ChannelRecord,
    SchemaRecord,
    parse_channel,
    parse_schema,
)

MAX_SCHEMAS_BYTES = 128 << 20
"""Of all schemas of a file together; those that come after have no text, as if the file did not carry it."""

_ENCODINGS: dict[str, Serialization] = {"ros1": "ros1", "cdr": "cdr", "protobuf": "protobuf", "json": "json"}
_IDL = ("ros2idl", "omgidl")


class Definitions:
    """What is defined, by number; where a number is defined twice, the first one counts."""

    def __init__(self) -> None:
        self.schemas: dict[int, SchemaRecord] = {}
        """At most 65,535."""
        self.channels: dict[int, ChannelRecord] = {}
        """At most 65,536."""
        self._schemas_bytes = 0

    def take(self, kind: int, body: bytes | memoryview) -> None:
        """Add a schema or a channel; one that cannot be read loses its own topics only."""
        try:
            if kind == SCHEMA:
                self._add_schema(parse_schema(body))
            elif kind == CHANNEL:
                channel = parse_channel(body)
                self.channels.setdefault(channel.id, channel)
        except BadRecord:
            return

    def take_all(self, other: Definitions) -> None:
        """Add what `other` defines and this does not."""
        for schema in other.schemas.values():
            self._add_schema(schema)
        for channel in other.channels.values():
            self.channels.setdefault(channel.id, channel)

    def defines(self, number: int) -> bool:
        """Whether the channel is known, and its schema too."""
        channel = self.channels.get(number)
        return channel is not None and (not channel.schema_id or channel.schema_id in self.schemas)

    def readable(self) -> tuple[Channel, ...]:
        """The channels whose serialisation is known."""
        texts: dict[int, str] = {}
        out = []
        for number, record in sorted(self.channels.items()):
            encoding = _ENCODINGS.get(record.encoding)
            if encoding is None:
                continue
            schema = self.schemas.get(record.schema_id)
            if schema is None:
                out.append(Channel(number, record.topic, "", encoding, "", False))
            elif encoding in ("ros1", "cdr"):
                if schema.id not in texts:  # many topics share a type
                    texts[schema.id] = schema.data.decode("utf-8", "replace")
                name, is_idl = normalize_type(schema.name), schema.encoding in _IDL
                out.append(Channel(number, record.topic, name, encoding, texts[schema.id], is_idl))
            else:
                out.append(Channel(number, record.topic, schema.name, encoding, "", False, schema.data))
        return tuple(out)

    def _add_schema(self, schema: SchemaRecord) -> None:
        if schema.id in self.schemas:
            return
        self._schemas_bytes += len(schema.data)
        if self._schemas_bytes > MAX_SCHEMAS_BYTES:
            self._schemas_bytes -= len(schema.data)
            schema = SchemaRecord(schema.id, schema.name, schema.encoding, b"")
        self.schemas[schema.id] = schema
