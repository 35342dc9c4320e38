"""Ego motion from a file beside the log: TUM, or CSV with a header.

TUM (the RGB-D benchmark's format): ``timestamp tx ty tz qx qy qz qw`` in seconds and metres, separated by blanks, ``#`` begins a comment.
CSV: names in the first line, in any order: the stamp (``stamp_ns``, ``timestamp``, ``time``...), ``x_m y_m z_m`` or ``tx ty tz``,
``qx qy qz qw``; EuRoC's names are understood too. A stamp is decimal seconds, or an integer of nanoseconds from 10^17 on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TextIO

from perception_batch.errors import ConfigError, printable
from perception_batch.geometry import SE3
from perception_batch.read.images.frames import int64
from perception_batch.read.motion.clock import apart_note
from perception_batch.read.motion.pose_sequence import PoseSequence
from perception_batch.read.motion.report import EgoReport, slow_note
from perception_batch.types import EgoPose, EncodedFrame, LogItem

FRAME = "world"
"""`EgoPose.frame_id`: the file names no frame."""

CHECKED_LINES = 1000
"""Lines that must all be right when the file is opened; later ones that are not are counted."""
MAX_LINE = 4096
"""Characters; a longer line is no pose."""
_TAIL_BYTES = 64 << 10
_NS_FROM = 10**17
"""An integer this large is nanoseconds: as seconds it would be three billion years."""
_MAX_SECONDS = 9_000_000_000
_MAX_METRES = 1e9

_COLUMNS = ("stamp", "x", "y", "z", "qx", "qy", "qz", "qw")
_NAMES = {
    "stamp": (
        "stamp_ns",
        "timestamp_ns",
        "time_ns",
        "stamp",
        "timestamp",
        "time",
        "stamp_s",
        "timestamp_s",
        "t",
    ),
    **{a: (f"{a}_m", f"t{a}", f"p{a}", f"pos_{a}", f"position_{a}", f"p_rs_r_{a}", a) for a in "xyz"},
    **{f"q{a}": (f"q{a}", f"q_{a}", f"q_rs_{a}", f"orientation_{a}", f"quat_{a}") for a in "xyzw"},
}


def stamp_ns_of(text: str, unit: str = "") -> int:
    """A stamp as text, exactly, as integer ns.

    Args:
        text: decimal seconds, or an integer of nanoseconds where it is 10^17 or more.
        unit: ``ns`` or ``s`` where the file states it.

    Raises:
        ValueError: no number, or no time.
    """
    word = text.strip()
    try:
        value = Decimal(word) if len(word) <= 64 else Decimal("nan")
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise ValueError(f"{printable(word)[:40]!r} is no time")
    if abs(value.adjusted()) > 40:  # zero, or a number that would be written out in full below
        value = Decimal(0) if value == 0 or value.adjusted() < 0 else Decimal(10**40)
    in_ns = unit == "ns" or (not unit and abs(value) >= _NS_FROM and value == value.to_integral_value())
    if abs(value) > (_MAX_SECONDS * 10**9 if in_ns else _MAX_SECONDS):
        raise ValueError(f"{printable(word)[:40]!r} is no time in {'nanoseconds' if in_ns else 'seconds'}")
    return int((value if in_ns else value * 10**9).to_integral_value())


def _numbers(words: Iterable[str]) -> list[float]:
    values = [float(word) for word in words]
    if not all(abs(v) < _MAX_METRES for v in values):  # false for NaN too
        raise ValueError("a number is not finite or out of all bounds")
    return values


class TrajectoryFile:
    """A file of poses of the base frame, read line by line."""

    def __init__(self, path: str | Path, offset_ms: float = 0.0) -> None:
        """Look at its beginning and its end.

        Args:
            path: the file.
            offset_ms: added to every stamp.

        Raises:
            ConfigError: not there, of no known form, or with a wrong line near the beginning.
        """
        self.path = Path(path)
        self.name = printable(self.path.name)
        self.bad_lines = 0
        """Lines that are no pose, in the last `poses`."""
        self.sequence = PoseSequence()
        """The poses given, in the last `poses`."""
        self._offset_ms = offset_ms
        self._offset_ns = round(offset_ms * 1e6)
        self._comma = ""
        self._order = tuple(range(8))
        self._unit = ""
        self._header = ""
        try:
            self.first_ns, self.last_ns = self._look()
        except FileNotFoundError:
            raise self._error("no such trajectory file") from None
        except IsADirectoryError:
            raise self._error("a folder, not a trajectory file") from None
        except UnicodeDecodeError:
            raise self._error("not a text file") from None

    def poses(self, from_ns: int | None = None) -> Iterator[EgoPose]:
        """Poses from a time on, with growing stamps; lines that are no pose are counted."""
        self.bad_lines, self.sequence = 0, PoseSequence()
        with self._open("replace") as file:
            for _, line in self._lines(file):
                try:
                    stamp_ns, pose = self._parse(line)
                except ValueError:
                    self.bad_lines += 1
                    continue
                if from_ns is None or stamp_ns >= from_ns:
                    made = self.sequence.add(stamp_ns, FRAME, pose, None, self.name)
                    if made is not None:
                        yield made

    def report(self, cameras_ns: tuple[int, int] | None, max_gap_s: float, *, sampled: bool) -> EgoReport:
        """What is known of it, after `poses`; `cameras_ns` are the first and the last stamp of the cameras."""
        sequence = self.sequence
        if sampled:  # not read yet: its beginning tells as much as the head of a log
            sequence = PoseSequence()
            with self._open("replace") as file:
                for number, line in self._lines(file):
                    if number > CHECKED_LINES:
                        break
                    sequence.add(*self._sound(line), None, self.name)
        notes = [slow_note(sequence.rate_hz, max_gap_s)]
        if cameras_ns is not None:
            apart = apart_note((self.first_ns, self.last_ns), cameras_ns, self._offset_ms, self.name)
            notes.insert(0, apart)
        if self.bad_lines:
            notes.append(f"{self.name}: {self.bad_lines} lines are no pose")
        return EgoReport(
            source=self.name,
            kind="file",
            why="read.trajectory names it",
            sampled=sampled,
            poses=sequence.count,
            rate_hz=sequence.rate_hz,
            jumps=sequence.jumps,
            dropped=sequence.dropped,
            bad=self.bad_lines,
            offset_ms=self._offset_ms,
            notes=tuple(note for note in notes if note),
        )

    # ------------------------------------------------------------------ inside

    def _error(self, text: str) -> ConfigError:
        return ConfigError(f"read.trajectory: {printable(self.path)}: {text}")

    def _open(self, errors: str = "strict") -> TextIO:
        return self.path.open(encoding="utf-8-sig", errors=errors)

    def _lines(self, file: TextIO) -> Iterator[tuple[int, str]]:
        """Numbers and texts of the lines that hold poses."""
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE and not line.endswith("\n"):
                while (rest := file.readline(1 << 16)) and not rest.endswith("\n"):
                    pass
                line = "a line that is too long"
            text = line.strip()
            if text and not text.startswith("#") and text != self._header:
                yield number, text

    def _look(self) -> tuple[int, int]:
        with self._open() as file:
            self._take_form(file)
            file.seek(0)
            first_ns = last_ns = None
            for number, line in self._lines(file):
                try:
                    stamp_ns, _ = self._parse(line)
                except ValueError as error:
                    raise self._error(f"line {number}: {printable(error)}") from None
                first_ns = stamp_ns if first_ns is None else first_ns
                last_ns = stamp_ns if last_ns is None else max(last_ns, stamp_ns)
                if number > CHECKED_LINES:
                    break
        if first_ns is None or last_ns is None:
            raise self._error("it holds no pose")
        return first_ns, max(last_ns, self._last_stamp_ns(last_ns))

    def _last_stamp_ns(self, default_ns: int) -> int:
        """The stamp of the last good line, from the end of the file."""
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        for line in reversed(lines[1:]):
            try:
                return self._parse(line)[0]
            except ValueError:
                continue
        return default_ns

    def _take_form(self, file: TextIO) -> None:
        """Tell CSV from TUM by the first line that is not a comment, or a comment that names columns."""
        for raw in iter(lambda: file.readline(MAX_LINE), ""):
            text = raw.strip()
            names = text.lstrip("# ")
            comma = next((c for c in ",;" if c in names), "")
            is_comment = text.startswith("#")
            if not text or (is_comment and not (comma and re.search(r"(?i)time|stamp", names))):
                continue
            if comma and re.search("[A-Za-z]{2}|[xyzt]", names):
                self._comma, self._header = comma, text
                self._take_names(names.split(comma))
            elif comma:
                raise self._error("values with commas and no line of names; a CSV begins with one")
            elif not is_comment and re.match("[A-Za-z_]", text):
                raise self._error(
                    "neither TUM (eight numbers a line: stamp_s x y z qx qy qz qw) nor CSV with a line of names"
                )
            return

    def _take_names(self, words: list[str]) -> None:
        plain = [re.sub(r"\s*[\[(].*", "", word.strip().strip('"').lower()) for word in words]
        order: list[int] = []
        for column in _COLUMNS:
            name = next((n for n in _NAMES[column] if n in plain), None)
            if name is None:
                wanted = ", ".join(_NAMES[column][:3])
                have = ", ".join(printable(word.strip())[:40] for word in words[:20])
                raise self._error(f"no column for {column} (such as {wanted}); it has {have}")
            order.append(plain.index(name))
            if column == "stamp":
                unit = re.search(r"[\[(]\s*(ns|s)\s*[\])]", words[order[0]].lower())
                self._unit = unit[1] if unit else {"ns": "ns", "_s": "s"}.get(name[-2:], "")
        self._order = tuple(order)

    def _parse(self, line: str) -> tuple[int, SE3]:
        words = line.split(self._comma) if self._comma else line.split()
        if len(words) <= max(self._order) or (not self._comma and len(words) != 8):
            wanted = f"at least {max(self._order) + 1}" if self._comma else "8"
            raise ValueError(f"{len(words)} values, expected {wanted}")
        picked = [words[i].strip() for i in self._order]
        stamp_ns = int64(stamp_ns_of(picked[0], self._unit) + self._offset_ns)
        try:
            values = _numbers(picked[1:])
            return stamp_ns, SE3.from_quaternion(values[3:], values[:3])
        except ValueError as error:
            raise ValueError(f"no pose: {printable(error)[:200]}") from None

    def _sound(self, line: str) -> tuple[int, str, SE3]:
        stamp_ns, pose = self._parse(line)
        return stamp_ns, FRAME, pose


def merged_by_stamp(
    frames: Iterable[LogItem],
    poses_from: Callable[[int], Iterator[EgoPose]],
    ahead_ns: int,
    margin_ns: int = 2_000_000_000,
) -> Iterator[LogItem]:
    """Frames with the poses of a file put in: before each frame all poses up to `ahead_ns` after its stamp.

    Args:
        frames: frames and triggers in log order; poses among them are left out, the file's go over them.
        poses_from: gives the poses from a stamp on; asked once, `ahead_ns` and `margin_ns` before the first frame.
        ahead_ns: the largest gap of two poses to interpolate between.
        margin_ns: by how much a later frame may be stamped before the first.
    """
    poses: Iterator[EgoPose] | None = None
    waiting: EgoPose | None = None
    for item in frames:
        if isinstance(item, EgoPose):
            continue
        if isinstance(item, EncodedFrame) and item.stamp_ok:
            if poses is None:
                poses = poses_from(item.stamp_ns - ahead_ns - margin_ns)
                waiting = next(poses, None)
            while waiting is not None and waiting.stamp_ns <= item.stamp_ns + ahead_ns:
                yield waiting
                waiting = next(poses, None)
        yield item


def drive_span_ns(first_stamp_ns: int, stop_log_ns: int, skew_ns: int) -> tuple[int, int]:
    """First and last stamp of the cameras, from the first and the end of log time."""
    return first_stamp_ns, max(first_stamp_ns, stop_log_ns - skew_ns)
