"""Video files (MP4, MOV, MKV, WebM, AVI, MPEG-TS, bare H.264 and H.265): every video track is a camera.

When a picture was taken:

- ``<stem>.stamps.txt`` or ``.csv`` beside the video gives each picture's own stamp, in the order shown.
- ``<stem>.start_ns`` gives the first picture's; the others follow by the presentation times in the file.
- Without either, the first picture is one second after 1970 began, so videos without stamps begin together.

The container's ``creation_time`` is not used: it has whole seconds, is often the end of the recording, and would
set cameras against each other without a word.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_batch.errors import LogError, UnsupportedEncoding, printable
from perception_batch.read.containers.logfile import MAX_NS, VIDEO_FILE, Channel, Message, reason_of
from perception_batch.read.containers.stamps_file import parse_stamp, read_lines, read_stamps
from perception_batch.types import Loss

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".h264", ".264", ".h265", ".265", ".hevc")
"""What a folder's files are recognised by."""

NO_START_NS = 1_000_000_000
"""The first picture's stamp where none is known; zero means "no stamp"."""

_REORDER = (
    17  # pictures that may be shown before one that was stored earlier: 16 in H.264 and H.265, and itself
)
_SEEK_MARGIN_NS = 5_000_000_000
_DEFAULT_RATE = Fraction(25)
_OUR_CODECS = {"hevc": "h265", "libdav1d": "av1", "libvpx-vp9": "vp9"}
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_BUFFER_BYTES = 1 << 20


def video_format(path: Path, magic: bytes) -> str | None:
    """FFmpeg's name of a video file's container, from its first bytes (for bare streams the suffix too)."""
    suffix = path.suffix.lower()
    if magic[4:8] in _BOXES:
        return "mov"
    if magic.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    if magic.startswith(b"RIFF") and magic[8:11] == b"AVI":
        return "avi"
    if magic[:1] == b"G" and suffix in (".ts", ".m2ts", ".mts"):
        return "mpegts"
    if magic.startswith((b"\0\0\1", b"\0\0\0\1")):
        if suffix in (".h264", ".264", ".avc"):
            return "h264"
        if suffix in (".h265", ".265", ".hevc"):
            return "hevc"
    return None


@dataclass(frozen=True, slots=True)
class _Track:
    """One video track."""

    index: int
    """Position among all tracks of the file."""
    channel: Channel
    """Its topic."""
    base_pts: int
    """Presentation time of the picture that is shown first, in `time_base`."""
    time_base: Fraction
    """Seconds a tick."""
    interval: Fraction
    """Seconds a picture, nominal."""
    count: int
    """Pictures that the file says it has, or about so many; 0 where it does not say."""
    is_counted: bool
    """True where `count` is exact."""
    span_ns: int
    """Length that the file states, ns; 0 where it does not."""


