"""Lenses of cameras that change while the log goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from perception_batch.calibration import Intrinsics
from perception_batch.lenses import CameraLens
from perception_batch.read.containers.logfile import Message
from perception_batch.read.images.clock import Clock, plausible
from perception_batch.read.images.frames import int64
from perception_batch.read.rigs.camera_info import intrinsics_of
from perception_batch.read.small_message import stamp_of
from perception_batch.types import Loss

_NOISE_PX, _NOISE = 0.05, 1e-5
"""Lenses that differ by less (pixels of K; coefficients, of their size where it is above 1) are the same, written twice."""
_HEADER_BYTES = 12
"""Of a CameraInfo as ROS 1 or CDR: what stands before the frame's name changes with every message."""
_UNPARSED = (ValueError, AttributeError, TypeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class FollowedLens:
    """A camera whose lens is the log's."""

    camera: str
    """Name of the camera."""
    info_topic: str
    """Topic of its CameraInfo."""
    rectified: bool
    """See `intrinsics_of`."""
    size_px: tuple[int, int]
    """Width, height of the images in the head of the log."""
    clock: Clock
    """What the stamps of its images are."""
    offset_ns: int
    """What is added to them."""
    lens: Intrinsics
    """As the rig has it."""


@dataclass(slots=True)
class LensFollower:
    """Follows CameraInfo; each lens holds from its stamp on.

    A lens that moves by noise alone is no change, and one that is none (K is zero, an unknown model) changes
    nothing, but is counted.
    """

    cameras: Sequence[FollowedLens]
    """What is followed."""
    changes: Counter[str] = field(default_factory=Counter)
    """By camera: how often its lens changed so far."""
    first_ns: dict[str, int] = field(default_factory=dict)
    """By camera: when it did so first."""
    _last: dict[str, Intrinsics] = field(default_factory=dict)
    _raw: dict[str, bytes] = field(default_factory=dict)
    _refused: Counter[str] = field(default_factory=Counter)

    def wants(self, topic: str) -> bool:
        """Whether messages of this topic can change a lens."""
        return any(camera.info_topic == topic for camera in self.cameras)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Messages that are no lens, by topic."""
        return tuple(
            Loss(topic, 0, 0, count, "CameraInfo that is no lens (the one before it is used)")
            for topic, count in sorted(self._refused.items())
        )

    def is_repeated(self, message: Message) -> bool:
        """Whether a message says, but for its stamp, to the byte what the last one of its topic did."""
        if message.channel.encoding not in ("ros1", "cdr"):
            return False
        body = message.data[_HEADER_BYTES:]
        repeated = self._raw.get(message.channel.topic) == body
        self._raw[message.channel.topic] = body
        return repeated

    def take(self, content: Any, message: Message) -> Iterator[CameraLens]:
        """What a CameraInfo changes."""
        for camera in self.cameras:
            if camera.info_topic != message.channel.topic:
                continue
            try:
                lens = _lens(content, camera)
                stamp_ns = _stamp_ns(content, message, camera.clock) + camera.offset_ns
            except _UNPARSED:
                self._refused[camera.info_topic] += 1
                continue
            if same_lens(lens, self._last.get(camera.camera, camera.lens)):
                continue
            self.changes[camera.camera] += 1
            self.first_ns.setdefault(camera.camera, stamp_ns)
            self._last[camera.camera] = lens
            yield CameraLens(camera.camera, int64(stamp_ns), int64(message.log_ns), lens)


def same_lens(a: Intrinsics, b: Intrinsics) -> bool:
    """Whether two lenses differ by noise at most."""
    if (a.model, a.width_px, a.height_px) != (b.model, b.width_px, b.height_px):
        return False
    mine, theirs = (a.fx_px, a.fy_px, a.cx_px, a.cy_px), (b.fx_px, b.fy_px, b.cx_px, b.cy_px)
    if any(abs(x - y) > _NOISE_PX for x, y in zip(mine, theirs, strict=True)):
        return False
    if len(a.distortion) != len(b.distortion):
        return False
    return all(
        abs(x - y) <= _NOISE * max(1.0, abs(x)) for x, y in zip(a.distortion, b.distortion, strict=True)
    )


def _lens(content: Any, camera: FollowedLens) -> Intrinsics:
    """For images as in the head, so that one lens at two resolutions stays one; of another aspect: for its own."""
    try:
        return intrinsics_of(content, rectified=camera.rectified, image_size_px=camera.size_px)
    except ValueError:
        return intrinsics_of(content, rectified=camera.rectified, image_size_px=(0, 0))


def _stamp_ns(content: Any, message: Message, clock: Clock) -> int:
    stamp_ns = stamp_of(content.header) if clock == "header" else message.publish_ns
    return stamp_ns if clock != "log" and plausible(stamp_ns, message.log_ns) else message.log_ns
