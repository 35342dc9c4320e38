"""What the first images of a camera tell: its clock, how late it is recorded, its frame and size."""

from __future__ import annotations

from perception_batch.read.containers.logfile import Message
from perception_batch.read.images.clock import Times, choose_clock, median_skew_ns, plausible
from perception_batch.read.images.frames import int64, parse_image
from perception_batch.read.images.image_header import UNKNOWN
from perception_batch.read.images.stamps import FAR_NS
from perception_batch.read.source import CameraHead


class FirstLook:
    """Gathers the first images of one camera."""

    def __init__(self) -> None:
        self._times: list[Times] = []
        self._frame_id: str | None = None
        self._look = (UNKNOWN, 0, 0)

    @property
    def saw_none(self) -> bool:
        """True as long as no image could be parsed."""
        return not self._times

    def take(self, message: Message) -> None:
        """Look at one image message."""
        image = parse_image(message)
        if not image.ok:
            return
        self._times.append(Times(image.stamp_ns, message.publish_ns, message.log_ns))
        if self._frame_id is None:
            self._frame_id = image.frame_id
        if not self._look[1] and (image.width_px or self._look[0] == UNKNOWN):  # of a video, key frames tell
            self._look = (image.encoding, image.width_px, image.height_px)

    def result(self, clock_setting: str, offset_ns: int) -> CameraHead:
        """What was seen; `offset_ns` is added to every stamp."""
        clock = choose_clock(clock_setting, self._times)
        pairs = [
            (int64(times.of(clock) + offset_ns), int64(times.log_ns))
            for times in self._times
            if clock == "log" or plausible(times.of(clock), times.log_ns)
        ]
        skew = 0 if clock == "log" else median_skew_ns(pairs)
        # A stamp a few hours off is plausible by itself; seen beside the others it is not.
        pairs = [(stamp, log_ns) for stamp, log_ns in pairs if abs(log_ns - stamp - skew) <= FAR_NS]
        return CameraHead(clock, skew, tuple(pairs), self._frame_id or "", *self._look)
