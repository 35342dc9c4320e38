"""What a camera's frames look like one after the other: rate, gaps, duplicates, frozen pictures, key frames."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from perception_batch.types import EncodedFrame, RawPayload, StillPayload, VideoPayload

STRETCHES_KEPT = 100
"""Gaps and frozen stretches that are listed, the longest; all are counted."""
FROZEN_FROM = 3
"""Equal pictures in a row that make a frozen stretch; two may be a duplicated message."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a camera's time."""

    start_ns: int
    """Stamp of its first frame; of a gap, of the last frame before it."""
    stop_ns: int
    """Stamp of its last frame; of a gap, of the first frame after it."""
    count: int
    """Frames in it; of a gap, about how many are missing."""


@dataclass(frozen=True, slots=True)
class CameraSurvey:
    """What was found."""

    frames: int
    """Frames looked at, bad ones too."""
    unparsed: int
    """Messages that hold no image."""
    bad_stamps: int
    """Frames whose stamp is implausible."""
    duplicates: int
    """Frames with the same stamp as another."""
    out_of_order: int
    """Frames that came after one with a later stamp."""
    rate_hz: float | None
    """By the median time between stamps; None below two frames."""
    period_jitter_ns: int | None
    """1.4826 times the median absolute deviation of the time between stamps."""
    gaps: int
    """Stretches longer than one and a half periods without a frame."""
    longest_gaps: tuple[Stretch, ...]
    """The longest, by time."""
    missing_in_gaps: int
    """About how many frames the gaps lack."""
    frozen: int
    """Stretches of at least `FROZEN_FROM` equal pictures (identical bytes)."""
    longest_frozen: tuple[Stretch, ...]
    """The longest, by time."""
    key_interval: float | None
    """Of a video: packets from one key frame to the next, the mean; None without two."""
    before_first_key: int
    """Of a video: packets before the first key frame."""
    sizes_px: dict[str, int]
    """Frames by ``width x height``; more than one entry says that the size changes."""
    encodings: dict[str, int]
    """Frames by encoding."""
    bytes_mean: int
    """Mean size of a picture as stored, bytes."""


@dataclass(slots=True)
class Surveyor:
    """Looks at the frames of one camera, in log order; memory is eight bytes a frame."""

    _stamps: list[int] = field(default_factory=list)
    _unparsed: int = 0
    _bad: int = 0
    _bytes: int = 0
    _last_print: tuple[int, int] = (0, -1)
    _run: list[int] = field(default_factory=list)
    _frozen: list[Stretch] = field(default_factory=list)
    _frozen_count: int = 0
    _keys: list[int] = field(default_factory=list)
    _packets: int = 0
    _sizes: Counter[str] = field(default_factory=Counter)
    _encodings: Counter[str] = field(default_factory=Counter)
    _out_of_order: int = 0
    _frames: int = 0

    def take(self, frame: EncodedFrame) -> None:
        """Look at one frame; its payload is not kept."""
        self._frames += 1
        self._bytes += frame.size_bytes
        payload = frame.payload
        if not isinstance(payload, (StillPayload, RawPayload, VideoPayload)) or not frame.size_bytes:
            self._unparsed += 1
        else:
            self._encodings[frame.encoding] += 1
            if frame.width_px and frame.height_px:
                self._sizes[f"{frame.width_px}x{frame.height_px}"] += 1
            if isinstance(payload, VideoPayload):
                self._take_packet(payload)
            else:
                self._compare(payload, frame.stamp_ns)
        if not frame.stamp_ok:
            self._bad += 1
            return
        if self._stamps and frame.stamp_ns < self._stamps[-1]:
            self._out_of_order += 1
        self._stamps.append(frame.stamp_ns)

    def result(self) -> CameraSurvey:
        """What was found so far."""
        self._end_run()
        stamps = np.sort(np.array(self._stamps, np.int64))
        unique = np.unique(stamps)
        steps = np.diff(unique)
        period = float(np.median(steps)) if len(steps) else 0.0
        wide = np.flatnonzero(steps > 1.5 * period) if period else np.zeros(0, np.int64)
        gaps = [
            Stretch(int(unique[i]), int(unique[i + 1]), max(1, round(float(steps[i]) / period) - 1))
            for i in wide
        ]
        spans = np.diff(np.array(self._keys, np.int64))
        return CameraSurvey(
            frames=self._frames,
            unparsed=self._unparsed,
            bad_stamps=self._bad,
            duplicates=len(stamps) - len(unique),
            out_of_order=self._out_of_order,
            rate_hz=1e9 / period if period else None,
            period_jitter_ns=round(1.4826 * float(np.median(np.abs(steps - period)))) if period else None,
            gaps=len(gaps),
            longest_gaps=_longest(gaps),
            missing_in_gaps=sum(gap.count for gap in gaps),
            frozen=self._frozen_count,
            longest_frozen=_longest(self._frozen),
            key_interval=float(spans.mean()) if len(spans) else None,
            before_first_key=self._keys[0] if self._keys else self._packets,
            sizes_px=dict(self._sizes.most_common(10)),
            encodings=dict(self._encodings.most_common(10)),
            bytes_mean=self._bytes // self._frames if self._frames else 0,
        )

    def _take_packet(self, payload: VideoPayload) -> None:
        if payload.is_key:
            self._keys.append(self._packets)
        self._packets += 1

    def _compare(self, payload: StillPayload | RawPayload, stamp_ns: int) -> None:
        """Two cyclic sums of the whole picture: a frozen camera repeats its bytes."""
        data = payload.data
        mark = (zlib.crc32(data), payload.size_bytes)  # type: ignore[arg-type]
        if mark != self._last_print:
            self._end_run()
            self._last_print = mark
        self._run.append(stamp_ns)

    def _end_run(self) -> None:
        if len(self._run) >= FROZEN_FROM:
            self._frozen_count += 1
            self._frozen.append(Stretch(min(self._run), max(self._run), len(self._run)))
            if len(self._frozen) > 2 * STRETCHES_KEPT:
                self._frozen = list(_longest(self._frozen))
        self._run = []
        self._last_print = (0, -1)


def _longest(stretches: list[Stretch]) -> tuple[Stretch, ...]:
    kept = sorted(stretches, key=lambda s: s.start_ns - s.stop_ns)[:STRETCHES_KEPT]
    return tuple(sorted(kept, key=lambda s: s.start_ns))