class VideoFile:
    """An open video file; see `LogFile`. ``publish_ns`` is the presentation time, log time that of decoding."""

    def __init__(self, path: Path, container_format: str, max_message_bytes: int) -> None:
        """Open a file that `video_format` knows.

        Raises:
            LogError: damaged, or beside it a broken file of stamps.
            UnsupportedEncoding: it has no video track.
        """
        self.path = path
        self._format = container_format
        self._max_message_bytes = max_message_bytes
        self._losses: dict[tuple[str, str], Loss] = {}
        self._stamps, start_ns = _stamps_beside(path)
        self.stamp_source = (
            "a stamp for each picture" if self._stamps else "a start stamp" if start_ns else "1970"
        )
        """Where the stamps come from, for people."""
        self._base_ns = start_ns or (self._stamps[0] if self._stamps else NO_START_NS)
        with self._open() as container:
            self._tracks = tuple(self._look_at(container, track) for track in _video_tracks(container))
        if not self._tracks:
            raise UnsupportedEncoding(path, "a media file without a video track")
        self.channels: tuple[Channel, ...] = tuple(track.channel for track in self._tracks)
        self._counts = {track.channel.id: track.count for track in self._tracks}
        if not all(self._counts.values()):
            self._count_all()
        self.counts_by_index = all(track.is_counted for track in self._tracks)
        self.message_count = sum(self._counts.values())
        self.start_ns, self.stop_ns = MAX_NS, 0
        if self.message_count:
            self.start_ns = min(self._first_log_ns(track) for track in self._tracks)
            self.stop_ns = max(self._last_log_ns(track) for track in self._tracks) + 1

    @property
    def losses(self) -> tuple[Loss, ...]:
        """See `LogFile`."""
        return tuple(self._losses.values())

    def stamps_identity(self) -> bytes:
        """What the files beside the video say, for the log's fingerprint."""
        return f"{self._base_ns} {self._stamps}".encode()

    def counts(self) -> Mapping[int, int]:
        """See `LogFile`."""
        return self._counts

    def messages(
        self, channels: Sequence[Channel], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Message]:
        """See `LogFile`."""
        wanted = {channel.id for channel in channels}
        runs = [self._run(track, start_ns, stop_ns) for track in self._tracks if track.channel.id in wanted]
        yield from runs[0] if len(runs) == 1 else heapq.merge(*runs, key=lambda message: message.log_ns)

    def close(self) -> None:
        """See `LogFile`. Nothing stays open between readings."""

    # ------------------------------------------------------------------ opening

    @contextmanager
    def _open(self) -> Iterator[InputContainer]:
        import av
        import av.logging

        av.logging.set_level(None)  # otherwise FFmpeg writes to stderr of its own accord
        # Pictures that an edit list hides were taken nevertheless.
        options = {"ignore_editlist": "1"} if self._format == "mov" else {}
        # Through a file object and a stated format: a hostile file cannot name other files to be opened.
        with self.path.open("rb") as file:
            try:
                container = av.open(
                    file, "r", format=self._format, buffer_size=_BUFFER_BYTES, container_options=options
                )
            except av.FFmpegError as error:
                hint = "; its index is at the end and was never written" if self._format == "mov" else ""
                raise LogError(self.path, f"damaged or cut off: {printable(error.strerror)}{hint}") from error
            with container:
                yield container

    def _look_at(self, container: InputContainer, stream: VideoStream) -> _Track:
        number = len([s for s in _video_tracks(container) if s.index < stream.index])
        topic = f"/{self.path.stem}" + (f"/{number + 1}" if number else "")
        name = stream.codec_context.name if stream.codec_context is not None else "unknown"
        codec = _OUR_CODECS.get(name, name)
        extradata = (stream.codec_context.extradata or b"") if codec != "vp9" else b""
        channel = Channel(
            stream.index, topic, f"{VIDEO_FILE} {codec}", "file", "", False, extradata=extradata
        )
        rate = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
        interval = 1 / Fraction(rate) if rate > 0 else 1 / _DEFAULT_RATE
        time_base = Fraction(stream.time_base or Fraction(1, 1_000_000))
        base = [p.pts for _, p in zip(range(_REORDER), _packets(container, stream), strict=False)]
        span = (
            stream.duration * time_base if stream.duration else Fraction(container.duration or 0, 1_000_000)
        )
        stated = stream.frames or _number(stream.metadata, "NUMBER_OF_FRAMES")
        count = stated or (round(span / interval) if self._format in ("matroska", "mpegts") else 0)
        return _Track(
            stream.index,
            channel,
            min((pts for pts in base if pts is not None), default=0),
            time_base,
            interval,
            count,
            bool(stated),
            round(span * 10**9),
        )

    def _count_all(self) -> None:
        """Count the pictures of a file that does not say: a bare stream. Reads it all."""
        for track in self._tracks:
            self._counts[track.channel.id] = sum(1 for _ in self._run(track, None, None))
        self._losses.clear()

    # ------------------------------------------------------------------ times

    def _ns(self, track: _Track, ticks: int) -> int:
        """The time of `ticks` of the track; half a ns is rounded up."""
        tick = track.time_base * 10**9
        shifted = 2 * (ticks - track.base_pts) * tick.numerator + tick.denominator
        return self._base_ns + shifted // (2 * tick.denominator)

    def _first_log_ns(self, track: _Track) -> int:
        return next((message.log_ns for message in self._run(track, None, None)), self._base_ns)

    def _last_log_ns(self, track: _Track) -> int:
        if self._stamps:
            return max(self._stamps)
        count = self._counts[track.channel.id]
        return self._base_ns + max(track.span_ns, round(count * track.interval * 10**9))

    # ------------------------------------------------------------------ reading

    def _run(self, track: _Track, start_ns: int | None, stop_ns: int | None) -> Iterator[Message]:
        """The packets of a track as messages, in the order of decoding."""
        came, last_ns, error = 0, self._base_ns, ""
        with self._open() as container:
            stream = next(s for s in _video_tracks(container) if s.index == track.index)
            seeks = not self._stamps and start_ns is not None and self._format in ("mov", "matroska")
            if seeks and start_ns is not None:
                # Some time before: MKV has no times of decoding, and FFmpeg needs some packets to derive them.
                ticks = Fraction(start_ns - _SEEK_MARGIN_NS - self._base_ns, 10**9) / track.time_base
                container.seek(max(int(ticks) + track.base_pts, track.base_pts), stream=stream, backward=True)
            packets = _packets(container, stream)
            numbered = self._stamped(packets) if self._stamps else self._timed(track, packets)
            try:
                for log_ns, publish_ns, packet in numbered:
                    came += 1
                    last_ns = max(last_ns, log_ns)
                    if stop_ns is not None and last_ns >= stop_ns:
                        return
                    if start_ns is not None and last_ns < start_ns:
                        continue
                    if packet.size > self._max_message_bytes:
                        self._lose(track, last_ns, 1, "a packet is larger than any image may be")
                        continue
                    yield Message(last_ns, track.channel, bytes(packet), publish_ns)
            except OSError as problem:  # FFmpeg's errors are such
                error = reason_of(problem)
            except ValueError as problem:
                error = reason_of(problem)
        if start_ns is None and stop_ns is None:
            self._account(track, came, last_ns, error)

    def _timed(self, track: _Track, packets: Iterator[av.Packet]) -> Iterator[tuple[int, int, av.Packet]]:
        """Log time and presentation time by the file's own times; a bare stream's by its nominal rate."""
        for number, packet in enumerate(packets):
            pts = packet.pts if packet.pts is not None else packet.dts
            if pts is None:
                publish_ns = self._base_ns + round(number * track.interval * 10**9)
                yield publish_ns, publish_ns, packet
                continue
            publish_ns = self._ns(track, pts)
            log_ns = publish_ns if packet.dts is None else min(self._ns(track, packet.dts), publish_ns)
            yield max(log_ns, self._base_ns), publish_ns, packet

    def _stamped(self, packets: Iterator[av.Packet]) -> Iterator[tuple[int, int, av.Packet]]:
        """Log time and presentation time by the stamps beside the file, the n-th of which is the n-th shown."""
        waiting: deque[tuple[int, av.Packet]] = deque()
        shown: list[tuple[int, int]] = []  # heap of (presentation time, number)
        rank: dict[int, int] = {}
        ranked = 0

        def stamp(index: int) -> int:
            return self._stamps[index] if index < len(self._stamps) else 0

        def ready(keep: int) -> Iterator[tuple[int, int, av.Packet]]:
            nonlocal ranked
            while len(shown) > keep:
                rank[heapq.heappop(shown)[1]] = ranked
                ranked += 1
            while waiting and waiting[0][0] in rank:
                number, packet = waiting.popleft()
                yield stamp(number) or self._stamps[-1], stamp(rank.pop(number)), packet

        for number, packet in enumerate(packets):
            waiting.append((number, packet))
            heapq.heappush(shown, (number if packet.pts is None else packet.pts, number))
            yield from ready(_REORDER)
        yield from ready(0)

    def _account(self, track: _Track, came: int, last_ns: int, error: str) -> None:
        """Note what a whole reading did not give."""
        cut = "the file is cut off or damaged" + (f": {error}" if error else "")
        stated = track.count if track.is_counted else 0
        end_ns = self._base_ns + track.span_ns
        if len(self._stamps) > came and self._stamps:
            many = len(self._stamps) - came
            self._lose(track, last_ns, many, f"{cut}; there are stamps of pictures that it does not hold")
        elif stated > came:
            self._lose(track, last_ns, stated - came, cut)
        elif error or (track.span_ns and end_ns - last_ns > 3 * track.interval * 10**9 + 10**9):
            self._lose(track, last_ns, 0, cut)
        if self._stamps and came > len(self._stamps):
            log_text = f"{came - len(self._stamps)} picture(s) have no stamp: the file of stamps is too short"
            self._losses[track.channel.topic, "short"] = Loss(
                track.channel.topic, last_ns, last_ns, 0, log_text
            )

    def _lose(self, track: _Track, start_ns: int, count: int, reason: str) -> None:
        old = self._losses.get((track.channel.topic, reason))
        total = count + (old.count if old is not None and count == 1 else 0)
        stop_ns = max(self.stop_ns, start_ns) if hasattr(self, "stop_ns") else start_ns
        self._losses[track.channel.topic, reason] = Loss(
            track.channel.topic, start_ns if old is None else old.start_ns, stop_ns, total, reason
        )


