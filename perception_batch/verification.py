"""Whether a model gives the same boxes at every batch size, in every backend and precision that is at hand."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from perception_batch.batch_choice import settle_batch_size
from perception_batch.config import DetectConfig, RunConfig
from perception_batch.detect import (
    Agreement,
    Detector,
    available_forms,
    compare_boxes,
    find_weights,
    open_detector,
)
from perception_batch.errors import LogError, ModelError, PerceptionBatchError
from perception_batch.flow import closed
from perception_batch.job import Job, OpenDrive, open_drive
from perception_batch.looks import CameraViews, Crops
from perception_batch.prepared_frames import boxes_of, prepared_frames
from perception_batch.shared_machine import decode_workers
from perception_batch.shots import ReadyShot
from perception_batch.stages import Profile, Threads
from perception_batch.types import Detections

_log = logging.getLogger(__name__)
Form = tuple[str, str]
"""Backend and precision."""
Kind = Literal["reference", "batch", "backend", "precision"]


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a difference is a failure."""

    same_percent: float = 0.1
    """Boxes that differ at another batch size or in another backend of the same precision (promise 1c), %."""
    fp16_percent: float = 2.0
    """Boxes lost or gained by fp16, %."""
    int8_percent: float = 10.0
    """Boxes lost or gained by int8, %."""
    most_score: float = 1e-3
    """Partners are the same box if their scores differ by at most this,"""
    most_px: float = 0.5
    """... and their edges by at most this, px."""

    def of(self, kind: Kind, precision: str) -> float:
        """The limit of one comparison, %."""
        if kind != "precision":
            return self.same_percent
        return self.int8_percent if precision == "int8" else self.fp16_percent


@dataclass(frozen=True, slots=True)
class VerifiedForm:
    """One form of the model at one batch size, beside what it must agree with."""

    backend: str
    """What ran it."""
    precision: str
    """Of the network."""
    batch_size: int
    """Images in a batch."""
    kind: Kind
    """What it differs by from what it is compared with."""
    against: str
    """What that is; empty for the reference."""
    boxes: int
    """Boxes that count on both sides."""
    matched: int
    """Pairs among them."""
    same_percent: float
    """Boxes with a partner within the limits of score and edges, %."""
    lost: int
    """Boxes that only the other side has."""
    gained: int
    """Boxes that only this one has."""
    score_difference: float
    """The largest between partners."""
    edge_difference_px: float
    """The largest between partners' edges, px."""
    differs_percent: float
    """What is held against the limit: boxes that are not the same or, in another precision, lost or gained, %."""
    limit_percent: float
    """The most that is allowed."""
    error: str = ""
    """Why it could not be tried; the figures are then 0."""

    @property
    def within(self) -> bool:
        """Whether it keeps the limit."""
        return not self.error and self.differs_percent <= self.limit_percent


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification showed."""

    images: int
    """Frames that were looked at."""
    undecodable: int
    """Frames of the sample that are broken, and left out."""
    chosen: str
    """The form that a run with these settings takes."""
    score: float
    """Boxes with at least this score count."""
    rows: tuple[VerifiedForm, ...]
    """The reference first."""
    failed: bool
    """Whether a form differs by more than its limit, or the chosen one does not work."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "rows": [{**asdict(row), "within": row.within} for row in self.rows]}


def verify(
    paths: tuple[Path, ...],
    config: RunConfig,
    cameras: tuple[str, ...] | None,
    frames: int,
    limits: Limits,
) -> Verification:
    """Detect a sample of a drive's frames in every way, and compare.

    Args:
        paths: the log of one drive.
        config: settings; `detect.batch_size` is the batch size that is tried beside 1.
        cameras: only these.
        frames: about so many images, in whole timesteps evenly over the drive.
        limits: from where on a difference is a failure.

    Raises:
        LogError: nothing readable, or no box in the sample.
        ModelError, ConfigError: the model cannot be opened, or settings do not fit it.
    """
    job = Job("verify", paths, Path(), config, cameras)
    with open_drive(job) as opened:
        detector = open_detector(config.detect)  # may export the model, which makes its form available
        try:
            settle_batch_size(detector, config, opened)
            chosen = detector.info.backend, detector.info.precision
            batch_size = detector.info.batch_size
        finally:
            detector.close()
        sample = _Sample(opened, config, frames)
        path = find_weights(config.detect.model)
        forms = list(dict.fromkeys([*available_forms(config.detect, path), chosen]))
        forms.sort(key=lambda form: (form[1] != "fp32", form[0] != "torch"))  # stable: the reference is first
        score = _least_score(config.detect)
        rows: list[VerifiedForm] = []
        reference: list[Detections] = []
        for form in forms:
            is_reference = form == forms[0]
            try:
                alone, used = sample.boxes(form, 1)
                if is_reference:
                    reference = alone
                    if not any((found.score >= score).any() for found in reference):
                        raise LogError(
                            paths[0],
                            f"has no box with score >= {score:g} in the {len(reference)} frames looked at, which "
                            "verifies nothing; look at more (--frames), or at another log",
                        )
                kind: Kind = "backend" if form[1] == forms[0][1] else "precision"
                kind = "reference" if is_reference else kind
                against = "" if is_reference else _name(forms[0], 1)
                agreement = _compare(reference, alone, score, limits)
                rows.append(_row(form, used, kind, against, agreement, limits))
                if batch_size != used:
                    together, used_together = sample.boxes(form, batch_size)
                    agreement = _compare(alone, together, score, limits)
                    rows.append(_row(form, used_together, "batch", _name(form, used), agreement, limits))
            except ModelError as error:
                if form in (chosen, forms[0]):
                    raise
                _log.info("%s in %s cannot be tried: %s", *form, error)
                rows.append(_untried(form, error))
        images, broken = sample.size
    failed = any(not row.within and not row.error for row in rows)
    return Verification(images, broken, _name(chosen, batch_size), score, tuple(rows), failed)


