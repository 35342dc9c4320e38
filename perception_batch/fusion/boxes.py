"""The detections of timesteps that count, as columns; and who decides which do."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from perception_batch.assignment import IntArray
from perception_batch.calibration import FloatArray
from perception_batch.config import CameraConfig
from perception_batch.errors import printable
from perception_batch.fusion.suppress import LabelRule, duplicates, masked, rule_for
from perception_batch.ontology import Ontology
from perception_batch.types import Detections, Observation, SuppressedReason

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Words:
    """What N boxes and the duplicates suppressed in their favour say that they show: W words, N or more."""

    box: IntArray
    """(W,) number of the box, never falling; its own word comes first."""
    kind: IntArray
    """(W,) as in `Boxes`."""
    score: FloatArray
    """(W,) of the detection that says it."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """N detections that count, sorted by timestep, camera and number."""

    rows: IntArray
    """(N,) their rows among all detections, timestep after timestep, camera after camera."""
    xyxy: FloatArray
    """(N, 4) px of the original images."""
    observations: Sequence[tuple[Observation]]
    """Their cameras and numbers: each as it stands in an object that no other box is of."""
    score: FloatArray
    """(N,) of the detections."""
    kind: IntArray
    """(N,) what they are called: number of the ontology's class, and from its length on of labels without class."""
    words: Words
    """What speaks for each class."""

    def take(self, numbers: IntArray) -> Boxes:
        """Those of these numbers, which rise."""
        place = np.full(len(self.rows), -1)
        place[numbers] = np.arange(len(numbers))
        box = place[self.words.box]
        theirs = (box >= 0).nonzero()[0]
        return Boxes(
            self.rows[numbers],
            self.xyxy[numbers],
            [self.observations[i] for i in numbers.tolist()],
            self.score[numbers],
            self.kind[numbers],
            Words(box[theirs], self.words.kind[theirs], self.words.score[theirs]),
        )

    def part(self, start: int, stop: int, first_row: int) -> Boxes:
        """Those from `start` to before `stop`, whose timestep's first detection is row `first_row`."""
        low, high = self.words.box.searchsorted((start, stop)).tolist()
        words = Words(self.words.box[low:high] - start, self.words.kind[low:high], self.words.score[low:high])
        return Boxes(
            self.rows[start:stop] - first_row,
            self.xyxy[start:stop],
            self.observations[start:stop],
            self.score[start:stop],
            self.kind[start:stop],
            words,
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which detections of T timesteps count; their I images come timestep by timestep, in each by camera name."""

    images: Sequence[tuple[int, str]]
    """Number of the timestep and camera of each image."""
    first_images: Sequence[int]
    """T + 1 numbers: the first image of each timestep, and I."""
    detections: Sequence[int]
    """I + 1 numbers: the first detection of each image, and how many there are."""
    boxes: Boxes
    """Those that count."""
    starts: Sequence[int]
    """I + 1 numbers: the first box of each image, and how many there are."""
    reasons: list[SuppressedReason]
    """By detection, why it does not count; empty text: it does."""


class BoxSelector:
    """Decides which detections count: thresholds, wanted classes, ego masks, duplicates."""

    def __init__(
        self,
        ontology: Ontology,
        labels: Mapping[int, str],
        cameras: Mapping[str, CameraConfig],
        *,
        detect_score: float | Mapping[str, float],
        detect_classes: tuple[str, ...],
        duplicate_iou: float,
    ) -> None:
        self._ontology = ontology
        self._labels = labels
        self._cameras = cameras
        self._score = detect_score
        self._classes = detect_classes
        self._duplicate_iou = duplicate_iou
        self.names = list(ontology.classes)
        """By kind: the ontology's name, then labels that it does not know as they are met."""
        self._kinds = {name: kind for kind, name in enumerate(self.names)}
        groups = {entry.group: None for entry in ontology.classes.values()}
        numbers = {group: number for number, group in enumerate(groups)}
        self._groups = [numbers[entry.group] for entry in ontology.classes.values()]
        self._unknown: dict[str, int] = {}
        # Rules by number, as columns; a new one is seldom.
        self._codes: dict[str, dict[int, int]] = {}
        self._rules: list[tuple[int, int, bool, float]] = []
        self._columns = _rule_columns(self._rules)
        self._observations: dict[str, list[tuple[Observation]]] = {}
        self._said: set[int] = set()

    def select(self, steps: Sequence[Mapping[str, Detections]]) -> Selection:
        """Which detections of timesteps count; how many timesteps are asked about at once makes no difference."""
        images = [(number, camera) for number, found in enumerate(steps) for camera in sorted(found)]
        found = [steps[number][camera] for number, camera in images]
        counts = [len(one) for one in found]
        codes: list[int] = []
        observations: list[tuple[Observation]] = []
        for (_, camera), one, count in zip(images, found, counts, strict=True):
            codes += self._codes_of(camera, one.class_id.tolist())
            observations += self._observed(camera, count)
        every = found or [Detections.empty()]
        xyxy = np.concatenate([one.xyxy for one in every]).astype(np.float64)
        score = np.concatenate([one.score for one in every]).astype(np.float64)
        of = np.arange(len(counts)).repeat(counts)
        code = np.array(codes, np.int64)
        kinds, groups, wanted, min_score = self._columns
        kind = kinds[code]

        reasons: list[SuppressedReason] = [""] * len(codes)
        low = score < min_score[code]
        alive = ~low & wanted[code]
        for k in (~alive).nonzero()[0].tolist():
            reasons[k] = "low_score" if low[k] else "class"
        if self._cameras:
            for k in self._in_masks([camera for _, camera in images], counts, xyxy, alive):
                reasons[k], alive[k] = "ego_mask", False
        mine = alive.nonzero()[0]
        # In each image by falling score; equal ones stay in order.
        mine = mine[np.lexsort((-score[mine], of[mine]))]
        kept, others = duplicates(xyxy[mine], of[mine], groups[code[mine]], self._duplicate_iou)
        kept, others = mine[kept], mine[others]
        alive[others] = False
        for k in others.tolist():
            reasons[k] = "duplicate"

        rows = alive.nonzero()[0]
        detections = [0, *accumulate(counts)]
        word_of, said_by = rows, rows
        if len(kept):
            word_of = np.concatenate([rows, kept])
            order = word_of.argsort(kind="stable")
            word_of, said_by = word_of[order], np.concatenate([rows, others])[order]
        boxes = Boxes(
            rows,
            xyxy.take(rows, 0),
            observations if len(rows) == len(observations) else [observations[k] for k in rows.tolist()],
            score[rows],
            kind[rows],
            Words(rows.searchsorted(word_of), kind[said_by], score[said_by]),
        )
        self._name_unknown(boxes.kind)
        first_images = [0, *accumulate(map(len, steps))]
        starts = rows.searchsorted(detections).tolist()
        return Selection(images, first_images, detections, boxes, starts, reasons)

    def _codes_of(self, camera: str, numbers: Sequence[int]) -> Iterable[int]:
        """The number of the rule for each of a camera's detections, by the model's class numbers."""
        known = self._codes.setdefault(camera, {})
        try:
            return list(map(known.__getitem__, numbers))
        except KeyError:  # a class that this camera has not had yet
            for number in sorted(set(numbers).difference(known)):
                rule = self._rule(camera, number)
                known[number] = len(self._rules)
                self._rules.append((*self._kind_of(rule), rule.wanted, rule.min_score))
            self._columns = _rule_columns(self._rules)
            return map(known.__getitem__, numbers)

    def _rule(self, camera: str, number: int) -> LabelRule:
        config = self._cameras.get(camera, CameraConfig())
        scores: list[float | Mapping[str, float]] = [self._score]
        if config.score is not None:
            scores.insert(0, config.score)
        return rule_for(
            self._labels.get(number, f"class {number}"),
            self._ontology,
            frozenset(self._labels.values()),
            self._classes if config.classes is None else config.classes,
            scores,
        )

    def _kind_of(self, rule: LabelRule) -> tuple[int, int]:
        """Kind and association group; a label without class is a group of its own."""
        if rule.entry is not None:
            kind = self._kinds[rule.name]
            return kind, self._groups[kind]
        if rule.name not in self._unknown:
            self._unknown[rule.name] = len(self.names)
            self.names.append(rule.name)
        kind = self._unknown[rule.name]
        return kind, kind  # there are no more groups than classes, so this is none of theirs

    def _in_masks(
        self, cameras: Sequence[str], counts: Sequence[int], xyxy: FloatArray, alive: npt.NDArray[np.bool_]
    ) -> list[int]:
        """Which rows of those alive lie in their cameras' ego masks."""
        out: list[int] = []
        start = 0
        for camera, count in zip(cameras, counts, strict=True):
            mask = self._cameras[camera].mask if camera in self._cameras else ()
            if mask:
                mine = start + alive[start : start + count].nonzero()[0]
                out += mine[masked(xyxy[mine], mask)].tolist()
            start += count
        return out

    def _observed(self, camera: str, count: int) -> list[tuple[Observation]]:
        """A camera's first so many detections by name; they are the same in every timestep, so they are made once."""
        made = self._observations.setdefault(camera, [])
        if len(made) < count:
            made.extend((Observation(camera, number),) for number in range(len(made), count))
        return made[:count]

    def _name_unknown(self, kinds: IntArray) -> None:
        if len(self.names) == len(self._groups):
            return
        for kind in sorted(set(kinds[kinds >= len(self._groups)].tolist()) - self._said):
            self._said.add(kind)
            logger.warning(
                "label %s is not in the ontology: its boxes get no position and are not merged",
                printable(self.names[kind]),
            )


def _rule_columns(
    rules: Sequence[tuple[int, int, bool, float]],
) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_], FloatArray]:
    """Kind, group, whether wanted, least score: of all rules."""
    kind, group, wanted, min_score = zip(*rules, strict=True) if rules else ((), (), (), ())
    return (
        np.array(kind, np.int64),
        np.array(group, np.int64),
        np.array(wanted, bool),
        np.array(min_score, np.float64),
    )
