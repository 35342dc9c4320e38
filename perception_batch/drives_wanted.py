"""Which of the drives that were asked for have work, as far as that is seen without opening a log or a model."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from perception_batch.detect import known_sha256
from perception_batch.read import rig_file_sha256
from perception_batch.runs import (
    Content,
    Drive,
    Entry,
    Ledger,
    PlannedDrive,
    StageHashes,
    Wanted,
    content_of,
    plan_runs,
    stage_hashes,
)

if TYPE_CHECKING:
    from perception_batch.collection import RunRequest


class DrivePlanner:
    """Decides drive by drive; what it cannot tell from outside it leaves to `run_drive` (``look``)."""

    def __init__(self, request: RunRequest, since_s: float | None = None) -> None:
        self._request = request
        self._since_s = since_s
        self._hashes = expected_hashes(request)
        self._weights: str | None = None

    def plan(self, drive: Drive, entry: Entry) -> tuple[PlannedDrive, Content | None]:
        """What would be done with one drive, and its files from outside."""
        content = self.content(drive)
        return self._plan([Wanted(drive.name, content, entry)], ())[0], content

    def plan_all(self, drives: list[Drive], ledger: Ledger) -> list[PlannedDrive]:
        """What would be done with all drives, with the time that it would take."""
        wanted = [Wanted(drive.name, self.content(drive), ledger.get(drive.name)) for drive in drives]
        return self._plan(wanted, tuple(ledger.entries()))

    @staticmethod
    def content(drive: Drive) -> Content | None:
        """The drive's files from outside; None where they cannot be read, which opening them will say."""
        with suppress(OSError):
            return content_of(drive.paths)
        return None

    def _plan(self, wanted: list[Wanted], known: tuple[Entry, ...]) -> list[PlannedDrive]:
        if self._weights is None and any(item.entry.record is not None for item in wanted):
            self._weights = known_sha256(self._request.config.detect) or ""
        hashes, weights = self._hashes, self._weights or ""
        plans = plan_runs(
            wanted,
            hashes or StageHashes("", "", "", ""),
            weights,
            since_s=self._since_s,
            overwrite=self._request.overwrite,
            known=known,
        )
        if hashes is not None and weights:
            return plans
        why = "weights or times are known when it is opened"
        return [
            PlannedDrive(plan.drive, "look", why, 0.0)
            if item.entry.record is not None and item.entry.record.hashes and plan.action != "older"
            else plan
            for item, plan in zip(wanted, plans, strict=True)
        ]


def expected_hashes(request: RunRequest) -> StageHashes | None:
    """The hashes of a run's settings before its log is opened; None where the log must say what a time means."""
    if (request.start, request.stop, request.events) != (None, None, None):
        return None
    path = request.config.read.trajectory
    try:
        selection = {
            "cameras": None if request.cameras is None else sorted(set(request.cameras)),
            "rig": None if request.rig_file is None else rig_file_sha256(request.rig_file),
            "trajectory": None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        }
    except OSError:  # said when a drive is opened
        return None
    return stage_hashes(request.config.model_dump(mode="json"), selection)
