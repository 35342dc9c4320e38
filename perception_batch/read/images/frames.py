"""Image messages as `EncodedFrame`: which clock, which stamp, which number."""

from __future__ import annotations

from perception_batch.read.containers.logfile import Message
from perception_batch.read.images.clock import Clock, plausible
from perception_batch.read.images.parsed_image import ParsedImage, parse_image
from perception_batch.read.images.video_stream import VideoStream
from perception_batch.types import EncodedFrame

__all__ = ["FrameMaker", "ParsedImage", "int64", "parse_image", "plausible"]


def int64(value_ns: int) -> int:
    """The nearest time that 64 bits hold; MCAP's log times have no sign."""
    return min(max(value_ns, -(2**63)), 2**63 - 1)


class FrameMaker:
    """Makes the frames of one camera, in log order."""

    def __init__(self, camera: str, clock: Clock, skew_ns: int, offset_ns: int) -> None:
        self._camera = camera
        self._clock = clock
        self._skew_ns = skew_ns
        self._offset_ns = offset_ns
        self._sequence = 0
        self._video = VideoStream()

    def make(self, message: Message) -> EncodedFrame:
        """The frame of one message; a message that cannot be parsed is a frame without an image."""
        image, is_lead_in = self._video.take(parse_image(message))
        stamp_ok = True
        if self._clock == "log":
            original = message.log_ns
        elif not image.ok:
            # Counted like every frame, near where its picture would have been.
            original = message.log_ns - self._skew_ns - self._offset_ns
        else:
            original = image.stamp_ns if self._clock == "header" else message.publish_ns
            stamp_ok = plausible(original, message.log_ns)
        frame = EncodedFrame(
            camera=self._camera,
            stamp_ns=int64(original + self._offset_ns),
            log_ns=int64(message.log_ns),
            payload=image.payload,
            encoding=image.encoding,
            sequence=self._sequence,
            width_px=image.width_px,
            height_px=image.height_px,
            original_stamp_ns=int64(original),
            unused="bad_stamp" if not stamp_ok else "lead_in" if is_lead_in else "",
        )
        self._sequence += 1
        return frame
