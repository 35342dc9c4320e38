"""What the packets of one camera's video know of each other: its parameter sets, its size, where it can begin."""

from __future__ import annotations

from dataclasses import replace

from perception_batch.read.images.parsed_image import ParsedImage
from perception_batch.types import VideoPayload

_TEMPORAL_DELIMITER = b"\x12\x00"  # AV1, 5.6: the first OBU of a packet


class VideoStream:
    """Looks at the packets of one camera, in log order.

    Many encoders send the parameter sets once, or in a packet of their own. They are put before every key frame that
    lacks them, so that each key frame can be decoded by itself.
    """

    def __init__(self) -> None:
        self._sets = b""
        self._size = (0, 0)
        self._begun = False

    def take(self, image: ParsedImage) -> tuple[ParsedImage, bool]:
        """An image as the stream completes it; True where no decoder can have a picture from it.

        That is a packet before the first key frame, or one of parameter sets alone. Of images that are no video
        nothing changes.
        """
        payload, packet = image.payload, image.packet
        if not isinstance(payload, VideoPayload):
            return image, False
        if packet.sets and not payload.extradata:
            self._sets = packet.sets
        if image.width_px:
            self._size = (image.width_px, image.height_px)
        elif self._size[0]:
            image = replace(image, width_px=self._size[0], height_px=self._size[1])
        if packet.is_entry and not packet.has_sets and self._sets:
            payload = replace(payload, data=_joined(self._sets, payload.data, payload.codec), is_key=True)
            image = replace(image, payload=payload)
        self._begun = self._begun or payload.is_key
        alone = bool(packet.sets) and not packet.has_picture
        return image, alone or not self._begun


def _joined(sets: bytes, data: bytes | memoryview, codec: str) -> bytes:
    if codec == "av1" and data[:2] == _TEMPORAL_DELIMITER:
        return _TEMPORAL_DELIMITER + sets + bytes(data[2:])
    return sets + bytes(data)
