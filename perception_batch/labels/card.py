"""The card of a training set: what is in it, where it comes from, how it was split, and how to make it again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perception_batch.errors import printable
from perception_batch.labels.label_types import SPLITS, LabelImage

CARD_VERSION = 1
_SIZES = ((32.0, "small"), (96.0, "medium"))
"""COCO's: square root of the area, px."""


@dataclass(slots=True)
class Tally:
    """Counts that grow as images are written; memory does not grow with them."""

    images: Counter[str] = field(default_factory=Counter)
    """By split."""
    negatives: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    """By class."""
    ignored: Counter[str] = field(default_factory=Counter)
    recovered: Counter[str] = field(default_factory=Counter)
    by_split: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Labels by class and split."""
    cameras: Counter[str] = field(default_factory=Counter)
    """Images."""
    drives: Counter[str] = field(default_factory=Counter)
    """Images."""
    sizes: Counter[str] = field(default_factory=Counter)
    """Labels."""
    hours: Counter[int] = field(default_factory=Counter)
    """Images by hour of the day, UTC."""
    sources: Counter[str] = field(default_factory=Counter)
    """Images by where their bytes come from."""
    groups: dict[str, str] = field(default_factory=dict)
    """The split of each group."""
    boxes_out: Counter[str] = field(default_factory=Counter)
    """Boxes of kept images that are no labels, by band and reason."""

    def add(self, image: LabelImage, source: str) -> None:
        """One image that was written."""
        self.images[image.split] += 1
        self.cameras[image.camera] += 1
        self.drives[image.drive] += 1
        self.sources[source] += 1
        self.groups[image.group] = image.split
        self.hours[image.frame_stamp_ns // 3_600_000_000_000 % 24] += 1
        self.negatives += not image.boxes
        for box in image.boxes:
            if box.band == "ignored":
                self.ignored[box.label] += 1
                continue
            self.labels[box.label] += 1
            self.by_split[box.label, image.split] += 1
            self.recovered[box.label] += box.recovered
            x1, y1, x2, y2 = box.box_px
            side = max(0.0, (x2 - x1) * (y2 - y1)) ** 0.5
            self.sizes[next((name for limit, name in _SIZES if side < limit), "large")] += 1


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says besides the counts of images and boxes."""

    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    """All of them, as asked."""
    class_map: Mapping[str, str | None] | None
    frames: int
    """Camera frames that the runs decoded."""
    left_out: Mapping[str, int]
    """Of these, by reason."""
    runs: Sequence[Mapping[str, Any]]
    """Folder, drive, log, fingerprint and model of each."""
    notes: Sequence[str]
    """What a user must know."""
    command: str
    """That made it."""
    version: str
    """Of this package."""
    licence: str


def card_dict(tally: Tally, facts: CardFacts) -> dict[str, Any]:
    """As in ``card.json``. Nothing in it depends on the clock: the same set has the same card."""
    kept = sum(tally.images.values())
    return {
        "schema": CARD_VERSION,
        "version": facts.version,
        "command": facts.command,
        "licence": facts.licence,
        "notes": [*_notes(tally, facts), *facts.notes],
        "classes": list(facts.classes),
        "images": {
            "frames_of_runs": facts.frames,
            "kept": kept,
            "left_out": dict(facts.left_out),
            "negatives": tally.negatives,
            "by_split": {split: tally.images[split] for split in SPLITS},
            "by_camera": dict(sorted(tally.cameras.items())),
            "by_drive": dict(sorted(tally.drives.items())),
            "by_hour_utc": {f"{hour:02d}": n for hour, n in sorted(tally.hours.items())},
            "by_source": dict(sorted(tally.sources.items())),
        },
        "labels": {
            label: {
                "accepted": tally.labels[label],
                "recovered": tally.recovered[label],
                "ignored": tally.ignored[label],
                **{split: tally.by_split[label, split] for split in SPLITS},
            }
            for label in facts.classes
        },
        "boxes_by_size": {name: tally.sizes[name] for name in ("small", "medium", "large")},
        "boxes_not_accepted": dict(sorted(tally.boxes_out.items())),
        "groups": dict(sorted(tally.groups.items())),
        "runs": [dict(run) for run in facts.runs],
        "class_map": None if facts.class_map is None else dict(facts.class_map),
        "settings": dict(facts.settings),
    }


def _notes(tally: Tally, facts: CardFacts) -> list[str]:
    notes = [
        "labels were made by a detector, tracking and several cameras, and no person has looked at them",
        "faces and number plates are not blurred",
    ]
    absent = [label for label in facts.classes if not tally.labels[label]]
    if absent:
        notes.append(f"classes without a label, kept in the list: {', '.join(map(printable, absent))}")
    empty = [
        split
        for split, share in zip(SPLITS, facts.settings["split"], strict=True)
        if share and not tally.images[split]
    ]
    if empty:
        notes.append(f"splits without an image: {', '.join(empty)}")
    taught = {split for (_, split), count in tally.by_split.items() if count}
    if bare := [split for split in SPLITS if tally.images[split] and split not in taught]:
        notes.append(f"splits with images and no label, which measure nothing: {', '.join(bare)}")
    return notes


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card for people."""
    images, labels = card["images"], card["labels"]
    lines = [
        "# Training set",
        "",
        f"Made by perception_batch {card['version']}:",
        "",
        f"    {_text(card['command'])}",
        "",
    ]
    lines += [f"Licence: {_text(card['licence'])}", ""]
    lines += [f"- {_text(note)}." for note in card["notes"]]
    lines += ["", "## Images", ""]
    lines += [
        f"{images['kept']} of {images['frames_of_runs']} camera frames; {images['negatives']} without any box.",
        "",
    ]
    lines += _rows(("left out because of", "images"), images["left_out"].items())
    lines += _rows(("split", "images"), images["by_split"].items())
    lines += _rows(("camera", "images"), images["by_camera"].items())
    lines += _rows(("drive", "images"), images["by_drive"].items())
    lines += _rows(("hour of day (UTC)", "images"), images["by_hour_utc"].items())
    lines += _rows(("bytes", "images"), images["by_source"].items())
    lines += ["## Labels", ""]
    columns = ("accepted", "recovered", "ignored", *SPLITS)
    lines += _rows(("class", *columns), ((name, *(row[c] for c in columns)) for name, row in labels.items()))
    lines += _rows(("size (COCO)", "labels"), card["boxes_by_size"].items())
    lines += _rows(("boxes that are no labels", "boxes"), card["boxes_not_accepted"].items())
    lines += ["## Splits", ""]
    lines += _rows(("group", "split"), card["groups"].items())
    lines += ["## Runs", ""]
    lines += _rows(
        ("drive", "log", "model SHA-256"), ((r["drive"], r["log"], r["model_sha256"]) for r in card["runs"])
    )
    lines += ["## Settings", "", "```json", json.dumps(card["settings"], indent=1, sort_keys=True), "```", ""]
    return "\n".join(lines)


def _rows(head: Sequence[str], rows: Any) -> list[str]:
    body = [f"| {' | '.join(_text(cell) for cell in row)} |" for row in rows]
    if not body:
        return []
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body, ""]


def _text(value: object) -> str:
    return printable(value).replace("|", "\\|").replace("`", "'")
