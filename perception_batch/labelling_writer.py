"""Writes a training set: images, labels, the tables beside them, the review list and the card."""

from __future__ import annotations

import errno
import heapq
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from perception_batch.atomic import disk_errors, write_whole
from perception_batch.errors import WriteError, printable
from perception_batch.labelling_sources import LabelledFrame, RunSource
from perception_batch.labels.card import CardFacts, Tally, card_dict, card_markdown
from perception_batch.labels.doubt import doubts_of, of_images, words_of
from perception_batch.labels.formats import open_writer
from perception_batch.labels.image_files import file_name
from perception_batch.labels.label_settings import LabelSettings
from perception_batch.labels.label_types import SPLITS, LabelBox, LabelImage
from perception_batch.labels.pre_labels import write_review
from perception_batch.labels.scored_boxes import ACCEPTED, BANDS, DROPPED, WHY
from perception_batch.labels.sidecar_tables import IMAGES, LABELS
from perception_batch.labels.splits import Split
from perception_batch.table_format import TableFormat
from perception_batch.write.manifest import plain
from perception_batch.write.table_file import TableFile

REVIEW = "review"
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}
_ROWS_AT_ONCE = 4096
_BORDER_PX = 1.0
_COMMON = ("file", "split", "drive", "camera", "frame_stamp_ns", "timestep")
_IMAGE_COLUMNS = [c.name for c in IMAGES.columns if c.name not in _COMMON]
_BOX_COLUMNS = [c.name for c in LABELS.columns if c.name not in (*_COMMON, "model_sha256", "run")]
Self = TypeVar("Self", bound="SetWriter")


