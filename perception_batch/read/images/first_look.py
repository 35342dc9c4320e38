"""What the first images of a camera tell: its clock, how late it is recorded, its frame and size."""

from __future__ import annotations

from perception_batch.read.containers.logfile import Message
from perception_batch.read.images.frames import choose_clock, int64, median_skew_ns, parse_image, plausible
from perception_batch.read.images.image_header import UNKNOWN
from perception_batch.read.source import CameraHead


class FirstLook:
    """Gathers the first images of one camera."""

    def __init__(self) -> None:
        self._stamps_ns: list[tuple[int, int]] = []
        self._frame_id: str | None = None
        self._look = (UNKNOWN, 0, 0)

    @property
    def saw_none(self) -> bool:
        """True as long as no image could be parsed."""
        return not self._stamps_ns

    def take(self, message: Message) -> None:
        """Look at one image message."""
        image = parse_image(message)
        if not image.ok:
            return
        self._stamps_ns.append((image.stamp_ns, message.log_ns))
        if self._frame_id is None:
            self._frame_id = image.frame_id
        if not self._look[1]:
            self._look = (image.encoding, image.width_px, image.height_px)

    def result(self, clock_setting: str, offset_ns: int) -> CameraHead:
        """What was seen; `offset_ns` is added to every stamp."""
        clock = choose_clock(clock_setting, self._stamps_ns)
        pairs = [
            (int64((stamp if clock == "header" else log_ns) + offset_ns), int64(log_ns))
            for stamp, log_ns in self._stamps_ns
            if clock == "log" or plausible(stamp, log_ns)
        ]
        skew = median_skew_ns(pairs) if clock == "header" else 0
        return CameraHead(clock, skew, tuple(pairs), self._frame_id or "", *self._look)