class _Sample:
    """The same frames for every detector; prepared again only where a detector wants another input."""

    def __init__(self, opened: OpenDrive, config: RunConfig, frames: int) -> None:
        self._opened, self._config, self._frames = opened, config, frames
        self._images: list[ReadyShot] = []
        self.size = (0, 0)
        """Images, and broken ones that were left out."""

    def boxes(self, form: Form, batch_size: int) -> tuple[list[Detections], int]:
        """What one form finds in each frame, and the batch size that it really uses."""
        update = {"backend": form[0], "precision": form[1], "batch_size": batch_size, "copies": 1}
        settings = DetectConfig.model_validate({**self._config.detect.model_dump(), **update})
        detector = open_detector(settings)
        try:
            threads = Threads(True, decode_workers(self._config), Profile())
            if not self._fits(detector):
                self._images = self._prepare(detector, threads)
            found = boxes_of(self._images, [detector], self._config, threads)
            with closed(found):
                return [boxes for _, boxes in found if boxes is not None], detector.info.batch_size
        finally:
            detector.close()

    def _fits(self, detector: Detector) -> bool:
        views = CameraViews(self._config, detector.view, Crops.of(detector.info, self._opened.rig))
        for ready in self._images:
            have = tuple(look.view for look in ready.looks())
            if have and have != views.of(ready.shot.frame.camera, have[0].image_hw):
                return False
        return bool(self._images)

    def _prepare(self, detector: Detector, threads: Threads) -> list[ReadyShot]:
        cameras = len(self._opened.selected)
        source = prepared_frames(
            self._opened, self._config, detector, threads, timesteps=-(-self._frames // cameras)
        )
        images, broken = [], 0
        with closed(source):
            for ready in source:
                if ready.view is None:
                    broken += 1
                else:
                    images.append(ready)
                if len(images) == self._frames:
                    break
        if not images:
            raise LogError(self._opened.log.paths[0], "has no frame that can be decoded")
        self.size = (len(images), broken)
        return images


def _least_score(settings: DetectConfig) -> float:
    scores = settings.score.values() if isinstance(settings.score, dict) else [settings.score]
    return min(scores, default=0.25)


def _compare(
    reference: Sequence[Detections], other: Sequence[Detections], score: float, limits: Limits
) -> Agreement:
    return compare_boxes(reference, other, score=score, most_score=limits.most_score, most_px=limits.most_px)


def _row(
    form: Form, batch_size: int, kind: Kind, against: str, found: Agreement, limits: Limits
) -> VerifiedForm:
    single = found.lost + found.gained
    differs = 1 - found.share if kind != "precision" else single / max(found.boxes, 1)
    return VerifiedForm(
        *form,
        batch_size,
        kind,
        against,
        found.boxes,
        (found.boxes - single) // 2,
        round(100 * found.share, 4),
        found.lost,
        found.gained,
        found.score_difference,
        found.edge_difference_px,
        round(100 * differs, 4),
        limits.of(kind, form[1]),
    )


def _untried(form: Form, error: PerceptionBatchError) -> VerifiedForm:
    return VerifiedForm(*form, 1, "precision", "", 0, 0, 0.0, 0, 0, 0.0, 0.0, 0.0, 0.0, str(error))


def _name(form: Form, batch_size: int) -> str:
    return f"{form[0]} {form[1]}, batch {batch_size}"
