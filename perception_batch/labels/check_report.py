"""What a check of a training set found: findings with the names of the rules that they break."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from perception_batch.errors import printable

RULES: Mapping[str, str] = {
    "format-unknown": "none of data.yaml, annotations/instances_*.json, training/label_2 is there",
    "file-broken": "an index, label file or table cannot be read as what it is",
    "pair-missing": "an image without labels, labels without an image, or a listed file that is not there",
    "image-broken": "not a JPEG or PNG with a readable header, or a JPEG without its end mark",
    "size-differs": "the image's size is not what its labels or images.parquet say",
    "box-outside": "an edge stands outside of the image by more than 0.1 px",
    "box-empty": "a box has no width or no height, or is not finite",
    "box-duplicate": "the same box of the same class twice in an image",
    "class-unknown": "a class that the set does not list",
    "split-empty": "a split that the set lists has no image",
    "split-overlap": "an image, its very bytes, or a group stands in two splits",
    "hash-differs": "an image's bytes are not those of images.parquet",
}
"""Every rule, and what breaks it."""

_KEPT_PER_RULE = 100
_SHOWN_PER_RULE = 10
_LONGEST = 300

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule at one place."""

    rule: str
    """Of `RULES`."""
    place: str
    """File below the training set's folder, with line or id where there is one; safe to print."""
    detail: str
    """One line: what was got and what is right; safe to print."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was looked at, and everything wrong with it."""

    folder: Path
    formats: tuple[str, ...]
    """Formats found there: ``yolo``, ``coco``, ``kitti``."""
    images: int
    """Images of the sets, over all formats."""
    boxes: int
    """Boxes that teach, without ignored regions."""
    counts: Mapping[str, int]
    """By rule, how often it is broken; rules that hold are absent."""
    findings: tuple[Finding, ...]
    """The first hundred of each rule."""

    @property
    def ok(self) -> bool:
        """True where no rule is broken."""
        return not self.counts

    def as_text(self) -> str:
        """A page for people."""
        what = ", ".join(self.formats) or "no known format"
        lines = [f"{printable(self.folder)}: {what}, {self.images} images, {self.boxes} boxes"]
        for rule, count in self.counts.items():
            lines.append(f"{rule}: {count} ({RULES[rule]})")
            kept = [f for f in self.findings if f.rule == rule]
            lines.extend(f"  {f.place}: {f.detail}" for f in kept[:_SHOWN_PER_RULE])
            if count > _SHOWN_PER_RULE:
                lines.append(f"  ... and {count - _SHOWN_PER_RULE} more")
        lines.append("all rules hold" if self.ok else f"{sum(self.counts.values())} findings")
        return "\n".join(lines) + "\n"


class FindingList:
    """Collects findings; a million of one kind cost no more memory than a hundred."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: list[Finding] = []

    def add(self, rule: str, place: object, detail: str) -> None:
        """Note that `rule` is broken at `place`."""
        if rule not in RULES:
            raise KeyError(rule)
        self.counts[rule] += 1
        if self.counts[rule] <= _KEPT_PER_RULE:
            self.kept.append(Finding(rule, _short(place), _short(detail)))

    def report(self, folder: Path, formats: tuple[str, ...], images: int, boxes: int) -> CheckReport:
        """The report; rules in the order of `RULES`."""
        counts = {rule: self.counts[rule] for rule in RULES if self.counts[rule]}
        findings = tuple(f for rule in counts for f in self.kept if f.rule == rule)
        return CheckReport(folder, formats, images, boxes, counts, findings)


def shown(value: object) -> str:
    """A value from a file, for a message; the middle of what is long or deep is left out."""
    return _REPR.repr(value)


def _short(text: object) -> str:
    words = str(text)
    return printable(words if len(words) <= _LONGEST else words[:_LONGEST] + "...")
