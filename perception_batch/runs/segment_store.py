"""The segments of one drive on disk: ``OUT/<drive>/.segments/``, from which a run that was killed goes on."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perception_batch.atomic import PARTIAL_SUFFIX, write_whole
from perception_batch.errors import LogError, printable
from perception_batch.runs.segment_content import SegmentContent, segment_key
from perception_batch.runs.segment_file import (
    SegmentRefused,
    StoredSegment,
    check_segment,
    read_segment,
    write_segment,
)
from perception_batch.runs.segments import SegmentPlan

FOLDER = ".segments"
PLAN = "plan.json"
_FILE = re.compile(r"^detect_([0-9]{5,18})\.zip$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """What detects, as a segment's key wants it."""

    weights_sha256: str
    backend: str
    precision: str


def is_segment(name: str) -> bool:
    """Whether the name of a file, from ``OUT/<drive>`` on, is that of a segment's."""
    folder, _, file = name.partition("/")
    return folder == FOLDER and _FILE.match(file) is not None


def read_plan(directory: Path) -> SegmentPlan | None:
    """The plan that an earlier run of this drive has frozen; None where there is none that can be used.

    Args:
        directory: ``OUT/<drive>``.
    """
    path = directory / FOLDER / PLAN
    try:
        return SegmentPlan.from_json(path.read_bytes(), path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except LogError as error:
        _log.warning("%s; the drive is planned anew", error)
        return None


def clear_segments(directory: Path) -> None:
    """Remove what is left of segments in ``OUT/<drive>``, whose tables hold it all."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


class SegmentStore:
    """The files of one drive's segments under one plan."""

    def __init__(self, directory: Path, plan: SegmentPlan, made: Made) -> None:
        """Nothing is touched until `begin`.

        Args:
            directory: ``OUT/<drive>``.
            plan: the cut.
            made: what detects.
        """
        self.folder = directory / FOLDER
        self.plan = plan
        self.made = made
        self.refused: dict[int, SegmentRefused] = {}
        """Files that were there and are not used, by segment."""

    def path(self, segment: int) -> Path:
        """Where a segment's file is, or will be."""
        return self.folder / f"detect_{segment:05d}.zip"

    def begin(self) -> None:
        """Write the plan, and remove what writers that were killed left half-written.

        Call it under the drive's lock, in the process that starts the work.

        Raises:
            WriteError: the disk is full or refuses.
        """
        write_whole(self.folder / PLAN, self.plan.to_json().encode() + b"\n")
        for path in self.folder.iterdir():
            if path.name.endswith(PARTIAL_SUFFIX):
                path.unlink(missing_ok=True)

    def landed(self) -> list[int]:
        """Numbers of the segments whose files are whole and of this plan and model, sorted; one line on any other.

        Every file is read once, for its checksums.
        """
        found = []
        for segment in self._present():
            try:
                check_segment(self.path(segment), self._key(segment))
            except SegmentRefused as refusal:
                self._note(segment, refusal)
            else:
                found.append(segment)
        return found

    def read(self, segment: int) -> StoredSegment | None:
        """A segment's file; None where it must be made (again)."""
        try:
            return read_segment(self.path(segment), self._key(segment))
        except SegmentRefused as refusal:
            if refusal.why != "missing":
                self._note(segment, refusal)
            return None

    def write(self, segment: int, content: SegmentContent, facts: Mapping[str, Any] | None = None) -> Path:
        """Land a segment; it is on the disk when this returns.

        Raises:
            WriteError: the disk is full or refuses.
        """
        write_segment(self.path(segment), self._key(segment), content, facts)
        return self.path(segment)

    def missing(self, landed: Iterable[int]) -> list[int]:
        """Segments of the plan that are still to be made."""
        done = set(landed)
        return [segment for segment in self.plan.wanted() if segment not in done]

    def clear(self) -> None:
        """Remove everything: the drive's own tables hold it all now."""
        clear_segments(self.folder.parent)

    def _key(self, segment: int) -> Any:
        made = self.made
        return segment_key(
            self.plan,
            segment,
            weights_sha256=made.weights_sha256,
            backend=made.backend,
            precision=made.precision,
        )

    def _present(self) -> list[int]:
        try:
            names = [path.name for path in self.folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(int(match[1]) for name in names if (match := _FILE.match(name)))

    def _note(self, segment: int, refusal: SegmentRefused) -> None:
        if segment not in self.refused:
            _log.warning("%s: %s; made again", printable(self.path(segment)), refusal)
        self.refused[segment] = refusal