class _Rows:
    """A table that is given row by row."""

    def __init__(self, folder: Path, table: TableFormat) -> None:
        self.file = TableFile(folder, table)
        self._types = {c.name: pa.type_for_alias(c.type) for c in table.columns}
        self._columns: dict[str, list[Any]] = {name: [] for name in self._types}

    def add(self, same: Mapping[str, Any], rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> None:
        """`rows` with values for `names`, and `same` for the other columns of each."""
        for name, value in same.items():
            self._columns[name].extend([value] * len(rows))
        for name, values in zip(names, zip(*rows, strict=True), strict=False):  # no rows: no columns
            self._columns[name].extend(values)
        if len(self._columns[names[0]]) >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self.file.add(self.file.batch({n: pa.array(v, self._types[n]) for n, v in self._columns.items()}))
        for values in self._columns.values():
            values.clear()

    def close(self) -> None:
        self._flush()
        self.file.close()


class SetWriter:
    """A training set that grows image by image; a context manager that leaves nothing half written open."""

    def __init__(self, folder: Path, classes: tuple[str, ...], settings: LabelSettings) -> None:
        self._folder, self._classes, self._settings = folder, classes, settings
        self._labels = open_writer(settings.format, folder, classes)
        self._images, self._boxes = _Rows(folder, IMAGES), _Rows(folder, LABELS)
        self._tally = Tally()
        self._review: list[tuple[float, int, LabelImage, str]] = []
        self._count = 0
        self._class_scores: dict[tuple[str, int], tuple[Mapping[str, float], str]] = {}

    def write(self, item: LabelledFrame, source: RunSource, split: Split) -> None:
        """Write one image and all that is said of it.

        Raises:
            WriteError: the disk is full or refuses.
        """
        reasons, doubts = doubts_of(item.boxes, self._classes, self._settings)
        doubt = float(of_images(np.zeros(len(doubts), np.int64), doubts, 1)[0])
        image = LabelImage(
            file_name(source.run.name, item.camera, item.stamp_ns),
            item.suffix,
            SPLITS[int(split.split[item.row])],
            split.groups[int(split.group[item.row])],
            source.run.name,
            item.camera,
            item.stamp_ns,
            item.timestep,
            item.width_px,
            item.height_px,
            self._label_boxes(item, source),
            words_of(reasons),
            doubt,
        )
        path = self._labels.image_path(image)
        with disk_errors(path):
            self._put(item, path)
            self._labels.add(image)
        self._note(image, item, source, path.relative_to(self._folder).as_posix())
        if self._settings.review and image.review_reasons:
            entry = (doubt, -self._count, image, path.relative_to(self._folder).as_posix())
            if len(self._review) < self._settings.review:
                heapq.heappush(self._review, entry)
            else:
                heapq.heappushpop(self._review, entry)
        self._count += 1

    def _put(self, item: LabelledFrame, path: Path) -> None:
        if item.link is not None and self._settings.images == "symlink":
            path.symlink_to(item.link)
        elif item.link is not None:
            try:
                os.link(item.link, path)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                raise WriteError(
                    f"--images hardlink: {printable(item.link)} cannot be linked into {printable(self._folder)} "
                    f"({os.strerror(error.errno or 0)}): hard links need one file system that allows them; use --images "
                    "symlink or copy, or another --out"
                ) from None
        else:
            with path.open("xb") as file:
                file.write(item.data)

    def _label_boxes(self, item: LabelledFrame, source: RunSource) -> tuple[LabelBox, ...]:
        boxes = item.boxes
        kept = boxes.rows(boxes.band != DROPPED)
        out = []
        columns = (kept.class_index, kept.track, kept.detection, kept.band, kept.score, kept.quality)
        for (x1, y1, x2, y2), number, track, detection, band, score, quality in zip(
            kept.xyxy.tolist(), *(column.tolist() for column in columns), strict=True
        ):
            box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(item.width_px)), min(y2, float(item.height_px)))
            out.append(
                LabelBox(
                    box,
                    number,
                    self._classes[number],
                    "accepted" if band == ACCEPTED else "ignored",
                    score if detection >= 0 else None,
                    quality,
                    detection < 0,
                    detection if detection >= 0 else None,
                    track if track >= 0 else None,
                    self._scores_of(source, track)[0],
                    min(box[0], box[1], item.width_px - box[2], item.height_px - box[3]) < _BORDER_PX,
                )
            )
        return tuple(out)

    def _scores_of(self, source: RunSource, track: int) -> tuple[Mapping[str, float], str]:
        """Probabilities by class of a track, and as JSON."""
        if track < 0:
            return {}, "{}"
        key = (source.run.name, track)
        if key not in self._class_scores:
            if len(self._class_scores) > 10_000:
                self._class_scores.clear()
            scores: dict[str, float] = {}
            for number, share in source.facts.evidence.posterior[track].items():
                place = (
                    int(source.facts.class_table[number])
                    if 0 <= number < len(source.facts.class_table)
                    else -1
                )
                if place >= 0:
                    label = self._classes[place]
                    scores[label] = round(scores.get(label, 0.0) + share, 4)
            self._class_scores[key] = (scores, json.dumps(scores, sort_keys=True))
        return self._class_scores[key]

    def _note(self, image: LabelImage, item: LabelledFrame, source: RunSource, file: str) -> None:
        boxes = item.boxes
        self._tally.add(image, item.source)
        out = Counter(zip(boxes.band.tolist(), boxes.why.tolist(), strict=True))
        for (band, why), count in out.items():
            if band != ACCEPTED:
                self._tally.boxes_out[f"{BANDS[band]}: {WHY[why]}"] += count
        accepted = sum(box.band == "accepted" for box in image.boxes)
        common = {
            "file": file,
            "split": image.split,
            "drive": image.drive,
            "camera": image.camera,
            "frame_stamp_ns": image.frame_stamp_ns,
            "timestep": image.timestep,
        }
        self._images.add(
            common,
            [
                (
                    item.sha256,
                    image.group,
                    image.width_px,
                    image.height_px,
                    item.source,
                    accepted,
                    len(image.boxes) - accepted,
                    len(boxes) - len(image.boxes),
                    image.doubt,
                )
            ],
            _IMAGE_COLUMNS,
        )
        whys = boxes.why[boxes.band != DROPPED].tolist()
        accept, ignore = self._settings.accept, self._settings.ignore
        self._boxes.add(
            common | {"model_sha256": source.run.model_sha256, "run": source.run.directory.name},
            [
                (
                    box.detection,
                    box.track_id,
                    *box.box_px,
                    box.class_index,
                    box.label,
                    box.band,
                    WHY[why],
                    box.score,
                    box.quality,
                    accept.of(box.label),
                    ignore.of(box.label),
                    box.recovered,
                    self._scores_of(source, -1 if box.track_id is None else box.track_id)[1],
                )
                for box, why in zip(image.boxes, whys, strict=True)
            ],
            _BOX_COLUMNS,
        )

    def finish(self, facts: CardFacts) -> dict[str, Any]:
        """Close everything and write the review list and the card; the card.

        Raises:
            WriteError: the disk is full or refuses.
        """
        with disk_errors(self._folder):
            self._labels.close()
            self._images.close()
            self._boxes.close()
            if self._review:
                ranked = sorted(self._review, key=lambda entry: (-entry[0], -entry[1]))
                paths = {image.name: path for _, _, image, path in ranked}
                write_review(
                    self._folder / REVIEW, (image for _, _, image, _ in ranked), paths, self._classes
                )
            card = plain(card_dict(self._tally, facts))
            write_whole(self._folder / "card.md", card_markdown(card).encode())
            write_whole(
                self._folder / "card.json", (json.dumps(card, indent=1, allow_nan=False) + "\n").encode()
            )
        result: dict[str, Any] = card
        return result

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._labels.discard()
            self._images.file.discard()
            self._boxes.file.discard()