def _video_tracks(container: InputContainer) -> list[VideoStream]:
    """Video tracks without cover pictures."""
    return [s for s in container.streams.video if not int(s.disposition) & _attached_picture()]


def _attached_picture() -> int:
    from av.stream import Disposition

    return int(Disposition.attached_pic)


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """Packets of one track; without the empty one at the end."""
    return (packet for packet in container.demux(stream) if packet.size)


def _number(metadata: Mapping[str, Any], key: str) -> int:
    text = next((str(v) for k, v in metadata.items() if k.upper().startswith(key)), "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def _stamps_beside(path: Path) -> tuple[list[int], int]:
    """The stamps of each picture, and that of the first, as far as the files beside the video give them.

    Raises:
        LogError: such a file holds no stamps.
    """
    for suffix in (".stamps.txt", ".stamps.csv"):
        beside = path.with_name(path.stem + suffix)
        if beside.is_file():
            stamps = read_stamps(beside)
            if not stamps:
                raise LogError(beside, "it holds no stamps; one a line was expected")
            return stamps, 0
    beside = path.with_name(path.stem + ".start_ns")
    if beside.is_file():
        lines = read_lines(beside)
        start = parse_stamp(lines[0]) if lines else None
        if not start:
            raise LogError(beside, "it holds no stamp; wanted is one number of ns, or seconds with a point")
        return [], start
    return [], 0
